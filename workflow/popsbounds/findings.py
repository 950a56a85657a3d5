"""What a finished study found, read off its tables once for all who tell it: the terminal's summary and the page.

Of a property whose members came by several methods, the numbers are those of
the principal one (`popsbounds.statistics.principal`).
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from popsbounds.fit import coverage_caveats, promised_violation
from popsbounds.statistics import COUNTS, RELATIVE, principal
from popsbounds.study import Study

__all__ = [
    "axes_holding",
    "cautions",
    "failure_reasons",
    "held_out",
    "missed_references",
    "ok_members",
    "out_of_proportion",
    "quantities",
    "rank_correlations",
    "saddles",
    "typical_spread",
    "unknown_references",
    "variance_by",
]

_QUANTITY = ["property", "quantity"]
_KEY = ["property", "structure", "quantity"]
# A share of the variance that is so many times the share of the rows stands out, unless it is small.
_OUT_OF_PROPORTION, _WORTH = 1.5, 0.1


def held_out(study: Study) -> pd.DataFrame:
    """Calibration of the members, not of the whole posterior, with a column `promised`: the share for outside."""
    settings, calibration = study.config.fit, study.tables["calibration"]
    drawn = calibration[calibration["posterior"] == settings.posterior]
    return drawn.assign(promised=[promised_violation(settings, n) for n in drawn["n_members"]])


def cautions(study: Study) -> list[str]:
    """What the fit and the held-out data warn of, one sentence each, without a full stop."""
    return [*study.fit["caveats"], *coverage_caveats(held_out(study), study.config.fit)]


def quantities(study: Study) -> pd.DataFrame:
    """How uncertain each quantity is, and whether its references are inside its bounds.

    Returns
    -------
    DataFrame
        Rows of the table of ratios, by the principal method, with `unit`,
        `fewest` (members that are ok in its worst row), `curve` (or single
        numbers), `inside` (how many references are within the bounds, in
        words), and of `typical_spread`.
    """
    bounds = principal(study.tables["bounds"])
    groups = bounds.groupby(_QUANTITY, sort=False)
    known = groups.agg(unit=("unit", "first"), fewest=("n_ok", "min"), points=("coordinate", "count"))
    known["curve"] = known.pop("points") > 0
    known = known.join(typical_spread(bounds))
    found = principal(study.tables["std_ratio"]).merge(known, on=_QUANTITY, how="left")
    return found.assign(inside=[_inside(line) for line in found.to_dict("records")])


def _inside(line: dict[str, Any]) -> str:
    share, number = line["fraction_bracketed"], line["n_structures"]
    if not number:
        return ""
    return f"{100 * share:.0f} % of points" if line["curve"] else f"{share * number:.0f} of {number}"


def typical_spread(bounds: pd.DataFrame) -> pd.DataFrame:
    """Spread of the members of each quantity, in the typical structure.

    Parameters
    ----------
    bounds
        Table `bounds`, by one method.

    Returns
    -------
    DataFrame
        Indexed by property and quantity; medians over structures that any
        member changes: `std`, in the quantity's unit, and `relative_width`,
        (high − low)/|MLE|. Of a curve, both are ratios of means along it.
        Differences from a chosen phase have no size to compare with.
    """
    sizes = bounds.assign(width=bounds["high"] - bounds["low"], size=bounds["mle"].abs())
    means = sizes.groupby([*_QUANTITY, "structure"], sort=False)[["std", "width", "size"]].mean().query("width > 0")
    names = means.index.to_frame()
    no_size = (names["property"] == "formation") & names["quantity"].isin(RELATIVE) | (means["size"] == 0)
    means["relative_width"] = means["width"] / means["size"].where(~no_size)
    return means.groupby(_QUANTITY, sort=False)[["std", "relative_width"]].median()


def missed_references(bounds: pd.DataFrame) -> pd.DataFrame:
    """References outside the bounds.

    Parameters
    ----------
    bounds
        Table `bounds`, by one method.

    Returns
    -------
    DataFrame
        One row per (property, structure, quantity, unit): `n_points` with a
        reference, `n_outside` (at least one), and of single numbers
        `reference`, `low` and `high`; null for curves.
    """
    known = bounds[bounds["bracketed"].notna() & ~bounds["quantity"].isin(COUNTS)]
    known = known.assign(outside=~known["bracketed"].astype(bool))
    numbers = ["reference", "low", "high"]
    single = known["coordinate"].isna()
    known[numbers] = known[numbers].where(single)
    groups = known.groupby([*_KEY, "unit"], sort=False)
    found = groups.agg(n_points=("outside", "size"), n_outside=("outside", "sum"), **{n: (n, "first") for n in numbers})
    return found.query("n_outside > 0").reset_index()


def ok_members(properties: pd.DataFrame) -> pd.DataFrame:
    """How many members are ok in every quantity of a property.

    Parameters
    ----------
    properties
        Table `properties`, by one method.

    Returns
    -------
    DataFrame
        One row a property: `n_ok`, and `n_members` of the study.
    """
    members = properties[properties["source"].isin(["member", "implicit"])]
    failed = members[members["status"] != "ok"].groupby("property")["member"].nunique()
    names = members["property"].unique()
    n_members = members["member"].nunique()
    n_ok = n_members - failed.reindex(names, fill_value=0)
    return pd.DataFrame({"property": names, "n_ok": n_ok.to_numpy(), "n_members": n_members})


def failure_reasons(failures: pd.DataFrame, bounds: pd.DataFrame) -> pd.DataFrame:
    """Why members failed, by the method that speaks for each property; the most frequent reasons first.

    Parameters
    ----------
    failures, bounds
        Tables of these names, whole.

    Returns
    -------
    DataFrame
        property, status, reason (without the structure's name; numbers as …),
        structures (names, a list), n_members.
    """
    ways = principal(bounds)[["property", "method", "level"]].drop_duplicates()
    rows = failures[failures["member"].notna()].merge(ways, on=list(ways.columns))
    rows["reason"] = [
        re.sub(r"(?<![\w.])-?\d+(\.\d+)?", "…", reason.removeprefix(f"{structure}: "))
        for structure, reason in zip(rows["structure"], rows["reason"].fillna(""), strict=True)
    ]
    groups = rows.groupby(["property", "status", "reason"], sort=False)
    found = groups.agg(structures=("structure", lambda names: [*dict.fromkeys(names)]), n_members=("member", "nunique"))
    return found.reset_index().sort_values("n_members", ascending=False, kind="stable", ignore_index=True)


def saddles(models: pd.DataFrame) -> pd.DataFrame:
    """Structures in which the MLE has unstable modes: property, structure, unstable_modes."""
    return models.loc[(models["unstable_modes"] > 0).fillna(False), ["property", "structure", "unstable_modes"]]


def unknown_references(properties: pd.DataFrame) -> pd.DataFrame:
    """Structures whose reference failed: property, structure, reason (the first of them)."""
    failed = properties.query("source == 'reference' and status != 'ok'")
    return failed.groupby(["property", "structure"], sort=False)["reason"].first().reset_index()


def variance_by(drivers: pd.DataFrame, by: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Which training data the variance of each property comes from.

    Parameters
    ----------
    drivers
        Table `drivers`.
    by
        ``group`` of the training data, or ``kind``: energies and forces.

    Returns
    -------
    sizes : DataFrame
        Indexed by name of the group or kind, that of the largest mean share
        first: `n_rows`, and `of_rows`, its share of the training rows.
    shares : DataFrame
        The same index, a column for each property: the mean over its
        quantities of the share of their variance. Shares are from 0 to 1.
    """
    rows = drivers[(drivers["by"] == by) & drivers["share"].notna() & ~drivers["quantity"].isin(COUNTS)]
    n_rows = rows.groupby("name")["n_rows"].first().astype(float)
    # A group that a quantity has no line of has no share in it.
    by_quantity = rows.pivot(index=_KEY, columns="name", values="share").fillna(0.0)
    shares = by_quantity.groupby("property", sort=False).mean().T.rename_axis(columns=None)
    order = shares.mean(axis=1).sort_values(ascending=False, kind="stable").index
    sizes = pd.DataFrame({"n_rows": n_rows, "of_rows": n_rows / n_rows.sum()})
    return sizes.loc[order], shares.loc[order]


def out_of_proportion(sizes: pd.DataFrame, shares: pd.DataFrame) -> pd.DataFrame:
    """Which groups bring much more of a property's variance than their number of rows says.

    Parameters
    ----------
    sizes, shares
        As `variance_by` gives them.

    Returns
    -------
    DataFrame of bool
        As `shares`.
    """
    return shares.ge((_OUT_OF_PROPORTION * sizes["of_rows"]).clip(lower=_WORTH), axis=0)


def axes_holding(drivers: pd.DataFrame, share: float = 0.9) -> pd.Series:
    """Number of the posterior's axes that hold a share of each quantity's variance.

    Parameters
    ----------
    drivers
        Table `drivers`.
    share
        From 0 to 1.

    Returns
    -------
    Series
        Indexed by property, structure and quantity; infinite where the axes in the table hold less.
    """
    axes = drivers[(drivers["by"] == "axis") & ~drivers["quantity"].isin(COUNTS)]
    listed = axes[axes["name"] != "other"].sort_values("share", ascending=False, kind="stable")
    held = listed.groupby(_KEY, sort=False)["share"].cumsum()
    # One more than those that do not suffice, if there is one more.
    needed = (held < share * (1 - 1e-12)).groupby([listed[name] for name in _KEY], sort=False).agg(["sum", "size"])
    return (needed["sum"] + 1.0).where(needed["sum"] < needed["size"], float("inf"))


def rank_correlations(spearman: pd.DataFrame) -> pd.DataFrame:
    """Table `spearman` with one row a quantity.

    Returns
    -------
    DataFrame
        property, quantity, n_members, mean_rho and std_rho over them,
        reference_rho, within_one_std (of the mean, the reference's).
    """
    groups = spearman.groupby(_QUANTITY, sort=False)
    found = groups.agg(n_members=("member", "count"), mean_rho=("mean_rho", "first"), std_rho=("std_rho", "first"))
    reference = spearman[spearman["member"].isna()].set_index(_QUANTITY)
    found["reference_rho"], found["within_one_std"] = reference["rho"], reference["within_one_std"]
    return found.reset_index()
