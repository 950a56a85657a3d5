"""Potentials as files for LAMMPS, whatever they are called and wherever they lie."""

from __future__ import annotations

import os

import numpy as np
import pytest
from ase.build import bulk
from ensembles import FORM, ensemble

from popsbounds.descriptors.snap import SnapCalculator
from popsbounds.engine import LammpsCalculator
from popsbounds.ensemble import Ensemble, read_members, write_members, write_potentials
from popsbounds.errors import InputError

NAMES = {"mono vacancy/2_energy_low": "mono_vacancy_2_energy_low", "⟨111⟩ + γ_x_high": "_111_+__x_high"}


@pytest.mark.parametrize("name", NAMES)
def test_any_name_in_any_folder_is_a_potential(tmp_path, monkeypatch, name):
    """Structures of the user's own have names of any kind."""
    _, members = ensemble()
    folder = tmp_path / "my out"
    write_potentials(folder, FORM, dict(zip(NAMES, members[:2], strict=True)))
    assert {file.stem for file in folder.iterdir()} == set(NAMES.values())
    theta = members[list(NAMES).index(name)]
    atoms = bulk("W", "bcc", a=3.1).repeat(2)
    atoms.rattle(0.1, seed=1)
    expected = atoms.copy()
    expected.calc = SnapCalculator(FORM, theta)
    moved = folder.rename(tmp_path / "their own")
    monkeypatch.chdir(moved)  # as LAMMPS is run there
    atoms.calc = LammpsCalculator(["W"], [f"include {NAMES[name]}.in"])
    np.testing.assert_allclose(atoms.get_forces(), expected.get_forces(), atol=1e-9)
    assert np.abs(expected.get_forces()).max() > 0.1


def test_names_that_would_share_a_file_are_refused(tmp_path):
    theta, _ = ensemble()
    with pytest.raises(InputError, match="'a b' and 'a/b' would have the same file"):
        write_potentials(tmp_path, FORM, {"a b": theta, "a/b": theta})


def test_a_calculator_works_wherever_temporary_files_lie(tmp_path, monkeypatch):
    """In a folder with a space, behind a link."""
    (tmp_path / "my tmp").mkdir()
    (tmp_path / "a link").symlink_to(tmp_path / "my tmp")
    monkeypatch.setattr("tempfile.tempdir", os.fspath(tmp_path / "a link"))
    mle, members = ensemble()
    atoms = bulk("W", "bcc", a=3.1)
    atoms.calc = SnapCalculator(FORM, mle)
    before = atoms.get_potential_energy()
    atoms.calc.set_theta(members[0])
    assert abs(atoms.get_potential_energy() - before) > 1e-6


def test_members_are_read_as_written(tmp_path):
    mle, members = ensemble()
    write_members(tmp_path / "members.npz", mle, members)
    for before, after in zip((mle, members), read_members(tmp_path / "members.npz"), strict=True):
        np.testing.assert_array_equal(after, before)


def test_chosen_members_are_written(tmp_path):
    Ensemble(FORM, *ensemble()).write_lammps(tmp_path / "out", [4, 2])
    assert {file.name for file in (tmp_path / "out").glob("*.in")} == {"mle.in", "0002.in", "0004.in"}
