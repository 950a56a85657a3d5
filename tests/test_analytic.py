"""Derivatives of all values against relaxations of their own, and what posteriors make of them against draws."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from ensembles import FORM, RELAX, learn, make, narrow, posterior

from popsbounds.analytic import (
    analytic_bounds,
    extreme_parameters,
    gradients,
    read_gradients,
    single_numbers,
    write_gradients,
)
from popsbounds.config import Elastic, Formation, Interstitial, Neb, Phonon, Surface, Transformations
from popsbounds.descriptors.snap import SnapCalculator
from popsbounds.pops import Gaussian, Hypercube, PopsEnsemble
from popsbounds.pops.posteriors import expected_reach
from popsbounds.potential import ColdPotential

# As tight as finite differences need it.
TIGHT = RELAX.model_copy(update={"fmax_eV_per_A": 1e-7, "smax_GPa": 1e-6, "fmax_band_eV_per_A": 1e-6})
# In standard deviations of the posterior.
STEP = 0.003
CASES = {
    "formation": Formation(structures=["bcc", "C14"]),
    "elastic": Elastic(structures=["bcc", "A15"]),
    "sia": Interstitial(repeats=2, structures=["110", "OS"]),
    "surface": Surface(facets=["100"], min_thickness_A=6, vacuum_A=8),
    "neb": Neb(repeats=2, images=5, points=5),
    "path": Transformations(points=5, structures=["tetragonal", "trigonal"]),
    "phonon": Phonon(repeats=2, mesh=4, points_per_unit=4),
}

pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING")


@cache
def known(name: str):
    """A property, the MLE's lines and models."""
    _, thetas = narrow()
    prop = make(name, CASES[name])
    return prop, *learn(prop, name, posterior().theta, thetas, TIGHT)


@cache
def found(name: str):
    """What `gradients` finds."""
    prop, expected, models = known(name)
    return gradients(prop, models, posterior(), expected, TIGHT)


def keys(lines: pd.DataFrame) -> list[tuple]:
    return list(zip(lines["structure"], lines["quantity"], lines["coordinate"].map(repr), strict=True))


# Derivatives.


@pytest.mark.parametrize("name", list(CASES))
def test_gradients_are_those_of_relaxed_values(name):
    """In a direction that the posterior chooses among all parameters."""
    prop, _, _ = known(name)
    lines, gradient = found(name)
    mle, direction = posterior().theta, posterior().draw(1, "uniform", np.random.default_rng(8))[0] - posterior().theta
    sides = []
    for sign in (1, -1):
        potential = ColdPotential(SnapCalculator(FORM, mle + sign * STEP * direction), TIGHT)
        by_key = {(v.structure, v.quantity, repr(float(v.coordinate))): v.value for v in prop.values(potential)}
        sides.append(np.array([by_key[key] for key in keys(lines)]))
    slope = (sides[0] - sides[1]) / (2 * STEP)
    largest = lines.assign(size=np.abs(slope)).groupby("quantity")["size"].transform("max").to_numpy()
    # Densities of states turn quickly.
    rough = lines["quantity"] == "dos"
    tolerance = np.where(rough, 5e-4, 1e-4) * np.maximum(np.abs(slope), np.where(rough, 1, 0.05) * largest)
    # Frequencies at Γ are the root of nothing.
    wanted = ~(lines["quantity"].str.startswith("branch") & (lines["value"].abs() < 1e-3))
    assert (np.abs(gradient @ direction - slope) <= tolerance)[wanted].all()
    assert np.abs(gradient @ direction).max() > 1e-3


@pytest.mark.parametrize("name", ["formation", "elastic", "sia", "neb"])
def test_gradients_do_not_depend_on_how_a_posterior_is_spread(name):
    """Its shape and its size are for the differences only."""
    prop, expected, models = known(name)
    lines, gradient = found(name)
    p = len(posterior().theta)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(p, p)))[0]
    edges = np.random.default_rng(3).uniform(0.5, 2, p)
    box = Hypercube(
        posterior().theta, posterior().factor @ turn, -edges, 0.5 * edges, np.zeros(p, int), np.zeros(p, int)
    )
    for other in (box, posterior().scaled(0.1), posterior().scaled(5.0)):
        same, again = gradients(prop, models, other, expected, TIGHT)
        pd.testing.assert_frame_equal(same, lines)
        along, expected_along = (g @ posterior().factor for g in (again, gradient))
        gap = np.linalg.norm(along - expected_along, axis=1)
        # Some are zero by definition.
        assert (gap < 1e-4 * np.linalg.norm(expected_along, axis=1) + 1e-8).all()


def test_gradients_within_a_few_directions_are_right_along_them():
    """The posterior spreads over six directions only: along them the derivatives are the same."""
    prop, expected, models = known("sia")
    _, gradient = found("sia")
    mle, thetas = narrow()
    few = Gaussian(mle, (thetas - mle).T)
    _, again = gradients(prop, models, few, expected, TIGHT)
    np.testing.assert_allclose(again @ few.factor, gradient @ few.factor, rtol=1e-5, atol=1e-7)


