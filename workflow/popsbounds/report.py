"""Tables as pages of the report."""

from __future__ import annotations

import html

import pandas as pd

__all__ = ["html_table"]

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 1rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th {{ position: sticky; top: 0; background: #eee; }}
th, td {{ padding: 0.2rem 0.6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }}
</style>
</head>
<body>
<h1>{title}</h1>
{table}
</body>
</html>
"""


def html_table(table: pd.DataFrame, title: str) -> str:
    """A self-contained page with one table; numbers to four digits, missing ones blank."""
    if table.empty:
        return _PAGE.format(title=html.escape(title), table="<p>No rows.</p>")
    shown = table.dropna(axis="columns", how="all")
    formatters = {
        name: (lambda x: "" if pd.isna(x) else f"{x:.4g}")
        for name in shown.columns
        if pd.api.types.is_float_dtype(shown[name])
    }
    body = shown.to_html(index=False, border=0, na_rep="", formatters=formatters)
    return _PAGE.format(title=html.escape(title), table=body)
