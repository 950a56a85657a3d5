"""POPS: pointwise optimal parameter sets for misspecified linear regression.

Pure linear algebra on blocks of rows; knows nothing of atoms or files, and is
usable alone. The design matrix is only ever seen block by block, so memory is
O(P² + block) whatever the number of rows N.

Source: Perez, Subramanyam, Maliyov & Swinburne, npj Comput. Mater. 11, 263
(2025); Swinburne & Perez, Mach. Learn.: Sci. Technol. 6, 015008 (2025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar
from scipy.stats import qmc

__all__ = [
    "Hypercube",
    "Moments",
    "Ridge",
    "accumulate",
    "corrections",
    "draw_members",
    "fit_hypercube",
    "fit_ridge",
    "leverages",
]

Block = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows X (n, P), labels y (n,) and positive weights w (n,)."""
Blocks = Callable[[], Iterable[Block]]
"""Starts a pass over the rows."""


@dataclass
class Moments:
    """Weighted sums that the ridge regression needs.

    Attributes
    ----------
    gram : ndarray, shape (P, P)
        Xᵀ W X.
    moment : ndarray, shape (P,)
        Xᵀ W y.
    label_square : float
        yᵀ W y.
    n_rows : int
    weight : float
        Sum of the weights.
    prior_mean : ndarray, shape (P,)
        Centre of the prior Θ₀; y above stands for y − X Θ₀.
    """

    gram: np.ndarray
    moment: np.ndarray
    label_square: float
    n_rows: int
    weight: float
    prior_mean: np.ndarray


def accumulate(blocks: Blocks, prior_mean: np.ndarray) -> Moments:
    """Sum the weighted moments over all blocks, in their order.

    Parameters
    ----------
    blocks
        Starts a pass over the rows.
    prior_mean
        Centre of the prior, shape (P,). What it predicts is taken off the
        labels row by row: large constants, such as all-electron energies,
        then cost no digits.

    Raises
    ------
    ValueError
        There is no row, or a row is not finite.
    """
    p = len(prior_mean)
    total = Moments(np.zeros((p, p)), np.zeros(p), 0.0, 0, 0.0, prior_mean)
    for x, labels, w in blocks():
        y = labels - x @ prior_mean
        scaled = np.sqrt(w)[:, None] * x
        total.gram += scaled.T @ scaled
        total.moment += x.T @ (w * y)
        total.label_square += float(y @ (w * y))
        total.n_rows += len(y)
        total.weight += float(w.sum())
    if total.n_rows == 0:
        raise ValueError("no rows to fit")
    if not (np.isfinite(total.gram).all() and np.isfinite(total.label_square)):
        raise ValueError("rows or labels are not finite")
    return total


@dataclass
class Ridge:
    """Weighted Bayesian ridge regression, A = Xᵀ W X + (λ/α) S², S the features' RMS.

    Attributes
    ----------
    theta : ndarray, shape (P,)
        Loss-minimising parameters Θ*.
    whitener : ndarray, shape (P, P)
        T with T Tᵀ = A⁻¹; rows in whitened coordinates are z = x T.
    scale : ndarray, shape (P,)
        Weighted RMS S of the features (1 for features that vanish).
    ratio : float
        λ/α, prior to noise precision, in standardised features.
    noise_precision : float
        α for rows of unit weight.
    effective_dimension : float
        γ = Σ Λ/(Λ + λ/α), the number of well-determined parameters.
    condition_number : float
        Of Xᵀ W X in standardised features.
    rank : int
        Number of eigenvalues above rounding.
    weighted_rms : float
        Weighted RMS residual over the rows.
    n_rows : int
        Rows it was fitted to.
    """

    theta: np.ndarray
    whitener: np.ndarray
    scale: np.ndarray
    ratio: float
    noise_precision: float
    effective_dimension: float
    condition_number: float
    rank: int
    weighted_rms: float
    n_rows: int


