"""From frames to shards to the posterior: weights, priors and predictions, against plain linear algebra."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk

from popsbounds.calculators import make_calculator
from popsbounds.config import (
    Fit,
    LammpsCalculator,
    Reference,
    ReferencePotential,
    Relax,
    Snap,
    Surface,
    Weights,
)
from popsbounds.dataset import Frame, frame_table
from popsbounds.descriptors.shards import open_shards, select_components, write_shard
from popsbounds.descriptors.snap import SnapModel, SnapRows
from popsbounds.errors import InputError
from popsbounds.fit import constant_prior, fit_posterior, predict, read_box, summarise, training_blocks, write_posterior
from popsbounds.label import label_frames
from popsbounds.properties.surface import SurfaceProperty
from popsbounds.reference import check_reference_table, read_reference_table

EAM = LammpsCalculator(pair_style="eam/alloy", pair_coeff=["* * W_zhou.eam.alloy W"])
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
    labelled = label_frames(atoms, make_calculator(EAM, ["W"]))
    frames = [
        Frame(a.copy(), a.get_potential_energy(), a.get_forces(), None, "bulk", "made.extxyz", i)
        for i, a in enumerate(labelled)
    ]
    # A frame whose forces are not known.
    return [Frame(f.atoms, f.energy, None, None, "bulk", f.source_file, 0) if f.index == 3 else f for f in frames]


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


def test_rows_of_a_shard(shards):
    rows = pd.concat([s.rows for s in shards], ignore_index=True)
    assert (rows["kind"] == "energy").sum() == 24
    assert (rows["kind"] == "force").sum() == 23 * 12
    assert 3 not in rows.loc[rows["kind"] == "force", "frame"].to_numpy()
    assert all(s.matrix.dtype == np.float64 and isinstance(s.matrix, np.memmap) for s in shards)
    assert np.abs(rows["reference"]).max() > 0


def test_weights_balance_energies_and_forces(shards):
    _, y, w = (np.concatenate(parts) for parts in zip(*training_blocks(shards)(), strict=True))
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


def test_constant_is_the_mean_energy(shards):
    prior = constant_prior(shards, MODEL.constants, MODEL.n_parameters)
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
        thetas.append(fit_posterior(moved, Fit(), MODEL.constants)[0].theta)
    difference = thetas[1] - thetas[0]
    assert difference[0] == pytest.approx(-4e5, abs=1e-4)
    np.testing.assert_allclose(thetas[1][1:], thetas[0][1:], rtol=1e-5, atol=1e-8)


def test_predictions_and_summary(shards, tmp_path):
    ridge, box = fit_posterior(shards, Fit(coordinates="whitened"), MODEL.constants)
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

    summary = summarise(shards, ridge, box, seed=5)
    energies = table[table["kind"] == "energy"]
    mae = (energies["mle"] - energies["truth"]).abs().mean()
    assert summary["errors"]["energy_test"]["MAE_eV_per_atom"] == pytest.approx(mae)
    assert summary["seed"] == 5
    write_posterior(tmp_path / "posterior.npz", ridge, box, "whitened")
    again = read_box(tmp_path / "posterior.npz")
    for name, value in vars(box).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    with np.load(tmp_path / "posterior.npz") as data:
        assert str(data["coordinates"]) == "whitened"
        assert data["covariance_factor"].shape == (MODEL.n_parameters,) * 2


def test_component_selection_is_a_sorted_sample():
    assert list(select_components(4, None, np.random.default_rng(0))) == list(range(12))
    kept = select_components(40, 20, np.random.default_rng(0))
    assert len(set(kept)) == 20
    assert list(kept) == sorted(kept)
    assert kept.max() < 120


def test_labels_leave_out_what_cannot_be_computed():
    good, bad = bulk("W"), bulk("W")
    bad.positions[0] = np.nan
    labelled = label_frames([good, bad, good], make_calculator(EAM, ["W"]))
    assert len(labelled) == 2
    with pytest.raises(InputError, match="all 1 frames"):
        label_frames([bad], make_calculator(EAM, ["W"]))


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
    ],
)
def test_reference_tables_must_fit_the_study(tmp_path, change, message):
    path = tmp_path / "reference.csv"
    prop = SurfaceProperty(Surface(facets=["110"]), "W", 15.8, Relax())
    path.write_text(TABLE)
    check_reference_table(path, {"surface": prop})
    path.write_text(TABLE.replace(*change))
    with pytest.raises(InputError, match=message):
        check_reference_table(path, {"surface": prop})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("citation", "source"), "column 'citation' is missing"),
        (("522.4", "about 500"), "row 1: value 'about 500' is not a number"),
        (('"Somebody (1977)"', ""), "row 2: no citation"),
    ],
)
def test_bad_reference_tables_are_refused(tmp_path, change, message):
    path = tmp_path / "reference.csv"
    path.write_text(TABLE.replace(*change))
    with pytest.raises(InputError, match=message):
        read_reference_table(path, "elastic")
