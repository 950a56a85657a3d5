"""Weighted Bayesian ridge regression from sums over blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace, device, to_device
from scipy.optimize import brentq

__all__ = [
    "BLOCK_ROWS",
    "Array",
    "Block",
    "Blocks",
    "Moments",
    "Ridge",
    "accumulate",
    "fit_ridge",
    "like",
    "to_numpy",
    "whiten",
]

Array = Any
"""An array of any library that follows the array API: NumPy, PyTorch on a GPU, …"""
Block = tuple[Array, Array, Array]
"""Rows X (n, P), labels y (n,) and positive weights w (n,)."""
Blocks = Callable[[], Iterable[Block]]
"""Starts a pass over the rows."""

BLOCK_ROWS = 2048
"""Rows of a block: its temporaries stay in the allocator's hands instead of going back to the system."""

_PANELS = 4
# How much more than all data the prior forbids the directions that are left out.
_FORBIDDEN = 1e12


def to_numpy(array: Array) -> np.ndarray:
    """The array on the host."""
    return np.asarray(to_device(array, "cpu"))


def like(array: np.ndarray, other: Array) -> Array:
    """The array in the library, and on the device, of another."""
    return array_namespace(other).asarray(array, device=device(other))


@dataclass
class Moments:
    """Weighted sums that the ridge regression needs; those of two sets of rows add.

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

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets of rows."""
        if not np.array_equal(self.prior_mean, other.prior_mean):
            raise ValueError("moments about different prior means do not add")
        return Moments(
            self.gram + other.gram,
            self.moment + other.moment,
            self.label_square + other.label_square,
            self.n_rows + other.n_rows,
            self.weight + other.weight,
            self.prior_mean,
        )


def accumulate(blocks: Blocks, prior_mean: np.ndarray) -> Moments:
    """Sum the weighted moments over all blocks, in their order: the first pass.

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
        A row or a label is not finite.
    """
    p = len(prior_mean)
    gram, moment, label_square, n_rows, weight = np.zeros((p, p)), np.zeros(p), 0.0, 0, 0.0
    for x, labels, w in blocks():
        xp = array_namespace(x)
        y = labels - x @ like(prior_mean, x)
        scaled = xp.sqrt(w)[:, None] * x
        gram += to_numpy(scaled.T @ scaled)
        moment += to_numpy((w * y) @ x)
        label_square += float(y @ (w * y))
        n_rows += x.shape[0]
        weight += float(xp.sum(w))
    if not (np.isfinite(gram).all() and np.isfinite(label_square)):
        raise ValueError("rows or labels are not finite")
    return Moments(gram, moment, label_square, n_rows, weight, np.asarray(prior_mean))


@dataclass
class Ridge:
    """Weighted Bayesian ridge regression, A = Xᵀ W X / Σw + ρ S², S the features' weighted RMS.

    Neither the scale of the weights nor whether a row is repeated or counts
    twice changes A. Where principal components take the features' place, X and S are theirs.

    Attributes
    ----------
    theta : ndarray, shape (P,)
        Loss-minimising parameters Θ*.
    factor : ndarray, shape (P, P)
        Upper triangular U with U Uᵀ = A⁻¹; rows in whitened coordinates are z = x U.
    scale : ndarray, shape (P,)
        Weighted RMS S of the features (1 for features that vanish).
    regularisation : float
        ρ.
    noise_precision : float
        α for rows of mean weight.
    effective_dimension : float
        γ = Σ Λ/(Λ + ρ), the number of well-determined parameters.
    condition_number : float
        Of Xᵀ W X in standardised features.
    rank : int
        Number of eigenvalues above rounding.
    n_free : int
        Number of parameters, or of their principal components, that the fit was free to choose.
    weighted_rms, label_rms : float
        Weighted RMS of the residuals and of the labels (less the prior mean's).
    n_rows : int
        N, rows it was fitted to.
    weight : float
        Their total weight Σw.
    """

    theta: np.ndarray
    factor: np.ndarray
    scale: np.ndarray
    regularisation: float
    noise_precision: float
    effective_dimension: float
    condition_number: float
    rank: int
    n_free: int
    weighted_rms: float
    label_rms: float
    n_rows: int
    weight: float

    @property
    def ratio(self) -> float:
        """λ/α, the prior's to the noise's precision, in standardised features and for weights of mean one."""
        return self.regularisation * self.n_rows

    @property
    def epistemic_factor(self) -> np.ndarray:
        """F with F Fᵀ = (α Xᵀ W X + λ S²)⁻¹, weights of mean one: the covariance of Bayesian ridge regression."""
        return self.factor / np.sqrt(self.noise_precision * self.n_rows)

    def caveats(self) -> list[str]:
        """What should make a reader doubt the fit: one sentence each."""
        p = self.n_free
        found = []
        if self.rank < p:
            found.append(
                f"the {p} features are linearly dependent (rank {self.rank}): the prior decides the rest; "
                "drop features or add data that tells them apart"
            )
        if self.n_rows < 10 * p:
            found.append(
                f"{self.n_rows} rows for {p} parameters (N/P = {self.n_rows / p:.1f}, below 10): the fit follows "
                "its data too closely for POPS to see the misspecification; add data or use a smaller model"
            )
        if self.weighted_rms <= 1e-7 * self.label_rms:
            found.append("the model matches its data to rounding: it is not misspecified, and POPS has nothing to find")
        return found


