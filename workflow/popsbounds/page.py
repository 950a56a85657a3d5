"""What a study found, as one self-contained page of HTML: summary, figures, tables, and panels to explore.

The numbers are those of `popsbounds.findings`; here they are put into words. All text that may come from the
user's data is escaped by the template. Nothing is loaded from elsewhere, which the page's own security policy
forbids the browser, too. The same tables give the same bytes.
"""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from popsbounds.environments import names_outside
from popsbounds.findings import (
    axes_holding,
    cautions,
    failure_reasons,
    held_out,
    missed_references,
    ok_members,
    out_of_proportion,
    quantities,
    rank_correlations,
    saddles,
    unknown_references,
    variance_by,
)
from popsbounds.fit import coverage_caveats
from popsbounds.plotting.style import COLOURS, datum_label, property_label, quantity_label, structure_label, unit_label
from popsbounds.statistics import COUNTS, principal
from popsbounds.study import Study
from popsbounds.text import KINDS, caption, shown_number

__all__ = ["FIGURE_TITLES", "TABLE_TITLES", "page"]

FIGURE_TITLES = {
    "formation_energy": "Formation energies",
    "volume": "Volumes",
    "bulk_modulus": "Bulk moduli",
    "elastic_constants": "Elastic constants",
    "surface_energy": "Surface energies",
    "sia": "Self-interstitials",
    "phonons": "Phonons",
    "barrier": "Migration of a vacancy",
    "transformation_paths": "Transformation paths",
    "pointwise": "Held-out energies and forces",
    "deviations": "Errors beside the members' deviations",
    "coverage": "Envelope violation by number of members",
    "coefficients": "Coefficients of the pointwise optima",
    "spearman": "Ranking of structures",
    "implicit": "Members without relaxation",
    "sampling": "Bounds by number of members",
    "drivers": "What drives the uncertainty",
    "environments": "The training set and the structures",
}
"""Figures in the order in which they are shown; a user's own properties come before those of held-out data."""
TABLE_TITLES = {
    "bounds": "Bounds",
    "std_ratio": "Errors in units of the spread",
    "calibration": "Held-out data",
    "ranks": "Rank correlations",
    "failures": "Failures",
    "models": "How structures were propagated",
    "truncation": "Members without relaxation",
}

_MOST_BINS = 40
_MOST_GROUPS = 10
_MOST_REASONS = 8
_MOST_STRIKING = 3
# Half-widths of the bounds from their middle that a reference is drawn at most.
_FARTHEST = 1.3


def page(study: Study, figures: Mapping[str, Path]) -> str:
    """The whole page.

    Parameters
    ----------
    study
        What it is about.
    figures
        PNG files by the figures' names, such as ``formation_energy``.

    Returns
    -------
    str
        HTML.
    """
    template, shown = _environment().get_template("page.html"), _shown(study)
    return template.render(
        study=study.config.study,
        subtitle=_subtitle(study),
        fit=study.fit,
        answers=_answers(study),
        held_out=_held_out(study),
        cautions=[_prose(f"{warning}.") for warning in cautions(study)],
        properties=_properties(study) if "bounds" in study.tables else None,
        groups=_groups(study.tables.get("drivers")),
        outside=_outside(study.tables.get("environments")),
        compared="environments" in study.tables,
        figures=_figures(figures),
        tables=[{"name": name, "title": TABLE_TITLES[name], "caption": _prose(caption(name))} for name in shown],
        data={"spreads": _spreads(study), "tables": {name: _columns(table) for name, table in shown.items()}},
        colours=COLOURS,
        style=_text("page.css"),
        script=_text("page.js"),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("popsbounds", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, percent=_percent, measured=_measured, listed=_listed)
    # What is not a number in JSON is null here; anything else would stop the script.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":"), "sort_keys": False}
    return environment


def _text(name: str) -> str:
    """A file beside the template."""
    return files("popsbounds").joinpath("templates", name).read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------------------------------


def _number(value: float, digits: int = 3) -> str:
    """A number with a true minus sign; nothing where it is missing."""
    return shown_number(value, digits).replace("-", "−")


def _percent(share: float) -> str:
    return _measured(100 * share, "%")


def _listed(names: list[str]) -> str:
    """a, b and c."""
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), *names[-1:]])