def test_gradients_are_right_with_the_tolerances_of_a_study():
    """Those of the MLE's relaxations, and those that the models are converged to."""
    _, thetas = narrow()
    prop = known("neb")[0]
    expected, models = learn(prop, "neb", posterior().theta, thetas)
    _, again = gradients(prop, models, posterior(), expected, RELAX)
    _, gradient = found("neb")
    gap, size = (np.linalg.norm(g @ posterior().factor, axis=1) for g in (again - gradient, gradient))
    assert (gap < 1e-3 * size + 1e-8).all()


def test_what_has_no_derivative_has_no_line():
    """Counts, and what the MLE lost; and what the expansion cannot give."""
    prop, expected, models = known("sia")
    lines, gradient = found("sia")
    assert "hessian_index" in set(expected["quantity"])
    assert set(lines["quantity"]) == {"formation_energy"}
    assert len(lines) == len(gradient) == 2
    assert lines["value"].tolist() == expected.loc[expected["quantity"] == "formation_energy", "value"].tolist()
    assert "imaginary_fraction" in set(known("phonon")[1]["quantity"])
    assert "imaginary_fraction" not in set(found("phonon")[0]["quantity"])
    lost = expected.assign(status=np.where(expected["structure"] == "OS", "unstable", expected["status"]))
    lines, gradient_left = gradients(prop, models, posterior(), lost, TIGHT)
    assert lines["structure"].tolist() == ["110"]
    np.testing.assert_allclose(gradient_left, gradient[:1], rtol=1e-5, atol=1e-8)
    without = {name: model for name, model in models.items() if name != "110"}
    lines, _ = gradients(prop, without, posterior(), expected, TIGHT)
    assert lines["structure"].tolist() == ["OS"]


def test_what_the_mle_lost_altogether_has_no_lines():
    prop, expected, _ = known("surface")
    lost = expected.assign(status="unstable", value=np.nan)
    lines, gradient = gradients(prop, {}, posterior(), lost, TIGHT)
    assert list(lines.columns) == list(found("surface")[0].columns)
    assert (len(lines), gradient.shape) == (0, (0, len(posterior().theta)))


# What posteriors make of them.

LINES = pd.DataFrame(
    {
        "property": "own",
        "structure": ["a", "a", "b", "b", "b"],
        "quantity": ["x", "y", "x", "curve", "curve"],
        "unit": ["eV", "GPa", "eV", "THz", "THz"],
        "coordinate": [np.nan, np.nan, np.nan, 0.0, 0.5],
        "value": [1.0, -2.0, 3.0, 0.5, 0.7],
    }
)
MANY, MEMBERS = 100_000, 50


def synthetic(kind: str):
    """A posterior of a few parameters, and gradients; one value depends on none of them."""
    rng = np.random.default_rng(4)
    theta, axes, gradient = rng.normal(size=6), rng.normal(size=(6, 4)), rng.normal(size=(5, 6))
    gradient[2] = 0
    rows = np.zeros(4, int)
    made = {
        "hypercube": lambda: Hypercube(theta, axes, -rng.uniform(0, 2, 4), rng.uniform(0, 1, 4), rows, rows),
        "gaussian": lambda: Gaussian(theta, axes),
        "ensemble": lambda: PopsEnsemble(theta, rng.normal(0.3, 1, (MANY, 6)), np.arange(MANY)),
    }
    return made[kind](), gradient


