"""From frames to shards to the posterior: weights, priors and predictions, against plain linear algebra."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk

from popsbounds.calculators import make_calculator
from popsbounds.calibration import DRAWS, PRINCIPAL, RIVALS, compare, compare_over_splits, redivide, resplit
from popsbounds.config import (
    CalibrationCase,
    Config,
    Ensemble,
    Fit,
    PairStyle,
    Reference,
    ReferencePotential,
    Snap,
    Surface,
    Weights,
)
from popsbounds.dataset import Frame, frame_table
from popsbounds.descriptors.shards import Shard, open_shards, select_components, write_shard
from popsbounds.descriptors.snap import SnapModel, SnapRows
from popsbounds.errors import InputError
from popsbounds.fit import (
    Scaling,
    coefficient_table,
    conformal,
    coverage_caveats,
    deviations,
    load,
    make_recipe,
    predict,
    prepare,
    read_posterior,
    save,
    summarise,
    training_blocks,
    whole_posterior,
    widening,
    write_posterior,
)
from popsbounds.label import label_frames
from popsbounds.pops import (
    EnsembleRecipe,
    GaussianRecipe,
    HypercubeRecipe,
    POPSRegression,
    accumulate,
    fit_posterior,
    fit_ridge,
    second_pass,
)
from popsbounds.properties import Settings
from popsbounds.properties.surface import SurfaceProperty
from popsbounds.reference import check_reference_table, read_reference_table
from popsbounds.statistics import calibration, outside_bounds

EAM = PairStyle(pair_style="eam/alloy", pair_coeff=["* * W_zhou.eam.alloy W"])
WEIGHTS = Weights(energy_scale_eV=0.5, force_scale_eV_per_A=5.0)
MODEL = SnapModel(
    Snap(twojmax=4, quadratic=False, reference=ReferencePotential(pair_style="zbl 4.0 4.8", pair_coeff=["1 1 74 74"])),
    ["W"],
)


def make_frames(number):
    rng = np.random.default_rng(0)
    atoms = [bulk("W", "bcc", a=rng.uniform(2.9, 3.5)) * (2, 2, 1) for _ in range(number)]
    for a in atoms:
        a.rattle(0.15, rng=rng)
    labelled, _ = label_frames(atoms, make_calculator(EAM, ["W"]), "")
    frames = [
        Frame(a.copy(), a.get_potential_energy(), a.get_forces(), "bulk", "made.extxyz", i)
        for i, a in enumerate(labelled)
    ]
    # A frame whose forces are not known.
    return [Frame(f.atoms, f.energy, None, "bulk", f.source_file, 0) if f.index == 3 else f for f in frames]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    frames = make_frames(24)
    table = frame_table(frames, ["test" if i % 4 == 0 else "train" for i in range(24)], WEIGHTS, 2)
    for k in (0, 1):
        part = table[table["shard"] == k]
        write_shard(
            folder / f"{k}.npy",
            folder / f"{k}.parquet",
            [frames[i] for i in part["frame"]],
            part,
            SnapRows(MODEL),
            MODEL.n_parameters,
            lambda frame, n: np.arange(3 * n),
            WEIGHTS,
        )
    return open_shards([folder / "0.npy", folder / "1.npy"], [folder / "0.parquet", folder / "1.parquet"])


def fitted(shards, settings):
    scaling = prepare(shards, MODEL.constants, settings.energy_rows == "total")
    blocks = training_blocks(shards, scaling)
    ridge = fit_ridge(accumulate(blocks, scaling.prior_mean))
    recipe = make_recipe(settings, 7, 0)
    return ridge, second_pass(blocks, ridge, recipe), fit_posterior(blocks, ridge, recipe)


def test_rows_of_a_shard(shards):
    rows = pd.concat([s.rows for s in shards], ignore_index=True)
    assert (rows["kind"] == "energy").sum() == 24
    assert (rows["kind"] == "force").sum() == 23 * 12
    assert 3 not in rows.loc[rows["kind"] == "force", "frame"].to_numpy()
    assert all(s.matrix.dtype == np.float64 and isinstance(s.matrix, np.memmap) for s in shards)
    assert np.abs(rows["reference"]).max() > 0


def test_weights_balance_energies_and_forces(shards):
    blocks = training_blocks(shards, prepare(shards, MODEL.constants, total_energies=False))
    _, y, w = (np.concatenate(parts) for parts in zip(*blocks(), strict=True))
    rows = pd.concat([s.rows for s in shards], ignore_index=True).query("split == 'train'")
    energy = (rows["kind"] == "energy").to_numpy()
    assert len(y) == len(rows)
    assert w[energy].sum() == pytest.approx(w[~energy].sum())
    lowest = rows.loc[energy, "truth"].min()
    np.testing.assert_allclose(
        w[energy] / w[energy].max(), np.exp(-(rows.loc[energy, "truth"] - lowest) / WEIGHTS.energy_scale_eV)
    )
    forces = rows[~energy].copy()
    forces["norm"] = forces.groupby(["frame", "atom"])["truth"].transform(lambda f: np.linalg.norm(f))
    ratio = w[~energy] / np.exp(-forces["norm"] / WEIGHTS.force_scale_eV_per_A)
    np.testing.assert_allclose(ratio, ratio.iloc[0])
    np.testing.assert_allclose(y, rows["truth"] - rows["reference"])


def test_total_energies_weigh_as_their_rows_would(shards):
    """A row n times as long with an error n times as large is the per-atom row at n² the weight."""
    weights = []
    for total in (False, True):
        blocks = training_blocks(shards, prepare(shards, MODEL.constants, total_energies=total))
        weights.append(np.concatenate([w for _, _, w in blocks()]))
    rows = pd.concat([s.rows for s in shards], ignore_index=True).query("split == 'train'")
    expected = np.where(rows["kind"] == "energy", 16.0, 1.0)  # frames of 4 atoms
    np.testing.assert_allclose(weights[1] / weights[0], expected)


def test_constant_is_the_mean_energy(shards):
    prior = prepare(shards, MODEL.constants, total_energies=False).prior_mean
    rows = pd.concat([s.rows for s in shards]).query("split == 'train' and kind == 'energy'")
    assert prior[0] == pytest.approx((rows["truth"] - rows["reference"]).mean())
    assert not prior[1:].any()


def test_fit_follows_a_shift_of_the_energy_zero(shards):
    """The arbitrary zero of energy moves the constant and nothing else."""
    thetas = []
    for shift in (0.0, -4e5):  # all-electron energies are as large
        moved = [
            type(s)(s.matrix, s.rows.assign(truth=s.rows["truth"] + shift * (s.rows["kind"] == "energy")))
            for s in shards
        ]
        thetas.append(fitted(moved, Fit())[0].theta)
    difference = thetas[1] - thetas[0]
    assert difference[0] == pytest.approx(-4e5, abs=1e-4)
    np.testing.assert_allclose(thetas[1][1:], thetas[0][1:], rtol=1e-5, atol=1e-8)


def test_predictions_and_summary(shards, tmp_path):
    ridge, corrections, _ = fitted(shards, Fit())
    members = ridge.theta + np.random.default_rng(0).normal(scale=1e-3, size=(7, MODEL.n_parameters))
    table = predict(shards, ridge.theta, members)
    test = [(s.matrix[(s.rows["split"] == "test").to_numpy()], s.rows.query("split == 'test'")) for s in shards]
    x = np.vstack([m for m, _ in test])
    fixed = np.concatenate([r["reference"] for _, r in test])
    values = x @ members.T + fixed[:, None]
    np.testing.assert_allclose(table["mle"], x @ ridge.theta + fixed)
    np.testing.assert_allclose(table["low"], values.min(axis=1))
    np.testing.assert_allclose(table["high"], values.max(axis=1))
    np.testing.assert_allclose(table["mean"], values.mean(axis=1))
    np.testing.assert_allclose(table["std"], values.std(axis=1, ddof=1), rtol=1e-6)

    assert not table.columns.str.startswith("analytic").any()

    summary = summarise(shards, ridge, corrections, seed=5)
    energies = table[table["kind"] == "energy"]
    mae = (energies["mle"] - energies["truth"]).abs().mean()
    assert summary["errors"]["energy_test"]["MAE_eV_per_atom"] == pytest.approx(mae)
    assert summary["seed"] == 5


@pytest.mark.parametrize("kind", ["hypercube", "gaussian", "ensemble"])
def test_predictions_in_closed_form_are_those_of_many_members(shards, kind):
    ridge, _, posterior = fitted(shards, Fit(posterior=kind))
    n_members = len(posterior.corrections) if kind == "ensemble" else 4000
    members = posterior.draw(n_members, "uniform", np.random.default_rng(0))
    table = predict(shards, ridge.theta, members, posterior=posterior)
    free = table[table["std"] > 1e-9]
    error_of_std = 1e-9 if kind == "ensemble" else 6 / np.sqrt(2 * n_members)
    std = free["std"] * np.sqrt((n_members - 1) / n_members)
    np.testing.assert_allclose(free["analytic_std"], std, rtol=error_of_std)
    off = (free["analytic_mean"] - free["mean"]).abs() / free["std"]
    assert off.max() < (1e-9 if kind == "ensemble" else 6 / np.sqrt(n_members))
    if kind == "gaussian":
        np.testing.assert_allclose(free["analytic_high"] - free["mle"], free["high"] - free["mle"], rtol=0.35)
        few = predict(shards, ridge.theta, members[:10], posterior=posterior)
        assert (few["analytic_high"] <= table["analytic_high"]).all()
    else:
        assert (table["analytic_low"] <= table["low"] + 1e-12).all()
        assert (table["analytic_high"] >= table["high"] - 1e-12).all()
    if kind == "ensemble":
        np.testing.assert_allclose(table["analytic_low"], table["low"])

    whole = whole_posterior(table)
    for name in ("mean", "std", "low", "high"):
        np.testing.assert_array_equal(whole[name], table[f"analytic_{name}"])
    judged = calibration(whole, "whole", None)
    assert judged["n_members"].isna().all()
    both = pd.concat([calibration(table, kind, n_members), judged])
    assert str(both["n_members"].dtype) == "Int32"
    by_posterior = both.groupby("posterior")
    assert (by_posterior["MAE"].first() == by_posterior["MAE"].first().iloc[0]).all()


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("hypercube", HypercubeRecipe()),
        ("gaussian", GaussianRecipe()),
        ("ensemble", EnsembleRecipe(500, 0)),
    ],
)
def test_a_study_an_estimator_and_a_recipe_have_the_same_defaults(kind, recipe):
    """So that what is said of the defaults is true of all three, which each name them."""
    assert make_recipe(Fit(posterior=kind), 500, 0) == recipe
    estimator = POPSRegression().get_params()
    known = Fit().model_dump()
    assert estimator["coordinates"] == known["coordinates"]
    for name in ("power", "weight_power", "leverage_floor"):
        assert estimator[name] == known[name]


@pytest.mark.parametrize("kind", ["hypercube", "gaussian", "ensemble"])
def test_stages_of_the_fit_are_read_as_written(shards, tmp_path, kind):
    ridge, corrections, posterior = fitted(shards, Fit(posterior=kind))
    path = tmp_path / "stage.npz"
    for stage in (prepare(shards, MODEL.constants, total_energies=True), ridge, corrections):
        save(path, stage)
        again = load(type(stage), path)
        for name, value in vars(stage).items():
            np.testing.assert_array_equal(getattr(again, name), value)
    assert isinstance(load(Scaling, _saved(tmp_path, shards)).total_energies, bool)
    write_posterior(path, posterior)
    again = read_posterior(path)
    assert type(again) is type(posterior)
    for name, value in vars(posterior).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    with np.load(path) as data:  # and nothing else
        assert len(data.files) == len(vars(posterior)) + 1


def _saved(folder, shards):
    path = folder / "scaling.npz"
    save(path, prepare(shards, MODEL.constants, total_energies=True))
    return path


def test_widening_is_the_conformal_quantile():
    rng = np.random.default_rng(0)
    error = rng.normal(size=4000)
    table = pd.DataFrame({"kind": "force", "truth": error, "mle": 0.0, "low": -1.0, "high": 1.0})
    factor = widening(table, 0.1)["force"]
    assert factor == pytest.approx(1.645, abs=0.06)
    assert np.mean(np.abs(error) > factor) <= 0.1
    # Each side is measured by its own reach.
    lopsided = table.assign(high=2.0)
    assert widening(lopsided, 0.1)["force"] < factor
    # 1 % cannot be promised on the word of 50 data.
    assert widening(table.head(50), 0.01)["force"] == np.inf


def test_conformal_members_leave_out_what_is_promised(shards):
    held = [Shard(s.matrix, s.rows.replace({"split": {"test": "calibration"}})) for s in shards]
    _, _, before = fitted(held, Fit(posterior="hypercube"))
    ensemble = Ensemble(members=20)
    after, factors = conformal(before, held, 0.3, ensemble, np.random.default_rng(2))
    assert set(factors) == {"energy", "force"}
    members = after.draw(20, "uniform", np.random.default_rng(2))
    table = predict(held, after.theta, members, split="calibration")
    assert outside_bounds(table).any()
    for _, rows in table.groupby("kind"):
        assert outside_bounds(rows).mean() <= 0.3
    np.testing.assert_allclose(after.high, max(factors.values()) * before.high)
    with pytest.raises(InputError, match=r"energy: too few calibration data to promise 0.05"):
        conformal(before, held, 0.05, ensemble, np.random.default_rng(2))


def test_coverage_is_judged_by_what_is_promised():
    def caveats(outside, n_points, **settings):
        table = pd.DataFrame({"kind": ["force"], "EV": [outside], "n_members": [500], "n_points": [n_points]})
        return coverage_caveats(table, Fit(**settings))

    assert caveats(0.004, 10000, posterior="hypercube") == []
    assert caveats(0.02, 100, posterior="hypercube") == []
    (caveat,) = caveats(0.02, 10000, posterior="hypercube")
    assert "2 % of the held-out force data" in caveat
    assert "500 members, where 0.4 % are promised" in caveat
    assert caveats(0.02, 10000, violation=0.02) == []
    assert len(caveats(0.03, 10000, violation=0.02)) == 1
    assert caveats(0.1, 10000, conformal=0.1) == []


def test_deviations_and_coverage_by_members(shards):
    ridge, _, posterior = fitted(shards, Fit())
    members = posterior.draw(40, "uniform", np.random.default_rng(0))
    table = predict(shards, ridge.theta, members)
    histogram, coverage = deviations(shards, ridge.theta, members, table)
    for kind, rows in table.groupby("kind"):
        bins = histogram[histogram["kind"] == kind]
        assert bins["error"].sum() == pytest.approx(1)
        assert bins["deviation"].sum() == pytest.approx(1)
        centre = (bins["left"] + bins["right"]) / 2
        error = (rows["truth"] - rows["mle"]).to_numpy()
        width = bins["right"].iloc[0] - bins["left"].iloc[0]
        assert np.average(centre, weights=bins["error"]) == pytest.approx(error.mean(), abs=width)
        by_members = coverage[coverage["kind"] == kind]
        last = by_members.iloc[-1]
        assert last["n_members"] == 40
        assert last["EV"] == pytest.approx(outside_bounds(rows).mean())
        assert last["mean_width"] == pytest.approx((rows["high"] - rows["low"]).mean())
        assert by_members["EV"].is_monotonic_decreasing
        few = predict(shards, ridge.theta, members[: by_members["n_members"].iloc[0]])
        assert by_members["EV"].iloc[0] == pytest.approx(outside_bounds(few[few["kind"] == kind]).mean())


def test_coefficients_shown_are_those_that_matter(shards):
    ridge, _, posterior = fitted(shards, Fit(posterior="ensemble"))
    table = coefficient_table(ridge, posterior, 3)
    largest = set(np.argsort(-np.abs(ridge.theta * ridge.scale))[:3])
    assert set(table["coefficient"]) == largest
    for number, rows in table.groupby("coefficient"):
        np.testing.assert_array_equal(rows["deviation"], posterior.corrections[:, number])
        assert (rows["mle"] == ridge.theta[number]).all()


CONFIG = Config.model_validate(
    {
        "study": "rivals",
        "elements": ["W"],
        "dataset": {"sources": [{"path": "made.extxyz"}]},
        "descriptors": {"twojmax": 4, "quadratic": False},
        "ensemble": {"members": 30},
        "material": {"element": "W"},
        "properties": {"elastic": {}},
    }
)


def test_rivals_are_judged_by_the_same_data(shards):
    table = compare(shards, CONFIG, CalibrationCase(), MODEL.constants, np.random.default_rng(0))
    assert set(table["posterior"]) == {
        *RIVALS, "constant width", "Bayesian ridge", "bagging", "bagging, rescaled", "POPS ensemble, all rows",
    }  # fmt: skip
    assert (table.groupby(["posterior", "draw", "kind", "conformal"]).size() == 1).all()
    assert np.isfinite(table["interval_score"]).all()
    for name in PRINCIPAL:
        drawn = table[(table["posterior"] == name) & (table["kind"] == "force") & ~table["conformal"]]
        assert list(drawn["draw"]) == list(DRAWS)
        drawn = drawn.set_index("draw")
        assert list(drawn["n_members"]) == [30, 100, 2000, 30, 30]
        # More members reach farther, whatever the sampling the spread is the same.
        assert drawn.loc["2000 members", "mean_width"] > drawn.loc["100 members", "mean_width"]
        assert drawn.loc["Sobol", "mean_width"] == pytest.approx(drawn.loc["", "mean_width"], rel=0.3)
    plain = table[~table["conformal"] & (table["draw"] == "")].set_index(["kind", "posterior"])
    for _, rows in plain.groupby("kind"):
        assert rows["MAE"].nunique() == rows["n_points"].nunique() == 1
    # Five bags agree with each other far better than with the truth.
    widths = plain["mean_width"].loc["force"]
    assert widths["bagging"] < widths["hypercube"]
    # Rescaled, they are stretched about the fit by one factor.
    ratio = (
        plain.xs("bagging, rescaled", level="posterior")["mean_width"]
        / plain.xs("bagging", level="posterior")["mean_width"]
    )
    assert ratio["energy"] == pytest.approx(ratio["force"])


def test_splits_are_drawn_like_the_studys_own_and_averaged(shards):
    case = CalibrationCase(splits=3)
    table = compare_over_splits(shards, CONFIG, case, MODEL.constants, np.random.default_rng(0))
    rng, parts, tables = np.random.default_rng(0), [], []
    for number in range(3):
        divided = redivide(shards, CONFIG.dataset, rng) if number else shards
        rows = pd.concat([s.rows for s in divided])
        assert (rows.groupby("frame")["split"].nunique() == 1).all()
        parts.append(rows.groupby("frame")["split"].first())
        tables.append(compare(divided, CONFIG, case, MODEL.constants, rng).assign(number=number))
    assert (parts[1] == "test").sum() == (parts[2] == "test").sum()
    assert not (parts[0] == parts[1]).all()
    assert not (parts[1] == parts[2]).all()
    key = ["posterior", "draw", "kind", "conformal"]
    every = pd.concat(tables).set_index(key)["EV"].groupby(key)
    found = table.set_index(key)
    assert list(found["n_splits"]) == list(every.size().reindex(found.index))
    np.testing.assert_allclose(found["EV"], every.mean().reindex(found.index))
    np.testing.assert_allclose(found["EV_std"], every.std().reindex(found.index))
    assert found.query("posterior == 'Gaussian' and draw == ''")["EV_std"].max() > 0


def test_all_rows_of_the_raw_ensemble_are_streamed_right(shards):
    """Against the same ensemble with every correction in memory."""
    case, rng = CalibrationCase(), np.random.default_rng(0)
    split = resplit(shards, case, rng)
    table = compare(shards, CONFIG, case, MODEL.constants, rng).query("not conformal")
    scaling = prepare(split, MODEL.constants, total_energies=True)
    blocks = training_blocks(split, scaling)
    ridge = fit_ridge(accumulate(blocks, scaling.prior_mean))
    whole = fit_posterior(blocks, ridge, EnsembleRecipe(10**6))
    expected = calibration(predict(split, ridge.theta, ridge.theta + whole.corrections), "", len(whole.corrections))
    found = table[table["posterior"] == "POPS ensemble, all rows"]
    for column in ("EV", "mean_width", "interval_score"):
        by_kind = found.set_index("kind")[column]
        for line in expected.itertuples():
            assert by_kind[line.kind] == pytest.approx(getattr(line, column), rel=1e-6)


def test_left_out_groups_are_the_test_data(shards):
    renamed = [
        Shard(s.matrix, s.rows.assign(group=np.where(s.rows["frame"] < 6, "rare", s.rows["group"]))) for s in shards
    ]
    rng = np.random.default_rng(0)
    rows = pd.concat([s.rows for s in resplit(renamed, CalibrationCase(left_out=["rare"]), rng)])
    assert (rows.loc[rows["frame"] < 6, "split"] == "test").all()
    assert set(rows.loc[rows["frame"] >= 6, "split"]) == {"train", "calibration", "unused"}
    plain = pd.concat([s.rows for s in resplit(renamed, CalibrationCase(), rng)])
    assert set(plain["split"]) == {"train", "calibration", "test"}
    with pytest.raises(InputError, match=r"calibration.cases.*\n.*no frame of group 'rar' \(did you mean 'rare'"):
        resplit(renamed, CalibrationCase(left_out=["rar"]), rng)
    groups = list(pd.concat([s.rows for s in renamed])["group"].unique())
    with pytest.raises(InputError, match=rf"without {', '.join(groups)} there are no data to train on"):
        compare(renamed, CONFIG, CalibrationCase(left_out=groups), MODEL.constants, rng)


def test_part_of_the_training_frames(shards):
    whole = pd.concat([s.rows for s in resplit(shards, CalibrationCase(), np.random.default_rng(0))])
    part = pd.concat([s.rows for s in resplit(shards, CalibrationCase(train_fraction=0.5), np.random.default_rng(0))])
    n = whole.loc[whole["split"] == "train", "frame"].nunique()
    assert part.loc[part["split"] == "train", "frame"].nunique() == n // 2
    assert (part.loc[whole["split"] != "train", "split"] == whole.loc[whole["split"] != "train", "split"]).all()
    assert set(part.loc[whole["split"] == "train", "split"]) == {"train", "unused"}


def test_a_case_changes_the_fit():
    case = CalibrationCase(energy_rows="per_atom", regularisation=1e-6)
    assert case.applied_to(Fit(posterior="hypercube")) == Fit(
        posterior="hypercube", energy_rows="per_atom", regularisation=1e-6
    )
    assert CalibrationCase().applied_to(Fit()) == Fit()


def test_component_selection_is_a_sorted_sample():
    assert list(select_components(4, None, np.random.default_rng(0))) == list(range(12))
    kept = select_components(40, 20, np.random.default_rng(0))
    assert len(set(kept)) == 20
    assert list(kept) == sorted(kept)
    assert kept.max() < 120


TABLE = """# comment
property,structure,quantity,unit,value,citation
elastic,bcc,C11,GPa,522.4,"Somebody (1963)"
surface,110,surface_energy,J/m2,3.2,"Somebody (1977)"
"""


def test_reference_table(tmp_path):
    path = tmp_path / "reference.csv"
    path.write_text(TABLE)
    found = read_reference_table(path, "surface")
    assert found[["structure", "value", "source", "reason"]].to_numpy().tolist() == [
        ["110", 3.2, "reference", "Somebody (1977)"]
    ]
    assert read_reference_table(path, "formation").empty
    assert Reference(table=path).table == path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("surface,110", "surface,120"), "surface, 120, surface_energy: no such structure"),
        (("surface_energy", "energy"), "surface, 110, energy: no such quantity"),
        (("J/m2", "mJ/m2"), "surface, 110, surface_energy: unit is 'mJ/m2', give it in 'J/m2'"),
        (("elastic,bcc,C11,GPa", "surface,110,surface_energy,J/m2"), "surface, 110, surface_energy: given twice"),
        (("elastic,bcc", "elastc,bcc"), "no such property 'elastc' (did you mean 'elastic'?)"),
    ],
)
def test_reference_tables_must_fit_the_study(tmp_path, change, message):
    path = tmp_path / "reference.csv"
    prop = SurfaceProperty(Settings(Surface(facets=["110"]), "W", 15.8))
    path.write_text(TABLE)
    check_reference_table(path, {"surface": prop})
    path.write_text(TABLE.replace(*change))
    with pytest.raises(InputError, match=re.escape(message)):
        check_reference_table(path, {"surface": prop})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("citation", "source"), "column 'citation' is missing"),
        (("522.4", "about 500"), "row 1: value 'about 500' is not a number"),
        (('"Somebody (1977)"', ""), "row 2: no citation"),
        (("surface,110", ",110"), "row 2: no property"),
        (("3.2", "inf"), "row 2: value 'inf' is not a number"),
        (('(1963)"', '(1963)",x'), "more fields than the heading"),
        (("citation\n", "citation,coordinate\nelastic,bcc,C12,GPa,204.4,Somebody,x\n"), "row 1: coordinate 'x'"),
    ],
)
def test_bad_reference_tables_are_refused(tmp_path, change, message):
    path = tmp_path / "reference.csv"
    path.write_text(TABLE.replace(*change))
    with pytest.raises(InputError, match=message):
        read_reference_table(path, "elastic")
    with pytest.raises(InputError, match=message):
        check_reference_table(path, {})


def test_a_missing_reference_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv: 1 problem\n.*cannot be read"):
        check_reference_table(tmp_path / "nowhere.csv", {})
