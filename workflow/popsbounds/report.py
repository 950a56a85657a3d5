"""What a study found, as text for a terminal.

``python -m popsbounds.report results/demo`` prints the summary; with
``posteriors`` after it, the comparison of posteriors.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from popsbounds.calibration import PRINCIPAL
from popsbounds.environments import names_outside
from popsbounds.errors import InputError
from popsbounds.findings import cautions, held_out, ok_members, quantities, saddles, unknown_references
from popsbounds.statistics import COUNTS, principal
from popsbounds.study import Study, load_study
from popsbounds.text import KINDS, markdown, shown_number

__all__ = ["posteriors", "summary"]

_NAMES = {kind: f"{name} ({unit})" for kind, (name, unit) in KINDS.items()}


def _way(method: str, level: str) -> str:
    return f"{method}, {level}" if level else method


def summary(study: str | Path) -> str:
    """What a finished study found, in Markdown: the fit, the test data, the properties, the members.

    Parameters
    ----------
    study
        Its folder, such as ``results/demo``.

    Raises
    ------
    InputError
        It is no folder of a finished study.
    """
    found = load_study(study)
    fit = found.fit
    lines = [
        f"{fit['P']:,} parameters fitted to {fit['N']:,} rows (N/P = {fit['N_over_P']:.0f}); "
        f"{fit['rows_without_leverage']:,} rows below the leverage floor.",
        "",
    ]

    head = ["held-out data", "MAE of the MLE", "envelope violation", "mean error/std", "mean width of the bounds"]
    rows = [[*head, "interval score (2 %)"]]
    for line in held_out(found).itertuples():
        numbers = [shown_number(n) for n in (line.error_over_std, line.mean_width, line.interval_score)]
        rows.append([_NAMES[line.kind], shown_number(line.MAE), f"{100 * line.EV:.1f} %", *numbers])
    lines += [markdown(rows), ""]
    lines += [f"Caution: {caveat}.\n" for caveat in cautions(found)]

    if "bounds" in found.tables:
        lines += _properties(found)
    return "\n".join(lines)


def _properties(study: Study) -> list[str]:
    """What became of the members' properties."""
    lines: list[str] = []
    tables = study.tables
    known = quantities(study).query("n_structures > 0")
    unrelaxed = (principal(tables["bounds"])["method"] != "explicit").any()
    head = ["property", "quantity", "bracketed", "error/std", "paper", "error/range", "paper", "fewest members"]
    rows = [[*head, *(["method"] if unrelaxed else [])]]
    for line in known.itertuples():
        rows.append(
            [
                line.property,
                line.quantity,
                line.inside,
                shown_number(line.mean_error_over_std),
                shown_number(line.paper_mean_error_over_std),
                shown_number(line.mean_error_over_range),
                shown_number(line.paper_mean_error_over_range),
                str(line.fewest),
                *([_way(line.method, line.level)] if unrelaxed else []),
            ]
        )
    if len(rows) > 1:
        lines += [markdown(rows), ""]

    if "truncation" in tables:
        lines += _truncation(tables["truncation"])

    properties = principal(tables["properties"])
    counts = [f"{line.property} {line.n_ok} of {line.n_members}" for line in ok_members(properties).itertuples()]
    accounted = np.unique((tables["bounds"]["n_ok"] + tables["bounds"]["n_failed"]).dropna())
    lines.append(f"Members ok in every quantity: {', '.join(counts)}.")
    lines.append(f"Members accounted for in every row of bounds: {', '.join(map(str, accounted))}.")
    members = properties.query("source in ['member', 'implicit'] and status == 'ok'")
    calls = members.groupby(["property", "structure", "member"])["evaluations"].min()
    calls = calls.groupby("property", sort=False).median()
    lines.append(f"Force calls a structure, median: {', '.join(f'{name} {n:.0f}' for name, n in calls.items())}.")
    unstable = [
        f"{line.property} {line.structure} ({line.unstable_modes})" for line in saddles(tables["models"]).itertuples()
    ]
    if unstable:
        lines.append(f"Saddles of the MLE that symmetry keeps, with their unstable modes: {', '.join(unstable)}.")
    if "environments" in tables:
        lines += _extrapolations(tables["environments"])
    for line in unknown_references(properties).itertuples():
        lines.append(f"No reference for {line.property}, {line.structure}: {line.reason}.")
    return lines