def drawn(kind: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Linear values of many members, and the closed form of them."""
    made, gradient = synthetic(kind)
    members = made.draw(MANY, "uniform", np.random.default_rng(5))
    values = LINES["value"].to_numpy() + (members - made.theta) @ gradient.T
    return values, analytic_bounds(LINES, gradient, made, MEMBERS)


@pytest.mark.parametrize("kind", ["hypercube", "gaussian", "ensemble"])
def test_mean_and_deviation_are_those_of_many_members(kind):
    values, bounds = drawn(kind)
    assert list(bounds.columns) == [
        "property",
        "structure",
        "quantity",
        "unit",
        "coordinate",
        "mean",
        "std",
        "low",
        "high",
    ]
    pd.testing.assert_frame_equal(bounds[list(LINES.columns[:-1])], LINES.drop(columns="value"))
    error = values.std(axis=0) / np.sqrt(MANY)
    assert (np.abs(bounds["mean"] - values.mean(axis=0)) <= 5 * error + 1e-9).all()
    np.testing.assert_allclose(bounds["std"], values.std(axis=0), rtol=0.015, atol=1e-9)
    # One rests on nothing that is uncertain.
    np.testing.assert_allclose(bounds.loc[2, ["mean", "std", "low", "high"]].astype(float), [3, 0, 3, 3], atol=1e-12)


@pytest.mark.parametrize("kind", ["hypercube", "ensemble"])
def test_extremes_enclose_every_member(kind):
    values, bounds = drawn(kind)
    low, high = (bounds[side].to_numpy() for side in ("low", "high"))
    assert (values.min(axis=0) >= low - 1e-12).all()
    assert (values.max(axis=0) <= high + 1e-12).all()
    # And no more than that: a member is near each corner.
    gap = {"hypercube": 0.15, "ensemble": 1e-12}[kind]
    assert (values.min(axis=0) - low <= gap * (high - low)).all()
    assert (high - values.max(axis=0) <= gap * (high - low)).all()


def test_extremes_of_a_gaussian_are_those_that_members_reach_on_average():
    values, bounds = drawn("gaussian")
    batches = values[: MANY // MEMBERS * MEMBERS].reshape(-1, MEMBERS, len(LINES))
    for side, reached in (("low", batches.min(axis=1)), ("high", batches.max(axis=1))):
        error = reached.std(axis=0) / np.sqrt(len(batches))
        assert (np.abs(bounds[side] - reached.mean(axis=0)) <= 5 * error + 1e-9).all()
    np.testing.assert_allclose(bounds["high"] - bounds["mean"], expected_reach(MEMBERS) * bounds["std"], atol=1e-12)


@pytest.mark.parametrize("kind", ["hypercube", "gaussian", "ensemble"])
def test_extreme_parameters_attain_the_extremes(kind):
    """Of single numbers, by name."""
    made, gradient = synthetic(kind)
    bounds = analytic_bounds(LINES, gradient, made, MEMBERS)
    extremes = extreme_parameters(LINES[:3], gradient[:3], made, MEMBERS)
    assert set(extremes) == {f"{name}_{side}" for name in ("a_x", "a_y", "b_x") for side in ("low", "high")}
    for number, name in enumerate(("a_x", "a_y", "b_x")):
        for side in ("low", "high"):
            theta = extremes[f"{name}_{side}"]
            assert theta.shape == made.theta.shape
            value = LINES["value"][number] + gradient[number] @ (theta - made.theta)
            assert value == pytest.approx(bounds[side][number], abs=1e-10)
    if kind == "hypercube":
        corner = np.linalg.lstsq(made.modes, extremes["a_x_high"] - made.theta, rcond=None)[0]
        assert (np.isclose(corner, made.low) | np.isclose(corner, made.high)).all()


def test_relaxed_values_at_the_extreme_parameters_are_near_the_extremes():
    """A small posterior, where the first order is all there is: a full relaxation there finds the bound."""
    prop, _, _ = known("surface")
    lines, gradient = found("surface")
    p, size = len(posterior().theta), 0.02
    rows = np.zeros(p, int)
    box = Hypercube(posterior().theta, posterior().factor, np.full(p, -size), np.full(p, size), rows, rows)
    bounds = analytic_bounds(lines, gradient, box, MEMBERS).iloc[0]
    width = bounds["high"] - bounds["low"]
    for side in ("low", "high"):
        theta = extreme_parameters(lines, gradient, box, MEMBERS)[f"100_surface_energy_{side}"]
        (value,) = prop.values(ColdPotential(SnapCalculator(FORM, theta), TIGHT))
        assert value.value == pytest.approx(bounds[side], abs=0.05 * width)


@pytest.mark.parametrize("name", ["sia", "neb"])
def test_gradients_survive_the_disk(name, tmp_path):
    """Single numbers and curves."""
    lines, gradient = found(name)
    write_gradients(tmp_path / "gradients.npz", lines, gradient)
    again, values = read_gradients(tmp_path / "gradients.npz")
    pd.testing.assert_frame_equal(again.astype(lines.dtypes), lines)
    np.testing.assert_array_equal(values, gradient)
    pd.testing.assert_frame_equal(
        analytic_bounds(again, values, posterior(), MEMBERS).astype({"property": lines["property"].dtype}),
        analytic_bounds(lines, gradient, posterior(), MEMBERS),
        check_dtype=False,
    )


def test_single_numbers_of_some_properties(tmp_path):
    files = []
    for name in ("sia", "neb", "surface"):
        files.append(tmp_path / f"{name}.npz")
        write_gradients(files[-1], *found(name))
    lines, gradient = single_numbers(files)
    assert lines["coordinate"].isna().all()
    assert lines["property"].tolist() == ["sia", "sia", "neb", "neb", "surface"]
    np.testing.assert_array_equal(gradient, np.vstack([found("sia")[1], found("neb")[1][-2:], found("surface")[1]]))


def test_no_lines_survive_the_disk(tmp_path):
    nothing = LINES.iloc[:0]
    write_gradients(tmp_path / "gradients.npz", nothing, np.zeros((0, 6)))
    again, values = read_gradients(tmp_path / "gradients.npz")
    assert list(again.columns) == list(LINES.columns)
    assert (len(again), values.shape) == (0, (0, 6))
    assert analytic_bounds(again, values, synthetic("gaussian")[0], MEMBERS).empty
