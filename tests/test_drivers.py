"""What drives the uncertainty, against the same sums done the plain way, everything in memory."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from popsbounds.analytic import single_numbers
from popsbounds.descriptors.shards import Shard
from popsbounds.drivers import (
    AXES,
    DRIVERS_COLUMNS,
    axes_of_spread,
    box_by_label,
    gaussian_by_label,
    training_rows,
    variance_shares,
)
from popsbounds.fit import Scaling, training_blocks
from popsbounds.pops import (
    EnsembleRecipe,
    GaussianRecipe,
    HypercubeRecipe,
    Posterior,
    accumulate,
    accumulate_corrections,
    fit_posterior,
    fit_ridge,
    row_stretch,
    second_pass,
)

N, P, Q = 600, 8, 5
POWER, WEIGHT_POWER = 1.5, 0.8
RECIPES = {
    "hypercube": HypercubeRecipe(leverage_floor=1e-3),
    "gaussian": GaussianRecipe(POWER, WEIGHT_POWER, leverage_floor=1e-3),
    "ensemble": EnsembleRecipe(40, leverage_floor=1e-3),
}


class Study:
    """A misspecified fit to rows of three groups and two kinds, a tenth of them without a correction."""

    def __init__(self, recipe, n_parameters=P, size=64):
        rng = np.random.default_rng(3)
        x = rng.normal(size=(N, n_parameters)) * np.logspace(-2, 1, n_parameters)
        x[::10] *= 1e-4
        y = x @ rng.normal(size=n_parameters) + 0.05 * x[:, -1] ** 3 / 100 + 0.3
        self.data = x, y, rng.uniform(0.2, 3.0, size=N)
        self.recipe, self.size = recipe, size
        self.ridge = fit_ridge(accumulate(self.blocks, np.zeros(n_parameters)))
        self.corrections = second_pass(self.blocks, self.ridge, recipe)
        self.posterior: Posterior = fit_posterior(self.blocks, self.ridge, recipe)
        self.rows = pd.DataFrame(
            {
                "group": rng.choice(["bulk", "slab", "vacancy"], size=N, p=[0.7, 0.2, 0.1]),
                "kind": rng.choice(["energy", "force"], size=N, p=[0.2, 0.8]),
                "residual": self.corrections.residual,
                "leverage": self.corrections.leverage,
                "kept": self.corrections.kept,
            }
        )
        self.gradient = rng.normal(size=(Q, n_parameters))
        self.gradient[2] = 0.0
        self.quantities = pd.DataFrame(
            {"property": "elastic", "structure": "bcc", "quantity": [f"q{i}" for i in range(Q)]}
        )

    def blocks(self):
        return self.blocks_of(np.full(N, True))

    def blocks_of(self, chosen):
        x, y, w = (a[chosen] for a in self.data)
        return ((x[i : i + self.size], y[i : i + self.size], w[i : i + self.size]) for i in range(0, len(y), self.size))

    def shares(self, **changes):
        found = {"posterior": self.posterior, "blocks": self.blocks, **changes}
        return variance_shares(
            self.quantities,
            self.gradient,
            found["posterior"],
            self.ridge,
            found["blocks"],
            self.rows,
            self.recipe.power,
            self.recipe.weight_power,
        )


@pytest.fixture(params=RECIPES)
def study(request):
    return Study(RECIPES[request.param])


def by_name(table, by, quantity):
    rows = table[(table["by"] == by) & (table["quantity"] == f"q{quantity}")]
    return rows.set_index("name")["share"]


def test_shares_keep_the_contract(study):
    table = study.shares()
    assert list(table.columns) == DRIVERS_COLUMNS
    assert str(table["n_rows"].dtype) == "Int64"
    # A quantity that no member changes has nothing to share.
    assert list(table["quantity"].unique()) == ["q0", "q1", "q3", "q4"]
    sums = table.groupby(["quantity", "by"])["share"].sum()
    assert len(sums) == 4 * 3
    np.testing.assert_allclose(sums, 1)
    assert (table["share"] >= 0).all()
    for _, rows in table.groupby(["quantity", "by"]):
        assert rows["share"].is_monotonic_decreasing
    assert table.loc[table["by"] == "axis", "n_rows"].isna().all()
    for by in ("group", "kind"):
        counts = table[table["by"] == by].groupby("name")["n_rows"].first()
        pd.testing.assert_series_equal(
            counts, study.rows[by].value_counts().sort_index(), check_names=False, check_dtype=False
        )


def test_axes_are_a_factor_of_the_covariance(study):
    axes, posterior = axes_of_spread(study.posterior, study.ridge), study.posterior
    covariance = posterior.spread() @ posterior.spread().T
    np.testing.assert_allclose(axes @ axes.T, covariance, rtol=1e-8, atol=1e-12 * covariance.max())
    table = study.shares()
    variance = posterior.moments(study.gradient)[1] ** 2
    for q in (0, 1, 3, 4):
        share = by_name(table, "axis", q)
        np.testing.assert_allclose(
            share.to_numpy() * variance[q], (study.gradient[q] @ axes[:, share.index.astype(int)]) ** 2
        )
    if posterior.kind == "hypercube":
        q = 1
        along = study.gradient[q] @ posterior.modes * (posterior.high - posterior.low) / np.sqrt(12)
        np.testing.assert_allclose(by_name(table, "axis", q)[[str(k) for k in range(P)]], along**2 / variance[q])
        return
    # Principal in whitened coordinates, where the covariance is U⁻¹ Cov U⁻ᵀ.
    whitened = np.linalg.solve(study.ridge.factor, axes)
    gram = whitened.T @ whitened
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-9 * gram.max())
    assert (np.diff(np.diag(gram)) <= 0).all()


def test_axes_of_a_gaussian_are_those_of_the_second_moment():
    study = Study(RECIPES["gaussian"])
    eigenvalues, vectors = np.linalg.eigh(study.corrections.second_moment)
    expected = eigenvalues * (study.gradient @ study.ridge.factor @ vectors) ** 2
    expected = expected[:, ::-1]
    table = study.shares()
    for q in (0, 1, 3, 4):
        np.testing.assert_allclose(
            by_name(table, "axis", q)[[str(k) for k in range(P)]], expected[q] / expected[q].sum(), atol=1e-9
        )


def test_a_gaussian_is_the_sum_of_its_groups():
    """Against the covariance made anew of one group's rows alone, with the fit and the scale of all."""
    study = Study(RECIPES["gaussian"])
    assert 0 < (~study.rows["kept"]).sum() < N / 5
    table, ridge = study.shares(), study.ridge
    whole = study.posterior.moments(study.gradient)[1] ** 2
    # The posterior's scale is one number: that of its covariance to the mean second moment.
    made = ridge.factor @ study.corrections.second_moment @ ridge.factor.T
    scale = np.trace(study.posterior.factor @ study.posterior.factor.T) / np.trace(made)
    for by in ("group", "kind"):
        for name in study.rows[by].unique():
            chosen = (study.rows[by] == name).to_numpy()
            part = accumulate_corrections(
                lambda chosen=chosen: study.blocks_of(chosen), ridge, 1e-3, POWER, WEIGHT_POWER
            )
            covariance = scale * ridge.factor @ part.second_moment @ ridge.factor.T
            variance = np.einsum("qi,ij,qj->q", study.gradient, covariance, study.gradient)
            for q in (0, 1, 3, 4):
                assert by_name(table, by, q)[name] * whole[q] == pytest.approx(variance[q], rel=1e-9)


