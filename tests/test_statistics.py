"""Statistics against values worked out by hand."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from popsbounds import statistics
from popsbounds.report import summary

TINY = Path(__file__).parent / "studies" / "tiny.yaml"


def tidy(
    values: dict[str, tuple[float, float, list[float]]],
    prop: str = "formation",
    quantity: str = "formation_energy",
    unit: str = "eV/atom",
) -> pd.DataFrame:
    """Properties table from {structure: (mle, reference, members)}; a NaN member is a failed one."""
    rows = []
    for structure, (mle, reference, members) in values.items():
        sources = [("mle", pd.NA, mle), ("reference", pd.NA, reference)]
        sources += [("member", index, value) for index, value in enumerate(members)]
        for source, member, value in sources:
            failed = source == "member" and np.isnan(value)
            rows.append((prop, structure, quantity, unit, source, "explicit", "", member, value, failed))
    names = ["property", "structure", "quantity", "unit", "source", "method", "level", "member", "value", "status"]
    table = pd.DataFrame(rows, columns=names).astype({"member": "Int32", "value": float})
    table["status"] = np.where(table["status"], "unstable", "ok")
    return table.assign(evaluations=pd.array([1] * len(table), dtype="Int32"), coordinate=np.nan)


def implicit(
    values: dict[str, list[float]],
    level: str = "second",
    prop: str = "formation",
    quantity: str = "formation_energy",
    unit: str = "eV/atom",
) -> pd.DataFrame:
    """Rows of members that were not relaxed, from {structure: members}."""
    table = tidy({name: (np.nan, np.nan, members) for name, members in values.items()}, prop, quantity, unit)
    members = table[table["source"] == "member"]
    return members.assign(source="implicit", method="implicit", level=level, evaluations=members["evaluations"] * 0)


def auto(table: pd.DataFrame, relaxed: dict[str, list[int]]) -> pd.DataFrame:
    """The same by `auto`: a check each, and some relaxed in ten force calls."""
    again = [m in relaxed.get(name, []) for name, m in zip(table["structure"], table["member"], strict=True)]
    source, calls = np.where(again, "member", "implicit"), pd.array(np.where(again, 10, 1), dtype="Int32")
    return table.assign(method="auto", level="", source=source, evaluations=calls)


PHASES = {
    "bcc": (0.0, 0.0, [0.0, 0.0, 0.0, 0.0]),
    "fcc": (0.5, 0.4, [0.3, 0.5, 0.7, np.nan]),
    "hcp": (0.6, 1.0, [0.5, 0.6, 0.7, 0.8]),
}


def test_bounds_by_hand() -> None:
    table = statistics.bounds(tidy(PHASES))
    assert list(table.columns) == statistics.BOUNDS_COLUMNS
    assert list(table["structure"]) == ["bcc", "fcc", "hcp"]
    fcc = table.set_index("structure").loc["fcc"]
    assert (fcc["n_ok"], fcc["n_failed"]) == (3, 1)
    assert fcc["mean"] == pytest.approx(0.5)
    assert fcc["std"] == pytest.approx(0.2)  # sample standard deviation
    assert (fcc["low"], fcc["high"]) == (0.3, 0.7)
    assert fcc["mle_error"] == pytest.approx(0.1)
    assert fcc["low_error"] == pytest.approx(-0.1)
    assert fcc["high_error"] == pytest.approx(0.3)
    assert fcc["error_over_std"] == pytest.approx(0.5)
    assert fcc["error_over_range"] == pytest.approx(0.25)
    assert list(table["bracketed"]) == [True, True, False]
    assert table.loc[0, ["error_over_std", "error_over_range"]].isna().all()  # no spread to divide by


def test_bounds_without_reference_or_mle() -> None:
    properties = tidy(PHASES)
    properties.loc[(properties["source"] == "reference") & (properties["structure"] == "fcc"), "value"] = np.nan
    properties.loc[(properties["source"] == "mle") & (properties["structure"] == "hcp"), "status"] = "not_converged"
    table = statistics.bounds(properties).set_index("structure")
    assert table.loc["fcc", ["reference", "mle_error", "low_error", "error_over_std", "bracketed"]].isna().all()
    assert table.loc["fcc", ["mle", "mean", "low"]].notna().all()
    assert table.loc["hcp", ["mle", "mle_error", "error_over_std"]].isna().all()
    assert table.loc["hcp", "high_error"] == pytest.approx(-0.2)
    assert not table.loc["hcp", "bracketed"]


def test_bounds_where_all_members_fail() -> None:
    row = statistics.bounds(tidy({"fcc": (0.5, 0.4, [np.nan, np.nan])})).iloc[0]
    assert (row["n_ok"], row["n_failed"]) == (0, 2)
    assert row[["mean", "std", "low", "high", "bracketed"]].isna().all()
    assert row["mle_error"] == pytest.approx(0.1)


def test_bounds_of_curves_and_methods() -> None:
    curve = pd.concat(
        [tidy({"bcc": (x, 2 * x, [x - 1, x + 1])}, "neb", "energy", "eV").assign(coordinate=x) for x in (0.0, 0.5)]
    )
    members = curve[curve["source"] == "member"]
    levels = [
        members.assign(source="implicit", method="implicit", level=level, value=factor * members["value"])
        for level, factor in [("first", 3), ("second", 2)]
    ]
    table = statistics.bounds(pd.concat([curve, *levels], ignore_index=True), 2)
    assert list(table["method"]) == ["explicit"] * 2 + ["implicit"] * 4
    assert list(table["level"]) == ["", "", "first", "first", "second", "second"]
    assert list(table["reference"]) == [0.0, 1.0] * 3
    assert list(table["high"]) == [1.0, 1.5, 3.0, 4.5, 2.0, 3.0]


def test_bounds_by_auto_count_every_member_once() -> None:
    members = auto(implicit({"fcc": [0.3, 0.5, 0.7, np.nan]}), {"fcc": [1, 3]})
    mle = tidy({"fcc": (0.5, 0.4, [])})
    row = statistics.bounds(pd.concat([mle, members]), 4).iloc[0]
    assert (row["method"], row["level"], row["n_ok"], row["n_failed"]) == ("auto", "", 3, 1)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.5, 0.3, 0.7))
    both = members[members["member"] == 1].assign(source="implicit")  # one member accepted and relaxed as well
    with pytest.raises(ValueError, match="repeated"):
        statistics.bounds(pd.concat([mle, members, both]))


def closed_form(values: dict[str, tuple[float, float, float]], **columns: object) -> pd.DataFrame:
    """Analytic table from {structure: (mean, low, high)}; the std is a fifth of the width."""
    rows = [(name, mean, (high - low) / 5, low, high) for name, (mean, low, high) in values.items()]
    names = {"property": "formation", "quantity": "formation_energy", "unit": "eV/atom", "coordinate": np.nan}
    return pd.DataFrame(rows, columns=["structure", "mean", "std", "low", "high"]).assign(**{**names, **columns})


def test_bounds_beside_the_analytic_ones() -> None:
    closed = closed_form({"hcp": (0.7, 0.2, 1.2), "bcc": (0.0, 0.0, 0.0)})
    properties = pd.concat([tidy(PHASES), implicit({"hcp": [0.5, 0.7, 0.8, 0.7]})])
    table = statistics.bounds(properties, 4, closed)
    assert list(table.columns) == statistics.BOUNDS_COLUMNS
    assert list(table["structure"]) == ["bcc", "fcc", "hcp", "hcp", "hcp", "bcc"]
    assert list(table["method"]) == ["explicit"] * 3 + ["implicit"] + ["analytic"] * 2
    # Not known for fcc, and bcc is the zero whatever the parameters.
    assert table["width_over_analytic"].tolist() == pytest.approx(
        [np.nan, np.nan, 0.3, 0.3, np.nan, np.nan], nan_ok=True
    )
    row = table.iloc[4]
    assert (row["level"], row["mean"], row["std"], row["low"], row["high"]) == ("first", 0.7, 0.2, 0.2, 1.2)
    assert (row["reference"], row["mle"], row["mle_error"], row["low_error"]) == pytest.approx((1.0, 0.6, -0.4, -0.8))
    assert (row["error_over_std"], row["error_over_range"]) == pytest.approx((2.0, 0.4))
    assert row["bracketed"]  # as no member does
    assert table["n_ok"].isna().tolist() == table["n_failed"].isna().tolist() == [False] * 4 + [True] * 2
    pd.testing.assert_frame_equal(table.head(4).iloc[:, :-1], statistics.bounds(properties, 4).iloc[:, :-1])
    assert table.dtypes.equals(statistics.bounds(properties, 4, closed.head(0)).dtypes)
    ratios = statistics.std_ratio(table, "bcc").set_index("method")
    assert ratios.loc["analytic", ["level", "mean_error_over_std", "n_structures"]].tolist() == ["first", 2.0, 1]
    with pytest.raises(ValueError, match="more than one unit"):
        statistics.bounds(properties, 4, closed.assign(unit="meV/atom"))


def test_bounds_of_curves_beside_the_analytic_ones() -> None:
    points = [0.0, 0.1 + 0.2]
    curve = pd.concat(
        [tidy({"bcc": (x, x, [x - 1, x + 1])}, "neb", "path_energy", "eV").assign(coordinate=x) for x in points]
    )
    names = {"property": "neb", "quantity": "path_energy", "unit": "eV"}
    closed = [closed_form({"bcc": (x, x - 4, x + 4 + x)}, **names, coordinate=x) for x in points]
    table = statistics.bounds(curve, 2, pd.concat(closed))
    assert table["width_over_analytic"][:2].tolist() == pytest.approx([2 / 8, 2 / 8.3])
    assert table["mle"].tolist() == points * 2


@pytest.mark.parametrize("change", ["repeated", "units", "level"])
def test_bounds_refuse_what_would_count_wrongly(change: str) -> None:
    properties = tidy(PHASES)
    if change == "repeated":
        properties = pd.concat([properties, properties.tail(1)], ignore_index=True)
    elif change == "units":
        properties.loc[properties["structure"] == "hcp", "unit"] = "eV"
    else:
        properties = pd.concat([properties, implicit({"hcp": [0.5]}, level="third")], ignore_index=True)
    with pytest.raises(ValueError, match=r"repeated|formation/formation_energy|third"):
        statistics.bounds(properties)


def test_ratio_leaves_out_the_zero_and_averages_absolute_errors() -> None:
    bounds = statistics.bounds(pd.concat([tidy(PHASES), tidy(PHASES, quantity="volume", unit="A3/atom")]))
    table = statistics.std_ratio(bounds, "bcc", paper=statistics.paper_ratios())
    assert list(table.columns) == statistics.STD_RATIO_COLUMNS
    energy, volume = (table.set_index("quantity").loc[name] for name in ("formation_energy", "volume"))
    std_hcp = np.std(PHASES["hcp"][2], ddof=1)
    assert energy["mean_error_over_std"] == pytest.approx((0.5 + 0.4 / std_hcp) / 2)
    assert energy["mean_error_over_range"] == pytest.approx((0.25 + 0.4 / 0.3) / 2)
    assert (energy["n_structures"], volume["n_structures"]) == (2, 3)
    assert (energy["fraction_bracketed"], volume["fraction_bracketed"]) == pytest.approx((1 / 2, 2 / 3))
    assert energy["paper_mean_error_over_std"] == 1.21
    assert np.isnan(volume["paper_mean_error_over_std"])


def test_ratio_keeps_methods_and_levels_apart() -> None:
    others = [implicit({"fcc": [0.4, 0.6], "hcp": [0.2, 1.0]}, level) for level in ("first", "second")]
    others[0]["value"] *= 2
    table = statistics.std_ratio(statistics.bounds(pd.concat([tidy(PHASES), *others])), "bcc")
    assert table[["method", "level"]].to_numpy().tolist() == [
        ["explicit", ""],
        ["implicit", "first"],
        ["implicit", "second"],
    ]
    expected = np.mean([0.1 / np.std([0.4, 0.6], ddof=1), 0.4 / np.std([0.2, 1.0], ddof=1)])
    assert table["mean_error_over_std"].tolist()[1:] == pytest.approx([expected / 2, expected])


def test_ratio_without_reference_keeps_the_row() -> None:
    properties = tidy(PHASES)
    table = statistics.std_ratio(statistics.bounds(properties[properties["source"] != "reference"]), "bcc")
    assert list(table["n_structures"]) == [0]
    assert table[["mean_error_over_std", "fraction_bracketed", "paper_mean_error_over_std"]].isna().all(axis=None)


def test_ratio_counts_the_structures_that_it_judges() -> None:
    """One without bounds is neither in the share nor in the count; one without an MLE is in both."""
    values = {**PHASES, "sigma": (0.9, 0.8, [np.nan, np.nan, np.nan, np.nan])}
    properties = tidy(values)
    lost = (properties["source"] == "mle") & (properties["structure"] == "hcp")
    row = statistics.std_ratio(statistics.bounds(properties[~lost]), "bcc").iloc[0]
    assert row["n_structures"] == 2
    assert row["fraction_bracketed"] == pytest.approx(1 / 2)
    assert row["mean_error_over_std"] == pytest.approx(0.5)  # of fcc alone


def test_ratio_of_curves() -> None:
    points = {
        0.0: (0.0, 0.0, [0.0, 0.0, 0.0]),  # fixed: nothing to bracket
        0.2: (0.0, 1e-4, [-1e-9, 0.0, 1e-9]),  # all but fixed: its ratio would be 1e5
        0.5: (1.0, 1.5, [0.0, 1.0, 2.0]),
        1.0: (1.0, 4.0, [0.0, 1.0, 2.0]),
    }
    parts = [tidy({"bcc": value}, "neb", "path_energy", "eV").assign(coordinate=x) for x, value in points.items()]
    row = statistics.std_ratio(statistics.bounds(pd.concat(parts)), "bcc").iloc[0]
    assert row["n_structures"] == 1
    assert row["mean_error_over_std"] == pytest.approx(3.5 / 2, abs=1e-3)
    assert row["mean_error_over_range"] == pytest.approx(3.5 / 4, abs=1e-3)
    assert row["fraction_bracketed"] == pytest.approx(1 / 3)


def test_counts_of_unstable_modes_have_neither_ratio_nor_rank() -> None:
    counted = {name: (float(i), float(i), [float(i)] * 2) for i, name in enumerate("abc")}
    parts = [tidy(counted, "sia", name, "1") for name in statistics.COUNTS]
    properties = pd.concat([*parts, tidy(counted, "sia")], ignore_index=True)
    bounds = statistics.bounds(properties)
    assert set(bounds["quantity"]) == {*statistics.COUNTS, "formation_energy"}
    assert list(statistics.std_ratio(bounds, "bcc")["quantity"]) == ["formation_energy"]
    assert set(statistics.spearman(properties)["quantity"]) == {"formation_energy"}


def test_paper_means_follow_from_its_tables() -> None:
    """The tables were typed in by structure: their means must be the published ones (which are cut to two digits)."""
    table = statistics.paper_tables()
    error = table["mle_error"].abs()
    table["paper_mean_error_over_std"] = error / table["std"]
    table["paper_mean_error_over_range"] = error / (table["high_error"] - table["low_error"])
    columns = ["paper_mean_error_over_std", "paper_mean_error_over_range"]
    means = table.groupby(["property", "quantity"])[columns].mean()
    published = statistics.paper_ratios().set_index(["property", "quantity"])[columns]
    assert (means - published.loc[means.index]).abs().max(axis=None) < 0.01
    assert table.groupby(["property", "quantity"]).size().to_dict() == {
        ("formation", "formation_energy"): 12,
        ("formation", "relative_volume"): 12,
        ("sia", "formation_energy"): 5,
        ("surface", "surface_energy"): 11,
    }
    assert (table["low_error"] <= 0).all()  # all references are bracketed, as the paper says
    assert (table["high_error"] >= 0).all()


def test_spearman_of_known_ranks() -> None:
    values = {
        "a": (1.0, 10.0, [1.0, 4.0, 1.0, 1.0]),
        "b": (2.0, 30.0, [2.0, 3.0, 2.0, 3.0]),
        "c": (3.0, 20.0, [3.0, 2.0, np.nan, 2.0]),
        "d": (4.0, 40.0, [4.0, 1.0, 4.0, 4.0]),
    }
    table = statistics.spearman(tidy(values))
    assert list(table.columns) == statistics.SPEARMAN_COLUMNS
    assert list(table["member"][:-1]) == [0, 1, 3]  # member 2 has no value for c
    assert table["member"].isna().tolist() == [False, False, False, True]
    assert table["rho"].tolist() == pytest.approx([1.0, -1.0, 0.8, 0.8])
    assert table["mean_rho"].to_numpy() == pytest.approx(0.8 / 3)
    assert table["std_rho"].to_numpy() == pytest.approx(np.std([1, -1, 0.8], ddof=1))
    assert table["within_one_std"].isna().tolist() == [True, True, True, False]
    assert table["within_one_std"].iloc[-1]
    values["a"] = (1.0, 100.0, values["a"][2])  # the reference now disagrees
    assert statistics.spearman(tidy(values))["rho"].iloc[-1] == pytest.approx(-0.4)


def test_spearman_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    values = {str(i): (rng.normal(), rng.normal(), list(rng.normal(size=20).round(1))) for i in range(6)}
    table = statistics.spearman(tidy(values, "surface", "surface_energy", "J/m2"))
    mle = [value[0] for value in values.values()]
    expected = [spearmanr(mle, [value[2][m] for value in values.values()])[0] for m in range(20)]
    assert table["rho"][:-1].tolist() == pytest.approx(expected)


def test_spearman_ranks_members_over_the_structures_of_the_reference() -> None:
    values = {name: (float(i), float(i), [float(i)] * 2) for i, name in enumerate("abcd")}
    values["d"] = (3.0, np.nan, [-1.0, 3.0])  # no reference: its disorder must not count
    table = statistics.spearman(tidy(values))
    assert table["rho"].tolist() == pytest.approx([1.0, 1.0, 1.0])
    for name in "ab":
        values[name] = (values[name][0], np.nan, values[name][2])
    table = statistics.spearman(tidy(values))  # one reference is none: all structures count
    assert table["rho"].iloc[0] < 0.9
    assert table.iloc[-1][["rho", "within_one_std"]].isna().all()


def test_spearman_needs_three_structures() -> None:
    table = statistics.spearman(tidy({"a": (1.0, 1.0, [1.0]), "b": (2.0, 2.0, [2.0])}))
    assert table.empty
    assert list(table.columns) == statistics.SPEARMAN_COLUMNS


@pytest.mark.parametrize(
    ("methods", "speaker"),
    [
        (["first", "reduced", "auto", "explicit"], ("explicit", "")),
        (["first", "auto", "reduced"], ("auto", "")),
        (["second", "reduced", "first"], ("implicit", "reduced")),
        (["first", "second"], ("implicit", "second")),
    ],
)
def test_one_method_speaks_for_a_property(methods: list[str], speaker: tuple[str, str]) -> None:
    known = tidy({name: (values[0], values[1], []) for name, values in PHASES.items()})
    members = {name: values[2] for name, values in PHASES.items()}
    by_way = {level: implicit(members, level) for level in ("first", "second", "reduced")}
    by_way["auto"] = auto(implicit(members), {"hcp": [0, 2]})
    by_way["explicit"] = tidy(PHASES).query("source == 'member'")
    other = implicit({"110": [1.0, 2.0]}, "first", "surface", "surface_energy", "J/m2")  # has its own
    properties = pd.concat([known, other, *(by_way[name] for name in methods)], ignore_index=True)
    rows = statistics.principal(properties)
    assert len(rows) == len(known) + len(other) + 12
    formation = rows[(rows["property"] == "formation") & rows["member"].notna()]
    assert set(formation[["method", "level"]].itertuples(index=False, name=None)) == {speaker}
    pd.testing.assert_frame_equal(rows, properties.loc[rows.index])  # in their order, under their numbers

    closed = closed_form({"fcc": (0.5, 0.0, 1.0)})
    bounds = statistics.principal(statistics.bounds(properties, analytic=closed))
    assert bounds["structure"].tolist() == ["110", *PHASES]
    assert set(statistics.principal(statistics.std_ratio(bounds, "bcc"))["property"]) == {"formation", "surface"}
    # Of three structures, ranked by the members that have all.
    assert statistics.spearman(properties)["member"].tolist()[:-1] == [0, 1, 2]


def test_who_speaks_does_not_depend_on_who_fails() -> None:
    """Explicit members that all fail are a finding; implicit ones must not take their place unsaid."""
    failed = {name: (mle, reference, [np.nan] * 2) for name, (mle, reference, _) in PHASES.items()}
    properties = pd.concat([tidy(failed), implicit({name: [0.0, 1.0] for name in PHASES})])
    assert statistics.spearman(properties)["member"].isna().tolist() == [True]


def test_spearman_ranks_by_auto_whatever_became_of_the_members() -> None:
    values = {"a": (1.0, 1.0, []), "b": (2.0, 2.0, []), "c": (3.0, 3.0, [])}
    members = implicit({"a": [1.0, 3.0], "b": [2.0, 2.0], "c": [3.0, 1.0]})
    table = statistics.spearman(pd.concat([tidy(values), auto(members, {"b": [0], "c": [0, 1]})]))
    assert table["rho"].tolist() == pytest.approx([1.0, -1.0, 1.0])


def test_truncation_by_hand() -> None:
    explicit = tidy({"fcc": (0.5, 0.4, [1.0, 2.0, -4.0, 0.0, np.nan, 5.0])})
    explicit["evaluations"] = pd.array([1, 1, 20, 30, 40, 50, 1, 1], dtype="Int32")
    values = implicit({"fcc": [1.1, 2.0, -4.4, 0.2, 7.0, np.nan]})
    by_auto = auto(implicit({"fcc": [1.1, 2.0, -4.0, 0.2, 7.0, 5.0]}), {"fcc": [2, 4, 5]})
    table = statistics.truncation(pd.concat([explicit, values, by_auto]))
    assert list(table.columns) == statistics.TRUNCATION_COLUMNS
    assert table[["method", "level"]].to_numpy().tolist() == [["auto", ""], ["implicit", "second"]]
    row = table.iloc[1]  # members 0 to 3 are ok in both, member 5 is lost, member 4 never was
    assert (row["n_members"], row["n_lost"], row["n_relaxed"]) == (4, 1, 0)
    errors, std = [0.0, 0.1, 0.2, 0.4], np.std([1.0, 2.0, -4.0, 0.0], ddof=1)
    assert row["median_error"] == pytest.approx(0.15)
    assert row["p95_error"] == pytest.approx(np.quantile(errors, 0.95))
    assert row["largest_error"] == pytest.approx(0.4)
    assert row["std"] == pytest.approx(std)
    assert row["median_error_over_std"] == pytest.approx(0.15 / std)
    assert row["p95_error_over_std"] == pytest.approx(np.quantile(errors, 0.95) / std)
    assert row["median_relative_error"] == pytest.approx(0.1)  # of 0.1, 0 and 0.1: member 3 is zero
    assert (row["low_error"], row["high_error"]) == pytest.approx((-0.4, 0.0))
    assert (row["evaluations"], row["explicit_evaluations"]) == pytest.approx((0, 35))
    row = table.iloc[0]  # two of the relaxed members have an explicit value to compare with
    assert (row["n_members"], row["n_lost"], row["n_relaxed"]) == (5, 0, 2)
    assert row["low_error"] == 0
    assert row["evaluations"] == pytest.approx((3 * 1 + 2 * 10) / 5)


def test_truncation_of_curves_and_of_what_does_not_vary() -> None:
    parts = []
    for x in (0.0, 0.1 + 0.2):
        members = [2 * x, 3 * x]
        explicit = tidy({"hop": (x, np.nan, members)}, "neb", "path_energy", "eV")
        first = implicit({"hop": [value + 0.5 for value in members]}, "first", "neb", "path_energy", "eV")
        parts += [part.assign(coordinate=x) for part in (explicit, first)]
    table = statistics.truncation(pd.concat(parts))
    assert table["coordinate"].tolist() == [0.0, 0.1 + 0.2]
    assert table["median_error"].tolist() == pytest.approx([0.5, 0.5])
    ratios = ["median_error_over_std", "p95_error_over_std", "median_relative_error"]
    assert table.loc[0, ratios].isna().all()  # where the path starts
    assert table.loc[1, "median_error_over_std"] == pytest.approx(0.5 / np.std([0.6, 0.9], ddof=1))
    assert table.loc[1, "median_relative_error"] == pytest.approx((0.5 / 0.6 + 0.5 / 0.9) / 2)


def test_truncation_pairs_members_by_number_in_whatever_order() -> None:
    rng = np.random.default_rng(3)
    values = {name: (0.0, 0.0, list(rng.normal(size=30))) for name in "ab"}
    levels = [implicit({name: [v + 0.1 for v in values[name][2]] for name in "ab"}, n) for n in ("first", "reduced")]
    properties = pd.concat([tidy(values), *levels], ignore_index=True)
    table = statistics.truncation(properties)
    assert table["structure"].tolist() == ["a", "a", "b", "b"]
    assert table["level"].tolist() == ["reduced", "first"] * 2
    assert table["largest_error"].to_numpy() == pytest.approx(0.1)
    known = properties["member"].isna()
    shuffled = pd.concat([properties[known], properties[~known].sample(frac=1, random_state=4)])
    pd.testing.assert_frame_equal(
        statistics.truncation(shuffled).sort_values("structure", kind="stable", ignore_index=True), table
    )
    # Only the members with both count: twenty of thirty were relaxed.
    few = properties[(properties["method"] != "explicit") | (properties["member"] < 20)]
    assert statistics.truncation(few)["n_members"].tolist() == [20] * 4


def test_truncation_where_no_member_is_ok_in_both() -> None:
    properties = pd.concat([tidy({"fcc": (0.5, 0.4, [np.nan, 1.0])}), implicit({"fcc": [1.0, np.nan]})])
    row = statistics.truncation(properties).iloc[0]
    assert (row["n_members"], row["n_lost"]) == (0, 1)
    assert row[["median_error", "p95_error", "std", "median_error_over_std", "low_error", "evaluations"]].isna().all()


def test_truncation_of_nothing_has_the_same_columns() -> None:
    compared = statistics.truncation(pd.concat([tidy(PHASES), implicit({"fcc": [0.3] * 4})]))
    for properties in (tidy(PHASES), implicit({"fcc": [0.3] * 4}), tidy(PHASES).head(0)):
        table = statistics.truncation(properties)
        assert table.empty
        assert table.dtypes.equals(compared.dtypes)


def gaussian_data(n: int, inflate: float = 1.0) -> pd.DataFrame:
    """Truths drawn from the Gaussians that the members claim, their std off by a factor."""
    rng = np.random.default_rng(2)
    std = rng.uniform(0.5, 2.0, n)
    mean = 3 * rng.normal(size=n)
    truth = mean + std * rng.normal(size=n)
    claimed = inflate * std
    columns = {"truth": truth, "mle": mean, "mean": mean, "std": claimed}
    return pd.DataFrame({"kind": "energy", **columns, "low": mean - 2 * claimed, "high": mean + 2 * claimed})


def test_calibration_of_calibrated_gaussians() -> None:
    data = gaussian_data(20_000)
    row = statistics.calibration(data, "hypercube", 500).iloc[0]
    assert row["EV"] == pytest.approx(0.0455, abs=0.005)
    assert row["miscalibration_area"] < 0.01
    assert row["error_over_std"] == pytest.approx(np.sqrt(2 / np.pi), abs=0.02)
    assert row["median_error_over_std"] == pytest.approx(0.6745, abs=0.02)
    assert row["nll"] == pytest.approx(np.mean(np.log(data["std"])) + 0.5 * np.log(2 * np.pi) + 0.5, abs=0.02)
    assert row["mean_width"] == pytest.approx(4 * data["std"].mean())
    assert row["correlation"] > 0.2
    assert (row["posterior"], row["n_members"], row["n_points"], row["n_fixed"]) == ("hypercube", 500, 20_000, 0)
    narrow = statistics.calibration(gaussian_data(20_000, 0.2), "hypercube", 500).iloc[0]
    assert narrow["miscalibration_area"] > 0.1
    assert narrow["nll"] > row["nll"]


def test_calibration_by_hand() -> None:
    data = pd.DataFrame(
        {
            "kind": ["force"] * 3 + ["energy"],
            "truth": [1.0, 0.0, 5.0, 1.0],
            "mle": [0.0, 0.0, 1.0, 1.5],
            "mean": [0.0, 0.0, 1.0, 1.0],
            "std": [1.0, 0.0, 2.0, 1.0],
            "low": [-2.0, 0.0, -1.0, 0.0],
            "high": [2.0, 0.0, 3.0, 2.0],
        }
    )
    table = statistics.calibration(data, "hypercube", 3).set_index("kind")
    assert list(table.reset_index().columns) == statistics.CALIBRATION_COLUMNS
    force = table.loc["force"]
    assert force["EV"] == pytest.approx(1 / 3)
    assert force["MAE"] == pytest.approx(5 / 3)
    assert force["RMSE"] == pytest.approx(np.sqrt(17 / 3))
    assert force["error_over_std"] == pytest.approx(5 / 3)
    assert force["median_error_over_std"] == pytest.approx(1.5)  # of 1 and 2: the fixed force has no ratio
    assert force["mean_width"] == pytest.approx(8 / 3)
    assert force["interval_score"] == pytest.approx((4 + 0 + 4 + 2 * 2 / 0.02) / 3)
    assert force["n_fixed"] == 1
    assert np.isnan(force["correlation"])  # both widths are the same
    assert table.loc["energy", "EV"] == 0
    assert table.loc["energy", "nll"] == pytest.approx(0.5 * np.log(2 * np.pi))


def test_calibration_of_infinite_bounds_and_of_fixed_data() -> None:
    data = gaussian_data(50).assign(low=-np.inf, high=np.inf)
    assert statistics.calibration(data, "hypercube", 500)["EV"].item() == 0
    fixed = gaussian_data(5).assign(truth=1e-12, mle=0.0, mean=0.0, std=0.0, low=0.0, high=0.0)
    row = statistics.calibration(fixed, "hypercube", 500).iloc[0]
    assert row["EV"] == 0  # outside by rounding only
    assert row[["error_over_std", "nll", "miscalibration_area", "correlation"]].isna().all()


def test_failures_name_each_once_with_its_reason() -> None:
    energy, volume = tidy(PHASES), tidy(PHASES, quantity="volume", unit="A3/atom")
    properties = pd.concat([energy, volume], ignore_index=True)
    properties["reason"] = np.where(properties["status"] == "unstable", "force above 1e3 eV/Å", None)
    silent = (properties["structure"] == "hcp") & (properties["member"] == 2)
    properties.loc[silent, "value"] = np.inf
    properties.loc[(properties["source"] == "reference") & (properties["structure"] == "hcp"), "value"] = np.nan
    table = statistics.failures(properties)
    assert list(table.columns) == statistics.FAILURES_COLUMNS
    assert table[["structure", "member", "status"]].to_numpy().tolist() == [
        ["fcc", 3, "unstable"],
        ["hcp", 2, "not_finite"],
    ]
    assert table["reason"][0] == "force above 1e3 eV/Å"
    counted = statistics.bounds(properties).set_index(["structure", "quantity"])["n_failed"]
    assert counted.loc[("hcp", "volume")] == 1  # what is listed is what is not counted
    assert statistics.failures(tidy({"bcc": PHASES["bcc"]})).empty


def test_failures_by_each_method() -> None:
    """A member may fail by one method and not by another; all count in that method's bounds."""
    levels = [implicit({"fcc": [0.3, np.nan, 0.7, 0.8]}, level) for level in ("first", "second")]
    relaxed = auto(implicit({"fcc": [0.3, np.nan, 0.7, 0.8]}), {"fcc": [1]})
    properties = pd.concat([tidy({"fcc": PHASES["fcc"]}), *levels, relaxed])
    table = statistics.failures(properties)
    assert table[["source", "method", "level", "member"]].to_numpy().tolist() == [
        ["member", "explicit", "", 3],
        ["implicit", "implicit", "first", 1],
        ["implicit", "implicit", "second", 1],
        ["member", "auto", "", 1],
    ]
    key = ["method", "level"]
    assert table.groupby(key).size().to_dict() == statistics.bounds(properties).set_index(key)["n_failed"].to_dict()


