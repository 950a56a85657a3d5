"""Posteriors compared on held-out data: in distribution, and on whole groups left out of the training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from popsbounds.config import CalibrationCase, Config, Dataset
from popsbounds.dataset import divide
from popsbounds.descriptors.shards import Shard
from popsbounds.errors import InputError, did_you_mean
from popsbounds.fit import Scaling, prepare, training_blocks, widening
from popsbounds.pops import (
    Blocks,
    Corrections,
    EnsembleRecipe,
    Gaussian,
    GaussianRecipe,
    HypercubeRecipe,
    Moments,
    Posterior,
    Recipe,
    Ridge,
    accumulate,
    fit_posterior,
    fit_ridge,
    second_pass,
    whiten,
    with_rows,
)
from popsbounds.statistics import SCORE_LEVEL, calibration

__all__ = ["DRAWS", "PRINCIPAL", "RIVALS", "compare", "compare_over_splits", "redivide", "resplit"]

RIVALS: dict[str, Recipe] = {
    "hypercube": HypercubeRecipe(),
    "hypercube, standardised": HypercubeRecipe("standardised"),
    "hypercube, whitened": HypercubeRecipe("whitened"),
    "hypercube, floor 1e-6": HypercubeRecipe(leverage_floor=1e-6),
    "hypercube, floor 1e-4": HypercubeRecipe(leverage_floor=1e-4),
    "Gaussian": GaussianRecipe(),
    "Gaussian, leave-one-out": GaussianRecipe(leave_one_out=True),
    "Gaussian, tempered only": GaussianRecipe(weight_power=0.0),
    "Gaussian, weighted only": GaussianRecipe(2.0, 1.0),
    "Gaussian, POPS moment": GaussianRecipe(2.0, 0.0),
}
"""Posteriors made of the corrections, by name."""

DRAWS: dict[str, tuple[int | None, str]] = {
    "": (None, "uniform"),
    "100 members": (100, "uniform"),
    "2000 members": (2000, "uniform"),
    "Sobol": (None, "sobol"),
    "Latin hypercube": (None, "latin_hypercube"),
}
"""Number of members (None: as configured) and sampling; all but the first are tried with the principal rivals only."""
PRINCIPAL = ("hypercube", "Gaussian")


def resplit(shards: Sequence[Shard], case: CalibrationCase, rng: np.random.Generator) -> list[Shard]:
    """Divide the data anew, for a study of posteriors.

    Parameters
    ----------
    shards
        The design matrix, split into train and test.
    case
        Which groups become the test data, and what share of the training frames stays.
    rng
        Source of the choice of frames.

    Returns
    -------
    list of Shard
        Test frames whose number divides by three become calibration data. Where groups
        are left out, the test frames of all others are ``unused``, and so are
        training frames that are not chosen.

    Raises
    ------
    InputError
        No frame is of a group to be left out, or no frame is left to be learnt from.
    """
    known = sorted(set().union(*(shard.rows["group"] for shard in shards)))
    unknown = [f"no frame of group '{g}'{did_you_mean(g, known)}" for g in case.left_out if g not in known]
    if unknown:
        raise InputError("calibration.cases", unknown)
    found = []
    for shard in shards:
        rows = shard.rows
        test = rows["split"] == "test"
        split = rows["split"].mask(test & (rows["frame"] % 3 == 0), "calibration")
        if case.left_out:
            split = split.mask(split == "test", "unused").mask(rows["group"].isin(case.left_out), "test")
        found.append(Shard(shard.matrix, rows.assign(split=split)))
    if not len(_training_frames(found)):
        raise InputError("calibration.cases", [f"without {', '.join(case.left_out)} there are no data to train on"])
    if case.train_fraction < 1:
        frames = rng.permutation(_training_frames(found))
        unused = frames[max(round(case.train_fraction * len(frames)), 1) :]
        found = [
            Shard(s.matrix, s.rows.assign(split=s.rows["split"].mask(s.rows["frame"].isin(unused), "unused")))
            for s in found
        ]
    return found


def redivide(shards: Sequence[Shard], settings: Dataset, rng: np.random.Generator) -> list[Shard]:
    """Divide all frames anew, as the study's own were divided.

    Parameters
    ----------
    shards
        The design matrix.
    settings
        Section `dataset` of the configuration.
    rng
        Source of the division.
    """
    frames = pd.concat([shard.rows[["frame", "group"]] for shard in shards]).groupby("frame")["group"].first()
    of_frame = pd.Series(divide(frames.tolist(), settings, rng), index=frames.index)
    return [Shard(s.matrix, s.rows.assign(split=s.rows["frame"].map(of_frame))) for s in shards]


def _training_frames(shards: Sequence[Shard]) -> np.ndarray:
    return np.unique(np.concatenate([s.rows.loc[s.rows["split"] == "train", "frame"] for s in shards]))


class HeldOut(Shard):
    """Held-out rows, in memory."""

    @classmethod
    def of(cls, shards: Sequence[Shard], split: str, limit: int, rng: np.random.Generator) -> HeldOut:
        """Rows of one split, at most `limit` of each kind, drawn at random.

        Raises
        ------
        InputError
            There are none.
        """
        table = pd.concat([s.rows.assign(shard=k, row=np.arange(len(s.rows))) for k, s in enumerate(shards)])
        table = table[table["split"] == split]
        if table.empty:
            raise InputError("calibration.cases", [f"no {split} data: there are too few test frames"])
        picked = [
            group.iloc[np.sort(rng.permutation(len(group))[:limit])] for _, group in table.groupby("kind", sort=True)
        ]
        table = pd.concat(picked).sort_values(["shard", "row"], ignore_index=True)
        parts = [shards[k].matrix[group["row"].to_numpy()] for k, group in table.groupby("shard", sort=True)]
        return cls(np.concatenate(parts), table)

    def pointwise(
        self, mle: np.ndarray, mean: np.ndarray, std: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> pd.DataFrame:
        """Lines as of the table `pointwise`, from values without the reference potential's, shape (n,) each."""
        values = {"mle": mle, "mean": mean, "std": std, "low": low, "high": high}
        reference = self.rows["reference"].to_numpy()
        shifted = {name: value if name == "std" else value + reference for name, value in values.items()}
        return self.rows[["kind", "truth"]].assign(**shifted)

    def with_members(self, theta: np.ndarray, members: np.ndarray) -> pd.DataFrame:
        """Lines from the members' predictions, of parameters of shape (M, P)."""
        values = self.matrix @ members.T
        return self.pointwise(
            self.matrix @ theta, values.mean(axis=1), values.std(axis=1, ddof=1), values.min(axis=1), values.max(axis=1)
        )

    def rms_errors(self, theta: np.ndarray) -> pd.Series:
        """Root of the mean squared error of each kind."""
        errors = self.rows["truth"] - self.rows["reference"] - self.matrix @ theta
        return (errors**2).groupby(self.rows["kind"]).mean() ** 0.5

    def with_constant_width(self, theta: np.ndarray, std: pd.Series) -> pd.DataFrame:
        """Lines of error bars that know nothing but the kind of a datum: three `std` of it."""
        middle, std = self.matrix @ theta, self.rows["kind"].map(std).to_numpy()
        return self.pointwise(middle, middle, std, middle - 3 * std, middle + 3 * std)


