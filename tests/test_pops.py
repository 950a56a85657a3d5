"""POPS against dense linear algebra, an independent ridge, and its own identities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import BayesianRidge

from popsbounds.pops import accumulate, corrections, draw_members, fit_hypercube, fit_ridge, leverages

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


def dense(x, y, w, ratio):
    """Θ* and A⁻¹ the plain way, weights of mean one."""
    w = w / w.mean()
    scale = np.sqrt((w[:, None] * x**2).mean(axis=0))
    inverse = np.linalg.inv(x.T @ (w[:, None] * x) + ratio * np.diag(scale**2))
    return inverse @ (x.T @ (w * y)), inverse


def test_parameters_and_leverages_equal_dense_algebra(problem):
    x, y, w = problem
    ridge = fitted(x, y, w)
    theta, inverse = dense(x, y, w, ridge.ratio)
    np.testing.assert_allclose(ridge.theta, theta, rtol=1e-8)
    np.testing.assert_allclose(ridge.whitener @ ridge.whitener.T, inverse, rtol=1e-8, atol=1e-12 * inverse.max())
    np.testing.assert_allclose(leverages(ridge, x)[1], np.einsum("ij,jk,ik->i", x, inverse, x), rtol=1e-8)


def test_evidence_equals_sklearns(problem):
    x, y, _ = problem
    ridge = fitted(x, y, np.ones(N))
    standardised = x / ridge.scale
    rival = BayesianRidge(fit_intercept=False, alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, tol=1e-12, max_iter=10000)
    rival.fit(standardised, y)
    assert ridge.ratio == pytest.approx(rival.lambda_ / rival.alpha_, rel=1e-4)
    assert ridge.noise_precision == pytest.approx(rival.alpha_, rel=1e-4)
    np.testing.assert_allclose(ridge.theta * ridge.scale, rival.coef_, rtol=1e-5, atol=1e-8)


def test_pops_match_their_own_row_and_nothing_matches_it_at_less_loss(problem):
    x, y, w = problem
    ridge = fitted(x, y, w)
    delta, kept = corrections(ridge, x, y, 0.0)
    assert kept.all()
    thetas = ridge.theta + delta @ ridge.whitener.T
    np.testing.assert_allclose(np.einsum("ij,ij->i", x, thetas), y, rtol=0, atol=1e-10 * np.abs(y).max())

    # An independent constrained minimisation finds the same parameters.
    _, inverse = dense(x, y, w, ridge.ratio)
    root = np.linalg.cholesky(np.linalg.inv(inverse)).T
    row = 17
    found = minimize(
        lambda u: u @ u,
        np.zeros(P),
        jac=lambda u: 2 * u,
        constraints={"type": "eq", "fun": lambda u: x[row] @ (ridge.theta + np.linalg.solve(root, u)) - y[row]},
        tol=1e-14,
    )
    np.testing.assert_allclose(found.x @ found.x, np.sum(delta[row] ** 2), rtol=1e-6, err_msg="loss above the minimum")


def test_scale_of_weights_does_not_matter(problem):
    x, y, w = problem
    one, other = fitted(x, y, w), fitted(x, y, 1e4 * w)
    assert one.ratio == pytest.approx(other.ratio, rel=1e-6)
    np.testing.assert_allclose(one.theta, other.theta, rtol=1e-6)


def test_weight_two_is_two_rows_for_fixed_regularisation(problem):
    x, y, w = problem
    doubled = w.copy()
    doubled[:50] *= 2
    repeated = [np.concatenate([a, a[:50]]) for a in (x, y, w)]
    # The ratio is defined for weights of mean one: rescale it to the same absolute prior.
    ratio = 1e-3
    one = fitted(x, y, doubled, ratio=ratio)
    per_weight = one.ratio * doubled.sum() / N * (one.scale**2)
    other_scale = np.sqrt((repeated[2][:, None] * repeated[0] ** 2).sum(axis=0) / repeated[2].sum())
    per_row = repeated[2].sum() / len(repeated[1]) * other_scale**2
    other = fitted(*repeated, ratio=float(np.mean(per_weight / per_row)))
    np.testing.assert_allclose(one.theta, other.theta, rtol=1e-9)


@pytest.mark.parametrize("coordinates", ["raw", "standardised", "whitened"])
def test_box_holds_every_correction_and_touches_its_faces(problem, coordinates):
    x, y, w = problem
    ridge = fitted(x, y, w)
    box = fit_hypercube(in_blocks(x, y, w), ridge, coordinates)
    delta, _ = corrections(ridge, x, y, 0.0)
    raw = delta @ ridge.whitener.T
    along = np.linalg.lstsq(box.modes, raw.T, rcond=None)[0].T
    np.testing.assert_allclose(along.min(axis=0), box.low, rtol=1e-6, atol=1e-9 * np.abs(box.low).max())
    np.testing.assert_allclose(along.max(axis=0), box.high, rtol=1e-6, atol=1e-9 * np.abs(box.high).max())
    assert box.n_corrections == N

    # Axes: principal directions of the corrections in the coordinates asked for.
    to_raw = {"raw": np.eye(P), "standardised": np.diag(1 / ridge.scale), "whitened": ridge.whitener}[coordinates]
    there = np.linalg.solve(to_raw, box.modes)
    np.testing.assert_allclose(there.T @ there, np.eye(P), atol=1e-7)
    moment = np.linalg.solve(to_raw, raw.T) @ np.linalg.solve(to_raw, raw.T).T
    principal = there.T @ moment @ there
    np.testing.assert_allclose(principal, np.diag(np.diag(principal)), atol=1e-7 * principal.max())


def test_whitened_box_does_not_depend_on_feature_scale(problem):
    x, y, w = problem
    factors = np.logspace(3, -2, P)
    predictions = []
    for rows in (x, x * factors):
        ridge = fitted(rows, y, w)
        box = fit_hypercube(in_blocks(rows, y, w), ridge, "whitened")
        predictions.append(np.sort(np.abs(rows[:5] @ box.modes) @ (box.high - box.low)))
    np.testing.assert_allclose(*predictions, rtol=1e-6)


def test_block_size_does_not_matter(problem):
    x, y, w = problem
    ridge = fitted(x, y, w)
    boxes = [fit_hypercube(in_blocks(x, y, w, size), ridge) for size in (1, 37, N)]
    for box in boxes[1:]:
        np.testing.assert_allclose(box.high, boxes[0].high, rtol=1e-7)


def test_rows_below_the_leverage_floor_have_no_correction(problem):
    x, y, w = problem
    x[::10] *= 1e-3  # leverages go with the square
    ridge = fitted(x, y, w)
    relative = leverages(ridge, x)[1] / (ridge.effective_dimension / N)
    for floor in (0.0, 1e-9, 3e-6, 1e-3):
        box = fit_hypercube(in_blocks(x, y, w), ridge, leverage_floor=floor)
        assert box.n_skipped == (relative <= floor).sum()
    assert box.n_skipped >= N // 10
    assert (relative > 1e-9).all()


@pytest.mark.parametrize("sampling", ["uniform", "sobol", "latin_hypercube"])
def test_members_lie_in_the_box_and_fill_it(problem, sampling):
    x, y, w = problem
    ridge = fitted(x, y, w)
    box = fit_hypercube(in_blocks(x, y, w), ridge)
    members = draw_members(box, 600, sampling, np.random.default_rng(3))
    assert members.shape == (600, P)
    unit = (np.linalg.lstsq(box.modes, (members - box.theta).T, rcond=None)[0].T - box.low) / (box.high - box.low)
    assert unit.min() > -1e-6
    assert unit.max() < 1 + 1e-6
    np.testing.assert_allclose(unit.mean(axis=0), 0.5, atol=0.06)
    np.testing.assert_allclose(unit.std(axis=0), 12**-0.5, atol=0.03)
    np.testing.assert_array_equal(members, draw_members(box, 600, sampling, np.random.default_rng(3)))


def test_bad_rows_are_refused(problem):
    x, y, w = problem
    x[3, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        accumulate(in_blocks(x, y, w), np.zeros(P))
    with pytest.raises(ValueError, match="no rows"):
        accumulate(lambda: iter(()), np.zeros(P))
