"""References: warm starts against cold ones, and what is exported against what was computed."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ensembles import EAM, RELAX, VOLUME, eam, learn, make, wild
from fakes import OnlyCrowds

from popsbounds.config import Elastic, Formation, Interstitial, Neb, Surface, Transformations, parse_config
from popsbounds.errors import InputError
from popsbounds.export import read_labelled, write_labelled, write_provenance, write_reference
from popsbounds.label import compare_labels, label_frames
from popsbounds.member import evaluate_models
from popsbounds.reference import (
    WarmRecorder,
    check_reference_table,
    read_reference_table,
    reference_values,
    warm_starts,
    with_table,
)
from popsbounds.structures import interstitial

CONFIG = parse_config(
    {
        "study": "teacher",
        "elements": ["W"],
        "dataset": {"generate": {"frames": 4, "calculator": EAM.model_dump()}},
        "material": {"element": "W"},
        "properties": {"path": {"points": 5}, "elastic": {}},
        "reference": {"calculator": EAM.model_dump()},
    }
)


@pytest.mark.parametrize(
    ("name", "options", "share"),
    [
        # Where symmetry leaves little freedom, few calls are needed from anywhere.
        ("formation", Formation(structures=["bcc", "hcp", "C14"]), 1.2),
        ("sia", Interstitial(structures=["110", "TS"], repeats=2, unstable_modes=False), 0.8),
        ("surface", Surface(facets=["110", "111"], min_thickness_A=8), 0.8),
        ("neb", Neb(repeats=2, images=5, points=5), 0.6),
    ],
)
def test_a_warm_start_finds_the_same_minima_in_fewer_calls(name, options, share):
    mle, _ = wild(1)
    prop = make(name, options)
    _, models = learn(prop, name, mle, mle[None])
    potential = eam()
    cold, _ = reference_values(name, prop, potential, RELAX)
    calls = potential.calls
    warm, structures = reference_values(name, prop, potential, RELAX, warm_starts(models, mle))
    assert (warm["status"] == "ok").all(), warm.to_string()
    assert set(structures) >= set(warm["structure"]) - {"vacancy_hop"}
    assert potential.calls - calls < share * calls
    keys = ["structure", "quantity", "coordinate"]
    both = cold.merge(warm, on=keys, validate="one_to_one")
    # What is within the tolerance of the forces and stresses.
    loose = np.select([both["unit_x"] == "GPa", both["unit_x"] == "1"], [1.0, 1e-3], 2e-3)
    assert (np.abs(both["value_x"] - both["value_y"]) < loose).all(), both.to_string()


def test_a_warm_start_counts_unstable_modes_under_the_reference_itself():
    mle, _ = wild(1)
    prop = make("sia", Interstitial(structures=["100", "TS"], repeats=2))
    _, models = learn(prop, "sia", mle, mle[None])
    cold, warm = (reference_values("sia", prop, eam(), RELAX, starts)[0] for starts in (None, warm_starts(models, mle)))
    of_cold, of_warm = (t[t["quantity"] == "hessian_index"]["value"].tolist() for t in (cold, warm))
    assert of_cold == of_warm
    # From forces of its own, not from what is known of the MLE.
    potential = eam()
    relaxed = WarmRecorder({}, potential, RELAX).relax("TS", interstitial("TS", "W", VOLUME, 2))
    before = potential.calls
    (known,) = evaluate_models(models, mle[None], tolerance=0.0)
    WarmRecorder(known, potential, RELAX).unstable_modes("TS", relaxed)
    assert potential.calls > before + 2


def test_an_exported_table_gives_back_every_value(tmp_path):
    path = tmp_path / "reference.csv"
    computed = {
        name: reference_values(name, make(name, options), eam(), RELAX)[0]
        for name, options in (("path", Transformations(points=5)), ("elastic", Elastic()))
    }
    lost = computed["elastic"].assign(status="failed", value=np.nan).iloc[:1].assign(structure="fcc")
    write_reference(path, CONFIG, pd.concat([*computed.values(), lost]))
    assert "eam/alloy" in path.read_text().splitlines()[0]
    compared = ["property", "structure", "quantity", "unit", "coordinate", "value", "status"]
    for name, values in computed.items():
        pd.testing.assert_frame_equal(read_reference_table(path, name)[compared], values[compared], check_exact=True)
    check_reference_table(path, {"path": make("path", Transformations(points=5))})
    given = with_table(computed["path"].iloc[:0], path, computed["path"])
    assert given["coordinate"].nunique() > 4
    # The same curve at other points cannot be compared.
    with pytest.raises(InputError, match=r"trigonal, path_energy: .* points"):
        with_table(
            computed["path"].iloc[:0], path, computed["path"].assign(coordinate=lambda t: t["coordinate"] + 1e-3)
        )


def test_exported_frames_keep_order_labels_and_provenance(tmp_path):
    frames = [bulk("Cu", a=a, cubic=True) for a in (3.5, 3.6, 3.7)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=number)
        atoms.info.update(frame=number, group="all")
    labelled, _ = label_frames([frames[i] for i in (2, 0, 1)], EMT(), "")
    write_labelled(tmp_path / "a.extxyz.xz", labelled)
    write_labelled(tmp_path / "b.extxyz.xz", labelled[::-1])
    raw = (tmp_path / "a.extxyz.xz").read_bytes()
    assert raw == (tmp_path / "b.extxyz.xz").read_bytes()
    back = read_labelled(tmp_path / "a.extxyz.xz")
    for atoms, again in zip(frames, back, strict=True):
        atoms.calc = EMT()
        assert again.info["group"] == "all"
        np.testing.assert_allclose(again.positions, atoms.positions, atol=1e-8)
        np.testing.assert_allclose(again.get_forces(), atoms.get_forces(), atol=1e-6)
        assert again.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    for bad in (tmp_path / "missing.extxyz.xz", tmp_path / "bad.extxyz.xz"):
        (tmp_path / "bad.extxyz.xz").write_bytes(raw[:100])
        with pytest.raises(InputError, match=bad.name):
            read_labelled(bad)
    write_provenance(tmp_path / "a.json", CONFIG, 3, 1)
    facts = json.loads((tmp_path / "a.json").read_text())
    assert (facts["frames"], facts["frames_the_calculator_failed_on"]) == (3, 1)
    assert facts["settings"]["dataset"]["generate"]["calculator"]["pair_style"] == "eam/alloy"
    assert "ase" in facts["versions"]


def test_labels_are_compared_but_for_a_constant():
    frames = [bulk("Cu", a=a, cubic=True) for a in (3.5, 3.6, 3.7)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=number)
        atoms.info["frame"] = 10 * number
    labelled, _ = label_frames(frames, EMT(), "")
    same = compare_labels(labelled, EMT(), "")
    assert same["frame"].tolist() == [0, 10, 20]
    assert np.abs(same.filter(regex="difference|force")).max(axis=None) < 1e-12
    # The same potential with another cutoff.
    table = compare_labels(labelled, EMT(asap_cutoff=True), "")
    energies, forces = [], []
    for atoms in labelled:
        other = atoms.copy()
        other.calc = EMT(asap_cutoff=True)
        energies.append((atoms.get_potential_energy() - other.get_potential_energy()) / 4)
        forces.append(atoms.get_forces() - other.get_forces())
    assert np.ptp(energies) > 1e-4
    np.testing.assert_allclose(table["energy_difference_eV_per_atom"], np.array(energies) - np.mean(energies))
    np.testing.assert_allclose(table["force_max_eV_per_A"], np.abs(forces).max(axis=(1, 2)))
    np.testing.assert_allclose(table["force_rms_eV_per_A"], np.sqrt(np.mean(np.square(forces), axis=(1, 2))))
    assert table["reason"].isna().all()


def test_labels_that_cannot_be_compared_are_rows_with_a_reason():
    frames = [bulk("Cu", a=3.6, cubic=cubic) for cubic in (True, False)]
    for number, atoms in enumerate(frames):
        atoms.info["frame"] = number
    labelled, _ = label_frames(frames, EMT(), "")
    table = compare_labels(labelled, OnlyCrowds(), "")
    assert table["reason"].fillna("").tolist() == ["", "RuntimeError: lonely"]
    assert table["energy_difference_eV_per_atom"].isna().tolist() == [False, True]
    with pytest.raises(InputError, match=r"dataset\.generate\.check\.calculator: "):
        compare_labels(labelled[1:], OnlyCrowds(), "dataset.generate.check.calculator")
