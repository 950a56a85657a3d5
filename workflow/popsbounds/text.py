"""Tables and numbers as text."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

__all__ = ["markdown", "shown_number"]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def shown_number(value: float) -> str:
    """Three significant digits; nothing for a number that is missing."""
    return "" if pd.isna(value) else f"{value:.3g}"
