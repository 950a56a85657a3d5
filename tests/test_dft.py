"""A few frames of maximum entropy labelled by real density-functional theory, and a potential fitted to them."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from test_workflow import snakemake

from popsbounds.calculators import make_calculator
from popsbounds.config import AseCalculator
from popsbounds.ensemble import Ensemble

gpaw = pytest.importorskip("gpaw", reason="GPAW is not installed: `make dft` builds it")

# PBE with 6 electrons an atom and far too few plane waves: its numbers mean nothing, its derivatives are exact.
CHEAP = {
    "legacy_gpaw": True,
    "mode": {"name": "pw", "ecut": 200},
    "xc": "PBE",
    "setups": {"W": "6"},
    "kpts": {"density": 1.0, "even": True},
    "occupations": {"name": "fermi-dirac", "width": 0.2},
    "convergence": {"energy": 1e-3, "density": 1e-3, "eigenstates": 1e-5},
    "txt": None,
}
TIGHT = CHEAP | {"convergence": {"energy": 1e-7, "density": 1e-6, "eigenstates": 1e-9}}

STUDY = {
    "study": "dft",
    "seed": 3,
    "elements": ["W"],
    "dataset": {
        "generate": {
            "frames": 5,
            "max_atoms": 3,
            "batches": 1,
            "entropy": {"steps": 5},
            "calculator": {"kind": "ase", "name": "gpaw.GPAW", "arguments": CHEAP, "timeout_s": 300},
        },
    },
    "descriptors": {"twojmax": 2, "quadratic": False, "shards": 1},
    "ensemble": {"members": 3},
    "material": {"element": "W"},
    "properties": {"formation": {"structures": ["bcc"]}},
}


def label(atoms: Atoms, folder: Path, **changes) -> tuple[float, np.ndarray, np.ndarray]:
    settings = AseCalculator(kind="ase", name="gpaw.GPAW", arguments=TIGHT | changes, cache=folder / "cache")
    copy = atoms.copy()
    copy.calc = make_calculator(settings, ["W"])
    return copy.get_potential_energy(), copy.get_forces(), copy.get_stress()


def distorted() -> Atoms:
    atoms = bulk("W", "bcc", a=3.1, cubic=True)
    atoms.positions[1] += [0.3, 0.2, -0.1]
    atoms.set_cell(atoms.cell @ [[1.05, 0, 0.03], [0, 0.96, 0.1], [0, 0, 1.02]], scale_atoms=True)
    return atoms


def cache(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "results" / "cache").rglob("*.json")}


def run(folder: Path, *arguments: str) -> None:
    snakemake(folder, "--cores", 1, *arguments, config=folder / "dft.yaml")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Folder in which the workflow went from nothing to an ensemble of potentials."""
    folder = tmp_path_factory.mktemp("dft")
    (folder / "dft.yaml").write_text(yaml.safe_dump(STUDY))
    run(folder, "results/dft/config.yaml", "results/dft/ensemble/members.npz")
    return folder


def labelled(study: Path) -> list[Atoms]:
    return ase.io.read(study / "results" / "dft" / "generate" / "labelled" / "0.extxyz", ":")


def test_from_nothing_to_potentials(study):
    out = study / "results" / "dft"
    frames = ase.io.read(out / "generate" / "frames.extxyz", ":")
    assert len(frames) == len(cache(study)) == 5
    assert len(labelled(study)) == len(pd.read_parquet(out / "dataset" / "frames.parquet")) == 5
    assert pd.read_csv(out / "dataset" / "unlabelled.csv").empty

    ensemble = Ensemble.load(out)
    assert len(ensemble.members) == 3
    assert (ensemble.members.std(axis=0) > 0).any()
    # Six parameters do not reproduce the forces, but they explain most of them.
    forces, errors = [], []
    for atoms in labelled(study):
        forces.append(atoms.get_forces())
        atoms.calc = ensemble.calculator()
        errors.append(atoms.get_forces() - forces[-1])
    assert np.vstack(errors).std() < 0.6 * np.vstack(forces).std()


def test_labels_are_gpaw_s_free_energies_and_its_forces(study):
    atoms = labelled(study)[0]
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    atoms.calc = gpaw.GPAW(**CHEAP)
    assert energy == pytest.approx(atoms.get_potential_energy(force_consistent=True), abs=1e-6)
    assert abs(energy - atoms.get_potential_energy()) > 0.01  # extrapolated to no smearing
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-6)
    np.testing.assert_allclose(stress, atoms.get_stress(), atol=1e-6)


def test_nothing_is_computed_twice(study):
    path = "results/dft/generate/labelled/0.extxyz"
    before, content = cache(study), (study / path).read_bytes()
    written = (study / path).stat().st_mtime_ns
    run(study, path, "--forcerun", "label_frames")
    assert (study / path).stat().st_mtime_ns > written
    assert (study / path).read_bytes() == content
    assert cache(study) == before


def test_forces_are_derivatives_of_the_energy(tmp_path):
    atoms = distorted()
    forces = label(atoms, tmp_path)[1]
    direction = forces / np.abs(forces).max()
    energies = []
    for step in (0.002, -0.002):
        moved = atoms.copy()
        moved.positions += step * direction
        energies.append(label(moved, tmp_path)[0])
    slope = (energies[0] - energies[1]) / 0.004
    assert (forces * direction).sum() == pytest.approx(-slope, rel=2e-4)
    assert abs(slope) > 1


def test_pressure_is_the_derivative_of_the_energy_for_the_same_plane_waves(tmp_path):
    grid = {"size": [2, 2, 2]}
    atoms = distorted()
    stress = label(atoms, tmp_path, kpts=grid)[2]
    energies, volumes = [], []
    for stretch in (1.003, 0.997):
        scaled = atoms.copy()
        scaled.set_cell(stretch * atoms.cell, scale_atoms=True)
        # Wave vectors shrink as the cell grows, and with this cutoff none comes or goes.
        energies.append(label(scaled, tmp_path, kpts=grid, mode={"name": "pw", "ecut": 200 / stretch**2})[0])
        volumes.append(scaled.get_volume())
    slope = (energies[0] - energies[1]) / (volumes[0] - volumes[1])
    assert stress[:3].mean() == pytest.approx(slope, rel=1e-3)
    assert abs(slope) > 0.05
