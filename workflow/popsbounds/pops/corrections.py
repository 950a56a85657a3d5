"""Pointwise optimal parameter sets of every row, in two streamed passes; no correction is ever stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from popsbounds.pops.ridge import Block, Blocks, Ridge, like, to_numpy, whiten

__all__ = [
    "LEVERAGE_FLOOR",
    "Corrections",
    "accumulate_corrections",
    "accumulate_extremes",
    "accumulate_ratio",
    "pick_rows",
    "row_stretch",
    "with_rows",
]

LEVERAGE_FLOOR = 2e-5  # the hypercube's width hangs on it: see `make calibration`


def _errors(ridge: Ridge, block: Block, leave_one_out: bool) -> tuple:
    """Whitened rows z (n, P), residuals r (n,) and leverages h = |z|² (n,)."""
    x, y, w = block
    xp = array_namespace(x)
    z = whiten(x, like(ridge.factor, x))
    leverage = xp.vecdot(z, z)
    residual = y - x @ like(ridge.theta, x)
    if leave_one_out:
        # Of the fit without the row itself.
        residual = residual / (1 - w * leverage / ridge.weight)
    return z, residual, leverage


def _floor(ridge: Ridge, share: float) -> float:
    """What w h of a row must exceed: a share of its mean over the rows."""
    return share * ridge.effective_dimension * ridge.weight / ridge.n_rows


@dataclass
class Corrections:
    """What is kept of the corrections of some rows; those of two sets of rows add.

    Row i's optimal parameters are Θ_i = Θ* + U δ_i with δ_i = z_i r_i / h_i, in whitened coordinates: they match it
    exactly, x_i·Θ_i = y_i, at the least loss over all other rows.

    Attributes
    ----------
    second_moment : ndarray, shape (P, P)
        Σ wᵃ r²/hᵖ z zᵀ over the rows that have a correction, whitened coordinates.
    residual : ndarray, shape (n,)
        r of every row.
    leverage : ndarray, shape (n,)
        h of every row.
    kept : ndarray of bool, shape (n,)
        Rows that have a correction.
    """

    second_moment: np.ndarray
    residual: np.ndarray
    leverage: np.ndarray
    kept: np.ndarray

    def __add__(self, other: Corrections) -> Corrections:
        """Corrections of both sets of rows."""
        return Corrections(
            self.second_moment + other.second_moment,
            np.concatenate([self.residual, other.residual]),
            np.concatenate([self.leverage, other.leverage]),
            np.concatenate([self.kept, other.kept]),
        )

    @property
    def stretch(self) -> np.ndarray:
        """r/h of every row, zero for rows without a correction; δ = (r/h) z."""
        return row_stretch(self.residual, self.leverage, self.kept)


def row_stretch(residual: np.ndarray, leverage: np.ndarray, kept: np.ndarray, power: float = 2.0) -> np.ndarray:
    """r/h^(p/2) of every row, zero for rows without a correction, shape (n,).

    Parameters
    ----------
    residual, leverage, kept
        As of `Corrections`.
    power
        p, as for `accumulate_corrections`.
    """
    return np.divide(residual, leverage ** (power / 2), out=np.zeros_like(residual), where=kept)


def accumulate_corrections(
    blocks: Blocks,
    ridge: Ridge,
    leverage_floor: float = LEVERAGE_FLOOR,
    power: float = 2.0,
    weight_power: float = 0.0,
    leave_one_out: bool = False,
) -> Corrections:
    """Leverages, residuals and the corrections' second moment: the second pass.

    Parameters
    ----------
    blocks
        Starts a pass over the training rows.
    ridge
        The fit.
    leverage_floor
        Share of the rows' mean leverage w h below which a row has no
        correction: with x near zero by symmetry, r/h is the noise of a label
        over almost nothing, and one such row would set a box.
    power
        p of the second moment Σ wᵃ r²/hᵖ z zᵀ; 2 is that of the corrections themselves.
    weight_power
        a of the rows' weights wᵃ in the second moment: 0 counts rows equally, 1
        as the fit does.
    leave_one_out
        Use each row's residual of the fit without it, r/(1 − w h/Σw).
    """
    p = len(ridge.theta)
    second_moment = np.zeros((p, p))
    parts = [(np.zeros(0), np.zeros(0), np.zeros(0, dtype=bool))]
    floor = _floor(ridge, leverage_floor)
    for block in blocks():
        z, residual, leverage = _errors(ridge, block, leave_one_out)
        xp = array_namespace(z)
        kept = block[2] * leverage > floor
        safe = xp.where(kept, leverage, xp.ones_like(leverage))
        factor = xp.where(kept, residual, xp.zeros_like(residual)) / safe ** (power / 2)
        z *= (factor * block[2] ** (weight_power / 2))[:, None]  # in place: blocks are large
        second_moment += to_numpy(z.T @ z)
        parts.append((to_numpy(residual), to_numpy(leverage), to_numpy(kept)))
    return Corrections(second_moment, *map(np.concatenate, zip(*parts, strict=True)))


def with_rows(blocks: Blocks, values: np.ndarray) -> Iterable[tuple[Block, np.ndarray]]:
    """Blocks beside their share of an array that has one value a row.

    Raises
    ------
    ValueError
        There are more rows than values, or fewer.
    """
    start = 0
    for block in blocks():
        stop = start + block[0].shape[0]
        yield block, values[start:stop]
        start = stop
    if start != len(values):
        raise ValueError(f"{start} rows where the second pass saw {len(values)}")


def accumulate_extremes(
    blocks: Blocks, stretch: np.ndarray, directions: np.ndarray, first_row: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest correction along each axis, and the rows they are of: the box's third pass.

    Parameters
    ----------
    blocks
        Starts a pass over the same rows as the second.
    stretch
        `Corrections.stretch`, shape (n,).
    directions
        U times the axes in whitened coordinates, shape (P, K).
    first_row
        Number of the first row.

    Returns
    -------
    low, high : ndarray, shape (K,)
    low_row, high_row : ndarray of int, shape (K,)
        Numbers of the rows they are of, the lowest where several share one; -1 where Θ* itself is the extreme.
    """
    low, high = np.zeros((2, directions.shape[1]))  # Θ* itself is inside
    low_row, high_row = np.full((2, directions.shape[1]), -1)
    stop = first_row
    for (x, _, _), part in with_rows(blocks, stretch):
        start, stop = stop, stop + len(part)
        if not part.any():
            continue
        along = x @ like(directions, x)
        along *= like(part, x)[:, None]
        xp = array_namespace(along)
        for extreme, row, best, where, beyond in (
            (low, low_row, xp.min, xp.argmin, np.less),
            (high, high_row, xp.max, xp.argmax, np.greater),
        ):
            found = to_numpy(best(along, axis=0))
            # Few axes after the first blocks: only those are searched for the row.
            new = np.flatnonzero(beyond(found, extreme))
            extreme[new] = found[new]
            row[new] = start + to_numpy(where(xp.take(along, like(new, x), axis=1), axis=0))
    return low, high, low_row, high_row