def write_study(folder: Path, properties: pd.DataFrame) -> Path:
    """The tables that a summary is made of, as a study writes them."""
    (folder / "fit").mkdir(parents=True)
    (folder / "tables").mkdir()
    fit = {"P": 31, "N": 3100, "N_over_P": 100.0, "rows_without_leverage": 0, "caveats": []}
    (folder / "fit" / "summary.json").write_text(json.dumps(fit))
    shutil.copy(TINY, folder / "config.yaml")
    bounds = statistics.bounds(properties, analytic=closed_form({"fcc": (0.5, -2.0, 2.0)}))
    drawn = statistics.calibration(gaussian_data(50), "hypercube", 500)
    whole = drawn.assign(posterior="hypercube, whole", n_members=None, EV=0.5)
    written = {
        "properties": properties,
        "bounds": bounds,
        "std_ratio": statistics.std_ratio(bounds, "bcc", paper=statistics.paper_ratios()),
        "truncation": statistics.truncation(properties),
        "calibration": pd.concat([drawn, whole], ignore_index=True),
        "models": pd.DataFrame({"property": ["formation"], "structure": ["bcc"], "unstable_modes": [0]}),
    }
    for name, table in written.items():
        table.to_parquet(folder / "tables" / f"{name}.parquet", index=False)
    return folder