def fit_ridge(
    moments: Moments,
    regularisation: float | Literal["evidence"] = "evidence",
    components: int | None = None,
    constants: Sequence[int] = (),
) -> Ridge:
    """Fit Θ* with a Gaussian prior.

    ρ maximises the evidence, which depends on the rows through the
    eigenvalues of the Gram matrix alone (MacKay, Neural Comput. 4, 415, 1992),
    with the noise precision at its own optimum.

    Parameters
    ----------
    moments
        Weighted sums over the rows.
    regularisation
        Fixed ρ > 0; ``evidence`` maximises the evidence.
    components
        Number of principal components of the features, centred by the constants and each of variance one, that take the
        place of the features: nothing else carries Θ*, the corrections and what is made of them. None: the features
        themselves.
    constants
        Columns that are no features, but constants.

    Raises
    ------
    ValueError
        There is no row, `regularisation` is neither positive nor ``evidence``, or `components` is less than one.
    """
    if regularisation != "evidence" and (isinstance(regularisation, str) or not 0 < regularisation < np.inf):
        raise ValueError(f"regularisation {regularisation!r} is neither a positive number nor 'evidence'")
    if components is not None and components < 1:
        raise ValueError(f"{components} components: give one at least, or None for all features")
    if moments.n_rows == 0:
        raise ValueError("no rows to fit")
    n, p = moments.n_rows, len(moments.moment)
    gram = moments.gram / moments.weight
    rms = np.sqrt(np.diag(gram))
    scale = np.where(rms > 0, rms, 1.0)
    standardised = gram / np.outer(scale, scale)
    features, inverse, forbidden = _principal_features(standardised, components, constants)
    eigenvalues, vectors = np.linalg.eigh(features.T @ standardised @ features)
    smallest = max(eigenvalues[-1], np.finfo(float).tiny) * p * np.finfo(float).eps
    rank = int((eigenvalues > smallest).sum())
    eigenvalues = np.clip(eigenvalues, 0.0, None)

    projected = vectors.T @ (features.T @ (moments.moment / moments.weight / scale))
    square = moments.label_square / moments.weight

    def misfit(rho: float) -> float:
        return max(square - float(np.sum(projected**2 / (eigenvalues + rho))), np.finfo(float).tiny)

    def negative_log_evidence(log_rho: float) -> float:
        rho = np.exp(log_rho)
        return 0.5 * (np.log1p(eigenvalues / rho).sum() + n * np.log(misfit(rho)))

    def slope(log_rho: float) -> float:
        rho = np.exp(log_rho)
        shifted = eigenvalues + rho
        fit = n * rho * np.sum((projected / shifted) ** 2) / misfit(rho)
        return 0.5 * (fit - np.sum(eigenvalues / shifted))

    if regularisation == "evidence":
        # The evidence may have several maxima: find the best on a grid, then refine it, by its slope, which
        # tells ρ to all digits where the evidence itself tells half of them.
        grid = np.linspace(np.log(smallest), np.log(max(eigenvalues[-1], smallest) * 1e3), 121)
        best = int(np.argmin([negative_log_evidence(k) for k in grid]))
        bracket = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
        inside = slope(bracket[0]) < 0 < slope(bracket[1])
        regularisation = float(np.exp(brentq(slope, *bracket, xtol=1e-14) if inside else grid[best]))

    shifted = eigenvalues + regularisation
    solution = projected / shifted
    gamma = float(np.sum(eigenvalues / shifted))
    residual = max(misfit(regularisation) - regularisation * float(solution @ solution), 0.0)
    # A = Rᵀ R. By QR, not Cholesky: it cannot fail, however ill-conditioned A is.
    used = np.sqrt(shifted)[:, None] * vectors.T @ inverse
    root = np.vstack([np.sqrt(_FORBIDDEN * eigenvalues[-1]) * forbidden.T, used])
    upper = np.asarray(np.linalg.qr(root * scale, mode="r"))
    # With its diagonal positive R is unique: signs of eigenvectors, which are arbitrary, would decide the members.
    upper *= np.where(np.diag(upper) < 0, -1.0, 1.0)[:, None]
    return Ridge(
        theta=moments.prior_mean + (features @ (vectors @ solution)) / scale,
        factor=np.triu(np.linalg.inv(upper)),
        scale=scale,
        regularisation=regularisation,
        noise_precision=(1 - gamma / n) / residual if residual > 0 else np.inf,
        effective_dimension=gamma,
        condition_number=float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else np.inf,
        rank=rank,
        n_free=len(eigenvalues),
        weighted_rms=float(np.sqrt(residual)),
        label_rms=float(np.sqrt(square)),
        n_rows=n,
        weight=moments.weight,
    )


