"""Statistics against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from popsbounds import statistics


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
            rows.append((prop, structure, quantity, unit, source, "explicit", member, value, failed))
    names = ["property", "structure", "quantity", "unit", "source", "method", "member", "value", "status"]
    table = pd.DataFrame(rows, columns=names).astype({"member": "Int32", "value": float})
    table["status"] = np.where(table["status"], "unstable", "ok")
    return table.assign(evaluations=pd.array([1] * len(table), dtype="Int32"), coordinate=np.nan)


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
    implicit = curve[curve["source"] == "member"].assign(source="implicit", method="implicit")
    implicit["value"] *= 3
    table = statistics.bounds(pd.concat([curve, implicit], ignore_index=True))
    assert list(table["method"]) == ["explicit", "explicit", "implicit", "implicit"]
    assert list(table["reference"]) == [0.0, 1.0, 0.0, 1.0]
    assert list(table["high"]) == [1.0, 1.5, 3.0, 4.5]


@pytest.mark.parametrize("change", ["repeated", "units"])
def test_bounds_refuse_what_would_count_wrongly(change: str) -> None:
    properties = tidy(PHASES)
    if change == "repeated":
        properties = pd.concat([properties, properties.tail(1)], ignore_index=True)
    else:
        properties.loc[properties["structure"] == "hcp", "unit"] = "eV"
    with pytest.raises(ValueError, match=r"repeated|formation/formation_energy"):
        statistics.bounds(properties)


def test_ratio_leaves_out_the_zero_and_averages_absolute_errors() -> None:
    bounds = statistics.bounds(pd.concat([tidy(PHASES), tidy(PHASES, quantity="volume", unit="A3/atom")]))
    table = statistics.std_ratio(bounds, zero="bcc", paper=statistics.paper_ratios())
    assert list(table.columns) == statistics.STD_RATIO_COLUMNS
    energy, volume = (table.set_index("quantity").loc[name] for name in ("formation_energy", "volume"))
    std_hcp = np.std(PHASES["hcp"][2], ddof=1)
    assert energy["mean_error_over_std"] == pytest.approx((0.5 + 0.4 / std_hcp) / 2)
    assert energy["mean_error_over_range"] == pytest.approx((0.25 + 0.4 / 0.3) / 2)
    assert (energy["n_structures"], volume["n_structures"]) == (2, 3)
    assert (energy["fraction_bracketed"], volume["fraction_bracketed"]) == pytest.approx((1 / 2, 2 / 3))
    assert energy["paper_mean_error_over_std"] == 1.21
    assert np.isnan(volume["paper_mean_error_over_std"])


def test_ratio_without_reference_keeps_the_row() -> None:
    properties = tidy(PHASES)
    table = statistics.std_ratio(statistics.bounds(properties[properties["source"] != "reference"]))
    assert list(table["n_structures"]) == [0]
    assert table[["mean_error_over_std", "fraction_bracketed", "paper_mean_error_over_std"]].isna().all(axis=None)


def test_ratio_counts_the_structures_that_it_judges() -> None:
    """One without bounds is neither in the share nor in the count; one without an MLE is in both."""
    values = {**PHASES, "sigma": (0.9, 0.8, [np.nan, np.nan, np.nan, np.nan])}
    properties = tidy(values)
    lost = (properties["source"] == "mle") & (properties["structure"] == "hcp")
    row = statistics.std_ratio(statistics.bounds(properties[~lost])).iloc[0]
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
    row = statistics.std_ratio(statistics.bounds(pd.concat(parts))).iloc[0]
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
    assert list(statistics.std_ratio(bounds)["quantity"]) == ["formation_energy"]
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