def _measured(value: float, unit: str, digits: int = 3) -> str:
    """A number that does not part from its unit, if it has one; nothing where it is missing."""
    number = _number(value, digits)
    return f"{number}\N{NO-BREAK SPACE}{unit}" if number and unit else number


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _prose(text: str) -> str:
    """Text with ``*emphasis*`` and code in backquotes as HTML, safe to show."""
    safe = html.escape(" ".join(text.split()))
    safe = re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", safe)
    return re.sub(r"\*(\S(?:[^*]*\S)?)\*", r"<em>\1</em>", safe)


def _subtitle(study: Study) -> list[str]:
    config = study.config
    kind = config.descriptors.kind
    name = "SNAP" if kind == "snap" else str(getattr(config.descriptors, "model", kind))
    parts = [
        ", ".join(config.elements),
        f"{name} with {_count(study.fit['P'], 'parameter')}",
        f"{config.fit.posterior} posterior",
        _count(config.ensemble.members, "member"),
    ]
    return [part for part in parts if part]  # a universal potential may name no elements


# ---------------------------------------------------------------------------------------------------------------------
# Summary
# ---------------------------------------------------------------------------------------------------------------------


def _answers(study: Study) -> list[dict[str, Any]]:
    """The summary in a few questions: each with a short answer, a mark (``good``, ``caution`` or none) and details."""
    answers = [_answer_fit(study), _answer_trust(study)]
    if "bounds" in study.tables:
        answers += [_answer_references(study), _answer_members(study)]
    if "environments" in study.tables:
        answers.append(_answer_environments(study))
    return answers


def _answer(question: str, answer: str | list[str], detail: str, mark: str = "", says: str = "") -> dict[str, Any]:
    lines = [answer] if isinstance(answer, str) else answer
    return {"question": question, "answer": lines, "detail": detail, "mark": mark, "says": says}


def _answer_fit(study: Study) -> dict[str, Any]:
    fit, rows = study.fit, held_out(study)
    errors = [_measured(line.MAE, KINDS[line.kind][1]) for line in rows.itertuples()]
    of_what = _listed([KINDS[kind][0] for kind in rows["kind"]])
    size = f"{_count(fit['P'], 'parameter')}, {fit['N']:,} training rows (N/P = {_number(fit['N_over_P'])})"
    detail = f"Mean absolute error of the MLE on held-out {of_what}; {size}."
    mark = ("caution", "Caution") if fit["caveats"] else ("", "")
    return _answer("How good is the fit?", errors, detail, *mark)


def _answer_trust(study: Study) -> dict[str, Any]:
    rows, settings = held_out(study), study.config.fit
    shares = [f"{_percent(line.EV)} of {KINDS[line.kind][0]}" for line in rows.itertuples()]
    promised, n_members = rows["promised"].max(), rows["n_members"].max()
    # Of a study that asks for less than its members could keep, the setting is what promises.
    setting = "fit.violation" if settings.conformal is None else "fit.conformal"
    source = setting if promised > 2 / (n_members + 1) else f"2/(M + 1) of {n_members:,} members"
    detail = f"That share of held-out data is outside the bounds; at most {_percent(promised)} is promised ({source})."
    ratios = [
        f"{_number(line.error_over_std)} for {KINDS[line.kind][0]}"
        for line in rows[rows["error_over_std"].notna()].itertuples()
    ]
    if ratios:
        detail += f" Mean error over mean std: {_listed(ratios)}; 1 is right."
    as_promised = not coverage_caveats(rows, settings)
    mark = ("good", "As promised") if as_promised else ("caution", "More than promised")
    return _answer("Can the bounds be trusted?", [*shares[:-1], f"{shares[-1]} outside"], detail, *mark)