def test_a_gaussian_row_by_row():
    """With every row a label of its own, the sum is the whole variance, up to the posterior's one scale."""
    study = Study(RECIPES["gaussian"])
    stretch = row_stretch(study.corrections.residual, study.corrections.leverage, study.corrections.kept, POWER)
    parts = gaussian_by_label(study.gradient, study.ridge, study.blocks, stretch, WEIGHT_POWER, np.arange(N), N)
    assert not parts[:, ~study.corrections.kept].any()
    assert not parts[2].any()
    variance = study.posterior.moments(study.gradient)[1] ** 2
    used = variance > 0
    ratio = parts[used].sum(axis=1) / variance[used]
    np.testing.assert_allclose(ratio, ratio[0])
    longer = np.append(stretch, 1)
    with pytest.raises(ValueError, match=f"{N} rows where the second pass saw {N + 1}"):
        gaussian_by_label(study.gradient, study.ridge, study.blocks, longer, WEIGHT_POWER, np.arange(N + 1), N + 1)


def test_a_box_is_shared_by_the_rows_that_set_its_axes():
    """Every correction made, every axis's two ends looked up among them."""
    study = Study(RECIPES["hypercube"])
    box, (x, y, _) = study.posterior, study.data
    inverse = study.ridge.factor @ study.ridge.factor.T
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
    corrections = ((y - x @ study.ridge.theta) / leverage)[:, None] * (x @ inverse)
    along = np.where(study.rows["kept"].to_numpy()[:, None], np.linalg.solve(box.modes, corrections.T).T, 0.0)
    table = study.shares()
    for by in ("group", "kind"):
        for q in (0, 1, 3, 4):
            expected = dict.fromkeys(study.rows[by], 0.0)
            for k in range(P):
                low, high = along[:, k].argmin(), along[:, k].argmax()
                width = along[high, k] - along[low, k]
                variance = (study.gradient[q] @ box.modes[:, k]) ** 2 * width**2 / 12
                expected[study.rows.loc[low, by]] += variance * -along[low, k] / width
                expected[study.rows.loc[high, by]] += variance * along[high, k] / width
            total = sum(expected.values())
            assert total == pytest.approx(box.moments(study.gradient)[1][q] ** 2)
            found = by_name(table, by, q)
            assert {name: variance / total for name, variance in expected.items()} == pytest.approx(dict(found))


