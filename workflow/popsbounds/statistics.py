"""Bounds, ratios, rank correlations and calibration: tidy table in, tidy table out.

The tables and their columns are those of `docs/tables.md`. Standard deviations
over members are sample standard deviations (``ddof=1``): the members are draws
from the posterior. The bounds `low` and `high` are the extremes of the members
drawn, so they widen with the number of members: `n_ok` stands beside them.

Members' values come by one method or several: from relaxations (`explicit`),
from an expansion about the MLE (`implicit`, to some `level`), or from one or the
other as each needs (`auto`). Each keeps its own rows; `principal` picks one.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata

from popsbounds.config import LEVELS

__all__ = [
    "BOUNDS_COLUMNS",
    "CALIBRATION_COLUMNS",
    "COUNTS",
    "DATUM",
    "FAILURES_COLUMNS",
    "RELATIVE",
    "ROUNDING",
    "SCORE_LEVEL",
    "SPEARMAN_COLUMNS",
    "STD_RATIO_COLUMNS",
    "TRUNCATION_COLUMNS",
    "bounds",
    "calibration",
    "failures",
    "outside_bounds",
    "paper_ratios",
    "paper_tables",
    "principal",
    "spearman",
    "std_ratio",
    "truncation",
]

BOUNDS_COLUMNS = [
    "property", "structure", "quantity", "unit", "method", "level", "coordinate",
    "reference", "mle", "mean", "std", "low", "high", "n_ok", "n_failed",
    "mle_error", "low_error", "high_error", "error_over_std", "error_over_range", "bracketed",
    "width_over_analytic",
]  # fmt: skip
STD_RATIO_COLUMNS = [
    "property", "quantity", "method", "level", "mean_error_over_std", "mean_error_over_range",
    "fraction_bracketed", "n_structures", "paper_mean_error_over_std", "paper_mean_error_over_range",
]  # fmt: skip
SPEARMAN_COLUMNS = ["property", "quantity", "member", "versus", "rho", "mean_rho", "std_rho", "within_one_std"]
CALIBRATION_COLUMNS = [
    "kind", "posterior", "EV", "MAE", "RMSE", "error_over_std", "median_error_over_std", "mean_width",
    "interval_score", "correlation", "nll", "miscalibration_area", "n_members", "n_points", "n_fixed",
]  # fmt: skip
FAILURES_COLUMNS = ["property", "structure", "source", "method", "level", "member", "status", "reason"]
TRUNCATION_COLUMNS = [
    "property", "structure", "quantity", "unit", "coordinate", "method", "level", "n_members", "n_lost",
    "median_error", "p95_error", "largest_error", "std", "median_error_over_std", "p95_error_over_std",
    "median_relative_error", "low_error", "high_error", "evaluations", "explicit_evaluations", "n_relaxed",
]  # fmt: skip

# Ways to the members' values, method and level, the most trusted first.
WAYS = [("explicit", ""), ("auto", ""), *(("implicit", level) for level in reversed(LEVELS))]
DATUM = ["property", "structure", "quantity", "unit", "coordinate"]
RELATIVE = ["formation_energy", "relative_volume"]  # differences of `formation` from the zero structure's value
COUNTS = ["hessian_index", "imaginary_fraction"]  # of unstable modes: not quantities with an error or a ranking
SCORE_LEVEL = 0.02  # share of data outside that the interval score is built for
ROUNDING = 1e-9  # eV/atom, eV/Å: below this a datum outside its bounds is outside by rounding only


def _is_member(properties: pd.DataFrame) -> pd.Series:
    return properties["source"].isin(["member", "implicit"])


def _is_ok(properties: pd.DataFrame) -> pd.Series:
    """Rows that hold a number to count with."""
    return (properties["status"] == "ok") & np.isfinite(properties["value"].to_numpy(float))


def _checked(properties: pd.DataFrame) -> pd.DataFrame:
    """The table, numbered afresh; refused if its statistics would be silently wrong."""
    properties = properties.reset_index(drop=True)
    members = _is_member(properties)
    key = [*DATUM, "source", "method", "level", "member"]
    # Where each member has one value by a method, it is all the same whether relaxed or not.
    repeated = properties.assign(source=properties["source"].mask(members, "member")).duplicated(key)
    if repeated.any():
        first = properties.loc[repeated, key].iloc[0].to_dict()
        raise ValueError(f"properties: {repeated.sum()} rows are repeated, the first is {first}")
    found = properties.loc[members, ["method", "level"]].drop_duplicates()
    unknown = [way for way in found.itertuples(index=False, name=None) if way not in WAYS]
    if unknown:
        raise ValueError(f"properties: members by method and level {unknown[0]}; known are {WAYS}")
    _refuse_mixed_units(properties)
    return properties


def _refuse_mixed_units(table: pd.DataFrame) -> None:
    units = table.groupby(["property", "quantity"])["unit"].nunique(dropna=False)
    if (units > 1).any():
        raise ValueError(f"properties: more than one unit for {', '.join(map('/'.join, units.index[units > 1]))}")


def principal(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the one method that speaks for each property, where its members came by several.

    Parameters
    ----------
    table
        Any table with columns property, method and level.

    Returns
    -------
    DataFrame
        Its rows by the explicit method or, for a property without, by `auto`,
        or else the implicit ones of its highest level. Rows of no member stay
        in a table of single values (MLE, reference) and go from one over
        members (analytic).
    """
    members = _is_member(table) if "source" in table else pd.Series(True, table.index)
    ways = pd.DataFrame(WAYS, columns=["method", "level"]).rename_axis("rank").reset_index()
    found = table.loc[members, ["property", "method", "level"]].drop_duplicates().merge(ways, on=["method", "level"])
    chosen = found.sort_values("rank", kind="stable").drop_duplicates("property").set_index("property")
    speaks = members.copy()
    for name in ("method", "level"):
        speaks &= table[name] == table["property"].map(chosen[name])
    return table[speaks | ~members]