def _answer_references(study: Study) -> dict[str, Any]:
    question = "Do the bounds hold the references?"
    bounds = principal(study.tables["bounds"])
    known = bounds[bounds["bracketed"].notna() & ~bounds["quantity"].isin(COUNTS)]
    # Where all agree, as at the zero of a scale, there is nothing to hold.
    known = known[(known["high"] > known["low"]) | ~known["bracketed"].astype(bool)]
    if known.empty:
        if bounds["reference"].isna().all():
            return _answer(question, "No references", "There is nothing to compare with: the bounds stand alone.")
        return _answer(question, "Nothing to compare", "No reference has bounds of any width beside it.")
    missed = missed_references(bounds)
    single = known["coordinate"].isna()
    n_single, n_curves = int(single.sum()), int((~single).sum())
    n_missed = int(missed.loc[missed["reference"].notna(), "n_outside"].sum())
    curves = f"{_percent(known.loc[~single, 'bracketed'].astype(float).mean())} of the {n_curves:,} points of curves"
    ratio = quantities(study)["mean_error_over_std"].median()
    typical = f"The typical error of the MLE is {_number(ratio)} std." if pd.notna(ratio) else ""
    if n_single:
        answer = f"{n_single - n_missed:,} of {n_single:,} inside"
        detail = f"Single values{f', and {curves}' if n_curves else ''}. {typical}"
    else:
        answer, detail = f"{curves} inside", typical
    mark = ("", "")  # a few points of curves are no alarm
    if n_missed or missed["n_outside"].sum() > 0.05 * len(known):
        mark = ("caution", "Some outside")
    elif missed.empty:
        mark = ("good", "All inside")
    return _answer(question, answer, detail, *mark)


def _answer_members(study: Study) -> dict[str, Any]:
    question = "Did the members run?"
    counts = ok_members(principal(study.tables["properties"]))
    worst = counts.loc[counts["n_ok"].idxmin()]
    if worst["n_ok"] == worst["n_members"]:
        detail = f"Every member gave every value of {_listed([property_label(name) for name in counts['property']])}."
        return _answer(question, f"All {worst['n_members']:,}", detail, "good", "All ok")
    short = counts[counts["n_ok"] < counts["n_members"]]
    lost = [
        f"{n} in {property_label(p)}"
        for p, n in zip(short["property"], short["n_members"] - short["n_ok"], strict=True)
    ]
    detail = f"Members without a value for at least one structure: {_listed(lost)}. Bounds are those of the others"
    detail += ", and missing where all failed." if (study.tables["bounds"]["n_ok"] == 0).any() else "."
    return _answer(question, f"{worst['n_ok']:,} of {worst['n_members']:,}", detail, "caution", "Some failed")


def _answer_environments(study: Study) -> dict[str, Any]:
    question = "Are the structures like the training data?"
    outside = _outside(study.tables["environments"])
    number = sum(len(names) for _, names in outside)
    if not number:
        detail = "Every atom of the properties' structures has an environment such as the training set holds."
        return _answer(question, "Yes", detail, "good", "All inside")
    named = [f"{name} {', '.join(names)}" for name, names in outside]
    detail = f"Outside the training set, so extrapolated: {'; '.join(named)}."
    return _answer(question, f"{number} {'is' if number == 1 else 'are'} not", detail, "caution", "Extrapolation")


def _held_out(study: Study) -> list[dict[str, Any]]:
    lines = held_out(study).to_dict("records")
    return [{**line, "name": KINDS[line["kind"]][0], "unit": KINDS[line["kind"]][1]} for line in lines]


def _properties(study: Study) -> dict[str, Any]:
    """What is said of the properties: quantities, missed references, failures, saddles."""
    tables = study.tables
    bounds = principal(tables["bounds"])
    found = quantities(study)
    ranked = found[found["mean_error_over_std"].notna()].sort_values("mean_error_over_std", ascending=False)
    missed = missed_references(bounds)
    reasons = failure_reasons(tables["failures"], tables["bounds"])
    return {
        "quantities": [_quantity(line, bounds) for line in found.to_dict("records")],
        "has_references": bool(bounds["bracketed"].notna().any()),
        "has_paper": bool(found["paper_mean_error_over_std"].notna().any()),
        "worst": [
            f"{datum_label(prop, quantity)} ({_number(ratio)} std)"
            for prop, quantity, ratio in ranked[["property", "quantity", "mean_error_over_std"]].head(3).to_numpy()
        ],
        "missed": [
            {**_labelled(line), "curve": pd.isna(line["reference"])} for line in missed.to_dict("records")
        ],
        "missed_single": bool(missed["reference"].notna().any()),
        "reasons": [
            {**line, "property": property_label(line["property"]),
             "structures": ", ".join(structure_label(line["property"], name) for name in line["structures"])}
            for line in reasons.head(_MOST_REASONS).to_dict("records")
        ],
        "n_other_reasons": max(len(reasons) - _MOST_REASONS, 0),
        "saddles": [_labelled(line) for line in saddles(tables["models"]).to_dict("records")],
        "unknown": [_labelled(line) for line in unknown_references(tables["properties"]).to_dict("records")],
    }  # fmt: skip