def _extrapolations(environments: pd.DataFrame) -> list[str]:
    """Structures with environments outside the training set; nothing if there are none."""
    found = [f"{name} {', '.join(structures)}" for name, structures in names_outside(environments).items()]
    return [f"Structures outside the training set: {'; '.join(found)}."] if found else []


def _truncation(table: pd.DataFrame) -> list[str]:
    """What members that were not relaxed lose beside the same ones relaxed; nothing if there are none.

    By `auto` and by the highest level; over structures: the median of medians, the largest 95th percentile.
    """
    implicit = table[table["method"] == "implicit"]
    table = pd.concat([principal(implicit), table[table["method"] == "auto"]])
    table = table[~table["quantity"].isin(COUNTS)]
    key = ["property", "quantity", "unit", "method", "level"]
    numbers = ["median_error", "p95_error", "std", "evaluations", "explicit_evaluations"]
    # A structure that no member changes, such as the zero of formation energies, has no error to speak of.
    by_structure = table.groupby([*key, "structure"], sort=False)[numbers].mean().query("std != 0")
    if by_structure.empty:
        return []
    # Of a curve the mean error over the mean spread, as in the ratios: a point without spread would rule.
    for name in ("median_error", "p95_error"):
        by_structure[f"{name}_over_std"] = by_structure[name] / by_structure["std"]
    # Nor have quantities of which each value comes from a family, by all ways the same.
    by_structure = by_structure[by_structure.groupby(key)["p95_error"].transform("max") > 0]
    head = ["property", "quantity", "method", "level", "median error", "median error/std", "95th percentile error/std"]
    rows = [[*head, "force calls a member", "explicit"]]
    for (name, quantity, unit, method, level), group in by_structure.groupby(key, sort=False):
        shown = [
            group["median_error_over_std"].median(),
            group["p95_error_over_std"].max(),
            group["evaluations"].mean(),
            group["explicit_evaluations"].mean(),
        ]
        error = f"{shown_number(group['median_error'].median())}{'' if unit == '1' else f' {unit}'}"
        rows.append([name, quantity, method, level, error, *map(shown_number, shown)])
    lines = ["Members that were not relaxed beside the same ones relaxed:", "", markdown(rows), ""]
    lost = table.groupby(["method", "level"], sort=False)["n_lost"].max()
    if lost.any():
        found = ", ".join(f"{n} ({_way(*way)})" for way, n in lost.items() if n)
        lines += [f"Members ok only where relaxed, in the worst row: {found}.", ""]
    return lines


def posteriors(study: str | Path) -> str:
    """How the rival posteriors did, in Markdown: one row each, one column a case; EV in %, interval score; fit times.

    Parameters
    ----------
    study
        Its folder, such as ``results/calibration``.

    Raises
    ------
    InputError
        It is no folder of a study, or posteriors were not compared in it.
    """
    found = load_study(study)
    if "posteriors" not in found.tables:
        raise InputError(str(study), ["no comparison of posteriors: run `snakemake calibration` with this study"])
    table = found.tables["posteriors"].copy()
    table["cell"] = [
        f"{100 * line.EV:.1f}{f' ± {100 * line.EV_std:.1f}' if line.n_splits > 1 else ''}, {line.interval_score:.3g}"
        for line in table.itertuples()
    ]
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
            if part.empty:
                continue
            cells = part.pivot(index="name", columns="case", values="cell")
            cells = cells.reindex(index=part["name"].unique(), columns=part["case"].unique()).fillna("")
            rows = [[f"{name}, {title}", *cells.columns], *([index, *line] for index, line in cells.iterrows())]
            pages.append(markdown(rows))
    files = {case: found.folder / "calibration" / f"{case}_seconds.csv" for case in table["case"].unique()}
    seconds = pd.DataFrame({case: pd.read_csv(path, index_col=0)["seconds"] for case, path in files.items()})
    rows = [
        ["time to fit beyond the ridge regression (s)", *seconds.columns],
        *([name, *map(shown_number, line)] for name, line in seconds.reindex(table["posterior"].unique()).iterrows()),
    ]
    pages.append(markdown(rows))
    return "\n\n".join(pages)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m popsbounds.report", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("study", type=Path, help="folder of a finished study, such as results/demo")
    pages = {"summary": summary, "posteriors": posteriors}
    parser.add_argument("page", choices=pages, nargs="?", default="summary", help="what to print")
    given = parser.parse_args()
    print(pages[given.page](given.study))


if __name__ == "__main__":
    try:
        _main()
    except InputError as error:
        sys.exit(str(error))