def accumulate_ratio(blocks: Blocks, residual: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """|r| in units of a Gaussian posterior's standard deviation, row by row: its third pass.

    Parameters
    ----------
    blocks
        Starts a pass over the same rows as the second.
    residual
        r, shape (n,).
    directions
        Factor F of the covariance F Fᵀ, raw parameters, shape (P, K).

    Returns
    -------
    ndarray, shape (n,)
        |r|/|x F|; infinite where the posterior has no spread for an error.
    """
    parts = []
    for (x, _, _), part in with_rows(blocks, residual):
        along = x @ like(directions, x)
        xp = array_namespace(along)
        deviation = to_numpy(xp.sqrt(xp.vecdot(along, along)))
        ratio = np.where(part == 0, 0.0, np.inf)
        parts.append(np.divide(np.abs(part), deviation, out=ratio, where=deviation > 0))
    return np.concatenate(parts) if parts else np.zeros(0)


def pick_rows(blocks: Blocks, stretch: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Rows (r/h) x, which A⁻¹ turns into corrections Θ_i − Θ*: the raw ensemble's third pass.

    Parameters
    ----------
    blocks
        Starts a pass over the same rows as the second.
    stretch
        `Corrections.stretch`, shape (n,).
    chosen
        Numbers of the rows, shape (m,).

    Returns
    -------
    ndarray, shape (m, P)
        In the order of the blocks.
    """
    wanted = np.zeros(len(stretch), dtype=bool)
    wanted[chosen] = True
    return np.concatenate([to_numpy(x)[use] for (x, _, _), use in with_rows(blocks, wanted)]) * stretch[wanted, None]