def _labelled(line: dict[str, Any]) -> dict[str, Any]:
    """A row of a table with its names and unit as they are written."""
    labels = {"structure": structure_label(line["property"], line["structure"])}
    if "quantity" in line:
        labels |= {"quantity": quantity_label(line["quantity"]), "unit": unit_label(line["unit"])}
    return {**line, "property": property_label(line["property"]), **labels}


def _quantity(line: dict[str, Any], bounds: pd.DataFrame) -> dict[str, Any]:
    """A row of the table of quantities."""
    rows = bounds[(bounds["property"] == line["property"]) & (bounds["quantity"] == line["quantity"])]
    return {
        **line,
        "key": line["property"],  # two may have the same label
        "property": property_label(line["property"]),
        "quantity": quantity_label(line["quantity"]),
        "unit": unit_label(line["unit"]),
        "marks": [] if line["curve"] else _marks(rows),
    }


def _marks(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Where references lie between low (−1) and high (1), one a structure."""
    rows = rows[rows["bracketed"].notna() & (rows["high"] > rows["low"])]
    place = (2 * rows["reference"] - rows["low"] - rows["high"]) / (rows["high"] - rows["low"])
    return [
        {"at": round(min(max(x, -_FARTHEST), _FARTHEST), 3), "outside": abs(x) > 1, "name": structure_label(prop, name)}
        for x, prop, name in zip(place, rows["property"], rows["structure"], strict=True)
    ]


def _groups(drivers: pd.DataFrame | None) -> dict[str, Any] | None:
    """Where the variance comes from: lines of the table of groups, and what stands out; None if that is not known."""
    if drivers is None or (drivers["by"] == "group").sum() == 0:
        return None
    sizes, shares = variance_by(drivers, "group")
    if len(shares) > _MOST_GROUPS:
        few, rest = shares.index[: _MOST_GROUPS - 1], f"{len(shares) - _MOST_GROUPS + 1} other groups"
        sizes, shares = (
            pd.concat([table.loc[few], table.drop(few).sum().to_frame(rest).T]) for table in (sizes, shares)
        )
    striking = out_of_proportion(sizes, shares)
    ratios = shares.div(sizes["of_rows"], axis=0).where(striking).rename_axis(index="group", columns="property")
    ratios = ratios.stack().dropna().sort_values(ascending=False, kind="stable").rename("ratio").reset_index()
    kinds, by_kind = variance_by(drivers, "kind")
    axes = axes_holding(drivers)
    return {
        "properties": [property_label(name) for name in shares],
        "lines": [
            {
                "name": group,
                "of_rows": sizes.loc[group, "of_rows"],
                "shares": [*zip(shares.loc[group], striking.loc[group], strict=True)],
            }
            for group in shares.index
        ],
        "largest": shares.index[0],
        "largest_share": shares.iloc[0].mean(),
        "largest_of_rows": sizes["of_rows"].iloc[0],
        "striking": [
            (group, sizes.loc[group, "of_rows"], shares.loc[group, prop], property_label(prop))
            for group, prop in ratios.drop_duplicates("group")[["group", "property"]].head(_MOST_STRIKING).to_numpy()
        ],
        "axes": int(axes.median()) if len(axes) and math.isfinite(axes.median()) else None,
        "energies": by_kind.loc["energy"].mean() if "energy" in kinds.index else None,
        "energies_of_rows": kinds["of_rows"].get("energy"),
    }


def _outside(environments: pd.DataFrame | None) -> list[tuple[str, list[str]]]:
    """Structures outside the training set, by property, as they are written."""
    found = {} if environments is None else names_outside(environments)
    return [(property_label(prop), [structure_label(prop, name) for name in names]) for prop, names in found.items()]


# ---------------------------------------------------------------------------------------------------------------------
# Figures, tables, and what the panels are drawn from
# ---------------------------------------------------------------------------------------------------------------------


def _figures(paths: Mapping[str, Path]) -> list[dict[str, Any]]:
    own = {name: name.removeprefix("own_").replace("_", " ") for name in paths if name.startswith("own_")}
    known = [*FIGURE_TITLES]
    first = known.index("pointwise")
    order = [*known[:first], *own, *known[first:]]
    titles = {**FIGURE_TITLES, **own}
    return [
        {
            "name": name,
            "title": titles[name],
            "file": paths[name].with_suffix(".pdf").name,
            "caption": _prose(caption(name)),
            "alt": f"{titles[name]}. {_first_sentence(caption(name))}",
            "source": f"data:image/png;base64,{base64.b64encode(paths[name].read_bytes()).decode()}",
        }
        for name in sorted(paths, key=order.index)
    ]


def _first_sentence(text: str) -> str:
    return re.sub(r"[*`]", "", re.split(r"(?<=[.?])\s", " ".join(text.split()), maxsplit=1)[0])


def _shown(study: Study) -> dict[str, pd.DataFrame]:
    """Tables of the page; those that are long in ways that nobody reads are condensed."""
    tables = dict(study.tables)
    if "spearman" in tables:
        tables["ranks"] = rank_correlations(tables["spearman"])
    if "failures" in tables:
        key = ["property", "structure", "source", "method", "level", "status", "reason"]
        groups = tables["failures"].groupby(key, sort=False, dropna=False)
        tables["failures"] = groups.agg(n_members=("member", "nunique")).reset_index()
    return {name: tables[name] for name in TABLE_TITLES if name in tables}


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    """A table as columns of plain values; of curves, only how many rows they have."""
    n_curves = 0
    if "coordinate" in table:
        n_curves = int(table["coordinate"].notna().sum())
        table = table[table["coordinate"].isna()]
    shown = table.dropna(axis="columns", how="all") if len(table) else table
    columns = []
    for name in shown.columns:
        values = shown[name]
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        columns.append({"name": name, "number": is_number, "values": [_plain(value) for value in values]})
    return {"columns": columns, "curves": n_curves}


def _plain(value: Any) -> Any:
    """A value that JSON knows, floats to seven digits."""
    if pd.isna(value):
        return None
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return _rounded(float(value))
    return str(value)


def _rounded(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _spreads(study: Study) -> list[dict[str, Any]]:
    """What the panels are drawn from: each quantity that is a single number, the members of each structure counted.

    Counts are of members in equal bins from the lowest to the highest, so that the page does not grow with their
    number.
    """
    if "bounds" not in study.tables:
        return []
    bounds = principal(study.tables["bounds"])
    bounds = bounds[bounds["coordinate"].isna() & (bounds["n_ok"] > 0)]
    members = principal(study.tables["properties"])
    members = members[members["source"].isin(["member", "implicit"]) & (members["status"] == "ok")]
    key = ["property", "quantity", "structure"]
    values = {name: group.to_numpy() for name, group in members[members["coordinate"].isna()].groupby(key)["value"]}
    found = []
    for (prop, quantity), group in bounds.groupby(["property", "quantity"], sort=False):
        rows = []
        for line in group.to_dict("records"):
            here = values[prop, quantity, line["structure"]]
            numbers = {name: _plain(line[name]) for name in ("mle", "mean", "std", "low", "high", "reference")}
            numbers["inside"] = None if pd.isna(line["bracketed"]) else bool(line["bracketed"])
            counts = {
                "counts": _histogram(here[np.isfinite(here)]),
                "ok": int(line["n_ok"]),
                "failed": int(line["n_failed"]),
            }
            rows.append({"name": structure_label(prop, line["structure"]), **numbers, **counts})
        names = {"property": prop, "label": property_label(prop), "quantity": quantity_label(quantity)}
        found.append({**names, "unit": unit_label(group["unit"].iloc[0]), "rows": rows})
    return found


def _histogram(values: np.ndarray) -> list[int]:
    """Numbers of values, shape (n,), in equal bins from the lowest to the highest; one bin where all are equal."""
    n_bins = min(math.ceil(math.sqrt(len(values))), _MOST_BINS) if np.ptp(values) > 0 else 1
    return np.histogram(values, n_bins)[0].tolist()