def _principal_features(
    gram: np.ndarray, components: int | None, constants: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The constants and the largest principal components as combinations of the features.

    Parameters
    ----------
    gram
        Of the standardised features, shape (P, P).
    components, constants
        As for `fit_ridge`.

    Returns
    -------
    ndarray, shape (P, Q)
        One combination a column.
    ndarray, shape (Q, P)
        What turns parameters of the features into those of the combinations.
    ndarray, shape (P, P − Q)
        Orthonormal directions of parameters that the combinations do not have.
    """
    p, fixed = len(gram), np.asarray(constants, dtype=int)
    if components is None or components >= p - len(fixed):
        return np.eye(p), np.eye(p), np.zeros((p, 0))
    varying = np.setdiff1d(np.arange(p), fixed)
    # What the constants make of each feature, and its deviation from that.
    means = np.linalg.pinv(gram[np.ix_(fixed, fixed)]) @ gram[np.ix_(fixed, varying)]
    centred = gram[np.ix_(varying, varying)] - gram[np.ix_(varying, fixed)] @ means
    deviation = np.sqrt(np.clip(np.diag(centred), np.finfo(float).eps, None))
    variances, axes = np.linalg.eigh(centred / np.outer(deviation, deviation))
    spread = np.sqrt(np.clip(variances, np.finfo(float).eps, None))
    axes = (axes / deviation[:, None] / spread)[:, -components:]
    found = np.zeros((p, len(fixed) + components))
    found[fixed, np.arange(len(fixed))] = 1.0
    found[fixed, len(fixed) :] = -means @ axes
    found[varying, len(fixed) :] = axes
    return found, np.linalg.pinv(found), np.linalg.qr(found, mode="complete")[0][:, found.shape[1] :]


def whiten(x: Array, factor: Array) -> Array:
    """Rows in whitened coordinates, z = x U, shape (n, P).

    U is upper triangular: panel by panel, at the speed of a full product, half
    of the work is saved.
    """
    xp = array_namespace(x)
    p = x.shape[1]
    z = xp.empty((x.shape[0], p), dtype=x.dtype, device=device(x))
    edges = [p * i // _PANELS for i in range(_PANELS + 1)]
    for start, stop in pairwise(edges):
        z[:, start:stop] = x[:, :stop] @ factor[:stop, start:stop]
    return z
