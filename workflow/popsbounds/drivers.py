"""What drives the uncertainty: shares of a quantity's posterior variance, by axis and by training data.

For a quantity that is linear in Θ, with gradient g, the variance gᵀ Cov g is a
sum: over the posterior's axes and, as the posterior is made of the corrections
of training rows, over those rows too. Exactly so for a Gaussian, whose
covariance is Σ wᵃ r²/hᵖ (A⁻¹x)(A⁻¹x)ᵀ up to a factor, and for an ensemble; a
box is set by its extremes alone, so that each axis's variance is given to the
two rows that its ends are the corrections of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.linalg import solve_triangular

from popsbounds.descriptors.shards import Shard
from popsbounds.pops import Blocks, Gaussian, Hypercube, PopsEnsemble, Posterior, Ridge, row_stretch, with_rows
from popsbounds.statistics import ROUNDING

__all__ = [
    "AXES",
    "DRIVERS_COLUMNS",
    "axes_of_spread",
    "box_by_label",
    "ensemble_by_label",
    "gaussian_by_label",
    "training_rows",
    "variance_shares",
]

DRIVERS_COLUMNS = ["property", "structure", "quantity", "by", "name", "share", "n_rows"]
AXES = 50  # of a quantity, that have a line of their own


def training_rows(shards: Sequence[Shard]) -> pd.DataFrame:
    """Group and kind of every training row, in the order of the passes."""
    parts = [shard.rows.loc[shard.rows["split"] == "train", ["group", "kind"]] for shard in shards]
    return pd.concat(parts, ignore_index=True)


def axes_of_spread(posterior: Posterior, ridge: Ridge) -> np.ndarray:
    """Independent directions of a posterior, each as long as the standard deviation along it.

    Parameters
    ----------
    posterior
        Any.
    ridge
        The fit.

    Returns
    -------
    ndarray, shape (P, K)
        S with S Sᵀ = Cov(Θ), one axis a column. A box's are its own, in the
        order of its modes; of others, the principal axes in the coordinates
        whitened by A, that of largest variance first.
    """
    spread = posterior.spread()
    if isinstance(posterior, Hypercube):
        return spread
    whitened = solve_triangular(ridge.factor, spread)
    # Rotated from the right, the spread stays a factor of the same covariance.
    return spread @ np.linalg.svd(whitened, full_matrices=False)[2].T


def _sum_by_label(values: np.ndarray, labels: np.ndarray, n_labels: int) -> np.ndarray:
    """Sums of columns that share a label, (Q, n) to (Q, n_labels)."""
    return values @ np.eye(n_labels)[labels]


def gaussian_by_label(
    gradient: np.ndarray,
    ridge: Ridge,
    blocks: Blocks,
    stretch: np.ndarray,
    weight_power: float,
    labels: np.ndarray,
    n_labels: int,
) -> np.ndarray:
    """Parts of a Gaussian's variance that come from labelled rows, up to a factor: one pass.

    Row x adds wᵃ r²/hᵖ (x · A⁻¹ g)².

    Parameters
    ----------
    gradient
        Shape (Q, P).
    ridge
        The fit.
    blocks
        Starts a pass over the training rows.
    stretch
        r/h^(p/2) of every row, as of `row_stretch`, shape (n,).
    weight_power
        a, as for `accumulate_corrections`.
    labels
        Of every row, 0 to n_labels − 1, shape (n,).
    n_labels
        How many there are.

    Returns
    -------
    ndarray, shape (Q, n_labels)

    Raises
    ------
    ValueError
        There are more rows than in the second pass, or fewer.
    """
    response = ridge.factor @ (ridge.factor.T @ gradient.T)
    found = np.zeros((len(gradient), n_labels))
    for (x, _, w), rows in with_rows(blocks, np.arange(len(stretch))):
        along = (x @ response) * (w ** (weight_power / 2) * stretch[rows])[:, None]
        found += _sum_by_label(along.T**2, labels[rows], n_labels)
    return found


def box_by_label(gradient: np.ndarray, box: Hypercube, labels: np.ndarray, n_labels: int) -> np.ndarray:
    """Parts of a box's variance that come from labelled rows.

    Each axis's goes to the rows that set its ends, in proportion to how far
    they are from Θ*.

    Parameters
    ----------
    gradient
        Shape (Q, P).
    box
        The posterior.
    labels, n_labels
        As for `gaussian_by_label`.

    Returns
    -------
    ndarray, shape (Q, n_labels)
    """
    variance = (gradient @ box.spread()) ** 2
    width = box.high - box.low
    found = np.zeros((len(gradient), n_labels))
    for reach, row in ((-box.low, box.low_row), (box.high, box.high_row)):
        # An end that no row sets (number −1) is Θ* itself: it reaches nowhere, whatever the label.
        share = np.divide(reach, width, out=np.zeros_like(width), where=width > 0)
        found += _sum_by_label(variance * share, labels[row], n_labels)
    return found


def ensemble_by_label(gradient: np.ndarray, ensemble: PopsEnsemble, labels: np.ndarray, n_labels: int) -> np.ndarray:
    """Parts of an ensemble's variance that come from labelled rows: each member's square distance from the mean.

    Parameters
    ----------
    gradient
        Shape (Q, P).
    ensemble
        The posterior.
    labels, n_labels
        As for `gaussian_by_label`.

    Returns
    -------
    ndarray, shape (Q, n_labels)
    """
    return _sum_by_label((gradient @ ensemble.spread()) ** 2, labels[ensemble.rows], n_labels)


def variance_shares(
    quantities: pd.DataFrame,
    gradient: np.ndarray,
    posterior: Posterior,
    ridge: Ridge,
    blocks: Blocks,
    rows: pd.DataFrame,
    power: float = 2.0,
    weight_power: float = 0.0,
) -> pd.DataFrame:
    """What share of each quantity's variance comes from where.

    Parameters
    ----------
    quantities
        property, structure, quantity: Q lines; those without variance are left out.
    gradient
        dq/dΘ, shape (Q, P).
    posterior
        What the variance is of.
    ridge
        The fit.
    blocks
        Starts a pass over the training rows; a Gaussian needs it.
    rows
        Of every training row, in the order of the passes: group, kind, residual, leverage, kept.
    power, weight_power
        p and a of a Gaussian, as for `GaussianRecipe`.

    Returns
    -------
    DataFrame
        property, structure, quantity, by (`axis`, `group` of the training
        data, or `kind` of their rows), name, share, n_rows: shares of a
        quantity add up to one for each `by`, the largest first. Axes are
        numbered from 0 in the order of `axes_of_spread`; those beyond a
        quantity's largest `AXES` are one line, `other`. `n_rows` is how many
        training rows there are of a group or kind, with and without a
        correction.

    Raises
    ------
    TypeError
        It is not known which rows a posterior of this kind is made of.
    ValueError
        There are more rows than in the second pass, or fewer.
    """
    varied = posterior.moments(gradient)[1] > ROUNDING  # below, it is rounding
    quantities, gradient = quantities[varied].reset_index(drop=True), gradient[varied]
    # One pass sums over pairs of group and kind.
    pairs = rows.groupby(["group", "kind"])
    labels, known = pairs.ngroup().to_numpy(), pairs.size().rename("n_rows").reset_index()
    if isinstance(posterior, Gaussian):
        residual, leverage, kept = (rows[name].to_numpy() for name in ("residual", "leverage", "kept"))
        stretch = row_stretch(residual, leverage, kept, power)
        parts = gaussian_by_label(gradient, ridge, blocks, stretch, weight_power, labels, len(known))
    elif isinstance(posterior, Hypercube):
        parts = box_by_label(gradient, posterior, labels, len(known))
    elif isinstance(posterior, PopsEnsemble):
        parts = ensemble_by_label(gradient, posterior, labels, len(known))
    else:
        raise TypeError(f"it is not known which rows a posterior of kind '{posterior.kind}' is made of")

    by_axis = (gradient @ axes_of_spread(posterior, ridge)) ** 2
    tables = [_lines(quantities, "axis", np.arange(by_axis.shape[1]).astype(str), by_axis, limit=AXES)]
    for by in ("group", "kind"):
        codes, names = pd.factorize(known[by], sort=True)
        n_rows = np.bincount(codes, known["n_rows"]).astype(int)
        by_name = _sum_by_label(parts, codes, len(names))
        tables.append(_lines(quantities, by, np.asarray(names, dtype=str), by_name, n_rows))
    # What is said of one quantity stays together.
    return pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)[DRIVERS_COLUMNS]


def _lines(
    quantities: pd.DataFrame,
    by: str,
    names: np.ndarray,
    variances: np.ndarray,
    n_rows: np.ndarray | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """Shares in long form, the largest first and what is beyond `limit` in one line; the index is the quantities'.

    Parameters
    ----------
    quantities
        Q lines.
    by
        Of all lines.
    names, n_rows
        Shape (m,).
    variances
        Shape (Q, m).
    limit
        For names without `n_rows`.
    """
    order = np.argsort(-variances, axis=1, kind="stable")
    share = np.take_along_axis(variances / variances.sum(axis=1, keepdims=True), order, axis=1)
    found = names[order]
    if limit is not None and limit < len(names):
        share = np.hstack([share[:, :limit], share[:, limit:].sum(axis=1, keepdims=True)])
        found = np.hstack([found[:, :limit], np.full((len(found), 1), "other")])
    size = [pd.NA] * share.size if n_rows is None else n_rows[order].ravel()
    table = quantities.loc[quantities.index.repeat(share.shape[1])]
    return table.assign(by=by, name=found.ravel(), share=share.ravel(), n_rows=pd.array(size, dtype="Int64"))
