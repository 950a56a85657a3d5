"""Closed form: derivatives of all values with respect to the parameters, and what a posterior makes of them.

To first order in the parameters' distance from the MLE's, every value of every
property is linear in them, so that its mean, its standard deviation and its
extremes over the whole posterior are known without members, and so are the
parameters at which it is extreme.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from popsbounds.band import BandModel
from popsbounds.config import Relax
from popsbounds.implicit import Implicit
from popsbounds.member import evaluate_models
from popsbounds.models import Basin, Model
from popsbounds.pops import Posterior
from popsbounds.progress import progress
from popsbounds.properties import Property
from popsbounds.properties.base import key_of
from popsbounds.statistics import COUNTS, DATUM

__all__ = ["analytic_bounds", "extreme_parameters", "gradients", "read_gradients", "single_numbers", "write_gradients"]

# Steps of the central differences, in standard deviations of the posterior: values are smooth, and rounding small.
_STEP = 1e-3
# Directions in which the structures change by less than this share of what they do along the first.
_NEGLIGIBLE = 1e-7


def gradients(
    prop: Property,
    models: Mapping[str, Model],
    posterior: Posterior,
    expected: pd.DataFrame,
    settings: Relax,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Derivatives of a property's values with respect to the parameters, structures relaxed.

    To first order the structures, and with them all values, depend on the
    parameters through a few numbers that are linear in them: energies,
    gradients and virials at the MLE's geometries. Central differences are
    taken along the directions that change these.

    Parameters
    ----------
    prop
        The property.
    models
        What is known from the MLE, whose parameters the posterior is about.
    posterior
        Says how far parameters go.
    expected
        The MLE's lines of `properties.parquet`.
    settings
        Tolerances.

    Returns
    -------
    lines : DataFrame
        Columns property, structure, quantity, unit, coordinate, value of what
        has a derivative: what is lost under the MLE, or counts unstable modes,
        has none.
    gradient : ndarray, shape (n, P)
        In the value's unit per parameter's.
    """
    # None where the MLE lost every structure.
    nothing = np.zeros((0, len(posterior.theta) + 1))
    features = np.vstack([nothing, *(part for model in models.values() for part in _features(model))])[:, :-1]
    spread = posterior.spread()
    moved = features @ spread
    sizes = np.linalg.norm(moved, axis=1)
    features, moved = (rows[sizes > 0] / sizes[sizes > 0, None] for rows in (features, moved))
    left, singular, right = np.linalg.svd(moved, full_matrices=False)
    rank = int(np.count_nonzero(singular > _NEGLIGIBLE * singular.max(initial=0.0)))
    directions = spread @ right[:rank].T

    wanted = expected[(expected["status"] == "ok") & ~expected["quantity"].isin(COUNTS)].reset_index(drop=True)
    keys = [key_of(line) for line in wanted.itertuples()]
    sides = []
    for sign in (1, -1):
        thetas = posterior.theta + sign * _STEP * directions.T
        known = evaluate_models(models, thetas, np.inf, "first")
        sides.append([_values(prop, Implicit(mine, settings), keys) for mine in progress(known, "direction", rank)])
    slopes = (np.array(sides[0]) - np.array(sides[1])).reshape(rank, len(keys)).T / (2 * _STEP)
    gradient = (slopes / singular[:rank]) @ left[:, :rank].T @ features
    lines = wanted[[*DATUM, "value"]]
    found = np.isfinite(gradient).all(axis=1)
    return lines[found].reset_index(drop=True), gradient[found]


def _features(model: Model) -> Iterable[np.ndarray]:
    if isinstance(model, BandModel):
        return [reduced.features for reduced in model.models]
    if isinstance(model, Basin):
        return [model.reduced.features, *([] if model.family is None else [model.family.features])]
    return [model.features]


def _values(prop: Property, potential: Implicit, keys: list[tuple]) -> list[float]:
    found = {key_of(value): value.value for value in prop.values(potential)}
    return [found.get(key, np.nan) for key in keys]


def analytic_bounds(lines: pd.DataFrame, gradient: np.ndarray, posterior: Posterior, n_members: int) -> pd.DataFrame:
    """Mean, standard deviation and extremes of values over the whole posterior, to first order.

    Parameters
    ----------
    lines, gradient
        As of `gradients`.
    posterior
        Its box has extremes; of a Gaussian they are those that so many members reach on average.
    n_members
        How many.

    Returns
    -------
    DataFrame
        The lines, less `value`, with columns mean, std, low, high.
    """
    zero = lines["value"].to_numpy() - gradient @ posterior.theta
    mean, std = posterior.moments(gradient)
    low, high = posterior.bounds(gradient, n_members)
    return lines[DATUM].assign(mean=zero + mean, std=std, low=zero + low, high=zero + high)


def extreme_parameters(
    lines: pd.DataFrame, gradient: np.ndarray, posterior: Posterior, n_members: int
) -> dict[str, np.ndarray]:
    """Parameters at which each value is lowest and highest, by `<structure>_<quantity>_low` or `_high`.

    Parameters
    ----------
    lines, gradient
        Single numbers of one property, as of `single_numbers`.
    posterior, n_members
        As of `analytic_bounds`.
    """
    low, high = posterior.extremes(gradient, n_members)
    names = [f"{line.structure}_{line.quantity}" for line in lines.itertuples()]
    return {f"{name}_low": theta for name, theta in zip(names, low, strict=True)} | {
        f"{name}_high": theta for name, theta in zip(names, high, strict=True)
    }


def write_gradients(path: Path, lines: pd.DataFrame, gradient: np.ndarray) -> None:
    """Write what `gradients` found: columns of the lines and `gradient`, as arrays of an .npz file."""
    texts = ("property", "structure", "quantity", "unit")
    columns = {name: lines[name].to_numpy(str if name in texts else float) for name in lines.columns}
    np.savez(path, gradient=gradient, **columns)


def read_gradients(path: Path | str) -> tuple[pd.DataFrame, np.ndarray]:
    """Read what `write_gradients` wrote."""
    with np.load(path) as data:
        return pd.DataFrame({name: data[name] for name in data.files if name != "gradient"}), data["gradient"]


def single_numbers(paths: Iterable[Path | str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Read what `write_gradients` wrote for some properties, less the points of curves."""
    lines, gradients = zip(*map(read_gradients, paths), strict=True)
    table, gradient = pd.concat(lines, ignore_index=True), np.concatenate(gradients)
    single = table["coordinate"].isna().to_numpy()
    return table[single].reset_index(drop=True), gradient[single]
