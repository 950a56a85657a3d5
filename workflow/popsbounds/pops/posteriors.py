"""Distributions of parameter sets, all behind one interface: draw members, closed-form moments, bounds.

A posterior is centred on the loss-minimising parameters Θ*, which need not be
its mean. For a quantity that is linear in Θ, with gradient g, its mean,
standard deviation and extremes are known without sampling, and so are the
parameters at which it is extreme.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
from scipy.integrate import quad
from scipy.special import ndtri, ndtri_exp
from scipy.stats import qmc

from popsbounds.pops.corrections import (
    LEVERAGE_FLOOR,
    Corrections,
    accumulate_corrections,
    accumulate_extremes,
    accumulate_ratio,
    pick_rows,
)
from popsbounds.pops.ridge import Blocks, Ridge

__all__ = [
    "EnsembleRecipe",
    "Gaussian",
    "GaussianRecipe",
    "Hypercube",
    "HypercubeRecipe",
    "PopsEnsemble",
    "Posterior",
    "Recipe",
    "axes_of",
    "expected_reach",
    "factor_of",
    "fit_posterior",
    "second_pass",
]

_SAMPLINGS = ("uniform", "sobol", "latin_hypercube")
_REACH = 3.0  # standard deviations; the extremes of 500 normal numbers are ±3.04 on average


class Posterior(Protocol):
    """A distribution of parameter sets Θ.

    Attributes
    ----------
    kind : str
        Its name.
    theta : ndarray, shape (P,)
        Loss-minimising parameters Θ*.
    """

    kind: ClassVar[str]
    theta: np.ndarray

    def draw(self, n_members: int, sampling: str, rng: np.random.Generator) -> np.ndarray:
        """Members, shape (M, P).

        Parameters
        ----------
        n_members
            M.
        sampling
            How the unit hypercube is filled: ``uniform`` (independent),
            ``sobol`` (scrambled) or ``latin_hypercube``.
        rng
            Source of randomness.

        Raises
        ------
        ValueError
            `sampling` is unknown, or more members are asked for than there are.
        """

    def moments(self, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of g·Θ for each row g of `gradient` (n, P): two arrays (n,)."""

    def spread(self) -> np.ndarray:
        """Factor S of the covariance S Sᵀ of Θ, shape (P, K)."""

    def bounds(self, gradient: np.ndarray, n_members: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest g·Θ that the posterior allows, for each row g of `gradient` (n, P): two arrays (n,).

        Parameters
        ----------
        gradient
            Shape (n, P).
        n_members
            Where the posterior has no end: number of members whose extremes,
            as they are on average, stand for it.
        """

    def extremes(self, gradient: np.ndarray, n_members: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Parameters that attain `bounds`: lowest and highest, for each row of `gradient`: two arrays (n, P).

        Parameters
        ----------
        gradient, n_members
            As for `bounds`.

        Raises
        ------
        ValueError
            The posterior has no end, and `n_members` is not given.
        """

    def scaled(self, factor: float) -> Posterior:
        """The posterior stretched about Θ* by a factor."""


def expected_reach(n_members: int) -> float:
    """How far normal numbers reach: the expected maximum of `n_members` independent ones, in standard deviations.

    ∫₀¹ Φ⁻¹(u^(1/M)) du, as u is the probability that all M stay below
    Φ⁻¹(u^(1/M)); here with u = e^(−t).

    Raises
    ------
    ValueError
        There is no member.
    """
    if n_members < 1:
        raise ValueError(f"{n_members} members have no extreme")
    reach, _ = quad(lambda t: np.exp(-t) * ndtri_exp(-t / n_members), 0, np.inf, epsabs=1e-10)
    return max(float(reach), 0.0)  # rounding


def _unit(n: int, k: int, sampling: str, rng: np.random.Generator) -> np.ndarray:
    """Points in the unit hypercube, shape (n, k)."""
    if sampling == "uniform":
        return rng.random((n, k))
    if sampling == "sobol":
        # A power of two keeps the sequence balanced.
        return qmc.Sobol(k, rng=rng).random_base2(max(n - 1, 1).bit_length())[:n]
    if sampling == "latin_hypercube":
        return qmc.LatinHypercube(k, rng=rng).random(n)
    raise ValueError(f"unknown sampling '{sampling}'; known: {', '.join(_SAMPLINGS)}")


@dataclass
class Hypercube:
    """The paper's box: Θ = Θ* + modes · u, u uniform in low ≤ u ≤ high.

    Attributes
    ----------
    theta : ndarray, shape (P,)
        Θ*.
    modes : ndarray, shape (P, K)
        Axes in raw parameters, a unit step in the coordinates they were found in.
    low, high : ndarray, shape (K,)
        Extent along each axis; holds every correction that was made.
    low_row, high_row : ndarray of int, shape (K,)
        Numbers of the training rows, in the order of the passes, whose corrections these are; -1 where Θ* itself is
        the extreme.
    """

    kind: ClassVar[str] = "hypercube"
    theta: np.ndarray
    modes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    low_row: np.ndarray
    high_row: np.ndarray

    def draw(self, n_members: int, sampling: str, rng: np.random.Generator) -> np.ndarray:
        """See `Posterior`."""
        unit = _unit(n_members, len(self.low), sampling, rng)
        return self.theta + (self.low + unit * (self.high - self.low)) @ self.modes.T

    def moments(self, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Posterior`."""
        along = gradient @ self.modes
        mean = gradient @ self.theta + along @ (self.low + self.high) / 2
        return mean, np.sqrt(along**2 @ (self.high - self.low) ** 2 / 12)

    def spread(self) -> np.ndarray:
        """See `Posterior`: one axis a column, as long as the standard deviation along it."""
        return self.modes * (self.high - self.low) / np.sqrt(12)

    def bounds(self, gradient: np.ndarray, n_members: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See `Posterior`: reached in the corners of the box."""
        along = gradient @ self.modes
        middle = gradient @ self.theta + along @ (self.low + self.high) / 2
        half = np.abs(along) @ (self.high - self.low) / 2
        return middle - half, middle + half

    def extremes(self, gradient: np.ndarray, n_members: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See `Posterior`: two opposite corners of the box."""
        rising = gradient @ self.modes > 0
        lowest, highest = np.where(rising, self.low, self.high), np.where(rising, self.high, self.low)
        return self.theta + lowest @ self.modes.T, self.theta + highest @ self.modes.T

    def scaled(self, factor: float) -> Hypercube:
        """See `Posterior`."""
        return replace(self, low=factor * self.low, high=factor * self.high)


@dataclass
class Gaussian:
    """Normal about Θ* with covariance F Fᵀ.

    Attributes
    ----------
    theta : ndarray, shape (P,)
        Θ*.
    factor : ndarray, shape (P, K)
        F.
    """

    kind: ClassVar[str] = "gaussian"
    theta: np.ndarray
    factor: np.ndarray

    def draw(self, n_members: int, sampling: str, rng: np.random.Generator) -> np.ndarray:
        """See `Posterior`."""
        unit = _unit(n_members, self.factor.shape[1], sampling, rng)
        # Zero is a point of the unit interval, but not of the normal distribution.
        return self.theta + ndtri(np.clip(unit, np.finfo(float).tiny, 1 - np.finfo(float).epsneg)) @ self.factor.T

    def moments(self, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Posterior`."""
        return gradient @ self.theta, np.linalg.norm(gradient @ self.factor, axis=1)

    def spread(self) -> np.ndarray:
        """See `Posterior`."""
        return self.factor

    def bounds(self, gradient: np.ndarray, n_members: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See `Posterior`: as far as that many members reach; without a number, infinite wherever there is spread."""
        mean, std = self.moments(gradient)
        reach = np.where(std > 0, np.inf, 0.0) if n_members is None else expected_reach(n_members) * std
        return mean - reach, mean + reach

    def extremes(self, gradient: np.ndarray, n_members: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See `Posterior`: of all parameters at which g·Θ is that far out, the likeliest."""
        if n_members is None:
            raise ValueError("a Gaussian has no extremes without a number of members")
        along = gradient @ self.factor
        std = np.linalg.norm(along, axis=1, keepdims=True)
        direction = np.divide(along, std, out=np.zeros_like(along), where=std > 0)
        step = expected_reach(n_members) * direction @ self.factor.T
        return self.theta - step, self.theta + step

    def scaled(self, factor: float) -> Gaussian:
        """See `Posterior`."""
        return replace(self, factor=factor * self.factor)


@dataclass
class PopsEnsemble:
    """Pointwise optimal parameter sets themselves, each with the same probability.

    Attributes
    ----------
    theta : ndarray, shape (P,)
        Θ*.
    corrections : ndarray, shape (K, P)
        Θ_i − Θ* of some rows, or of all.
    rows : ndarray of int, shape (K,)
        Numbers of those training rows, in the order of the passes.
    """

    kind: ClassVar[str] = "ensemble"
    theta: np.ndarray
    corrections: np.ndarray
    rows: np.ndarray

    def draw(self, n_members: int, sampling: str, rng: np.random.Generator) -> np.ndarray:
        """See `Posterior`: without replacement; there is no hypercube to fill, so `sampling` must be ``uniform``."""
        if sampling != "uniform":
            raise ValueError(f"sampling '{sampling}' has no meaning for rows of data; use 'uniform'")
        if n_members > len(self.corrections):
            raise ValueError(f"{n_members} members asked for, {len(self.corrections)} corrections kept")
        return self.theta + self.corrections[rng.permutation(len(self.corrections))[:n_members]]

    def moments(self, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Posterior`."""
        along = gradient @ self.corrections.T
        return gradient @ self.theta + along.mean(axis=1), along.std(axis=1)

    def spread(self) -> np.ndarray:
        """See `Posterior`: one member a column."""
        return (self.corrections - self.corrections.mean(axis=0)).T / np.sqrt(len(self.corrections))

    def bounds(self, gradient: np.ndarray, n_members: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See `Posterior`: over all corrections."""
        along = gradient @ self.corrections.T
        middle = gradient @ self.theta
        return middle + along.min(axis=1), middle + along.max(axis=1)

    def extremes(self, gradient: np.ndarray, n_members: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See `Posterior`: two of its own members."""
        along = gradient @ self.corrections.T
        lowest, highest = along.argmin(axis=1), along.argmax(axis=1)
        return self.theta + self.corrections[lowest], self.theta + self.corrections[highest]

    def scaled(self, factor: float) -> PopsEnsemble:
        """See `Posterior`."""
        return replace(self, corrections=factor * self.corrections)


_TO_COORDINATES: dict[str, Callable[[Ridge], np.ndarray]] = {
    "raw": lambda ridge: ridge.factor,
    "standardised": lambda ridge: ridge.scale[:, None] * ridge.factor,
    "whitened": lambda ridge: np.eye(len(ridge.theta)),
}


def axes_of(ridge: Ridge, corrections: Corrections, coordinates: str) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes of the corrections.

    All axes stay, those of least variance too: raw parameters of features that
    are large need little extent to matter, and a box must hold every correction.

    Parameters
    ----------
    ridge
        The fit.
    corrections
        Of all training rows.
    coordinates
        Where the axes are principal: ``raw`` parameters, parameters of
        ``standardised`` features, or ``whitened`` by A.

    Returns
    -------
    modes : ndarray, shape (P, P)
        The axes in raw parameters, columns, that of largest variance first.
    directions : ndarray, shape (P, P)
        x · directions · r/h is a row's correction along each axis.

    Raises
    ------
    ValueError
        No row has a correction, or `coordinates` is unknown.
    """
    if coordinates not in _TO_COORDINATES:
        raise ValueError(f"unknown coordinates '{coordinates}'; known: {', '.join(_TO_COORDINATES)}")
    _require_some(corrections)
    transform = _TO_COORDINATES[coordinates](ridge)
    axes = np.linalg.eigh(transform @ corrections.second_moment @ transform.T)[1][:, ::-1]
    # Eigenvectors come with arbitrary signs: fix them.
    axes = axes * np.sign(axes[np.argmax(np.abs(axes), axis=0), np.arange(axes.shape[1])])
    to_raw = {
        "raw": lambda: axes,
        "standardised": lambda: axes / ridge.scale[:, None],
        "whitened": lambda: ridge.factor @ axes,
    }
    return to_raw[coordinates](), ridge.factor @ (transform.T @ axes)


def factor_of(ridge: Ridge, corrections: Corrections) -> np.ndarray:
    """Factor F of a Gaussian's covariance F Fᵀ: the mean second moment that was summed, in raw parameters.

    Parameters
    ----------
    ridge
        The fit.
    corrections
        Of all training rows.

    Returns
    -------
    ndarray, shape (P, P)

    Raises
    ------
    ValueError
        No row has a correction.
    """
    _require_some(corrections)
    eigenvalues, vectors = np.linalg.eigh(corrections.second_moment / corrections.kept.sum())
    # The symmetric root: eigenvectors come with arbitrary signs, which would decide the members.
    return ridge.factor @ (vectors * np.sqrt(np.clip(eigenvalues, 0.0, None))) @ vectors.T


def _require_some(corrections: Corrections) -> None:
    if not corrections.kept.any():
        raise ValueError("no row has enough leverage for a POPS correction")


class Recipe(Protocol):
    """How a posterior is made of the corrections: the third pass, spread over as many jobs as one likes.

    Attributes
    ----------
    leverage_floor, power, weight_power, leave_one_out
        As for `accumulate_corrections`, the second pass.
    """

    @property
    def leverage_floor(self) -> float: ...
    @property
    def power(self) -> float: ...
    @property
    def weight_power(self) -> float: ...
    @property
    def leave_one_out(self) -> bool: ...

    def prepare(self, ridge: Ridge, corrections: Corrections) -> dict[str, np.ndarray]:
        """What the third pass needs, from the corrections of all rows."""

    def measure(
        self, blocks: Blocks, first_row: int, part: Corrections, prepared: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The third pass, over some of the rows: `part` are their corrections, `first_row` is the first's number."""

    def finish(
        self, ridge: Ridge, prepared: dict[str, np.ndarray], parts: Sequence[dict[str, np.ndarray]]
    ) -> Posterior:
        """The posterior, from what was measured, in the rows' order."""


def second_pass(blocks: Blocks, ridge: Ridge, recipe: Recipe) -> Corrections:
    """Corrections as a recipe wants them."""
    return accumulate_corrections(
        blocks, ridge, recipe.leverage_floor, recipe.power, recipe.weight_power, recipe.leave_one_out
    )


def fit_posterior(blocks: Blocks, ridge: Ridge, recipe: Recipe) -> Posterior:
    """Second and third pass over all rows.

    Parameters
    ----------
    blocks
        Starts a pass over the training rows.
    ridge
        The fit.
    recipe
        Which posterior.

    Raises
    ------
    ValueError
        No row has a correction, or the recipe is impossible.
    """
    found = second_pass(blocks, ridge, recipe)
    prepared = recipe.prepare(ridge, found)
    return recipe.finish(ridge, prepared, [recipe.measure(blocks, 0, found, prepared)])


@dataclass(frozen=True)
class HypercubeRecipe:
    """The smallest box along the corrections' principal axes that holds all of them.

    Attributes
    ----------
    coordinates : {"raw", "standardised", "whitened"}
        Where the axes are principal, see `axes_of`.
    leverage_floor, leave_one_out
        As for `accumulate_corrections`.
    """

    power: ClassVar[float] = 2.0
    weight_power: ClassVar[float] = 0.0
    coordinates: str = "raw"
    leverage_floor: float = LEVERAGE_FLOOR
    leave_one_out: bool = False

    def prepare(self, ridge: Ridge, corrections: Corrections) -> dict[str, np.ndarray]:
        """See `Recipe`."""
        modes, directions = axes_of(ridge, corrections, self.coordinates)
        return {"modes": modes, "directions": directions}

    def measure(
        self, blocks: Blocks, first_row: int, part: Corrections, prepared: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """See `Recipe`."""
        found = accumulate_extremes(blocks, part.stretch, prepared["directions"], first_row)
        return dict(zip(("low", "high", "low_row", "high_row"), found, strict=True))

    def finish(
        self, ridge: Ridge, prepared: dict[str, np.ndarray], parts: Sequence[dict[str, np.ndarray]]
    ) -> Hypercube:
        """See `Recipe`."""
        low, high, low_row, high_row = (
            np.array([part[name] for part in parts]) for name in ("low", "high", "low_row", "high_row")
        )
        axes = np.arange(low.shape[1])
        # Of equal extremes the first, whose row is the lowest.
        lowest, highest = (low.argmin(axis=0), axes), (high.argmax(axis=0), axes)
        return Hypercube(ridge.theta, prepared["modes"], low[lowest], high[highest], low_row[lowest], high_row[highest])


@dataclass(frozen=True)
class GaussianRecipe:
    """A Gaussian with the corrections' tempered second moment, as wide as the training residuals ask for.

    Attributes
    ----------
    power : float
        p of the moment Σ wᵃ r²/hᵖ z zᵀ: 2 is that of the corrections, less tempers the rows of low leverage.
    weight_power : float
        a of the moment: 0 counts rows equally, 1 as the fit does.
    violation : float or None
        Share of the residuals of rows with a correction that exceed three
        standard deviations, which is as far as 500 members reach; None makes
        their root mean square one standard deviation.
    leverage_floor, leave_one_out
        As for `accumulate_corrections`.
    """

    power: float = 1.75
    weight_power: float = 0.5
    violation: float | None = 0.02
    leverage_floor: float = LEVERAGE_FLOOR
    leave_one_out: bool = False

    def prepare(self, ridge: Ridge, corrections: Corrections) -> dict[str, np.ndarray]:
        """See `Recipe`."""
        return {"factor": factor_of(ridge, corrections)}

    def measure(
        self, blocks: Blocks, first_row: int, part: Corrections, prepared: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """See `Recipe`."""
        return {"ratio": accumulate_ratio(blocks, part.residual, prepared["factor"])[part.kept]}

    def finish(self, ridge: Ridge, prepared: dict[str, np.ndarray], parts: Sequence[dict[str, np.ndarray]]) -> Gaussian:
        """See `Recipe`."""
        ratio = np.concatenate([part["ratio"] for part in parts])
        if self.violation is None:
            scale = np.sqrt(np.mean(ratio**2))
        else:
            scale = np.quantile(ratio, 1 - self.violation) / _REACH
        return Gaussian(ridge.theta, prepared["factor"]).scaled(float(scale))


@dataclass(frozen=True)
class EnsembleRecipe:
    """Pointwise optimal parameter sets of rows drawn at random.

    Attributes
    ----------
    n_corrections : int
        How many, if there are as many.
    seed : int
        Of the choice.
    leverage_floor, leave_one_out
        As for `accumulate_corrections`.
    """

    power: ClassVar[float] = 2.0
    weight_power: ClassVar[float] = 0.0
    n_corrections: int = 500
    seed: int = 0
    leverage_floor: float = LEVERAGE_FLOOR
    leave_one_out: bool = False

    def prepare(self, ridge: Ridge, corrections: Corrections) -> dict[str, np.ndarray]:
        """See `Recipe`."""
        _require_some(corrections)
        rows = np.random.default_rng(self.seed).permutation(np.flatnonzero(corrections.kept))
        return {"chosen": np.sort(rows[: self.n_corrections])}

    def measure(
        self, blocks: Blocks, first_row: int, part: Corrections, prepared: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """See `Recipe`."""
        chosen = prepared["chosen"] - first_row
        chosen = chosen[(chosen >= 0) & (chosen < len(part.kept))]
        if len(chosen) == 0:
            return {"scaled_rows": np.zeros((0, len(part.second_moment)))}
        return {"scaled_rows": pick_rows(blocks, part.stretch, chosen)}

    def finish(
        self, ridge: Ridge, prepared: dict[str, np.ndarray], parts: Sequence[dict[str, np.ndarray]]
    ) -> PopsEnsemble:
        """See `Recipe`."""
        rows = np.concatenate([part["scaled_rows"] for part in parts])
        return PopsEnsemble(ridge.theta, rows @ ridge.factor @ ridge.factor.T, prepared["chosen"])
