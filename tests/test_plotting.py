"""Figures: what they hold, and that the same data give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from popsbounds import statistics
from popsbounds.config import ALL_FACETS, ALL_PHASES
from popsbounds.paths import PATHS
from popsbounds.plotting import (
    FIGURES,
    coefficients,
    curves,
    drivers,
    elastic,
    environments,
    implicit,
    interstitials,
    own,
    paths,
    phases,
    phonons,
    pointwise,
    posteriors,
    sampling,
    spearman,
    surfaces,
)
from popsbounds.plotting.style import COLOURS, save, structure_label
from popsbounds.pops.posteriors import expected_reach

ELASTIC = ["C11", "C12", "C44", "bulk_modulus", "shear_modulus"]
MEMBERS = 20


def datum(
    prop: str,
    structure: str,
    quantity: str,
    unit: str,
    centre: float,
    rng: np.random.Generator,
    coordinate: float = np.nan,
) -> pd.DataFrame:
    """MLE, reference and members of one quantity, about a tenth apart."""
    n = MEMBERS + 2
    return pd.DataFrame(
        {
            "property": prop,
            "structure": structure,
            "quantity": quantity,
            "unit": unit,
            "source": ["mle", "reference"] + ["member"] * MEMBERS,
            "method": "explicit",
            "level": "",
            "member": pd.array([pd.NA, pd.NA, *range(MEMBERS)], dtype="Int32"),
            "value": centre + 0.1 * rng.normal(size=n),
            "status": "ok",
            "evaluations": pd.array([1] * n, dtype="Int32"),
            "coordinate": coordinate,
        }
    )


CURVES = [
    *[("phonon", "bcc", f"branch_{k}", "THz", np.linspace(0, 3.439, 9)) for k in (1, 2, 3)],
    ("phonon", "bcc", "dos", "1/THz", np.linspace(0, 3, 7)),
    ("neb", "vacancy_hop", "path_energy", "eV", np.linspace(0, 1, 5)),
    *[("path", name, "path_energy", "eV/atom", np.linspace(path.low, path.high, 6)) for name, path in PATHS.items()],
    *[("mine", name, "twist", "eV/A", np.linspace(0, 1, 4)) for name in ("left", "right")],
]
SINGLE = [
    *[("sia", name, "formation_energy", "eV", 8 + i) for i, name in enumerate(["111", "110", "100", "TS", "OS"])],
    *[("sia", name, "hessian_index", "1", i) for i, name in enumerate(["111", "110", "100", "TS", "OS"])],
    ("phonon", "bcc", "imaginary_fraction", "1", 0.5),
    ("neb", "vacancy_hop", "vacancy_formation_energy", "eV", 3),
    ("neb", "vacancy_hop", "barrier", "eV", 1.7),
    *[("mine", name, "charge", "1", i) for i, name in enumerate(["left", "right", "a_structure_of_a_long_name"])],
]


@pytest.fixture(scope="module")
def properties() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        datum("formation", name, quantity, unit, i / 3, rng)
        for i, name in enumerate(ALL_PHASES)
        for quantity, unit in [("formation_energy", "eV/atom"), ("volume", "A3/atom"), ("bulk_modulus", "GPa")]
    ]
    rows += [datum("surface", name, "surface_energy", "J/m2", 3 + i / 10, rng) for i, name in enumerate(ALL_FACETS)]
    rows += [datum("elastic", "bcc", name, "GPa", 100.0, rng) for name in ELASTIC]
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def bounds(properties: pd.DataFrame) -> pd.DataFrame:
    return statistics.bounds(properties)


@pytest.fixture(scope="module")
def test_data() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    parts = []
    for kind, n, scale in (("energy", 40, 0.01), ("force", 200, 0.1)):
        truth, error = rng.normal(size=n), scale * rng.normal(size=n)
        mle = truth + error
        columns = {"truth": truth, "mle": mle, "mean": mle, "std": scale}
        parts.append(pd.DataFrame({"kind": kind, **columns, "low": mle - 2 * scale, "high": mle + 2 * scale}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def defects_properties() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    rows = [datum(*key, np.sin(x) + len(key[2]) / 9, rng, x) for *key, along in CURVES for x in along]
    rows += [datum(*key, centre, rng) for *key, centre in SINGLE]
    table = pd.concat(rows, ignore_index=True)
    counts = table["quantity"] == "hessian_index"
    table.loc[counts, "value"] = table.loc[counts, "value"].round()
    return table


@pytest.fixture(scope="module")
def defects_bounds(defects_properties: pd.DataFrame) -> pd.DataFrame:
    return statistics.bounds(defects_properties)


def bands(axes: Axes, label: str) -> list[np.ndarray]:
    """Polygons of that label: one [n, 3] array of position, lower and upper edge for each curve."""
    polygons = []
    for item in axes.collections:
        if item.get_label() == label:
            vertices = item.get_paths()[0].vertices
            sideways = len(np.unique(vertices[:, 0])) > len(np.unique(vertices[:, 1]))
            along, across = vertices[:, int(sideways)], vertices[:, int(not sideways)]
            places = np.unique(along)
            edges = [(across[along == x].min(), across[along == x].max()) for x in places]
            polygons.append(np.column_stack([places, edges]))
    return polygons


def lines(axes: Axes, label: str) -> list[np.ndarray]:
    return [np.column_stack(item.get_data()).astype(float) for item in axes.lines if item.get_label() == label]


def assert_curves(axes: Axes, rows: pd.DataFrame, sideways: bool = False) -> None:
    """Every artist of the panel's curves holds what the rows say."""
    groups = [group for _, group in rows.groupby("quantity")]
    spread = [group["mean"] + sign * group["std"] for group in groups for sign in (-1, 1)]
    for band, group in zip(bands(axes, "range"), groups, strict=True):
        np.testing.assert_allclose(band, group[["coordinate", "low", "high"]])
    for k, (band, group) in enumerate(zip(bands(axes, "std"), groups, strict=True)):
        np.testing.assert_allclose(band, np.column_stack([group["coordinate"], spread[2 * k], spread[2 * k + 1]]))
    for name in ("mle", "reference"):
        columns = [name, "coordinate"] if sideways else ["coordinate", name]
        for line, group in zip(lines(axes, name), groups, strict=True):
            np.testing.assert_allclose(line, group[columns])


def bars(axes: Axes, label: str) -> np.ndarray:
    """Ends of the vertical bars of that label, [n, 2]."""
    (collection,) = [item for item in axes.collections if item.get_label() == label]
    return np.array([path.vertices[:, 1] for path in collection.get_paths()])


def markers(axes: Axes, label: str) -> np.ndarray:
    (line,) = [item for item in axes.lines if item.get_label() == label]
    return np.asarray(line.get_ydata(), float)


def arrows(axes: Axes) -> list[str]:
    return [line.get_marker() for line in axes.lines if line.get_marker() in ("^", "v")]


def tick_labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