def fit_ridge(moments: Moments, ratio: float | None = None) -> Ridge:
    """Fit Θ* with a Gaussian prior.

    The ratio λ/α maximises the evidence, which depends on the rows through the
    eigenvalues of the Gram matrix alone (MacKay, Neural Comput. 4, 415, 1992),
    with the noise precision at its own optimum.

    Parameters
    ----------
    moments
        Weighted sums over the rows.
    ratio
        Fixed λ/α; None maximises the evidence.
    """
    gram, p = moments.gram, len(moments.gram)
    rms = np.sqrt(np.diag(gram) / moments.weight)
    scale = np.where(rms > 0, rms, 1.0)
    # Weights are only meaningful relative to each other: divide by their mean.
    unit = moments.n_rows / moments.weight
    eigenvalues, vectors = eigh(gram * unit / np.outer(scale, scale))
    smallest = eigenvalues[-1] * p * np.finfo(float).eps
    rank = int((eigenvalues > smallest).sum())
    eigenvalues = np.clip(eigenvalues, 0.0, None)

    projected = vectors.T @ (moments.moment * unit / scale)
    square = unit * moments.label_square

    def misfit(kappa: float) -> float:
        return max(square - float(np.sum(projected**2 / (eigenvalues + kappa))), np.finfo(float).tiny)

    def negative_log_evidence(log_kappa: float) -> float:
        kappa = np.exp(log_kappa)
        spread = np.log1p(eigenvalues / kappa).sum()
        return 0.5 * (spread + moments.n_rows * np.log(misfit(kappa)))

    if ratio is None:
        # The evidence may have several maxima: find the best on a grid, then refine it.
        grid = np.linspace(np.log(smallest), np.log(eigenvalues[-1] * 1e3), 121)
        best = int(np.argmin([negative_log_evidence(k) for k in grid]))
        bracket = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
        found = minimize_scalar(negative_log_evidence, bounds=bracket, method="bounded", options={"xatol": 1e-10})
        ratio = float(np.exp(found.x))

    shifted = eigenvalues + ratio
    solution = projected / shifted
    gamma = float(np.sum(eigenvalues / shifted))
    residual = max(misfit(ratio) - ratio * float(solution @ solution), 0.0)
    return Ridge(
        theta=moments.prior_mean + (vectors @ solution) / scale,
        whitener=(vectors / np.sqrt(shifted)) / scale[:, None],
        scale=scale,
        ratio=ratio,
        noise_precision=(moments.n_rows - gamma) / residual if residual > 0 else np.inf,
        effective_dimension=gamma,
        condition_number=float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else np.inf,
        rank=rank,
        weighted_rms=float(np.sqrt(residual / moments.n_rows)),
        n_rows=moments.n_rows,
    )