def bounds(
    properties: pd.DataFrame, n_members: int | None = None, analytic: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Spread of the members beside the MLE and the reference.

    Parameters
    ----------
    properties
        Table `properties`, one number a row. A curve's
        coordinates must be the same numbers for every source.
    n_members
        Members there must be in every row; None takes what there is.
    analytic
        Mean, std, low and high in closed form over the whole posterior, to
        first order in the parameters: one row per (property, structure,
        quantity, unit, coordinate).

    Returns
    -------
    DataFrame
        One row per (property, structure, quantity, method, level, coordinate),
        in the order of first appearance, the analytic ones last; values and
        errors in `unit`. Statistics are over members with status `ok`;
        `n_ok + n_failed` is the number of members. What needs a missing (or not
        ok) reference or MLE is null, and so is `error_over_std` where all
        members agree. `width_over_analytic` is the members' range over the
        posterior's.

    Raises
    ------
    ValueError
        Rows are repeated, of an unknown method and level, or of one quantity in two units; or members are missing.
    """
    properties = _checked(properties)
    ok = _is_ok(properties)
    members = properties[_is_member(properties)]
    key = ["property", "structure", "quantity", "unit", "method", "level", "coordinate"]
    # Not-ok rows stay in the groups as NaN, so that a structure that every member fails keeps its row.
    groups = members.assign(value=members["value"].where(ok)).groupby(key, dropna=False, sort=False)["value"]
    table = groups.agg(mean="mean", std="std", low="min", high="max", n_ok="count", n_all="size").reset_index()
    table["n_failed"] = table["n_all"] - table["n_ok"]
    if n_members is not None and (table["n_all"] != n_members).any():
        first = table.loc[table["n_all"] != n_members, [*key, "n_all"]].iloc[0].to_dict()
        raise ValueError(f"bounds: members are missing; of {n_members} there should be: {first}")
    table = table.astype({"n_ok": "Int32", "n_failed": "Int32"})
    table["width_over_analytic"] = np.nan
    if analytic is not None:
        closed = analytic[[*DATUM, "mean", "std", "low", "high"]].astype({"coordinate": float})
        width = closed[DATUM].assign(width=closed["high"] - closed["low"])
        width = table[DATUM].merge(width, on=DATUM, how="left", validate="many_to_one")["width"]
        table["width_over_analytic"] = (table["high"] - table["low"]) / width.where((width > 0) & np.isfinite(width))
        table = pd.concat([table, closed.assign(method="analytic", level="first")], ignore_index=True)
        _refuse_mixed_units(table)
    for source in ("reference", "mle"):
        # Neither depends on the method that carries the members.
        known = properties[ok & (properties["source"] == source)].drop_duplicates(DATUM)
        known = known[[*DATUM, "value"]].rename(columns={"value": source})
        table = table.merge(known, on=DATUM, how="left", validate="many_to_one")
    for name in ("mle", "low", "high"):
        table[f"{name}_error"] = table[name] - table["reference"]
    error, width = table["mle_error"].abs(), table["high"] - table["low"]
    table["error_over_std"] = error / table["std"].where(table["std"] > 0)
    table["error_over_range"] = error / width.where(width > 0)
    inside = (table["low"] <= table["reference"]) & (table["reference"] <= table["high"])
    table["bracketed"] = inside.astype("boolean").mask(table[["low", "reference"]].isna().any(axis=1))
    return table[BOUNDS_COLUMNS]


def std_ratio(bounds: pd.DataFrame, zero: str | None, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Errors of the MLE in units of the ensemble's spread, averaged over structures.

    Parameters
    ----------
    bounds
        Table of `bounds`.
    zero
        Structure that formation energies and relative volumes are measured
        from, left out of their means; None where there are none of these.
    paper
        Published means (`paper_ratios`); without it their columns are null.

    Returns
    -------
    DataFrame
        One row per (property, quantity, method, level); counts of unstable
        modes are left out. `n_structures` are those with a reference and bounds, which
        `fraction_bracketed` is the share of. Each structure weighs the same: of
        a curve, the mean error is taken over the mean spread along its
        coordinate (points without spread, such as acoustic modes at Γ, would
        rule a mean of ratios), and points where all agree are left out.
    """
    trivial = (bounds["property"] == "formation") & bounds["quantity"].isin(RELATIVE) & (bounds["structure"] == zero)
    # Where a curve is fixed, as at the start of a path, there is nothing to bracket.
    low, high, reference = bounds["low"], bounds["high"], bounds["reference"]
    trivial |= bounds["coordinate"].notna() & (low == high) & (low == reference)
    key = ["property", "quantity", "method", "level"]
    counts = bounds["quantity"].isin(COUNTS)
    table = bounds.loc[~counts, key].drop_duplicates()
    known = bounds[~trivial & ~counts & bounds["bracketed"].notna()].astype({"bracketed": "Float64"})
    known = known.assign(error=known["mle_error"].abs(), range=known["high"] - known["low"])
    by_structure = known.groupby([*key, "structure"], sort=False)[["error", "std", "range", "bracketed"]].mean()
    for width in ("std", "range"):
        by_structure[f"error_over_{width}"] = by_structure["error"] / by_structure[width].where(by_structure[width] > 0)
    measures = ["error_over_std", "error_over_range", "bracketed"]
    by_quantity = by_structure[measures].groupby(key, sort=False)
    means = by_quantity.mean().astype(float).reset_index()
    means = means.rename(columns={name: f"mean_{name}" for name in measures})
    means = means.rename(columns={"mean_bracketed": "fraction_bracketed"})
    sizes = by_quantity.size().rename("n_structures").reset_index()
    table = table.merge(means, on=key, how="left").merge(sizes, on=key, how="left")
    table["n_structures"] = table["n_structures"].fillna(0).astype("Int32")
    published = ["paper_mean_error_over_std", "paper_mean_error_over_range"]
    if paper is None:
        table[published] = np.nan
    else:
        table = table.merge(paper[["property", "quantity", *published]], on=["property", "quantity"], how="left")
    return table[STD_RATIO_COLUMNS]


def _rank_correlation(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Spearman's rho of each row with the target; NaN where one of them is constant."""
    ranks = rankdata(rows, axis=1)
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    wanted = rankdata(target)
    wanted = wanted - wanted.mean()
    norms = np.linalg.norm(ranks, axis=1) * np.linalg.norm(wanted)
    rho = np.divide(ranks @ wanted, norms, out=np.full(len(ranks), np.nan), where=norms > 0)
    return np.clip(rho, -1, 1)  # rounding


def spearman(properties: pd.DataFrame) -> pd.DataFrame:
    """How well the members, and the reference, keep the MLE's ranking of structures.

    Parameters
    ----------
    properties
        Tidy table, one number a row. Curves and counts of unstable modes are
        left out; members count by the `principal` method of each property.

    Returns
    -------
    DataFrame
        Per (property, quantity) with three structures or more, one row a
        member and one for the reference (`member` null, last). The structures
        are those with a value of the MLE and of the reference, so that the
        reference and the members are ranked over the same ones; where fewer
        than three have a reference, its `rho` is null and the MLE's structures
        count. Members that fail for one of them are left out. `mean_rho`
        and `std_rho` are over members; `within_one_std` tells, in the
        reference's row, whether its rho is that close to the mean.

    Raises
    ------
    ValueError
        Rows are repeated, of an unknown method and level, or of one quantity in two units.
    """
    properties = _checked(properties)
    ranked = properties["coordinate"].isna() & ~properties["quantity"].isin(COUNTS)
    rows = principal(properties)
    rows = rows[_is_ok(rows) & ranked[rows.index]]
    tables = []
    for (prop, quantity), group in rows.groupby(["property", "quantity"], sort=False):
        by_source = {
            source: group[group["source"] == source].drop_duplicates("structure").set_index("structure")["value"]
            for source in ("mle", "reference")
        }
        mle, reference = by_source["mle"], by_source["reference"]
        common = mle.index.intersection(reference.index, sort=False)
        has_reference = len(common) >= 3
        structures = common if has_reference else mle.index
        if len(structures) < 3:
            continue
        members = group[_is_member(group)].pivot(index="member", columns="structure", values="value")
        members = members.reindex(columns=structures).dropna().sort_index()
        target = mle[structures].to_numpy()
        rho = _rank_correlation(members.to_numpy(), target)
        rho_reference = (
            _rank_correlation(reference[structures].to_numpy()[None], target)[0] if has_reference else np.nan
        )
        spread = pd.Series(rho)
        mean, std = spread.mean(), spread.std()
        table = pd.DataFrame({"member": [*members.index, pd.NA], "rho": [*rho, rho_reference]})
        table = table.assign(property=prop, quantity=quantity, versus="mle", mean_rho=mean, std_rho=std)
        table["within_one_std"] = pd.array([pd.NA] * len(table), dtype="boolean")
        if np.isfinite([rho_reference, mean, std]).all():
            table.loc[len(table) - 1, "within_one_std"] = bool(abs(rho_reference - mean) <= std)
        tables.append(table.astype({"member": "Int32"}))
    if not tables:
        kinds = {"member": "Int32", "rho": float, "mean_rho": float, "std_rho": float, "within_one_std": "boolean"}
        return pd.DataFrame(columns=SPEARMAN_COLUMNS).astype(kinds)
    return pd.concat(tables, ignore_index=True)[SPEARMAN_COLUMNS]


def truncation(properties: pd.DataFrame) -> pd.DataFrame:
    """What members lose by not being relaxed: implicit and `auto` values against explicit ones.

    Parameters
    ----------
    properties
        Tidy table, one number a row.

    Returns
    -------
    DataFrame
        One row per (property, structure, quantity, unit, coordinate, method,
        level) whose members have explicit values too. Everything but `n_lost`
        is over the members that are ok by both methods.

        n_members : these members.
        n_lost : members that are ok by the explicit method only.
        median_error, p95_error, largest_error : of absolute differences, in `unit`.
        std : of the explicit values.
        median_error_over_std, p95_error_over_std : null where std is zero.
        median_relative_error : of absolute differences over absolute explicit
            values, where these are not zero.
        low_error, high_error : bound of this method minus the explicit one.
        evaluations, explicit_evaluations : mean force calls a member.
        n_relaxed : members that `auto` relaxed after all.

    Raises
    ------
    ValueError
        Rows are repeated, of an unknown method and level, or of one quantity in two units.
    """
    properties = _checked(properties)
    # Numbers for names: comparing millions of rows takes seconds, not minutes.
    rank = pd.Series(range(len(WAYS)), pd.MultiIndex.from_tuples(WAYS))
    members = properties[_is_member(properties)]
    table = pd.DataFrame(
        {
            "datum": members.groupby(DATUM, dropna=False, sort=False).ngroup(),
            "way": rank.reindex(pd.MultiIndex.from_frame(members[["method", "level"]])).to_numpy(),
            "member": members["member"],
            "value": members["value"].where(_is_ok(members)),
            "evaluations": members["evaluations"].astype(float),
            "relaxed": members["source"] == "member",
        }
    )
    names = members.loc[~table["datum"].duplicated(), DATUM].reset_index(drop=True)  # by number of the datum
    explicit = table["way"] == rank["explicit", ""]
    both = table[~explicit].merge(
        table.loc[explicit, ["datum", "member", "value", "evaluations"]],
        on=["datum", "member"],
        suffixes=("", "_explicit"),
        validate="many_to_one",
    )
    ok = both["value"].notna() & both["value_explicit"].notna()
    both["lost"] = both["value"].isna() & both["value_explicit"].notna()
    both["relaxed"] &= ok
    numbers = ["value", "evaluations", "value_explicit", "evaluations_explicit"]
    both[numbers] = both[numbers].where(ok)
    both["error"] = (both["value"] - both["value_explicit"]).abs()
    size = both["value_explicit"].abs()
    both["relative"] = both["error"] / size.where(size > 0)
    groups = both.groupby(["datum", "way"])
    found = groups.agg(
        n_members=("error", "count"),
        n_lost=("lost", "sum"),
        median_error=("error", "median"),
        largest_error=("error", "max"),
        std=("value_explicit", "std"),
        median_relative_error=("relative", "median"),
        low=("value", "min"),
        high=("value", "max"),
        low_explicit=("value_explicit", "min"),
        high_explicit=("value_explicit", "max"),
        evaluations=("evaluations", "mean"),
        explicit_evaluations=("evaluations_explicit", "mean"),
        n_relaxed=("relaxed", "sum"),
    )
    found["p95_error"] = groups["error"].quantile(0.95)
    for name in ("median_error", "p95_error"):
        found[f"{name}_over_std"] = found[name] / found["std"].where(found["std"] > 0)
    for name in ("low", "high"):
        found[f"{name}_error"] = found[name] - found[f"{name}_explicit"]
    ways = pd.DataFrame(WAYS, columns=["method", "level"]).astype("str")
    found = found.reset_index().join(names, on="datum").join(ways, on="way")
    return found[TRUNCATION_COLUMNS].astype(dict.fromkeys(["n_members", "n_lost", "n_relaxed"], "Int32"))


def calibration(pointwise: pd.DataFrame, posterior: str, n_members: int | None) -> pd.DataFrame:
    """How well the spread of the members tells the error of single test data.

    Parameters
    ----------
    pointwise
        One row a test datum: kind (`energy`, eV/atom, or `force`, eV/Å),
        truth, mle, and over members mean, std, low, high.
    posterior
        Name of the posterior, copied.
    n_members
        Number of members, copied: bounds that are sampled depend on it; None (null) where none are.

    Returns
    -------
    DataFrame
        One row a kind.

        EV : share of truths outside [low, high] (0 to 1).
        MAE, RMSE : of the MLE.
        error_over_std : mean |truth − mle| over mean std.
        median_error_over_std : median of |truth − mle| / std.
        mean_width : mean of high − low; the smaller, the sharper.
        interval_score : mean of high − low + (2/a) times how far the truth lies
            outside, a = 2 %: width and violations in one, the lower the better
            (Gneiting & Raftery, J. Am. Stat. Assoc. 102, 359, 2007).
        correlation : Pearson's, of |truth − mle| with (high − low)/2.
        nll : mean negative log-likelihood of the truth under a Gaussian
            with the members' mean and std.
        miscalibration_area : area between the diagonal and the share of
            truths below each quantile of that Gaussian (0 is calibrated,
            at most 1/2).
        n_members, n_points : members, data.
        n_fixed : data that no member changes, such as forces that vanish by
            symmetry. They have no std to compare with and count in EV, MAE,
            RMSE, both means and n_points only.
    """
    rows = []
    for kind, group in pointwise.groupby("kind", sort=False):
        truth, mle, mean, std, low, high = group[["truth", "mle", "mean", "std", "low", "high"]].to_numpy(float).T
        error = np.abs(truth - mle)
        free = std > ROUNDING
        z = (truth - mean)[free] / std[free]
        half = (high - low)[free] / 2
        beyond = np.clip(low - truth, 0, None) + np.clip(truth - high, 0, None)
        correlated = free.sum() > 1 and np.isfinite(half).all() and np.ptp(half) > 0 and np.ptp(error[free]) > 0
        rows.append(
            {
                "kind": kind,
                "posterior": posterior,
                "EV": outside_bounds(group).mean(),
                "MAE": error.mean(),
                "RMSE": np.sqrt(np.mean(error**2)),
                "error_over_std": error.mean() / std.mean() if free.any() else np.nan,
                "median_error_over_std": np.median(error[free] / std[free]) if free.any() else np.nan,
                "mean_width": np.mean(high - low),
                "interval_score": np.mean(high - low + 2 / SCORE_LEVEL * beyond),
                "correlation": np.corrcoef(error[free], half)[0, 1] if correlated else np.nan,
                "nll": np.mean(z**2 / 2 + np.log(std[free]) + np.log(2 * np.pi) / 2) if free.any() else np.nan,
                "miscalibration_area": _miscalibration_area(z) if free.any() else np.nan,
                "n_members": n_members,
                "n_points": len(group),
                "n_fixed": int((~free).sum()),
            }
        )
    return pd.DataFrame(rows, columns=CALIBRATION_COLUMNS).astype({"n_members": "Int32"})


def outside_bounds(pointwise: pd.DataFrame) -> np.ndarray:
    """Which truths no member reaches, [n_points] of bool; differences by rounding are none."""
    truth, low, high = pointwise[["truth", "low", "high"]].to_numpy(float).T
    return (truth < low - ROUNDING) | (truth > high + ROUNDING)


def _miscalibration_area(z: np.ndarray) -> float:
    """∫₀¹ |F(p) − p| dp with F(p) the share of z-scores below the Gaussian's p-quantile."""
    levels = np.linspace(0, 1, 2001)
    share = np.searchsorted(np.sort(norm.cdf(z)), levels, side="right") / len(z)
    return float(np.trapezoid(np.abs(share - levels), levels))


def failures(properties: pd.DataFrame) -> pd.DataFrame:
    """Everything that has no value to count with, and why.

    Parameters
    ----------
    properties
        Tidy table, one number a row; a column `reason` is kept if there.

    Returns
    -------
    DataFrame
        One row per (property, structure, source, method, level, member) and
        distinct status or reason, whatever the number of quantities it cost: a
        member may fail by one method and not by another. A member or MLE
        that is `ok` without a finite value is `not_finite`; a reference
        without one is merely not known.
    """
    table = properties.reset_index(drop=True)
    if "reason" not in table:
        table["reason"] = None
    silent = (table["status"] == "ok") & ~_is_ok(table) & (table["source"] != "reference")
    table.loc[silent, "status"] = "not_finite"
    table = table.loc[table["status"] != "ok", FAILURES_COLUMNS]
    return table.drop_duplicates(ignore_index=True)


def paper_tables() -> pd.DataFrame:
    """Published errors and spreads by structure, in this library's units; see its column `source`."""
    return _resource("paper_tables.csv").fillna({"unit": ""})


def paper_ratios() -> pd.DataFrame:
    """Published means over structures, for `std_ratio`."""
    return _resource("paper_ratios.csv")


def _resource(name: str) -> pd.DataFrame:
    with files("popsbounds.resources").joinpath(name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"structure": str})