INTERVALS: list[tuple[Callable[..., Figure], str, str]] = [
    (phases.formation_energy, "formation", "formation_energy"),
    (phases.volume, "formation", "volume"),
    (phases.bulk_modulus, "formation", "bulk_modulus"),
    (surfaces.surface_energy, "surface", "surface_energy"),
]


@pytest.mark.parametrize(("draw", "prop", "quantity"), INTERVALS)
def test_intervals_show_the_bounds(bounds: pd.DataFrame, draw: Callable, prop: str, quantity: str) -> None:
    upper, lower = draw(bounds).axes
    rows = bounds[(bounds["property"] == prop) & (bounds["quantity"] == quantity)].sort_values("reference")
    assert tick_labels(lower) == [structure_label(prop, name) for name in rows["structure"]]
    np.testing.assert_allclose(bars(upper, "range"), rows[["low", "high"]])
    spread = np.column_stack([rows["mean"] - rows["std"], rows["mean"] + rows["std"]])
    np.testing.assert_allclose(bars(upper, "std"), spread)
    np.testing.assert_allclose(markers(upper, "mle"), rows["mle"])
    np.testing.assert_allclose(markers(upper, "reference"), rows["reference"])
    np.testing.assert_allclose(bars(lower, "range"), rows[["low_error", "high_error"]])
    np.testing.assert_allclose(markers(lower, "mle"), rows["mle_error"])
    assert not arrows(upper)
    assert not arrows(lower)


def test_elastic_constants_in_their_order(bounds: pd.DataFrame) -> None:
    figure = elastic.elastic_constants(bounds.iloc[::-1])
    upper, lower = figure.axes
    assert tick_labels(lower) == ["C₁₁", "C₁₂", "C₄₄", "bulk", "shear"]
    rows = bounds[bounds["property"] == "elastic"].set_index("quantity").loc[ELASTIC]
    np.testing.assert_allclose(markers(upper, "mle"), rows["mle"])
    assert upper.get_ylabel() == "modulus of bcc (GPa)"
    both = pd.concat([bounds, bounds[bounds["property"] == "elastic"].assign(structure="fcc")])
    assert tick_labels(elastic.elastic_constants(both).axes[1])[5] == "C₁₁\nfcc"


def test_labels_name_units_and_members(bounds: pd.DataFrame) -> None:
    rows = bounds.copy()
    rows.loc[(rows["structure"] == "mu"), ["n_ok", "n_failed"]] = [MEMBERS - 3, 3]
    figure = phases.volume(rows)
    assert figure.axes[0].get_ylabel() == "volume (Å³/atom)"
    assert figure.axes[1].get_ylabel() == "minus reference (Å³/atom)"
    assert figure.get_supxlabel() == f"{MEMBERS} members; fewest usable: {MEMBERS - 3} for μ"
    assert surfaces.surface_energy(bounds).get_supxlabel() == f"{MEMBERS} members"


def test_without_reference_the_mle_is_the_zero(bounds: pd.DataFrame) -> None:
    figure = phases.formation_energy(bounds.assign(reference=np.nan))
    upper, lower = figure.axes
    rows = bounds[bounds["quantity"] == "formation_energy"].sort_values("mle")
    assert np.isnan(markers(upper, "reference")).all()
    assert lower.get_ylabel() == "minus MLE (eV/atom)"
    np.testing.assert_allclose(bars(lower, "range"), rows[["low", "high"]].sub(rows["mle"], axis=0))
    assert "reference" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_an_outlier_is_cut_and_marked(bounds: pd.DataFrame) -> None:
    rows = bounds.copy()
    far = (rows["structure"] == "C15") & (rows["quantity"] == "bulk_modulus")
    rows.loc[far, "low"] = -4000.0
    upper, lower = phases.bulk_modulus(rows).axes
    assert arrows(upper) == arrows(lower) == ["v"]
    assert [text.get_text() for text in upper.texts] == ["−4,000"]
    bottom, top = upper.get_ylim()
    assert bottom > -10
    others = rows[~far & (rows["property"] == "formation") & (rows["quantity"] == "bulk_modulus")]
    assert bottom < others["low"].min()
    assert top > others["high"].max()
    # The bar ends at the edge in the vector file too.
    assert bars(upper, "range").min() == bottom


def test_zero_is_in_sight_where_nothing_is_bracketed(bounds: pd.DataFrame) -> None:
    _, lower = phases.volume(bounds.assign(reference=bounds["reference"] - 50)).axes
    assert lower.get_ylim()[0] < 0 < bars(lower, "range").min()


def test_a_structure_that_all_members_fail(bounds: pd.DataFrame) -> None:
    rows = bounds.copy()
    lost = rows["structure"] == "chi"
    rows.loc[lost, ["mean", "std", "low", "high"]] = np.nan
    rows.loc[lost, ["n_ok", "n_failed"]] = [0, MEMBERS]
    figure = phases.volume(rows)
    assert np.isfinite(figure.axes[0].get_ylim()).all()
    assert figure.get_supxlabel().endswith("fewest usable: 0 for χ")


def test_spearman_histograms(properties: pd.DataFrame) -> None:
    table = statistics.spearman(properties)
    figure = spearman.rank_correlations(table)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        f"phase formation energy\n{MEMBERS} members",
        f"phase volume\n{MEMBERS} members",
        f"phase bulk modulus\n{MEMBERS} members",
        f"surface energy\n{MEMBERS} members",
    ]
    for axes, (_, rows) in zip(figure.axes, table.groupby(["property", "quantity"], sort=False), strict=True):
        heights = [patch.get_height() for patch in axes.patches[1:]]  # the first is the band
        assert sum(heights) == MEMBERS
        mean, reference = axes.lines
        assert mean.get_xdata()[0] == pytest.approx(rows["mean_rho"].iloc[0])
        assert reference.get_xdata()[0] == pytest.approx(rows["rho"].iloc[-1])


