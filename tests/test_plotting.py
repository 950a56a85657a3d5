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
from popsbounds.plotting import coefficients, elastic, phases, pointwise, posteriors, spearman, surfaces
from popsbounds.plotting.style import COLOURS, save, structure_label

ELASTIC = ["C11", "C12", "C44", "bulk_modulus", "shear_modulus"]
MEMBERS = 20


def datum(prop: str, structure: str, quantity: str, unit: str, centre: float, rng: np.random.Generator) -> pd.DataFrame:
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
            "member": pd.array([pd.NA, pd.NA, *range(MEMBERS)], dtype="Int32"),
            "value": centre + 0.1 * rng.normal(size=n),
            "status": "ok",
            "evaluations": pd.array([1] * n, dtype="Int32"),
            "coordinate": np.nan,
        }
    )


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
        f"formation: formation energy\n{MEMBERS} members",
        f"formation: volume\n{MEMBERS} members",
        f"formation: bulk modulus\n{MEMBERS} members",
        f"surface: surface energy\n{MEMBERS} members",
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


def test_coverage_beside_what_members_promise() -> None:
    table = pd.DataFrame({"kind": ["energy"] * 3, "n_members": [5, 50, 500], "EV": [0.5, 0.1, 0.02]})
    (axes,) = pointwise.coverage_by_members(table).axes
    np.testing.assert_allclose(markers(axes, "energy"), [50, 10, 2])
    np.testing.assert_allclose(markers(axes, "promised"), [100 / 3, 200 / 51, 200 / 501])


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


def test_files_are_the_same_each_time(
    bounds: pd.DataFrame, properties: pd.DataFrame, test_data: pd.DataFrame, tmp_path: Path
) -> None:
    makers: dict[str, Callable[[], Figure]] = {
        "phases": lambda: phases.formation_energy(bounds),
        "spearman": lambda: spearman.rank_correlations(statistics.spearman(properties)),
        "v1.2_pointwise": lambda: pointwise.parity_and_errors(test_data),
    }
    for name, make in makers.items():
        first = save(make(), tmp_path / "a" / name)
        with mpl.rc_context({"font.size": 20, "axes.facecolor": "red"}):  # the user's settings do not matter
            second = save(make(), tmp_path / "b" / name)
        assert [path.name for path in first] == [f"{name}.pdf", f"{name}.png"]
        for one, two in zip(first, second, strict=True):
            assert one.stat().st_size > 1000
            assert one.read_bytes() == two.read_bytes(), one.name


def test_missing_rows_are_named(bounds: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="surface/surface_energy"):
        surfaces.surface_energy(bounds[bounds["property"] == "formation"])


def test_a_study_without_ranks_still_has_its_figure(bounds: pd.DataFrame) -> None:
    figure = spearman.rank_correlations(statistics.spearman(pd.DataFrame(columns=_columns(bounds))))
    assert not figure.axes
    assert "Nothing to rank" in figure.texts[0].get_text()


def _columns(bounds: pd.DataFrame) -> list[str]:
    known = ["property", "structure", "quantity", "unit", "coordinate", "method"]
    assert set(known) <= set(bounds.columns)
    return [*known, "source", "member", "value", "status"]


def test_colours_differ_in_brightness() -> None:
    """The bars must be told apart in grey print too."""
    brightness = [np.dot(to_rgba(COLOURS[name])[:3], [0.299, 0.587, 0.114]) for name in ("mle", "std", "range")]
    assert np.all(np.diff(brightness) > 0.15)
