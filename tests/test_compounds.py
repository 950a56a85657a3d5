"""A binary compound: its crystals under a potential and under members of an ensemble, against plain relaxations."""

from __future__ import annotations

import numpy as np
import pytest
from ensembles import RELAX, SETTINGS, fire
from test_properties import AXIAL, PLANAR, SHEAR, bulk_modulus, numbers, of_member, stiffness

from popsbounds.calculators import make_calculator
from popsbounds.config import Elastic, Formation, PairStyle, Snap
from popsbounds.descriptors.snap import SnapCalculator, SnapModel, SnapRows
from popsbounds.label import label_frames
from popsbounds.models import Builder, Recorder
from popsbounds.pops import accumulate, fit_ridge
from popsbounds.potential import ColdPotential
from popsbounds.propagate import propagate, value_table
from popsbounds.properties import REGISTRY, Settings
from popsbounds.structures import crystal

ELEMENTS, VOLUME = ["Ni", "Al"], 11.8
CRYSTALS = ["CsCl", "rocksalt", "zincblende"]
FORM = SnapModel(Snap(twojmax=6, quadratic=False), ELEMENTS)


@pytest.fixture(scope="module")
def teacher():
    eam = PairStyle(pair_style="eam/alloy", pair_coeff=["* * NiAlH_jea.eam.alloy Ni Al"])
    return make_calculator(eam, ELEMENTS)


@pytest.fixture(scope="module")
def members(teacher):
    """Two potentials of the same form, each fitted to other strained and rattled crystals."""
    thetas = []
    for seed in (1, 2):
        rng, frames = np.random.default_rng(seed), []
        for name in CRYSTALS * 40:
            atoms = crystal(name, ELEMENTS, VOLUME * rng.uniform(0.8, 1.6))
            strain = np.eye(3) + rng.normal(scale=0.03, size=(3, 3))
            atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
            atoms.rattle(0.05, rng=rng)
            frames.append(atoms)
        rows = SnapRows(FORM)
        labelled, _ = label_frames(frames, teacher, "")
        x = [rows(frame)[0] for frame in labelled]
        y = [np.append(f.get_potential_energy() / len(f), f.get_forces().ravel()) for f in labelled]
        weights = np.concatenate([np.append(10.0, np.ones(3 * len(f))) for f in labelled])
        block = (np.vstack(x), np.concatenate(y), weights)
        prior = np.zeros(FORM.n_parameters)
        prior[: len(ELEMENTS)] = np.mean([values[0] for values in y])
        thetas.append(fit_ridge(accumulate(lambda block=block: iter([block]), prior)).theta)
    return np.array(thetas)


def make(name, options):
    return REGISTRY[name](Settings(options, ELEMENTS, VOLUME))


def test_phases_and_elastic_constants_equal_plain_relaxations(teacher):
    potential = ColdPotential(teacher, RELAX)
    found = numbers(make("formation", Formation(structures=CRYSTALS, zero="CsCl")), potential)
    energies = {}
    for name in CRYSTALS:
        atoms = fire(crystal(name, ELEMENTS, VOLUME), teacher, cell=True)
        energies[name] = atoms.get_potential_energy() / len(atoms)
        assert found[name, "energy"] == pytest.approx(energies[name], abs=1e-4)
        assert found[name, "formation_energy"] == pytest.approx(energies[name] - energies["CsCl"], abs=1e-4)
        assert found[name, "volume"] == pytest.approx(atoms.get_volume() / len(atoms), rel=1e-3)
        assert found[name, "bulk_modulus"] == pytest.approx(bulk_modulus(atoms, teacher, 5e-3), abs=1)
    # B2 is the ground state of NiAl.
    assert energies["CsCl"] < energies["rocksalt"] - 0.1

    elastic = numbers(make("elastic", Elastic(structures=["CsCl"])), potential)
    atoms = potential.crystal("CsCl", crystal("CsCl", ELEMENTS, VOLUME)).atoms
    c11, c12, c44 = (elastic["CsCl", name] for name in ("C11", "C12", "C44"))
    assert c11 == pytest.approx(stiffness(atoms, teacher, AXIAL, 2e-3), rel=3e-3)
    assert 2 * (c11 + c12) == pytest.approx(stiffness(atoms, teacher, PLANAR, 2e-3), rel=3e-3)
    assert c44 == pytest.approx(stiffness(atoms, teacher, SHEAR, 2e-3), rel=3e-3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("formation", Formation(structures=CRYSTALS, zero="CsCl")),
        ("elastic", Elastic(structures=["CsCl"])),
    ],
)
def test_members_equal_relaxations_from_scratch(members, name, options):
    mle, member = members
    prop = make(name, options)
    recorder = Recorder(SnapCalculator(FORM, mle), RELAX)
    expected = value_table(name, list(prop.values(recorder)), "mle")
    models = Builder(recorder, SnapRows(FORM).respond, FORM.cutoffs, mle, members, SETTINGS.families).build()
    table = propagate(name, prop, models, {0: member}, SnapCalculator(FORM, mle), SETTINGS, expected)
    scratch = value_table(name, list(prop.values(ColdPotential(SnapCalculator(FORM, member), RELAX))), "member")
    both = table.merge(scratch, on=["structure", "quantity"], validate="one_to_one")
    assert (both[["status_x", "status_y"]] == "ok").all(axis=None), both.to_string()
    loose = np.where(both["unit_x"] == "GPa", 1.0, 2e-3)
    assert (np.abs(both["value_x"] - both["value_y"]) < loose).all(), both.to_string()
    found = of_member(table, 0)
    values = {line.quantity: line.value for line in expected.itertuples() if line.structure == "CsCl"}
    assert any(abs(found["CsCl", quantity] - value) > 0.01 for quantity, value in values.items())
