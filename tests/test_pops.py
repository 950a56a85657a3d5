"""POPS against an independent dense implementation, rival libraries, and its own identities."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.optimize import minimize
from scipy.stats import kstest, norm
from sklearn.linear_model import BayesianRidge
from sklearn.utils.estimator_checks import check_estimator

from popsbounds.pops import (
    Corrections,
    EnsembleRecipe,
    Gaussian,
    GaussianRecipe,
    Hypercube,
    HypercubeRecipe,
    PopsEnsemble,
    POPSRegression,
    accumulate,
    accumulate_corrections,
    accumulate_extremes,
    axes_of,
    expected_reach,
    factor_of,
    fit_posterior,
    fit_ridge,
    second_pass,
    whiten,
)

N, P = 400, 12


@pytest.fixture
def problem():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(N, P)) * np.logspace(-3, 2, P)
    # A cubic term that the linear model cannot follow: misspecified.
    y = x @ rng.normal(size=P) + 0.05 * x[:, -1] ** 3 / 1e4 + 0.3
    w = rng.uniform(0.2, 3.0, size=N)
    return x, y, w


def in_blocks(x, y, w, size=64):
    return lambda: ((x[i : i + size], y[i : i + size], w[i : i + size]) for i in range(0, len(y), size))


def fitted(x, y, w, **options):
    return fit_ridge(accumulate(in_blocks(x, y, w), np.zeros(x.shape[1])), **options)


def corrections(ridge, x, y, w, leverage_floor=0.0):
    """Of each row that has one, in whitened coordinates; and which rows those are."""
    z, residual = x @ ridge.factor, y - x @ ridge.theta
    leverage = (z**2).sum(axis=1)
    kept = w * leverage > leverage_floor * np.mean(w * leverage)
    return z[kept] * (residual[kept] / leverage[kept])[:, None], kept


def posterior(problem, recipe, size=64):
    return fit_posterior(in_blocks(*problem, size), fitted(*problem), recipe)


class Dense:
    """POPS the plain way, everything in memory, raw parameters throughout."""

    def __init__(self, x, y, w, rho):
        w = w / w.sum()
        self.scale = np.sqrt((w[:, None] * x**2).sum(axis=0))
        a = x.T @ (w[:, None] * x) + rho * np.diag(self.scale**2)
        self.inverse = np.linalg.inv(a)
        self.root = np.linalg.cholesky(a).T
        self.theta = np.linalg.solve(a, x.T @ (w * y))
        self.leverage = np.einsum("ij,jk,ik->i", x, self.inverse, x)
        self.residual = y - x @ self.theta
        self.corrections = (self.residual / self.leverage)[:, None] * (x @ self.inverse)

    def axes(self, coordinates):
        """Modes in raw parameters (columns), and the corrections along them."""
        to = {"raw": np.eye(P), "standardised": np.diag(self.scale), "whitened": self.root}[coordinates]
        there = self.corrections @ to.T
        vectors = np.linalg.svd(there, full_matrices=False)[2].T
        return np.linalg.solve(to, vectors), there @ vectors


def test_fit_equals_dense_algebra(problem):
    x, y, w = problem
    ridge = fitted(x, y, w)
    dense = Dense(x, y, w, ridge.regularisation)
    np.testing.assert_allclose(ridge.theta, dense.theta, rtol=1e-8)
    np.testing.assert_allclose(
        ridge.factor @ ridge.factor.T, dense.inverse, rtol=1e-8, atol=1e-12 * dense.inverse.max()
    )
    np.testing.assert_array_equal(ridge.factor, np.triu(ridge.factor))
    found = accumulate_corrections(in_blocks(x, y, w), ridge, leverage_floor=0.0)
    np.testing.assert_allclose(found.leverage, dense.leverage, rtol=1e-7)
    np.testing.assert_allclose(found.residual, dense.residual, atol=1e-9 * np.abs(y).max())
    moment = ridge.factor @ found.second_moment @ ridge.factor.T
    np.testing.assert_allclose(moment, dense.corrections.T @ dense.corrections, rtol=1e-6, atol=1e-9 * moment.max())


def test_principal_components_are_those_of_a_fit_to_projected_features(problem):
    x, y, w = problem
    n = P // 2
    x = np.column_stack([np.ones(N), x + 3 * x.std(axis=0)])
    ridge = fitted(x, y, w, regularisation=1e-9, components=n, constants=[0])
    centred = x[:, 1:] - np.average(x[:, 1:], axis=0, weights=w)
    deviation = np.sqrt(np.average(centred**2, axis=0, weights=w))
    axes = np.linalg.svd(np.sqrt(w)[:, None] * centred / deviation, full_matrices=False)[2][:n].T
    projected = np.column_stack([np.ones(N), centred / deviation @ axes])
    inverse = np.linalg.inv(projected.T @ (w[:, None] * projected) / w.sum())
    theta = inverse @ projected.T @ (w * y) / w.sum()
    np.testing.assert_allclose(x @ ridge.theta, projected @ theta, rtol=1e-5, atol=1e-6 * np.abs(y).max())
    found = accumulate_corrections(in_blocks(x, y, w), ridge, leverage_floor=0.0)
    leverage = np.einsum("ij,jk,ik->i", projected, inverse, projected)
    np.testing.assert_allclose(found.leverage, leverage, rtol=1e-5, atol=1e-8)
    members = fit_posterior(in_blocks(x, y, w), ridge, GaussianRecipe()).draw(20, "uniform", np.random.default_rng(1))
    moved = (members - ridge.theta)[:, 1:] * deviation
    assert np.abs(moved - moved @ axes @ axes.T).max() < 1e-4 * np.abs(moved).max()
    assert ridge.n_free == n + 1


def test_whitening_equals_a_full_product(problem):
    x, y, w = problem
    ridge = fitted(x, y, w)
    np.testing.assert_allclose(whiten(x, ridge.factor), x @ ridge.factor, rtol=1e-12, atol=1e-12)


def test_evidence_equals_sklearns(problem):
    x, y, _ = problem
    ridge = fitted(x, y, np.ones(N))
    standardised = x / ridge.scale
    rival = BayesianRidge(fit_intercept=False, alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, tol=1e-12, max_iter=10000)
    rival.fit(standardised, y)
    assert ridge.ratio == pytest.approx(rival.lambda_ / rival.alpha_, rel=1e-4)
    assert ridge.noise_precision == pytest.approx(rival.alpha_, rel=1e-4)
    np.testing.assert_allclose(ridge.theta * ridge.scale, rival.coef_, rtol=1e-5, atol=1e-8)
    covariance = ridge.epistemic_factor @ ridge.epistemic_factor.T * np.outer(ridge.scale, ridge.scale)
    np.testing.assert_allclose(covariance, rival.sigma_, rtol=1e-3, atol=1e-6 * rival.sigma_.max())


def test_pops_match_their_own_row_and_nothing_matches_it_at_less_loss(problem):
    x, y, w = problem
    ridge = fitted(x, y, w)
    delta, kept = corrections(ridge, x, y, w)
    assert kept.all()
    thetas = ridge.theta + delta @ ridge.factor.T
    np.testing.assert_allclose(np.einsum("ij,ij->i", x, thetas), y, rtol=0, atol=1e-10 * np.abs(y).max())

    # An independent constrained minimisation finds the same parameters.
    dense = Dense(x, y, w, ridge.regularisation)
    row = 17
    found = minimize(
        lambda u: u @ u,
        np.zeros(P),
        jac=lambda u: 2 * u,
        constraints={
            "type": "eq",
            "fun": lambda u: x[row] @ (ridge.theta + np.linalg.solve(dense.root, u)) - y[row],
        },
        tol=1e-14,
    )
    np.testing.assert_allclose(found.x @ found.x, np.sum(delta[row] ** 2), rtol=1e-6, err_msg="loss above the minimum")


def test_leave_one_out_residuals_are_those_of_fits_without_the_row(problem):
    x, y, w = problem
    ridge = fitted(x, y, w, regularisation=1e-13)
    found = accumulate_corrections(in_blocks(x, y, w), ridge, leave_one_out=True)
    for row in (0, 123, 399):
        rest = np.arange(N) != row
        without = fitted(x[rest], y[rest], w[rest], regularisation=1e-13)
        assert found.residual[row] == pytest.approx(y[row] - x[row] @ without.theta, rel=1e-6)


def test_sums_over_shards_add(problem):
    x, y, w = problem
    halves = [tuple(a[part] for a in problem) for part in (slice(0, 130), slice(130, N))]
    halves.append(tuple(a[:0] for a in problem))  # a shard may have no training rows
    moments = [accumulate(in_blocks(*half), np.zeros(P)) for half in halves]
    ridge, other = fit_ridge(moments[0] + moments[1] + moments[2]), fitted(x, y, w)
    np.testing.assert_allclose(ridge.theta, other.theta, rtol=1e-7)
    for recipe in (HypercubeRecipe(), GaussianRecipe(), EnsembleRecipe(50, seed=3)):
        parts = [second_pass(in_blocks(*half), ridge, recipe) for half in halves]
        found = parts[0] + parts[1] + parts[2]
        assert isinstance(found, Corrections)
        assert len(found.leverage) == N
        prepared = recipe.prepare(ridge, found)
        measured = [
            recipe.measure(in_blocks(*half), first, part, prepared)
            for half, first, part in zip(halves, (0, 130, N), parts, strict=True)
        ]
        spread = recipe.finish(ridge, prepared, measured)
        whole = fit_posterior(in_blocks(x, y, w), ridge, recipe)
        np.testing.assert_allclose(spread.moments(x[:9])[1], whole.moments(x[:9])[1], rtol=1e-9)
        for name in {"low_row", "high_row", "rows"} & set(vars(whole)):
            np.testing.assert_array_equal(getattr(spread, name), getattr(whole, name))
    with pytest.raises(ValueError, match="prior means"):
        moments[0] + accumulate(in_blocks(x, y, w), np.ones(P))


def test_scale_of_weights_does_not_matter(problem):
    x, y, w = problem
    one, other = fitted(x, y, w), fitted(x, y, 1e4 * w)
    assert one.regularisation == pytest.approx(other.regularisation, rel=1e-6)
    np.testing.assert_allclose(one.theta, other.theta, rtol=1e-6)
    for recipe in (HypercubeRecipe(), GaussianRecipe()):
        spreads = [posterior((x, y, c * w), recipe).moments(x[:20])[1] for c in (1, 1e4)]
        np.testing.assert_allclose(*spreads, rtol=1e-6)


def test_weight_two_is_two_rows(problem):
    x, y, w = problem
    doubled = w.copy()
    doubled[:50] *= 2
    repeated = tuple(np.concatenate([a, a[:50]]) for a in (x, y, w))
    one, other = fitted(x, y, doubled, regularisation=1e-6), fitted(*repeated, regularisation=1e-6)
    np.testing.assert_allclose(one.theta, other.theta, rtol=1e-9)
    # So do a Gaussian posterior's moments, before rows are counted for its width.
    moments = [
        factor_of(ridge, second_pass(in_blocks(*rows), ridge, GaussianRecipe(weight_power=1.0)))
        for ridge, rows in ((one, (x, y, doubled)), (other, repeated))
    ]
    shapes = [np.linalg.norm(x[:20] @ factor, axis=1) for factor in moments]
    np.testing.assert_allclose(shapes[0] / shapes[0][0], shapes[1] / shapes[1][0], rtol=1e-6)


@pytest.mark.parametrize("coordinates", ["raw", "standardised", "whitened"])
def test_box_equals_dense_algebra_and_holds_every_correction(problem, coordinates):
    x, y, w = problem
    ridge = fitted(x, y, w)
    box = fit_posterior(in_blocks(x, y, w), ridge, HypercubeRecipe(coordinates, leverage_floor=0.0))
    modes, along = Dense(x, y, w, ridge.regularisation).axes(coordinates)
    signs = np.sign(np.sum(modes * box.modes, axis=0))
    largest = np.abs(modes).max(axis=0)
    np.testing.assert_allclose(box.modes / largest, modes * signs / largest, atol=1e-6)
    extremes = np.sort([signs * along.min(axis=0), signs * along.max(axis=0)], axis=0)
    np.testing.assert_allclose(box.low, extremes[0], rtol=1e-6)
    np.testing.assert_allclose(box.high, extremes[1], rtol=1e-6)


def test_whitened_box_does_not_depend_on_feature_scale(problem):
    x, y, w = problem
    predictions = []
    for rows in (x, x * np.logspace(3, -2, P)):
        box = posterior((rows, y, w), HypercubeRecipe("whitened"))
        predictions.append(np.sort(np.abs(rows[:5] @ box.modes) @ (box.high - box.low)))
    np.testing.assert_allclose(*predictions, rtol=1e-6)


def test_block_size_does_not_matter(problem):
    boxes = [posterior(problem, HypercubeRecipe(), size) for size in (1, 37, N)]
    for box in boxes[1:]:
        np.testing.assert_allclose(box.high, boxes[0].high, rtol=1e-7)
        np.testing.assert_array_equal(box.high_row, boxes[0].high_row)
        np.testing.assert_array_equal(box.low_row, boxes[0].low_row)


def test_the_rows_that_set_a_box_are_known(problem):
    x, y, w = problem
    ridge = fitted(x, y, w)
    box = fit_posterior(in_blocks(x, y, w), ridge, HypercubeRecipe(leverage_floor=0.0))
    along = np.linalg.solve(box.modes, Dense(x, y, w, ridge.regularisation).corrections.T).T
    np.testing.assert_array_equal(box.low_row, along.argmin(axis=0))
    np.testing.assert_array_equal(box.high_row, along.argmax(axis=0))
    ensemble = fit_posterior(in_blocks(x, y, w), ridge, EnsembleRecipe(20))
    matched = np.einsum("ij,ij->i", x[ensemble.rows], ridge.theta + ensemble.corrections)
    np.testing.assert_allclose(matched, y[ensemble.rows], atol=1e-9 * np.abs(y).max())
    for found in (box, ensemble):
        for name in {"low_row", "high_row", "rows"} & set(vars(found)):
            np.testing.assert_array_equal(getattr(found.scaled(2.0), name), getattr(found, name))


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_of_equal_extremes_the_first_row_counts(size):
    """Whole numbers, so that equal is equal: rows 1 and 4 share the highest, none is below Θ* along the second axis."""
    x = np.array([[1.0, 0], [3, 2], [-2, 1], [-2, 2], [3, 0], [9, 9]])
    stretch = np.array([1.0, 1, 1, 1, 1, 0])  # the last row has no correction
    expected = ([-2, 0], [3, 2], [2, -1], [1, 1])
    whole = accumulate_extremes(in_blocks(x, stretch, stretch, size), stretch, np.eye(2))
    for found, wanted in zip(whole, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    # As parts of the rows, measured apart.
    recipe, parts = HypercubeRecipe(), []
    prepared = {"modes": np.eye(2), "directions": np.eye(2)}
    for part in (slice(0, size), slice(size, 6)):
        rows = tuple(a[part] for a in (x, stretch, stretch))
        some = Corrections(np.zeros((2, 2)), stretch[part], np.ones(len(rows[0])), stretch[part] != 0)
        parts.append(recipe.measure(in_blocks(*rows), part.start, some, prepared))
    box = recipe.finish(fitted(x, stretch, np.ones(6)), prepared, parts)
    for name, wanted in zip(("low", "high", "low_row", "high_row"), expected, strict=True):
        np.testing.assert_array_equal(getattr(box, name), wanted)


def test_rows_below_the_leverage_floor_have_no_correction(problem):
    x, y, w = problem
    x[::10] *= 1e-3  # leverages go with the square
    ridge = fitted(x, y, w)
    mean = np.mean(w * accumulate_corrections(in_blocks(x, y, w), ridge).leverage)
    for floor in (0.0, 1e-9, 3e-6, 1e-3):
        found = accumulate_corrections(in_blocks(x, y, w), ridge, floor)
        np.testing.assert_array_equal(found.kept, w * found.leverage > floor * mean)
        np.testing.assert_array_equal(corrections(ridge, x, y, w, floor)[1], found.kept)
        assert not found.stretch[~found.kept].any()
    assert (~found.kept).sum() >= N // 10
    with pytest.raises(ValueError, match="enough leverage"):
        fit_posterior(in_blocks(0 * x, y, w), ridge, HypercubeRecipe())


def test_gaussian_is_as_wide_as_the_residuals_ask(problem):
    x, y, w = problem
    residual = np.abs(y - x @ fitted(x, y, w).theta)
    for power, weight_power in ((2.0, 0.0), (1.5, 0.8)):
        recipe = GaussianRecipe(power, weight_power, violation=0.1)
        outside = residual > 3 * posterior(problem, recipe).moments(x)[1]
        assert outside.mean() == pytest.approx(0.1, abs=0.01)
        spread = posterior(problem, GaussianRecipe(power, weight_power, violation=None)).moments(x)[1]
        assert np.mean((residual / spread) ** 2) == pytest.approx(1)


def test_gaussian_has_the_moment_of_the_corrections_tempered_and_weighted(problem):
    x, y, w = problem
    ridge = fitted(x, y, w)
    dense = Dense(x, y, w, ridge.regularisation)
    for power, weight_power in ((2.0, 0.0), (1.5, 0.8)):
        found = accumulate_corrections(in_blocks(x, y, w), ridge, 0.0, power, weight_power)
        factor = factor_of(ridge, found)
        rows = w[:, None] ** (weight_power / 2) * dense.corrections * dense.leverage[:, None] ** (1 - power / 2)
        expected = rows.T @ rows / N
        np.testing.assert_allclose(factor @ factor.T, expected, rtol=1e-5, atol=1e-8 * expected.max())


POSTERIORS = [HypercubeRecipe(), GaussianRecipe(), EnsembleRecipe(N)]


@pytest.mark.parametrize("recipe", POSTERIORS, ids=lambda r: type(r).__name__)
def test_closed_form_moments_and_bounds_are_those_of_many_members(problem, recipe):
    x, _, _ = problem
    found = posterior(problem, recipe)
    n = N if isinstance(found, PopsEnsemble) else 40000
    values = x[:15] @ found.draw(n, "uniform", np.random.default_rng(1)).T
    mean, std = found.moments(x[:15])
    low, high = found.bounds(x[:15])
    np.testing.assert_allclose(values.mean(axis=1), mean, atol=0.03 * std.max())
    np.testing.assert_allclose(values.std(axis=1), std, rtol=0.03)
    assert (values >= low[:, None] - 1e-9).all()
    assert (values <= high[:, None] + 1e-9).all()
    if isinstance(found, Hypercube):
        # Reached in a corner.
        corner = np.where(x[0] @ found.modes > 0, found.high, found.low)
        assert x[0] @ (found.theta + found.modes @ corner) == pytest.approx(high[0])
    if isinstance(found, PopsEnsemble):
        np.testing.assert_allclose(values.max(axis=1), high)
    stretched = found.scaled(2.0).moments(x[:15])
    np.testing.assert_allclose(stretched[1], 2 * std)
    np.testing.assert_allclose(stretched[0] - x[:15] @ found.theta, 2 * (mean - x[:15] @ found.theta))


@pytest.mark.parametrize("recipe", POSTERIORS, ids=lambda r: type(r).__name__)
def test_extremes_attain_the_bounds(problem, recipe):
    x, _, _ = problem
    found = posterior(problem, recipe)
    gradient = np.vstack([x[:15], np.zeros(P)])
    for n_members in (1, 500):
        bounds, extremes = found.bounds(gradient, n_members), found.extremes(gradient, n_members)
        size = np.abs(gradient @ found.theta).max()
        for bound, theta in zip(bounds, extremes, strict=True):
            assert theta.shape == gradient.shape
            np.testing.assert_allclose(np.einsum("ij,ij->i", gradient, theta), bound, rtol=1e-9, atol=1e-9 * size)
    low, high = extremes
    if isinstance(found, Gaussian):
        np.testing.assert_array_equal(low[-1], found.theta)
        assert np.isinf(found.bounds(gradient[:1])[1]).all()
        with pytest.raises(ValueError, match="without a number of members"):
            found.extremes(gradient)
        # Any other parameters with the same value are less likely.
        g = gradient[0]
        other = high[0] - found.theta + 0.1 * found.factor @ np.random.default_rng(0).normal(size=P)
        other *= (high[0] - found.theta) @ g / (other @ g)
        distances = [np.linalg.norm(np.linalg.solve(found.factor, d)) for d in (high[0] - found.theta, other)]
        assert distances[0] == pytest.approx(expected_reach(500))
        assert distances[0] < distances[1]
    else:
        # Neither knows of a number of members.
        np.testing.assert_array_equal(found.bounds(gradient), bounds)
        np.testing.assert_array_equal(found.extremes(gradient), extremes)


@pytest.mark.parametrize("recipe", POSTERIORS, ids=lambda r: type(r).__name__)
def test_spread_is_a_factor_of_the_covariance(problem, recipe):
    x, _, _ = problem
    found = posterior(problem, recipe)
    spread = found.spread()
    np.testing.assert_allclose(np.linalg.norm(x[:15] @ spread, axis=1), found.moments(x[:15])[1], rtol=1e-9)
    if isinstance(found, PopsEnsemble):
        covariance = np.cov(found.corrections.T, ddof=0)
        np.testing.assert_allclose(spread @ spread.T, covariance, rtol=1e-8, atol=1e-12 * covariance.max())


def test_box_in_closed_form_equals_its_corners_and_many_members(problem):
    x, y, w = problem
    x = x[:, -7:]
    box = fit_posterior(in_blocks(x, y, w), fitted(x, y, w), HypercubeRecipe())
    corners = np.array(list(product(*zip(box.low, box.high, strict=True))))
    at_corners = x[:20] @ (box.theta + corners @ box.modes.T).T
    low, high = box.bounds(x[:20])
    np.testing.assert_allclose(low, at_corners.min(axis=1))
    np.testing.assert_allclose(high, at_corners.max(axis=1))
    for thetas, corner in zip(
        box.extremes(x[:20]), (at_corners.argmin(axis=1), at_corners.argmax(axis=1)), strict=True
    ):
        np.testing.assert_allclose(thetas, box.theta + corners[corner] @ box.modes.T)
    members = x[:20] @ box.draw(10**5, "uniform", np.random.default_rng(0)).T
    mean, std = box.moments(x[:20])
    # A standard deviation is known to 1/√(2M) of itself or better; five of those.
    np.testing.assert_allclose(members.std(axis=1), std, rtol=5 / np.sqrt(2e5))
    assert (np.abs(members.mean(axis=1) - mean) < 5 * std / np.sqrt(1e5)).all()
    assert (members >= low[:, None]).all()
    assert (members <= high[:, None]).all()


def test_reach_of_normal_numbers():
    """Against closed forms, another integral and random numbers."""
    exact = [0, 1 / np.sqrt(np.pi), 1.5 / np.sqrt(np.pi), 3 / np.sqrt(np.pi) * (0.5 + np.arcsin(1 / 3) / np.pi)]
    np.testing.assert_allclose([expected_reach(m) for m in (1, 2, 3, 4)], exact, atol=1e-9)
    t = np.linspace(-12, 12, 200001)
    for m in (10, 500, 10**6):
        below = norm.cdf(t) ** m
        assert expected_reach(m) == pytest.approx(trapezoid((t > 0) - below, t), abs=1e-4)
    drawn = np.random.default_rng(0).normal(size=(20000, 500)).max(axis=1)
    assert expected_reach(500) == pytest.approx(drawn.mean(), abs=4 * drawn.std() / np.sqrt(20000))
    with pytest.raises(ValueError, match="0 members"):
        expected_reach(0)


@pytest.mark.parametrize("sampling", ["uniform", "sobol", "latin_hypercube"])
def test_members_fill_their_distribution(problem, sampling):
    box, normal = posterior(problem, HypercubeRecipe()), posterior(problem, GaussianRecipe())
    for found, to_unit in ((box, None), (normal, norm.cdf)):
        members = found.draw(600, sampling, np.random.default_rng(3))
        assert members.shape == (600, P)
        np.testing.assert_array_equal(members, found.draw(600, sampling, np.random.default_rng(3)))
        basis = box.modes if to_unit is None else normal.factor
        along = np.linalg.lstsq(basis, (members - found.theta).T, rcond=None)[0].T
        unit = (along - box.low) / (box.high - box.low) if to_unit is None else to_unit(along)
        assert unit.min() > -1e-6
        assert unit.max() < 1 + 1e-6
        assert all(kstest(column, "uniform").pvalue > 1e-4 for column in unit.T)
    with pytest.raises(ValueError, match="unknown sampling 'grid'"):
        box.draw(5, "grid", np.random.default_rng(0))


def test_raw_ensemble_draws_the_pointwise_optima(problem):
    x, y, _ = problem
    ensemble = posterior(problem, EnsembleRecipe(30, seed=1))
    members = ensemble.draw(30, "uniform", np.random.default_rng(0))
    matched = np.abs(x @ members.T - y[:, None]) < 1e-8 * np.abs(y).max()
    assert matched.any(axis=0).all()
    for sampling, number, message in (("sobol", 5, "use 'uniform'"), ("uniform", 31, "31 members asked for, 30")):
        with pytest.raises(ValueError, match=message):
            ensemble.draw(number, sampling, np.random.default_rng(0))


def test_signs_of_eigenvectors_do_not_decide_the_members(problem, monkeypatch):
    plain = posterior(problem, GaussianRecipe()).draw(5, "uniform", np.random.default_rng(0))
    eigh = np.linalg.eigh

    def flipped(matrix):
        values, vectors = eigh(matrix)
        return values, vectors * np.where(np.arange(len(values)) % 2, -1, 1)

    monkeypatch.setattr(np.linalg, "eigh", flipped)
    other = posterior(problem, GaussianRecipe()).draw(5, "uniform", np.random.default_rng(0))
    np.testing.assert_allclose(other, plain, rtol=1e-6)


@pytest.mark.parametrize("recipe", [HypercubeRecipe(), GaussianRecipe()], ids=lambda r: type(r).__name__)
def test_no_error_no_spread(problem, recipe):
    x, _, w = problem
    found = posterior((x, np.zeros(N), w), recipe)
    np.testing.assert_array_equal(found.moments(x)[1], 0)


def test_unknown_coordinates(problem):
    ridge = fitted(*problem)
    found = accumulate_corrections(in_blocks(*problem), ridge)
    with pytest.raises(ValueError, match="unknown coordinates 'polar'; known: raw, standardised, whitened"):
        axes_of(ridge, found, "polar")


def test_bad_rows_are_refused(problem):
    x, y, w = problem
    x[3, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        accumulate(in_blocks(x, y, w), np.zeros(P))
    with pytest.raises(ValueError, match="no rows"):
        fit_ridge(accumulate(lambda: iter(()), np.zeros(P)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regularisation": "evidance"}, "regularisation 'evidance' is neither a positive number nor 'evidence'"),
        ({"regularisation": 0.0}, "regularisation 0.0 is neither"),
        ({"regularisation": -1e-8}, "regularisation -1e-08 is neither"),
        ({"regularisation": np.nan}, "regularisation nan is neither"),
        ({"components": 0}, "0 components: give one at least"),
        ({"components": -2}, "-2 components: give one at least"),
    ],
)
def test_impossible_settings_are_refused(problem, arguments, message):
    with pytest.raises(ValueError, match=message):
        fitted(*problem, **arguments)
    with pytest.raises(ValueError, match=message):
        POPSRegression(**arguments).fit(*problem)


def test_caveats(problem):
    x, y, w = problem
    assert fitted(x, y, w).caveats() == []
    (dependent,) = fitted(np.column_stack([x, x[:, 0] + x[:, 1]]), y, w).caveats()
    assert "rank 12" in dependent
    (few,) = fitted(x[:60], y[:60], w[:60]).caveats()
    assert "N/P = 5.0" in few
    (exact,) = fitted(x, x @ np.arange(P), w).caveats()
    assert "not misspecified" in exact


def test_pytorch_gives_the_same(problem):
    torch = pytest.importorskip("torch", reason="PyTorch is optional: it runs the passes on a GPU")
    tensors = tuple(torch.asarray(a) for a in problem)
    ridges = [fitted(*rows) for rows in (problem, tensors)]
    np.testing.assert_allclose(ridges[1].theta, ridges[0].theta, rtol=1e-8)
    for recipe in (HypercubeRecipe(), GaussianRecipe(), EnsembleRecipe(40)):
        found = [fit_posterior(in_blocks(*rows), ridges[0], recipe) for rows in (problem, tensors)]
        for ours, theirs in zip(*(f.moments(problem[0][:20]) for f in found), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-8)


@pytest.mark.parametrize("kind", ["hypercube", "gaussian", "ensemble"])
def test_estimator_keeps_scikit_learns_rules(kind):
    check_estimator(POPSRegression(posterior=kind, n_members=20))


def test_estimator_uses_the_same_core(problem):
    x, y, w = problem
    model = POPSRegression(fit_intercept=False, random_state=4, n_members=50).fit(x, y, w)
    ridge = fitted(x, y, w, regularisation=model.regularisation)
    box = fit_posterior(in_blocks(x, y, w), ridge, HypercubeRecipe())
    mean, std, low, high, epistemic = model.predict(
        x[:30], return_std=True, return_bounds=True, return_epistemic_std=True
    )
    np.testing.assert_allclose(mean, x[:30] @ ridge.theta)
    np.testing.assert_allclose(std, box.moments(x[:30])[1], rtol=1e-8)
    values = x[:30] @ model.members_.T
    np.testing.assert_allclose(low, values.min(axis=1))
    np.testing.assert_allclose(high, values.max(axis=1))
    np.testing.assert_allclose(epistemic, np.linalg.norm(x[:30] @ ridge.epistemic_factor, axis=1))
    again = POPSRegression(fit_intercept=False, random_state=4, n_members=50).fit(x, y, w)
    np.testing.assert_array_equal(model.members_, again.members_)


def test_estimator_brackets_what_bayesian_ridge_does_not():
    """A cubic fitted by a line: the posterior of Bayesian ridge shrinks with data, that of POPS does not."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, size=5000)
    x, y = t[:, None], t + t**3
    model = POPSRegression(random_state=0).fit(x, y)
    mean, low, high = model.predict(x, return_bounds=True)
    assert np.mean((y < low) | (y > high)) < 0.1
    _, epistemic = model.predict(x, return_epistemic_std=True)
    assert np.mean(np.abs(y - mean) > 3 * epistemic) > 0.8
    assert isinstance(POPSRegression(posterior="gaussian").fit(x, y).posterior_, Gaussian)