def compare_over_splits(
    shards: Sequence[Shard], config: Config, case: CalibrationCase, constants: Sequence[int], rng: np.random.Generator
) -> pd.DataFrame:
    """What `compare` gives, averaged over the study's own division of the frames and others drawn like it.

    Parameters
    ----------
    shards, config, case, constants, rng
        As for `compare`.

    Returns
    -------
    DataFrame
        The columns of `compare`; `EV_std`, `interval_score_std`, standard deviations over `n_splits` divisions (null
        for one).

    Raises
    ------
    InputError
        As of `compare`.
    """
    tables = []
    for number in range(case.splits):
        divided = redivide(shards, config.dataset, rng) if number else shards
        tables.append(compare(divided, config, case, constants, rng))
    key = ["posterior", "draw", "kind", "conformal"]
    groups = pd.concat(tables).groupby(key, sort=False)
    spread = groups[["EV", "interval_score"]].std().add_suffix("_std")
    found = groups.mean().join(spread).assign(n_splits=groups.size()).reset_index()
    counts = ["n_members", "n_points", "n_fixed"]
    return found.assign(**found[counts].round().astype("int64"))


def compare(
    shards: Sequence[Shard], config: Config, case: CalibrationCase, constants: Sequence[int], rng: np.random.Generator
) -> pd.DataFrame:
    """Fit every rival to the training rows and judge it by the test rows.

    Parameters
    ----------
    shards
        The design matrix.
    config
        The study.
    case
        What is learnt from, how, and what is tested on.
    constants
        Columns of the elements' constants.
    rng
        Source of all random numbers.

    Returns
    -------
    DataFrame
        The columns of `calibration`, by posterior and kind; `draw` is one of
        `DRAWS`; `conformal` tells whether the bounds were stretched until they
        left out 2 % of the calibration data of their kind, by `factor`;
        `seconds` is the time that the posterior took beyond the ridge
        regression.

    Raises
    ------
    InputError
        As of `resplit`; or there are no test data, or none to stretch bounds by.
    """
    shards = resplit(shards, case, rng)
    settings = case.applied_to(config.fit)
    scaling = prepare(shards, constants, settings.energy_rows == "total")
    blocks = training_blocks(shards, scaling)
    fit = partial(fit_ridge, components=settings.components, constants=constants)
    ridge = fit(accumulate(blocks, scaling.prior_mean), settings.regularisation)
    data = {
        split: HeldOut.of(shards, split, config.calibration.max_test_rows, rng) for split in ("test", "calibration")
    }
    rows = []

    def judge(
        name: str, n_members: int, seconds: float, table: Callable[[HeldOut], pd.DataFrame], draw: str = ""
    ) -> None:
        test = table(data["test"])
        factors = widening(table(data["calibration"]), SCORE_LEVEL)
        common = {"draw": draw, "seconds": seconds}
        rows.append(calibration(test, name, n_members).assign(**common, conformal=False, factor=1.0))
        # Too few calibration data cannot promise 2 %.
        test = test[test["kind"].isin([kind for kind, factor in factors.items() if np.isfinite(factor)])]
        if test.empty:
            return
        factor = test["kind"].map(factors)
        stretched = test.assign(
            **{name: test["mle"] + factor * (test[name] - test["mle"]) for name in ("mean", "low", "high")},
            std=factor * test["std"],
        )
        judged = calibration(stretched, name, n_members).assign(**common, conformal=True)
        rows.append(judged.assign(factor=judged["kind"].map(factors)))

    def judge_posterior(name: str, make: Callable[[], Posterior]) -> None:
        start = time.perf_counter()
        posterior = make()
        seconds = time.perf_counter() - start
        for draw, (number, sampling) in DRAWS.items() if name in PRINCIPAL else [("", DRAWS[""])]:
            members = posterior.draw(number or config.ensemble.members, sampling, rng)
            judge(name, len(members), seconds, partial(HeldOut.with_members, theta=ridge.theta, members=members), draw)

    known = data["calibration"].rms_errors(ridge.theta)
    judge("constant width", 0, 0.0, lambda held: held.with_constant_width(ridge.theta, known))
    judge_posterior("Bayesian ridge", lambda: Gaussian(ridge.theta, ridge.epistemic_factor))
    for name, recipe in RIVALS.items():
        judge_posterior(name, lambda recipe=recipe: fit_posterior(blocks, ridge, recipe))  # type: ignore[misc]

    start = time.perf_counter()
    # The bags' prior is that of the fit.
    bag = partial(_bag, shards, scaling, partial(fit, regularisation=ridge.regularisation), rng)
    bags = np.array([bag() for _ in range(config.calibration.bags)])
    seconds = time.perf_counter() - start
    judge("bagging", len(bags), seconds, lambda held: held.with_members(ridge.theta, bags))
    ratio = _variance_ratio(blocks, ridge, bags)
    rescaled = ridge.theta + ratio * (bags - ridge.theta)
    judge("bagging, rescaled", len(bags), seconds, lambda held: held.with_members(ridge.theta, rescaled))

    start = time.perf_counter()
    found = second_pass(blocks, ridge, EnsembleRecipe())
    seconds = time.perf_counter() - start
    judge(
        "POPS ensemble, all rows",
        int(found.kept.sum()),
        seconds,
        lambda held: held.pointwise(*_whole_ensemble(blocks, ridge, found, held.matrix)),
    )
    return pd.concat(rows, ignore_index=True)