def test_pointwise_marks_what_is_outside(test_data: pd.DataFrame) -> None:
    figure = pointwise.parity_and_errors(test_data)
    outside = statistics.outside_bounds(test_data)
    for column, kind in enumerate(["energy", "force"]):
        parity, errors = figure.axes[column], figure.axes[column + 2]
        chosen = (test_data["kind"] == kind).to_numpy()
        n_outside = int((outside & chosen).sum())
        assert n_outside > 0
        assert len(parity.collections[0].get_paths()) == chosen.sum()
        for axes in (parity, errors):
            clouds = {line.get_color(): len(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"}
            assert clouds == {COLOURS["std"]: chosen.sum() - n_outside, COLOURS["outside"]: n_outside}
            assert all(line.get_rasterized() for line in axes.lines if line.get_marker() == "o")
        assert f"of {chosen.sum()} outside" in parity.get_title(loc="left")


def test_pointwise_of_energies_alone_and_of_fixed_data(test_data: pd.DataFrame) -> None:
    energies = test_data[test_data["kind"] == "energy"]
    assert len(pointwise.parity_and_errors(energies).axes) == 2
    fixed = energies.assign(truth=0.0, mle=0.0, low=0.0, high=0.0)
    assert len(pointwise.parity_and_errors(fixed).axes) == 2
    alike = energies.assign(mle=0.0, low=-1.0, high=1.0)  # bounds of one width
    pointwise.parity_and_errors(alike).canvas.draw()


def test_distributions_of_errors_and_deviations() -> None:
    edges = np.linspace(-1, 1, 12)
    shares = np.array([0, 0, 0.1, 0.2, 0.2, 0, 0.2, 0.2, 0.1, 0, 0])
    table = pd.DataFrame(
        {"kind": "force", "left": edges[:-1], "right": edges[1:], "error": shares, "deviation": shares[::-1]}
    )
    (axes,) = pointwise.error_distributions(table).axes
    steps = {patch.get_label(): patch.get_data() for patch in axes.patches}
    np.testing.assert_allclose(steps["truth − MLE"].values, shares)
    np.testing.assert_allclose(steps["members − MLE"].edges, edges)
    assert axes.get_xlabel() == "deviation of force component (eV/Å)"


def test_coverage_beside_what_so_many_members_leave_out() -> None:
    table = pd.DataFrame({"kind": ["energy"] * 3, "n_members": [5, 50, 500], "EV": [0.5, 0.1, 0.02]})
    (axes,) = pointwise.coverage_by_members(table).axes
    np.testing.assert_allclose(markers(axes, "energy"), [50, 10, 2])
    np.testing.assert_allclose(markers(axes, "2/(M + 1)"), [100 / 3, 200 / 51, 200 / 501])


def test_coefficients_and_their_correlations() -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_t(3, size=2000)
    table = pd.DataFrame({"coefficient": np.repeat([7, 3], 2000), "deviation": np.concatenate([first, -(first**3)])})
    left, right, _ = coefficients.coefficient_distributions(table).axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["Θ7", "Θ3", "Gaussian"]
    assert [text.get_text() for text in right.texts] == ["1.00", "-1.00", "-1.00", "1.00"]


def test_rivals_beside_the_hypercube() -> None:
    table = pd.DataFrame(
        [
            (case, name, draw, kind, conformal, violation, score)
            for case in ("random", "surface")
            for name, violation, score in (("hypercube", 0.05, 0.2), ("Gaussian", 0.02, 0.1))
            for draw in ("", "Sobol")
            for kind in ("energy", "force")
            for conformal in (False, True)
        ],
        columns=["case", "posterior", "draw", "kind", "conformal", "EV", "interval_score"],
    )
    figure = posteriors.rival_posteriors(table)
    assert len(figure.axes) == 4
    outside, score = figure.axes[:2]
    assert [label.get_text() for label in outside.get_yticklabels()] == ["Gaussian", "hypercube"]
    for case in ("random", "surface"):
        (line,) = [item for item in outside.lines if item.get_label() == case]
        np.testing.assert_allclose(line.get_xdata(), [5, 2])
        (line,) = [item for item in score.lines if item.get_label() == case]
        np.testing.assert_allclose(line.get_xdata(), [1, 0.5])


def chosen(bounds: pd.DataFrame, prop: str, quantity: str = "", structure: str = "") -> pd.DataFrame:
    rows = bounds[(bounds["property"] == prop) & bounds["quantity"].str.startswith(quantity)]
    return rows[rows["structure"] == structure] if structure else rows


def test_interstitials_and_their_saddles(defects_bounds: pd.DataFrame) -> None:
    upper, lower = interstitials.sia_energy(defects_bounds).axes
    rows = chosen(defects_bounds, "sia", "formation_energy").sort_values("reference")
    assert tick_labels(lower) == ["⟨111⟩", "⟨110⟩", "⟨100⟩", "tetrahedral", "octahedral"]
    np.testing.assert_allclose(bars(upper, "range"), rows[["low", "high"]])
    notes = {text.xy[0]: text.get_text() for text in lower.texts}
    assert notes == {1: "saddle, 1", 2: "saddle, 2", 3: "saddle, 3", 4: "saddle, 4"}
    alone = interstitials.sia_energy(defects_bounds[defects_bounds["quantity"] != "hessian_index"])
    assert not alone.axes[1].texts


def test_phonon_bands_and_density_of_states(defects_bounds: pd.DataFrame) -> None:
    figure = phonons.phonon_bands_and_dos(defects_bounds)
    left, right = figure.axes
    assert_curves(left, chosen(defects_bounds, "phonon", "branch_"))
    assert_curves(right, chosen(defects_bounds, "phonon", "dos"), sideways=True)
    assert tick_labels(left) == ["Γ", "H", "P", "Γ", "N"]
    assert left.get_xticks() == pytest.approx([0, 1, 1 + 3**0.5 / 2, 1 + 3**0.5, 1 + 3**0.5 + 0.5**0.5])
    assert left.get_ylim() == right.get_ylim()
    assert (left.get_ylabel(), right.get_xlabel()) == ("frequency (THz)", "density of states (1/THz)")
    assert "imaginary modes" in figure.get_supxlabel()
    stable = defects_bounds[defects_bounds["quantity"] != "imaginary_fraction"]
    assert phonons.phonon_bands_and_dos(stable).get_supxlabel() == f"{MEMBERS} members"
    both = pd.concat([stable, stable.assign(structure="fcc")])
    assert [axes.get_title(loc="left") for axes in phonons.phonon_bands_and_dos(both).axes] == ["bcc", "", "fcc", ""]
    assert len(phonons.phonon_bands_and_dos(stable[stable["quantity"] != "dos"]).axes) == 1


def test_path_and_barrier(defects_bounds: pd.DataFrame) -> None:
    path, beside = paths.barrier_path(defects_bounds).axes
    assert_curves(path, chosen(defects_bounds, "neb", "path_energy"))
    assert tick_labels(beside) == ["barrier", "vacancy\nformation"]
    rows = pd.concat([chosen(defects_bounds, "neb", name) for name in ("barrier", "vacancy")])
    np.testing.assert_allclose(bars(beside, "range"), rows[["low", "high"]])
    np.testing.assert_allclose(markers(beside, "mle"), rows["mle"])
    assert len(paths.barrier_path(defects_bounds[defects_bounds["coordinate"].notna()]).axes) == 1


def test_transformation_paths_name_their_crystals(defects_bounds: pd.DataFrame) -> None:
    figure = paths.transformation_paths(defects_bounds)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(PATHS)
    for axes, (name, path) in zip(figure.axes, PATHS.items(), strict=True):
        assert_curves(axes, chosen(defects_bounds, "path", structure=name))
        assert [(text.get_text(), text.xy[0]) for text in axes.texts] == list(path.points)
    three = paths.transformation_paths(defects_bounds[defects_bounds["structure"] != "hexagonal"])
    assert [bool(axes.get_xlabel()) for axes in three.axes] == [False, True, True]


def test_own_property_of_curves_and_numbers(defects_bounds: pd.DataFrame) -> None:
    mine = chosen(defects_bounds, "mine")
    left, right, charge = own.own_property(mine).axes
    for axes, name in ((left, "left"), (right, "right")):
        assert axes.get_title(loc="left") == name
        assert_curves(axes, chosen(mine, "mine", "twist", name))
    assert (left.get_ylabel(), charge.get_ylabel()) == ("twist (eV/Å)", "charge")
    np.testing.assert_allclose(bars(charge, "range"), chosen(mine, "mine", "charge")[["low", "high"]])
    assert tick_labels(charge)[2] == "a_structure_of_a_long_name"
    (only,) = own.own_property(chosen(mine, "mine", "charge", "left")).axes
    assert len(bars(only, "range")) == 1
    for table in (defects_bounds, mine[:0]):
        with pytest.raises(ValueError, match="rows of one property"):
            own.own_property(table)


DEFECTS: list[tuple[str, str]] = [
    ("sia", "sia"), ("phonons", "phonon"), ("barrier", "neb"), ("transformation_paths", "path"), ("own", "mine"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "prop"), DEFECTS)
def test_figures_without_a_reference_and_without_members(defects_bounds: pd.DataFrame, name: str, prop: str) -> None:
    rows = chosen(defects_bounds, prop)
    unknown = rows.assign(reference=np.nan, mle_error=np.nan)
    figure = FIGURES[name](unknown)
    assert "reference" not in [text.get_text() for text in figure.legends[0].get_texts()]
    failed = rows.assign(mean=np.nan, std=np.nan, low=np.nan, high=np.nan, n_ok=0, n_failed=MEMBERS)
    for table in (failed, failed.assign(mle=np.nan, reference=np.nan)):
        figure = FIGURES[name](table)
        assert "fewest usable: 0 for" in figure.get_supxlabel()
        assert all(np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all() for axes in figure.axes)
        figure.draw_without_rendering()


def test_one_member_far_out_all_along_does_not_flatten_curves(defects_properties: pd.DataFrame) -> None:
    wild = defects_properties["member"].eq(3).fillna(False) & defects_properties["property"].isin(["neb", "mine"])
    table = defects_properties.assign(value=defects_properties["value"].mask(wild, defects_properties["value"] - 5e4))
    rows = statistics.bounds(table)
    path, beside = paths.barrier_path(rows).axes
    for axes, name in ((path, "path_energy"), (beside, "barrier")):
        bottom, top = axes.get_ylim()
        tame = chosen(rows, "neb", name)
        assert bottom > -5
        assert top > tame["high"].max()
        assert set(arrows(axes)) == {"v"}
        assert axes.texts[0].get_text() == _number(tame["low"].min())
    assert bands(path, "range")[0][:, 1] == pytest.approx(path.get_ylim()[0])
    assert bars(beside, "range")[:, 0] == pytest.approx(beside.get_ylim()[0])


def _number(value: float) -> str:
    return f"{value:,.0f}".replace("-", "−")


def test_spread_of_the_other_members_by_hand() -> None:
    members = np.array([-50.0, 1.0, 2.0, 4.0, 900.0])
    row = {"mle": 2.0, "reference": 2.0, "mean": members.mean(), "std": members.std(ddof=1)}
    rows = pd.DataFrame([row | {"low": members.min(), "high": members.max(), "n_ok": 5}])
    bottom, top = curves.limits(rows)
    reach = curves.SPREADS * np.std([1, 2, 4], ddof=1)
    assert (bottom, top) == pytest.approx((2 - 1.12 * reach, 2 + 1.12 * reach))
    # A cut that would gain little is not made.
    members[[0, 4]] = 2 - 1.5 * reach, 2 + 1.5 * reach
    row |= {"mean": members.mean(), "std": members.std(ddof=1)}
    rows = pd.DataFrame([row | {"low": members.min(), "high": members.max(), "n_ok": 5}])
    assert curves.limits(rows) == pytest.approx((2 - 1.68 * reach, 2 + 1.68 * reach))


def test_spearman_shows_interstitials_but_no_counts(defects_properties: pd.DataFrame) -> None:
    figure = spearman.rank_correlations(statistics.spearman(defects_properties))
    titles = [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes]
    assert titles == ["interstitial formation energy", "mine charge"]


def test_missing_rows_are_named(bounds: pd.DataFrame) -> None:
    for draw, name in (
        (interstitials.sia_energy, "sia/formation_energy"),
        (phonons.phonon_bands_and_dos, "phonon/branch"),
        (paths.barrier_path, "neb/path_energy"),
        (paths.transformation_paths, "path/path_energy"),
    ):
        with pytest.raises(ValueError, match=name):
            draw(bounds)
    with pytest.raises(ValueError, match="surface/surface_energy"):
        surfaces.surface_energy(bounds[bounds["property"] == "formation"])


def test_a_study_without_ranks_still_has_its_figure(bounds: pd.DataFrame) -> None:
    figure = spearman.rank_correlations(statistics.spearman(pd.DataFrame(columns=_columns(bounds))))
    assert not figure.axes
    assert "Nothing to rank" in figure.texts[0].get_text()


def _columns(bounds: pd.DataFrame) -> list[str]:
    known = ["property", "structure", "quantity", "unit", "coordinate", "method", "level"]
    assert set(known) <= set(bounds.columns)
    return [*known, "source", "member", "value", "status"]


def test_colours_differ_in_brightness() -> None:
    """The bars must be told apart in grey print too."""
    brightness = [np.dot(to_rgba(COLOURS[name])[:3], [0.299, 0.587, 0.114]) for name in ("mle", "std", "range")]
    assert np.all(np.diff(brightness) > 0.15)


LEVELS = {"first": 1e-1, "second": 1e-2, "reduced": 1e-3}  # errors over the members' std
MANY = 60


def ways(prop: str, structure: str, quantity: str, unit: str, values: np.ndarray, calls: int) -> pd.DataFrame:
    """One quantity of the members by every method; the odd ones by the automatic one were relaxed."""
    rng = np.random.default_rng(len(structure + quantity))
    table = pd.DataFrame(
        {
            "property": prop, "structure": structure, "quantity": quantity, "unit": unit, "source": "member",
            "method": "explicit", "level": "", "member": pd.array(range(len(values)), dtype="Int32"),
            "value": values, "status": "ok", "reason": "",
            "evaluations": pd.array([calls] * len(values), dtype="Int32"), "coordinate": np.nan,
        }
    )  # fmt: skip
    std = values.std(ddof=1) if len(values) > 1 else 0.0
    parts = [table]
    for level, error in LEVELS.items():
        shifted = values + error * std * rng.standard_t(3, size=len(values))
        parts.append(table.assign(source="implicit", method="implicit", level=level, value=shifted, evaluations=0))
    relaxed = table["member"] % 2 == 1
    checked = table["evaluations"].where(relaxed, 1)
    near = table["value"].where(relaxed, values + 1e-5 * std)
    source = np.where(relaxed, "member", "implicit")
    parts.append(table.assign(source=source, method="auto", value=near, evaluations=checked))
    return pd.concat(parts, ignore_index=True).astype({"evaluations": "Int32"})


@pytest.fixture(scope="module")
def many_ways() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    parts = []
    for k, name in enumerate(["fcc", "hcp", "bcc"]):
        parts.append(ways("formation", name, "volume", "A3/atom", 16 + k / 5 + 0.1 * rng.normal(size=MANY), 4))
        energy = np.zeros(MANY) if name == "bcc" else k / 3 + 0.1 * rng.normal(size=MANY)
        parts.append(ways("formation", name, "formation_energy", "eV/atom", energy, 4))
    parts.append(ways("neb", "vacancy_hop", "barrier", "eV", 1.7 + 0.2 * rng.normal(size=MANY), 40))
    parts.append(ways("elastic", "bcc", "C11", "GPa", 500 + 20 * rng.normal(size=MANY), 0))
    table = pd.concat(parts, ignore_index=True)
    lost = (table["quantity"] == "barrier") & (table["member"] == 5) & (table["level"] == "second")
    return table.assign(value=table["value"].mask(lost), status=table["status"].mask(lost, "unstable"))


def by_level(table: pd.DataFrame, prop: str, structure: str, quantity: str, name: str) -> pd.DataFrame:
    """Explicit and other values of the members that have both."""
    rows = chosen(table, prop, quantity, structure)
    rows = rows[(rows["status"] == "ok") & (rows["quantity"] == quantity)]
    way = (rows["method"] == "auto") if name == "auto" else (rows["level"] == name)
    pair = {"explicit": rows[rows["method"] == "explicit"], "implicit": rows[way]}
    return pd.concat({key: part.set_index("member")["value"] for key, part in pair.items()}, axis=1).dropna()


PANELS = [
    ("volume of bcc", "formation", "bcc", "volume"),
    ("volume of hcp", "formation", "hcp", "volume"),
    ("barrier of the vacancy hop", "neb", "vacancy_hop", "barrier"),
]


def cells(axes: Axes) -> dict[str, list[str]]:
    """Rows of the table of numbers: name -> cells from left to right."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for text in axes.texts:
        rows.setdefault(text.get_position()[1], []).append((text.get_position()[0], text.get_text()))
    lines = [[word for _, word in sorted(row)] for row in rows.values()]
    return {line[0]: line[1:] for line in lines}


def test_implicit_values_beside_explicit_ones(many_ways: pd.DataFrame) -> None:
    figure = implicit.implicit_against_explicit(many_ways)
    truncation = statistics.truncation(many_ways)
    grid = np.array(figure.axes).reshape(3, 3)
    for (parity, errors, numbers), (title, *key) in zip(grid.T, PANELS, strict=True):
        assert parity.get_title(loc="left") == title
        known = truncation[(truncation[["property", "structure", "quantity"]] == key).all(axis=1)]
        table = cells(numbers)
        for name, level in implicit.LEVELS.items():
            both = by_level(many_ways, *key, name)
            assert len(both) == MANY - (name == "second" and "barrier" in key)
            (points,) = lines(parity, name)
            np.testing.assert_allclose(points, both[["explicit", "implicit"]])
            (points,) = lines(errors, name)
            np.testing.assert_allclose(points[:, 0], both["explicit"])
            np.testing.assert_allclose(points[:, 1], both["implicit"] - both["explicit"])
            bottom, top = errors.get_ylim()
            assert ((bottom < points[:, 1]) & (points[:, 1] < top)).all()
            row = known[known["method" if name == "auto" else "level"] == name].iloc[0]
            error, relative, calls = table[level.name]
            if name != "auto":
                assert float(error) == pytest.approx(row["median_error_over_std"], rel=0.06)
                assert float(relative.removesuffix(" %")) == pytest.approx(100 * row["median_relative_error"], rel=0.06)
            assert float(calls) == pytest.approx(row["evaluations"], rel=0.06)
        explicit = chosen(many_ways, key[0], key[2], key[1])
        explicit = explicit[explicit["method"] == "explicit"]
        np.testing.assert_allclose([line[0, 1] for line in lines(errors, "std")], [
            -explicit["value"].std(), explicit["value"].std(),
        ])  # fmt: skip
        assert float(table["explicit"][-1]) == explicit["evaluations"].mean()
        assert not [text for text in parity.texts if "beyond" in text.get_text()]
    assert grid[0, 0].get_ylabel() == "implicit volume (Å³/atom)"
    assert grid[1, 2].get_ylabel() == "implicit − explicit (eV)"
    least = f"{MANY} members; fewest with both values: {MANY - 1} (second order, barrier of the vacancy hop)"
    assert figure.get_supxlabel() == least


def test_implicit_of_one_level_and_other_phases(many_ways: pd.DataFrame) -> None:
    rows = many_ways[(many_ways["structure"] != "hcp") & (many_ways["property"] == "formation")]
    rows = rows[rows["level"].isin(["", "second"]) & (rows["method"] != "auto")]
    figure = implicit.implicit_against_explicit(rows)
    # The zero of the formation energies comes first, though it is last in the table.
    titles = [axes.get_title(loc="left") for axes in figure.axes[:2]]
    assert titles == ["volume of bcc", "volume of fcc"]
    assert figure.legends[0].get_texts()[0].get_text() == "second order"
    assert set(cells(figure.axes[-1])) >= {"explicit", "second order"}
    assert "reduced model" not in cells(figure.axes[-1])
    assert not lines(figure.axes[0], "first")


def test_implicit_cuts_and_counts_points_far_out(many_ways: pd.DataFrame) -> None:
    far = (many_ways["structure"] == "hcp") & (many_ways["quantity"] == "volume") & (many_ways["level"] == "first")
    far &= many_ways["member"].isin([2, 3])
    rows = many_ways.assign(value=many_ways["value"].mask(far, 900.0))
    parity, errors = np.array(implicit.implicit_against_explicit(rows).axes).reshape(3, 3)[:2, 1]
    assert [text.get_text() for text in parity.texts] == ["2 points beyond, to 900"]
    assert arrows(parity) == ["^", "^"]  # the points of first order, and the mark
    (points,) = lines(parity, "first")
    assert points[:, 1].max() == parity.get_ylim()[1] < 20
    (points,) = lines(errors, "first")  # none is lost here
    assert points[:, 1].max() > 800
    assert errors.get_ylim()[1] > 800


@pytest.mark.parametrize("change", ["explicit only", "implicit only", "all failed", "nothing"])
def test_nothing_implicit_to_compare(many_ways: pd.DataFrame, change: str) -> None:
    explicit = many_ways["method"] == "explicit"
    table = {
        "explicit only": many_ways[explicit],
        "implicit only": many_ways[~explicit],
        "all failed": many_ways.assign(status="failed", value=np.nan),
        "nothing": many_ways.head(0),
    }[change]
    figure = implicit.implicit_against_explicit(table)
    assert not figure.axes
    assert "Nothing to compare" in figure.texts[0].get_text()


def test_implicit_of_members_that_agree_or_are_one(many_ways: pd.DataFrame) -> None:
    same = many_ways.assign(value=2.0)
    for table in (same, many_ways[many_ways["member"] == 0]):
        figure = implicit.implicit_against_explicit(table)
        assert all(np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all() for axes in figure.axes)
        assert cells(figure.axes[-1])["first order"][0] == "–"
        figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0123, "0.012"), (1234.5, "1,234"), (1.26e-5, "1.3·10⁻⁵"), (np.nan, "–")]
)
def test_numbers_of_two_digits(value: float, text: str) -> None:
    assert implicit._number(value) == text


def closed_form(properties: pd.DataFrame, reach: float) -> pd.DataFrame:
    """Analytic table: the members' own moments, and a range of that many standard deviations."""
    key = ["property", "structure", "quantity", "unit", "coordinate"]
    members = properties[properties["method"] == "explicit"]
    table = members.groupby(key, dropna=False, sort=False)["value"].agg(["mean", "std"]).reset_index()
    return table.assign(low=table["mean"] - reach * table["std"], high=table["mean"] + reach * table["std"])


def with_mle(properties: pd.DataFrame, shift: float = 0.5) -> pd.DataFrame:
    """The members' table with an MLE and a reference, each from one of the members."""
    first = properties[(properties["method"] == "explicit") & (properties["member"] == 0)]
    rows = [first.assign(source=source, member=pd.NA) for source in ("mle", "reference")]
    rows[1]["value"] = rows[1]["value"] * (1 + 0.01 * shift)
    return pd.concat([*rows, properties], ignore_index=True).astype({"member": "Int32"})


SAMPLED = [
    ("formation energy of fcc", "formation", "fcc", "formation_energy"),
    ("C₁₁ of bcc", "elastic", "bcc", "C11"),
    ("barrier of the hop", "neb", "vacancy_hop", "barrier"),
]


def upright_band(axes: Axes, label: str) -> np.ndarray:
    """Position, lower and upper edge of the only band of that label, [n, 3]."""
    (item,) = [item for item in axes.collections if item.get_label() == label]
    edges = pd.DataFrame(item.get_paths()[0].vertices).groupby(0)[1].agg(["min", "max"])
    return edges.reset_index().to_numpy()


def assert_sampled(axes: Axes, values: np.ndarray) -> None:
    """Band of the first members, and their mean ± std."""
    so_far = pd.Series(values).expanding()
    mean, std = so_far.mean(), so_far.std().fillna(0)
    number = np.arange(1, len(values) + 1)
    bottom, top = axes.get_ylim()
    for label, low, high in (("range", so_far.min(), so_far.max()), ("std", mean - std, mean + std)):
        band = upright_band(axes, label)
        expected = np.column_stack([number, low.clip(bottom, top), high.clip(bottom, top)])
        np.testing.assert_allclose(band, expected, atol=1e-12)


def test_sampled_bounds_beside_analytic_ones(many_ways: pd.DataFrame) -> None:
    table = with_mle(many_ways)
    rows = statistics.bounds(table, analytic=closed_form(table, expected_reach(MANY)))
    figure = sampling.sampled_against_analytic(table.sample(frac=1, random_state=0), rows)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [title for title, *_ in SAMPLED]
    for axes, (_, *key) in zip(figure.axes, SAMPLED, strict=True):
        both = rows[(rows[["property", "structure", "quantity"]] == key).all(axis=1)].set_index("method")
        values = table[(table[["property", "structure", "quantity"]] == key).all(axis=1)]
        values = values[(values["method"] == "explicit") & (values["source"] == "member")]["value"].to_numpy()
        assert_sampled(axes, values)
        row = both.loc["analytic"]
        heights = {
            "analytic low": row["low"], "analytic high": row["high"], "analytic mean − std": row["mean"] - row["std"],
            "analytic mean + std": row["mean"] + row["std"], "mle": row["mle"], "reference": row["reference"],
        }  # fmt: skip
        for name, height in heights.items():
            (line,) = lines(axes, name)
            np.testing.assert_allclose(line[:, 1], height)
        reach = lines(axes, "reach")
        assert len(reach) == 2
        for sign, curve in zip((-1, 1), reach, strict=True):
            assert (curve[0, 0], curve[-1, 0]) == (1, MANY)
            np.testing.assert_allclose(
                curve[:, 1], [row["mean"] + sign * row["std"] * expected_reach(int(m)) for m in curve[:, 0]]
            )
            # For a Gaussian the curve ends where its bounds are.
            assert curve[-1, 1] == pytest.approx(row["high"] if sign > 0 else row["low"])
        share = 100 * both.loc["explicit", "width_over_analytic"]
        assert [text.get_text() for text in axes.texts] == [f"members: {share:.0f} % of the analytic range"]
    assert figure.axes[1].get_ylabel() == "C₁₁ (GPa)"
    assert figure.get_supxlabel() == f"{MANY} members"


def test_sampled_bounds_within_a_wide_box(many_ways: pd.DataFrame) -> None:
    table = with_mle(many_ways)
    closed = closed_form(table, 50)
    wild = (table["quantity"] == "barrier") & (table["member"] == 9) & (table["source"] == "member")
    table["value"] = table["value"].mask(wild & (table["method"] == "explicit"), 80.0)
    rows = statistics.bounds(table, analytic=closed)
    figure = sampling.sampled_against_analytic(table, rows)
    for axes, (_, *key) in zip(figure.axes, SAMPLED, strict=True):
        row = rows[(rows[["property", "structure", "quantity"]] == key).all(axis=1)].set_index("method").loc["analytic"]
        assert not lines(axes, "analytic low")
        assert not lines(axes, "analytic high")
        words = [text.get_text() for text in axes.texts]
        assert any(text.startswith("low ") for text in words)
        assert any(text.startswith("high ") for text in words)
        bottom, top = axes.get_ylim()
        assert top - bottom < 15 * row["std"]
        assert sorted(arrows(axes)) == sorted(["v", "^"] + ["^"] * ("80" in words))
    assert "80" in words  # the wild member, in the last panel
    assert upright_band(figure.axes[2], "range")[:, 2].max() == figure.axes[2].get_ylim()[1]


def test_sampled_bounds_by_the_next_best_method(many_ways: pd.DataFrame) -> None:
    table = with_mle(many_ways)
    closed = closed_form(table, 3.0)
    for method, word, kept in (("auto", "automatic", ["auto", "implicit"]), ("implicit", "implicit", ["implicit"])):
        part = table[table["method"].isin(kept) | table["source"].isin(["mle", "reference"])]
        axes = sampling.sampled_against_analytic(part, statistics.bounds(part, analytic=closed)).axes[0]
        assert axes.get_title(loc="left") == "formation energy of fcc"
        assert axes.get_xlabel() == f"members, {word}"
        values = chosen(part, "formation", "formation_energy", "fcc")
        values = values[(values["method"] == method) & values["level"].isin(["", "reduced"])]["value"]
        assert_sampled(axes, values.to_numpy())


def test_sampled_bounds_of_own_quantities_and_of_none(many_ways: pd.DataFrame) -> None:
    mine = with_mle(many_ways[many_ways["quantity"] == "C11"]).assign(property="mine", quantity="a_stiffness")
    rows = statistics.bounds(mine, analytic=closed_form(mine, 3.0))
    (axes,) = sampling.sampled_against_analytic(mine, rows).axes
    assert axes.get_title(loc="left") == "mine a stiffness of bcc"
    unknown = sampling.sampled_against_analytic(mine, rows.assign(reference=np.nan))
    assert "reference" not in [text.get_text() for text in unknown.legends[0].get_texts()]
    failed = mine.assign(status=mine["status"].mask(mine["source"] == "member", "failed"))
    failed = failed[failed["method"] == "explicit"]
    for properties, bounds in (
        (mine, statistics.bounds(mine)),
        (failed, statistics.bounds(failed, analytic=closed_form(mine, 3.0))),
        (mine.head(0), rows.head(0)),
    ):
        figure = sampling.sampled_against_analytic(properties, bounds)
        assert not figure.axes
        assert "Nothing to compare" in figure.texts[0].get_text()


def shares(prop: str, structure: str, quantity: str, groups: list[str], n_axes: int = 60) -> pd.DataFrame:
    """Rows of `drivers` of one quantity."""
    rng = np.random.default_rng(len(prop + structure + quantity))
    parts = []
    axis = np.sort(rng.dirichlet(np.full(n_axes, 0.1)))[::-1]
    listed = {str(k): share for k, share in enumerate(axis[:50])} | ({"other": axis[50:].sum()} if n_axes > 50 else {})
    energy = rng.random()
    sizes = {name: 100 * (k + 1) for k, name in enumerate(groups)}
    for by, found, n_rows in (
        ("axis", listed, {}),
        ("group", dict(zip(groups, rng.dirichlet(np.ones(len(groups))), strict=True)), sizes),
        ("kind", {"energy": energy, "force": 1 - energy}, {"energy": 20, "force": 60}),
    ):
        table = pd.DataFrame({"by": by, "name": list(found), "share": list(found.values())})
        parts.append(table.assign(n_rows=table["name"].map(n_rows).astype("Int64")))
    return pd.concat(parts).assign(property=prop, structure=structure, quantity=quantity)


GROUPS = [f"group_{k}" for k in range(10)]
DRIVEN = [
    *[("formation", name, "formation_energy") for name in ("fcc", "hcp", "sigma")],
    *[("elastic", "bcc", name) for name in ("C11", "C12", "C44")],
    *[("neb", "vacancy_hop", name) for name in ("barrier", "vacancy_formation_energy")],
    *[("mine", name, "charge") for name in ("left", "right")],
]
FOLLOW = [("formation", "bcc", "volume"), ("elastic", "bcc", "bulk_modulus")]  # not shown


@pytest.fixture(scope="module")
def driven() -> pd.DataFrame:
    return pd.concat([shares(*key, GROUPS) for key in DRIVEN + FOLLOW], ignore_index=True)


def segments(axes: Axes) -> dict[float, dict[str, tuple[float, float]]]:
    """Stacked bars: height -> name -> left end and width."""
    found: dict[float, dict[str, tuple[float, float]]] = {}
    for bars_ in axes.containers:
        (patch,) = bars_.patches
        middle = round(patch.get_y() + patch.get_height() / 2, 6)
        found.setdefault(middle, {})[bars_.get_label()] = (patch.get_x(), patch.get_width())
    return found


def test_drivers_by_group_kind_and_axis(driven: pd.DataFrame) -> None:
    figure = drivers.variance_drivers(driven.sample(frac=1, random_state=0).sort_index())
    left, right, middle = figure.axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == [
        "training rows", "fcc", "hcp", "σ", "C₁₁", "C₁₂", "C₄₄", "barrier", "formation", "left", "right",
    ]  # fmt: skip
    assert [text.get_text() for text in left.texts if not text.get_text().isdigit()] == [
        "formation energies", "elastic, bcc", "vacancy", "mine, charge",
    ]  # fmt: skip
    stacks = segments(left)
    assert sorted(stacks) == pytest.approx(left.get_yticks())
    keys = driven.set_index(["property", "structure", "quantity"])
    groups = keys[keys["by"] == "group"]
    table = groups.set_index("name", append=True)["share"].unstack().loc[DRIVEN]
    order = list(table.mean().sort_values(ascending=False).index)
    named, rest = order[:7], order[7:]
    for height, key in zip(sorted(stacks)[1:], DRIVEN, strict=True):
        stack = stacks[height]
        assert list(stack) == [*named, "3 other groups"]
        for name in named:
            assert stack[name][1] == pytest.approx(100 * table.loc[key, name])
        assert stack["3 other groups"][1] == pytest.approx(100 * table.loc[key, rest].sum())
        ends = np.cumsum([width for _, width in stack.values()])
        assert [start for start, _ in stack.values()] == pytest.approx([0, *ends[:-1]])
        assert ends[-1] == pytest.approx(100)
    sizes = pd.Series({name: 100 * (k + 1) / 5500 for k, name in enumerate(GROUPS)})
    for name in named:
        assert stacks[0.0][name][1] == pytest.approx(100 * sizes[name])
    assert stacks[0.0]["3 other groups"][1] == pytest.approx(100 * sizes[rest].sum())
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == [n.replace("_", " ") for n in named[:2]]

    energies = keys[(keys["by"] == "kind") & (keys["name"] == "energy")]["share"]
    (points,) = lines(middle, "energy")
    np.testing.assert_allclose(points[:, 0], [25, *(100 * energies.loc[DRIVEN])])
    np.testing.assert_allclose(points[:, 1], left.get_yticks())

    axis = keys[(keys["by"] == "axis") & (keys["name"] != "other")]
    assert len(right.lines) == 4
    for line, prop in zip(right.lines, ["formation", "elastic", "neb", "mine"], strict=True):
        curves_ = np.array([axis.loc[key, "share"].cumsum() for key in DRIVEN if key[0] == prop])
        np.testing.assert_allclose(line.get_xdata(), np.arange(1, 51))
        np.testing.assert_allclose(line.get_ydata(), 100 * curves_.mean(axis=0))
        band = upright_band(right, f"range {prop}")
        np.testing.assert_allclose(band[:, 1:], 100 * np.column_stack([curves_.min(axis=0), curves_.max(axis=0)]))
        needed = 1 + int((curves_.mean(axis=0) < 0.9).sum())
        assert line.get_label().split(": ")[1] == (str(needed) if needed <= 50 else "> 50")
    assert not figure.get_supxlabel()


def test_drivers_of_few_groups_without_axes_or_kinds(driven: pd.DataFrame) -> None:
    eight = pd.concat([shares(*key, GROUPS[:8], n_axes=12) for key in DRIVEN[:2]])
    left, right, _ = drivers.variance_drivers(eight).axes
    assert not [name for stack in segments(left).values() for name in stack if "other" in name]
    assert right.lines[0].get_ydata()[-1] == pytest.approx(100)
    assert len(drivers.variance_drivers(eight[eight["by"] == "group"]).axes) == 1
    one = pd.concat([shares(*key, ["train"]) for key in DRIVEN[:1]])
    assert segments(drivers.variance_drivers(one).axes[0]) == {0.0: {"train": (0, 100)}, 2.5: {"train": (0, 100)}}
    for nothing in (driven.head(0), driven[driven["quantity"] == "volume"]):
        figure = drivers.variance_drivers(nothing)
        assert not figure.axes
        assert "Nothing to share out" in figure.texts[0].get_text()


def test_drivers_say_what_does_not_fit(driven: pd.DataFrame) -> None:
    more = pd.concat([shares("mine", f"s{k}", "charge", GROUPS) for k in range(40)])
    figure = drivers.variance_drivers(pd.concat([driven, more], ignore_index=True))
    left = figure.axes[0]
    shown = len(left.get_yticks()) - 1
    assert shown == drivers.MOST
    assert figure.get_supxlabel() == f"not shown: {len(DRIVEN) + 40 - drivers.MOST} of mine"


STRUCTURES = [
    *[("formation", name, distance) for name, distance in (("bcc", 0.02), ("C14", 1.3), ("compressed C14", 1.2))],
    *[("surface", name, 0.3) for name in ("100", "110")],
    *[("path", f"trigonal {x:.6f}", x) for x in (0.8, 1.4, 0.0)],
    *[("mine", f"a_long_name_{k}", 1.1 + k / 10) for k in range(4)],
]


@pytest.fixture(scope="module")
def compared() -> list[pd.DataFrame]:
    rng = np.random.default_rng(5)
    names = ["training", "rattled by 5 %", "rattled", "MD at 300 K", "MD"]
    sets = pd.DataFrame({"set": names, "kind": ["training", "rattled", "rattled", "MD", "MD"]})
    sets["n_environments"] = [1200, 1200, 1200, 0, 0]
    sets["entropy_over_training"] = [0.0, -30, -20, np.nan, np.nan]
    sets["covers_structures"] = [0.9, 0.1, 0.12, np.nan, np.nan]
    table = pd.DataFrame(STRUCTURES, columns=["property", "structure", "distance"])
    table["inside"] = table["distance"] <= 1
    clouds = pd.DataFrame({"set": ["training", "rattled"] * 400, "property": "", "structure": ""})
    points = pd.concat([clouds, table[["property", "structure"]].assign(set="")], ignore_index=True)
    points[["axis_1", "axis_2"]] = rng.normal(size=(len(points), 2))
    points["distance"] = rng.lognormal(-1.5, 0.5, len(points))
    return [table, sets, points]


def row_labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_descriptor_space_beside_entropies_and_distances(compared: list[pd.DataFrame]) -> None:
    table, sets, points = compared
    figure = environments.descriptor_space(*compared)
    space, entropy, distances = figure.axes
    groups = {"training set": "training", "rattled, all": "rattled"}
    names = ["phase", "surface", "transformation path", "mine"]
    assert [line.get_label() for line in space.lines] == [*groups, *names]
    for line in space.lines[:2]:
        here = points[points["set"] == groups[line.get_label()]]
        np.testing.assert_array_equal(line.get_xydata(), here[["axis_1", "axis_2"]])
    formation = points.loc[points["property"] == "formation", ["axis_1", "axis_2"]]
    np.testing.assert_allclose(space.lines[2].get_xydata(), formation, atol=0.005)
    # No structure is cut.
    for prop in ("formation", "path"):
        here = points[points["property"] == prop]
        assert here["axis_1"].between(*space.get_xlim()).all()
        assert here["axis_2"].between(*space.get_ylim()).all()

    assert row_labels(entropy) == ["training set", "rattled by 5 %", "rattled, all", "MD at 300 K", "MD, all"]
    widths = [bar.get_width() for bar in entropy.patches]
    np.testing.assert_array_equal(widths, sets["entropy_over_training"])
    assert entropy.get_title("left") == "1,200 environments each"
    assert [text.get_text() for text in entropy.texts] == ["90 %", "10 %", "12 %", "blew up", "blew up"]

    assert row_labels(distances) == ["training set", *names]
    for place, prop in enumerate(["formation", "surface", "path", "mine"], start=1):
        expected = table.loc[table["property"] == prop, "distance"].clip(environments.NEAREST)
        drawn = distances.lines[place - 1].get_xydata()
        np.testing.assert_array_equal(drawn, np.column_stack([expected, [place] * len(expected)]))
    assert [text.get_text() for text in distances.texts] == ["C14", "", "trigonal", "a_long_name_0 + 3"]


def test_descriptor_space_of_a_study_without_structures_or_dynamics(compared: list[pd.DataFrame]) -> None:
    table, sets, points = compared
    figure = environments.descriptor_space(table.head(0), sets.head(3), points[points["set"] != ""])
    assert row_labels(figure.axes[2]) == ["training set"]
    assert len(figure.axes[1].patches) == 3


@pytest.fixture(scope="module")
def drawn_from(
    bounds: pd.DataFrame,
    properties: pd.DataFrame,
    defects_bounds: pd.DataFrame,
    test_data: pd.DataFrame,
    many_ways: pd.DataFrame,
    driven: pd.DataFrame,
    compared: list[pd.DataFrame],
) -> dict[str, list[pd.DataFrame]]:
    """Tables of some figures, one of each way of drawing."""
    table = with_mle(many_ways)
    return {
        "formation_energy": [bounds],
        "spearman": [statistics.spearman(properties)],
        "phonons": [defects_bounds],
        "own": [chosen(defects_bounds, "mine")],
        "pointwise": [test_data],
        "implicit": [table],
        "sampling": [table, statistics.bounds(table, analytic=closed_form(table, 50))],
        "drivers": [driven],
        "environments": compared,
    }


@pytest.mark.parametrize(
    "name",
    [
        "formation_energy", "spearman", "phonons", "own", "pointwise", "implicit", "sampling", "drivers",
        "environments",
    ],
)  # fmt: skip
def test_files_are_the_same_each_time(drawn_from: dict[str, list[pd.DataFrame]], name: str, tmp_path: Path) -> None:
    stem = f"v1.2_{name}"  # a dot is no suffix
    first = save(FIGURES[name](*drawn_from[name]), tmp_path / "a" / stem)
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red"}):  # the user's settings do not matter
        second = save(FIGURES[name](*drawn_from[name]), tmp_path / "b" / stem)
    assert [path.name for path in first] == [f"{stem}.pdf", f"{stem}.png"]
    for one, two in zip(first, second, strict=True):
        assert one.stat().st_size > 1000
        assert one.read_bytes() == two.read_bytes(), one.name