def test_summary_of_relaxed_members_tells_what_the_others_lose(tmp_path: Path) -> None:
    others = [implicit({"fcc": [0.3, 0.6, 0.7, 0.9], "hcp": [0.6, 0.6, 0.7, np.nan]}, n) for n in ("first", "second")]
    others[0]["value"] += 1
    study = write_study(tmp_path / "study", pd.concat([tidy(PHASES).assign(reason=""), *others], ignore_index=True))
    text = summary(study)
    rows = re.findall(r"^\| formation \| (.*) \|$", text, flags=re.MULTILINE)
    assert len(rows) == 2  # the ratios of the explicit members alone, and what the highest level loses
    assert rows[0].startswith("formation_energy | 1 of 2 | 1.8 | 1.21 |")
    assert rows[0].endswith(" | 3")
    # fcc: errors 0, 0.1, 0 over 0.2; hcp: 0.1, 0, 0 over 0.1.
    assert rows[1] == "formation_energy | implicit | second | 0 eV/atom | 0 | 0.9 | 0 | 1"
    assert "Members ok only where relaxed, in the worst row: 1 (implicit, second)." in text
    assert "Members ok in every quantity: formation 3 of 4." in text
    assert "Members accounted for in every row of bounds: 4." in text
    assert text.count("| energies (eV/atom) |") == 1  # the members' row, not the whole posterior's


def test_summary_without_relaxed_members_names_the_method(tmp_path: Path) -> None:
    known = tidy({name: (values[0], values[1], []) for name, values in PHASES.items()})
    values = {name: values[2] for name, values in PHASES.items()}
    surface = tidy({"110": (3.0, 3.1, [2.0, 4.0, 2.0, 4.0])}, "surface", "surface_energy", "J/m2")
    surface.loc[surface["member"].notna(), ["method", "source"]] = ["auto", "implicit"]
    levels = [implicit(values, level) for level in ("first", "second")]
    levels[0]["value"] *= 2
    properties = pd.concat([known, *levels, surface], ignore_index=True).assign(reason="")
    study = write_study(tmp_path / "study", properties)
    text = summary(study)
    found = re.findall(r"^\| (formation|surface) \| \w+ \| (\d of \d) .* \| ([\w, ]+) \|$", text, flags=re.MULTILINE)
    assert found == [("formation", "1 of 2", "implicit, second"), ("surface", "1 of 1", "auto")]
    assert "relaxed beside" not in text  # nothing to compare with
    assert "Members ok in every quantity: formation 3 of 4, surface 4 of 4." in text
    assert "Force calls a structure, median: formation 0, surface 1." in text