def _bag(
    shards: Sequence[Shard], scaling: Scaling, fit: Callable[[Moments], Ridge], rng: np.random.Generator
) -> np.ndarray:
    """Parameters fitted to as many frames, drawn with replacement."""
    frames = _training_frames(shards)
    counts = pd.Series(rng.multinomial(len(frames), np.full(len(frames), 1 / len(frames))), index=frames)
    drawn = []
    for shard in shards:
        times = shard.rows["frame"].map(counts).fillna(0).to_numpy()
        split = shard.rows["split"].mask((shard.rows["split"] == "train") & (times == 0), "unused")
        drawn.append(Shard(shard.matrix, shard.rows.assign(split=split, weight=shard.rows["weight"] * times)))
    return fit(accumulate(training_blocks(drawn, scaling), scaling.prior_mean)).theta


def _variance_ratio(blocks: Blocks, ridge: Ridge, members: np.ndarray) -> float:
    """Root of the mean squared residual over the members' mean variance, on the training rows."""
    squares = variance = 0.0
    for x, y, w in blocks():
        squares += float(w @ (y - x @ ridge.theta) ** 2)
        variance += float(w @ (x @ members.T).var(axis=1, ddof=1))
    return float(np.sqrt(squares / variance))


def _whole_ensemble(blocks: Blocks, ridge: Ridge, found: Corrections, matrix: np.ndarray) -> tuple[np.ndarray, ...]:
    """MLE, mean, std, low and high over all pointwise optima, streamed over the training rows."""
    middle = matrix @ ridge.theta
    gradient = whiten(matrix, ridge.factor).T
    sums, squares = np.zeros((2, len(matrix)))
    low, high = np.full((2, len(matrix)), [[np.inf], [-np.inf]])
    for (x, _, _), stretch in with_rows(blocks, found.stretch):
        use = stretch != 0
        along = (whiten(x[use], ridge.factor) * stretch[use, None]) @ gradient
        if len(along):
            sums += along.sum(axis=0)
            squares += (along**2).sum(axis=0)
            low, high = np.minimum(low, along.min(axis=0)), np.maximum(high, along.max(axis=0))
    n = found.kept.sum()
    mean = sums / n
    std = np.sqrt(np.maximum(squares / n - mean**2, 0))
    return middle, middle + mean, std, middle + low, middle + high