def test_an_end_of_a_box_that_no_row_sets_has_no_share():
    box = Study(RECIPES["hypercube"]).posterior
    labels = np.zeros(N, dtype=int)
    labels[-1] = 1  # what a row number of −1 would pick
    one_sided = type(box)(box.theta, box.modes, 0 * box.low, box.high, np.full(P, -1), np.minimum(box.high_row, N - 2))
    gradient = np.ones((1, P))
    found = box_by_label(gradient, one_sided, labels, 2)
    assert found[0] == pytest.approx([one_sided.moments(gradient)[1][0] ** 2, 0])
    flat = type(box)(box.theta, box.modes, 0 * box.low, 0 * box.high, np.full(P, -1), np.full(P, -1))
    assert not box_by_label(gradient, flat, labels, 2).any()


def test_an_ensemble_is_shared_by_its_rows():
    study = Study(RECIPES["ensemble"])
    ensemble, table = study.posterior, study.shares()
    values = study.gradient @ (ensemble.theta + ensemble.corrections).T
    square = (values - values.mean(axis=1, keepdims=True)) ** 2
    for by in ("group", "kind"):
        names = study.rows[by].to_numpy()[ensemble.rows]
        for q in (0, 1, 3, 4):
            for name, share in by_name(table, by, q).items():
                assert share == pytest.approx(square[q, names == name].sum() / square[q].sum())


def test_block_size_and_stretching_do_not_matter(study):
    table = study.shares()
    for other in (Study(study.recipe, size=37).shares(), study.shares(posterior=study.posterior.scaled(3.0))):
        pd.testing.assert_frame_equal(other, table)