def leverages(ridge: Ridge, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whitened rows z = x T, shape (n, P), and leverages h = x A⁻¹ xᵀ = |z|², shape (n,)."""
    z = x @ ridge.whitener
    return z, np.einsum("ij,ij->i", z, z)


def corrections(ridge: Ridge, x: np.ndarray, y: np.ndarray, smallest_leverage: float) -> tuple[np.ndarray, np.ndarray]:
    """POPS corrections of a block, in whitened coordinates.

    Row i's optimal parameters are Θ_i = Θ* + T δ_i with δ_i = z_i r_i / h_i;
    they match it exactly, x_i·Θ_i = y_i, at the least loss over all other rows.

    Parameters
    ----------
    ridge
        The fit.
    x, y
        Rows (n, P) and labels (n,).
    smallest_leverage
        Rows at or below it have no correction.

    Returns
    -------
    delta : ndarray, shape (m, P)
        Corrections of the rows that have one.
    kept : ndarray of bool, shape (n,)
        Which rows those are.
    """
    z, h = leverages(ridge, x)
    kept = h > smallest_leverage
    residual = y[kept] - x[kept] @ ridge.theta
    return z[kept] * (residual / h[kept])[:, None], kept


@dataclass
class Hypercube:
    """The box posterior: Θ = Θ* + modes · u, low ≤ u ≤ high.

    Attributes
    ----------
    theta : ndarray, shape (P,)
        Θ*.
    modes : ndarray, shape (P, K)
        Axes in raw parameters, a unit step in the coordinates they were found in.
    low, high : ndarray, shape (K,)
        Extent along each axis; holds every correction that was made.
    n_corrections : int
        Rows with a correction.
    n_skipped : int
        Rows whose leverage was too low for one.
    """

    theta: np.ndarray
    modes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n_corrections: int
    n_skipped: int


def fit_hypercube(blocks: Blocks, ridge: Ridge, coordinates: str = "raw", leverage_floor: float = 1e-3) -> Hypercube:
    """Bound all POPS corrections by a box along their principal axes.

    Parameters
    ----------
    blocks
        Starts a pass over the training rows; two passes are made.
    ridge
        The fit.
    coordinates
        Where the principal axes are found: ``raw`` parameters, parameters of
        ``standardised`` features, or ``whitened`` by A.
    leverage_floor
        Share of the mean leverage (weighted, over the rows) below which a row
        has no correction: with x near zero by symmetry, r/h is the noise of a
        label over almost nothing, and one such row would set the box.

    Raises
    ------
    ValueError
        No row has a correction, or `coordinates` is unknown.
    """
    p = len(ridge.theta)
    to_coordinates = {
        "raw": ridge.whitener,
        "standardised": ridge.scale[:, None] * ridge.whitener,
        "whitened": np.eye(p),
    }
    if coordinates not in to_coordinates:
        raise ValueError(f"unknown coordinates '{coordinates}'; known: {', '.join(to_coordinates)}")
    # A is in units of the mean weight, so the weighted mean leverage is γ/N.
    smallest = leverage_floor * ridge.effective_dimension / ridge.n_rows

    second_moment = np.zeros((p, p))
    n_corrections = 0
    for x, y, _ in blocks():
        delta, kept = corrections(ridge, x, y, smallest)
        second_moment += delta.T @ delta
        n_corrections += int(kept.sum())
    if n_corrections == 0:
        raise ValueError("no row has enough leverage for a POPS correction")

    transform = to_coordinates[coordinates]
    # All axes stay, those of least variance too: raw parameters of features that
    # are large need little extent to matter, and the box must hold every correction.
    # Eigenvectors come with arbitrary signs: fix them, largest variance first.
    axes = eigh(transform @ second_moment @ transform.T)[1][:, ::-1]
    axes = axes * np.sign(axes[np.argmax(np.abs(axes), axis=0), np.arange(axes.shape[1])])
    project = transform.T @ axes

    low, high = np.full(axes.shape[1], np.inf), np.full(axes.shape[1], -np.inf)
    for x, y, _ in blocks():
        delta, kept = corrections(ridge, x, y, smallest)
        if kept.any():
            along = delta @ project
            low, high = np.minimum(low, along.min(axis=0)), np.maximum(high, along.max(axis=0))
    to_raw = {
        "raw": axes,
        "standardised": axes / ridge.scale[:, None],
        "whitened": ridge.whitener @ axes,
    }
    return Hypercube(ridge.theta, to_raw[coordinates], low, high, n_corrections, ridge.n_rows - n_corrections)


def draw_members(box: Hypercube, n_members: int, sampling: str, rng: np.random.Generator) -> np.ndarray:
    """Draw members from the box.

    Parameters
    ----------
    box
        The posterior.
    n_members
        Number M of members.
    sampling
        ``uniform``, ``sobol`` (scrambled) or ``latin_hypercube``.
    rng
        Source of randomness.

    Returns
    -------
    ndarray, shape (M, P)
        Parameters Θ of each member.
    """
    k = len(box.low)
    if sampling == "uniform":
        unit = rng.random((n_members, k))
    elif sampling == "sobol":
        # A power of two keeps the sequence balanced.
        unit = qmc.Sobol(k, rng=rng).random_base2(max(n_members - 1, 1).bit_length())[:n_members]
    elif sampling == "latin_hypercube":
        unit = qmc.LatinHypercube(k, rng=rng).random(n_members)
    else:
        raise ValueError(f"unknown sampling '{sampling}'; known: uniform, sobol, latin_hypercube")
    return box.theta + (box.low + unit * (box.high - box.low)) @ box.modes.T
