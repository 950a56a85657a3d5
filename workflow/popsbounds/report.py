"""What a study found, as pages of the report and as text for a terminal.

``python -m popsbounds.report results/demo`` prints the summary; with ``paper``
after it, the paper's tables beside the study's; with ``posteriors``, the
comparison of posteriors.
"""

from __future__ import annotations

import html
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from popsbounds.calibration import PRINCIPAL
from popsbounds.config import load_config
from popsbounds.fit import coverage_caveats
from popsbounds.statistics import paper_tables

__all__ = ["beside_paper", "html_table", "posteriors", "summary"]

_NAMES = {"energy": "energies (eV/atom)", "force": "forces (eV/Å)"}
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


def _markdown(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"


def summary(study: str | Path) -> str:
    """What a finished study found, in Markdown: the fit, the test data, the properties, the members.

    Parameters
    ----------
    study
        Its folder, such as ``results/demo``.
    """
    study = Path(study)
    fit = json.loads((study / "fit" / "summary.json").read_text())
    settings = load_config(study / "config.yaml").fit
    tables = {
        name: pd.read_parquet(study / "tables" / f"{name}.parquet")
        for name in ("calibration", "std_ratio", "properties", "bounds", "models")
    }
    lines = [
        f"{fit['P']:,} parameters fitted to {fit['N']:,} rows (N/P = {fit['N_over_P']:.0f}); "
        f"{fit['rows_without_leverage']:,} rows below the leverage floor.",
        "",
    ]

    head = ["held-out data", "MAE of the MLE", "envelope violation", "mean error/std", "mean width of the bounds"]
    rows = [[*head, "interval score (2 %)"]]
    for line in tables["calibration"].itertuples():
        numbers = [_number(n) for n in (line.error_over_std, line.mean_width, line.interval_score)]
        rows.append([_NAMES[line.kind], _number(line.MAE), f"{100 * line.EV:.1f} %", *numbers])
    lines += [_markdown(rows), ""]
    lines += [
        f"Caution: {caveat}.\n" for caveat in [*fit["caveats"], *coverage_caveats(tables["calibration"], settings)]
    ]

    by_quantity = tables["bounds"].groupby(["property", "quantity"])
    fewest, curves = by_quantity["n_ok"].min(), by_quantity["coordinate"].count() > 0
    rows = [["property", "quantity", "bracketed", "error/std", "paper", "error/range", "paper", "fewest members"]]
    for line in tables["std_ratio"].query("n_structures > 0").itertuples():
        inside = f"{line.fraction_bracketed * line.n_structures:.0f} of {line.n_structures}"
        if curves[line.property, line.quantity]:
            inside = f"{100 * line.fraction_bracketed:.0f} % of {line.n_structures} curves"
        rows.append(
            [
                line.property,
                line.quantity,
                inside,
                _number(line.mean_error_over_std),
                _number(line.paper_mean_error_over_std),
                _number(line.mean_error_over_range),
                _number(line.paper_mean_error_over_range),
                str(fewest[line.property, line.quantity]),
            ]
        )
    if len(rows) > 1:
        lines += [_markdown(rows), ""]

    members = tables["properties"].query("source == 'member'")
    n_members = members["member"].nunique()
    failed = members[members["status"] != "ok"].groupby("property")["member"].nunique()
    counts = [f"{name} {n_members - failed.get(name, 0)} of {n_members}" for name in dict.fromkeys(members["property"])]
    accounted = np.unique(tables["bounds"]["n_ok"] + tables["bounds"]["n_failed"])
    lines.append(f"Members ok in every quantity: {', '.join(counts)}.")
    lines.append(f"Members accounted for in every row of bounds: {', '.join(map(str, accounted))}.")
    calls = members[members["status"] == "ok"].groupby(["property", "structure", "member"])["evaluations"].min()
    calls = calls.groupby("property", sort=False).median()
    lines.append(f"Force calls a structure, median: {', '.join(f'{name} {n:.0f}' for name, n in calls.items())}.")
    saddles = tables["models"].query("unstable_modes > 0")
    if len(saddles):
        found = [f"{line.property} {line.structure} ({line.unstable_modes})" for line in saddles.itertuples()]
        lines.append(f"Saddles of the MLE that symmetry keeps, with their unstable modes: {', '.join(found)}.")
    references = tables["properties"].query("source == 'reference' and status != 'ok'")
    for (name, structure), group in references.groupby(["property", "structure"], sort=False):
        lines.append(f"No reference for {name}, {structure}: {group['reason'].iloc[0]}.")
    return "\n".join(lines)


def beside_paper(study: str | Path) -> str:
    """Errors and spreads of the structures that the paper tabulates, ours beside the paper's, in Markdown.

    Parameters
    ----------
    study
        Its folder, such as ``results/standin``.
    """
    bounds = pd.read_parquet(Path(study) / "tables" / "bounds.parquet")
    key = ["property", "structure", "quantity"]
    numbers = ["mle_error", "std", "low_error", "high_error"]
    both = paper_tables().merge(bounds, on=key, suffixes=("_paper", ""))
    pages = []
    for (name, quantity), group in both.groupby(["property", "quantity"], sort=False):
        unit = group["unit"].iloc[0]
        head = [f"{name}, {quantity}{'' if unit == '1' else f' ({unit})'}", "MLE error / std / low / high", "paper"]
        rows = [head]
        for line in group.to_dict("records"):
            ours = " / ".join(_number(line[n]) for n in numbers) if pd.notna(line["mle_error"]) else ""
            rows.append([line["structure"], ours, " / ".join(_number(line[f"{n}_paper"]) for n in numbers)])
        pages.append(_markdown(rows))
    return "\n\n".join(pages)


def posteriors(study: str | Path) -> str:
    """How the rival posteriors did, in Markdown: one row each, one column a case; EV in %, interval score; fit times.

    Parameters
    ----------
    study
        Its folder, such as ``results/calibration``.
    """
    table = pd.read_parquet(Path(study) / "tables" / "posteriors.parquet")
    table["cell"] = [f"{100 * line.EV:.1f}, {line.interval_score:.3g}" for line in table.itertuples()]
    table["name"] = table["posterior"].where(table["draw"] == "", table["posterior"] + ", " + table["draw"])
    standard, plain = table["draw"] == "", ~table["conformal"]
    chosen = {
        "as they are": standard & plain,
        "stretched to leave out 2 % of the calibration data": standard & ~plain,
        "by number of members and sampling": plain & table["posterior"].isin(PRINCIPAL),
    }
    pages = []
    for title, wanted in chosen.items():
        for kind, name in _NAMES.items():
            part = table[(table["kind"] == kind) & wanted]
            cells = part.pivot(index="name", columns="case", values="cell")
            cells = cells.reindex(index=part["name"].unique(), columns=part["case"].unique()).fillna("")
            rows = [[f"{name}, {title}", *cells.columns], *([index, *line] for index, line in cells.iterrows())]
            pages.append(_markdown(rows))
    files = {case: Path(study) / "calibration" / f"{case}_seconds.csv" for case in table["case"].unique()}
    seconds = pd.DataFrame({case: pd.read_csv(path, index_col=0)["seconds"] for case, path in files.items()})
    rows = [
        ["time to fit beyond the ridge regression (s)", *seconds.columns],
        *(
            [name, *(f"{s:.0f}" for s in line)]
            for name, line in seconds.reindex(table["posterior"].unique()).iterrows()
        ),
    ]
    pages.append(_markdown(rows))
    return "\n\n".join(pages)


if __name__ == "__main__":
    pages = {"summary": summary, "paper": beside_paper, "posteriors": posteriors}
    print(pages[(sys.argv[2:] or ["summary"])[0]](sys.argv[1]))