def test_small_axes_are_one_line():
    study = Study(RECIPES["gaussian"], n_parameters=AXES + 12)
    table = study.shares()
    axes = axes_of_spread(study.posterior, study.ridge)
    for q in (0, 1, 3, 4):
        share = by_name(table, "axis", q)
        assert len(share) == AXES + 1
        assert share.index[-1] == "other"
        every = np.sort((study.gradient[q] @ axes) ** 2)[::-1]
        np.testing.assert_allclose(share, [*every[:AXES], every[AXES:].sum()] / every.sum())


def test_rows_are_those_of_the_passes():
    """However they are divided into shards, a box's and an ensemble's rows and a Gaussian's pass speak of the same."""
    base = Study(RECIPES["gaussian"])
    x, y, w = base.data
    split = np.where(np.arange(N) % 7 == 3, "test", "train")
    rows = base.rows[["group", "kind"]].assign(split=split, truth=y, reference=0.0, weight=w, n_atoms=1)
    scaling = Scaling(np.zeros(P), 0.3, 2.0, total_energies=False)
    for recipe in RECIPES.values():
        tables = []
        # The last division has a shard without a training row.
        for cuts in ([0, N], [0, 100, 357, N], [0, 3, 4, N]):
            shards = [Shard(x[a:b], rows.iloc[a:b].reset_index(drop=True)) for a, b in pairwise(cuts)]
            blocks = training_blocks(shards, scaling)
            ridge = fit_ridge(accumulate(blocks, scaling.prior_mean), 1e-8)
            parts = [second_pass(training_blocks([shard], scaling), ridge, recipe) for shard in shards]
            found = sum(parts[1:], start=parts[0])
            first_rows = np.cumsum([0, *(len(part.kept) for part in parts)])
            prepared = recipe.prepare(ridge, found)
            measured = [
                recipe.measure(training_blocks([shard], scaling), first, part, prepared)
                for shard, first, part in zip(shards, first_rows[:-1], parts, strict=True)
            ]
            posterior = recipe.finish(ridge, prepared, measured)
            named = training_rows(shards)
            np.testing.assert_array_equal(named["group"], rows.loc[split == "train", "group"])
            table = named.assign(residual=found.residual, leverage=found.leverage, kept=found.kept)
            powers = recipe.power, recipe.weight_power
            tables.append(variance_shares(base.quantities, base.gradient, posterior, ridge, blocks, table, *powers))
        for table in tables[1:]:
            pd.testing.assert_frame_equal(table, tables[0], rtol=1e-6)


def test_only_single_numbers_are_read(tmp_path):
    rng = np.random.default_rng(0)
    gradients = {name: rng.normal(size=(4, P)) for name in ("surface", "path")}
    for name, gradient in gradients.items():
        np.savez(
            tmp_path / f"{name}.npz",
            property=np.array([name] * 4),
            structure=np.array(["110", "110", "211", "211"]),
            quantity=np.array(["energy", "line", "energy", "line"]),
            unit=np.array(["eV"] * 4),
            coordinate=np.array([np.nan, 0.5, np.nan, 0.7]),
            gradient=gradient,
        )
    quantities, gradient = single_numbers([tmp_path / "surface.npz", tmp_path / "path.npz"])
    assert quantities[["property", "structure", "quantity"]].to_numpy().tolist() == [
        [name, structure, "energy"] for name in ("surface", "path") for structure in ("110", "211")
    ]
    np.testing.assert_array_equal(gradient, np.concatenate([g[::2] for g in gradients.values()]))


def test_no_quantity_no_lines(study):
    study.gradient[:] = 0.0
    table = study.shares()
    assert table.empty
    assert list(table.columns) == DRIVERS_COLUMNS
    assert str(table["n_rows"].dtype) == "Int64"


def test_a_posterior_of_unknown_making_is_refused():
    study = Study(RECIPES["gaussian"])

    class Unknown:
        kind = "unknown"
        moments, spread = study.posterior.moments, study.posterior.spread

    with pytest.raises(TypeError, match="a posterior of kind 'unknown'"):
        study.shares(posterior=Unknown())
