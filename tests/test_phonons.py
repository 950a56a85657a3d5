"""Phonons against LAMMPS's own dynamical matrix, phonopy's own run and exact identities."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from ase import units
from ase.filters import FrechetCellFilter
from ase.geometry import get_distances
from ase.optimize import BFGS
from phonopy import Phonopy
from phonopy.phonon.spectrum import TetrahedronDOSAccumulator
from phonopy.structure.atoms import PhonopyAtoms

from popsbounds.calculators import make_calculator
from popsbounds.config import PairStyle
from popsbounds.engine import load_atoms, new_lammps, potential_commands
from popsbounds.errors import InputError
from popsbounds.phonons import Phonons, band_path, cubic_lattice
from popsbounds.structures import crystal, supercell

EAM = PairStyle(pair_style="eam/alloy", pair_coeff=["* * W_zhou.eam.alloy W"])
DISPLACEMENT = 0.01
# Enough for the frequencies (THz) of any crystal below; imaginary ones are negative.
GRID = np.arange(-8.0, 14.0, 0.05)
SITES = {"bcc": [[0, 0, 0], [0.5] * 3], "fcc": [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]}


@pytest.fixture(scope="module")
def calculator():
    return make_calculator(EAM, ["W"])


@pytest.fixture(scope="module")
def tungsten(calculator):
    """bcc at the potential's own lattice constant."""
    atoms = crystal("bcc", "W", 15.8)
    atoms.calc = calculator
    assert BFGS(FrechetCellFilter(atoms, hydrostatic_strain=True), logfile=None).run(fmax=1e-6)
    atoms.calc = None
    return atoms


@pytest.fixture(scope="module")
def phonons(tungsten):
    return Phonons(tungsten, 4, DISPLACEMENT, mesh=24, points_per_unit=50)


def forces(phonons, calculator, scales):
    """Forces on the displaced supercells, one member for each scale."""
    members = []
    for scale in scales:
        members.append([])
        for displaced in phonons.supercells:
            atoms = displaced.copy()
            atoms.set_cell(displaced.cell[:] * scale, scale_atoms=True)
            atoms.calc = calculator
            members[-1].append(atoms.get_forces())
    return np.array(members)


def force_constants(phonons, calculator, *scales):
    return phonons.force_constants(forces(phonons, calculator, scales), np.array(scales))


def second_moments(phonons, frequencies):
    """Mean squared frequency, summed over branches; an imaginary one has a negative square."""
    return phonons.weights @ (np.sign(frequencies) * frequencies**2).sum(axis=2).T


def test_the_path_is_the_same_for_every_lattice_constant():
    path = band_path("bcc", 40)
    assert path.labels == ("Γ", "H", "P", "Γ", "N")
    np.testing.assert_allclose(path.ticks, np.cumsum([0, 1, 3**0.5 / 2, 3**0.5 / 2, 2**0.5 / 2]))
    path = band_path("fcc", 40)
    assert path.labels == ("Γ", "X", "K", "Γ", "L")
    np.testing.assert_allclose(path.ticks, np.cumsum([0, 1, 2**0.5 / 4, 3 * 2**0.5 / 4, 3**0.5 / 2]))
    for lattice in ("bcc", "fcc"):
        path = band_path(lattice, 40)
        assert len(path.q) == len(path.distance)
        assert np.all(np.diff(path.distance) > 0)
        assert set(path.ticks) <= set(path.distance)


def test_lattices_are_recognised_in_any_cell():
    for name, n_sites in (("bcc", 2), ("fcc", 4)):
        for primitive in (True, False):
            lattice, a = cubic_lattice(crystal(name, "W", 16.0, primitive=primitive))
            assert lattice == name
            assert a == pytest.approx((16.0 * n_sites) ** (1 / 3))
    for name in ("hcp", "A15", "C15", "Al12W"):
        with pytest.raises(InputError, match="is not bcc or fcc"):
            Phonons(crystal(name, "W", 16.0), 2, DISPLACEMENT, mesh=8, points_per_unit=4)


def test_one_atom_is_displaced_by_the_given_length(phonons, tungsten):
    (displaced,) = phonons.supercells
    perfect = supercell("bcc", "W", tungsten.get_volume(), 4)
    moved = get_distances(displaced.positions, perfect.positions, perfect.cell, perfect.pbc)[1].min(axis=1)
    assert len(displaced) == 2 * 4**3
    np.testing.assert_allclose(displaced.cell, perfect.cell)
    np.testing.assert_allclose(np.sort(moved)[-2:], [0, DISPLACEMENT], atol=1e-8)


@pytest.mark.parametrize(("name", "repeats"), [("bcc", 4), ("fcc", 2)])
def test_frequencies_equal_those_of_lammps(name, repeats, calculator, tmp_path):
    """At q-points commensurate with the supercell, where the force constants' range does not matter."""
    start = crystal(name, "W", 15.8)
    phonons = Phonons(start, repeats, DISPLACEMENT, mesh=8, points_per_unit=4)
    bands = phonons.bands(force_constants(phonons, calculator, 1.0))[0]

    (atoms,) = Phonons(start, repeats, 1e-9, mesh=8, points_per_unit=4).supercells
    lmp = new_lammps()
    load_atoms(lmp, atoms, ["W"])
    lmp.commands_list(
        [
            *potential_commands(EAM.pair_style, EAM.pair_coeff),
            "run 0",
            f"dynamical_matrix all regular {DISPLACEMENT} file {tmp_path / 'dynamical_matrix.dat'}",
        ]
    )
    lmp.close()
    n = len(atoms)
    # In eV/Å²/u: row and column are atoms and their directions.
    matrix = np.loadtxt(tmp_path / "dynamical_matrix.dat").reshape(n, 3, n, 3)[0]
    a = atoms.cell[0, 0] / repeats
    to_hertz_squared = units._e * 1e20 / units._amu
    commensurate = [i for i, q in enumerate(phonons.path.q) if np.allclose(q * repeats, np.round(q * repeats))]
    assert len(commensurate) >= 5
    for i in commensurate:
        waves = np.exp(2j * np.pi * (atoms.positions - atoms.positions[0]) @ phonons.path.q[i] / a)
        squares = np.linalg.eigvalsh(np.einsum("ajb,j->ab", matrix, waves)) * to_hertz_squared
        expected = np.sign(squares) * np.sqrt(np.abs(squares)) / (2 * np.pi * 1e12)
        np.testing.assert_allclose(bands[i], expected, atol=0.01)


@pytest.mark.parametrize(("name", "centring", "repeats"), [("bcc", "I", 3), ("fcc", "F", 2)])
def test_members_together_equal_phonopy_alone(name, centring, repeats, calculator):
    """For any forces: also where they break Newton's third law or the symmetry."""
    start = crystal(name, "W", 15.8)
    phonons = Phonons(start, repeats, DISPLACEMENT, mesh=8, points_per_unit=50)
    scales = np.array([0.97, 1.0, 1.04])
    members = forces(phonons, calculator, scales)
    members[1:] += 0.02 * np.random.default_rng(1).normal(size=members[1:].shape)
    constants = phonons.force_constants(members, scales)
    bands, mesh = phonons.bands(constants), phonons.mesh_frequencies(constants)
    dos = phonons.dos(mesh, GRID)
    for i, scale in enumerate(scales):
        a = (15.8 * len(SITES[name])) ** (1 / 3) * scale
        cell = PhonopyAtoms(["W"] * len(SITES[name]), cell=a * np.eye(3), scaled_positions=SITES[name])
        alone = Phonopy(cell, repeats * np.eye(3, dtype=int), primitive_matrix=centring)
        alone.generate_displacements(distance=DISPLACEMENT * scale)
        alone.forces = members[i]
        alone.produce_force_constants(show_drift=False)
        alone.symmetrize_force_constants(show_drift=False)
        np.testing.assert_allclose(constants[i].sum(axis=0), 0, atol=1e-12)
        expected = alone.run_band_structure([phonons.path.q @ alone.primitive_matrix]).frequencies[0]
        np.testing.assert_allclose(bands[i], expected, atol=1e-6)
        grid = alone.run_mesh([8, 8, 8], is_gamma_center=True)
        np.testing.assert_allclose(mesh[i], grid.frequencies, atol=1e-6)
        # phonopy counts the modes below the edges of our bins.
        counted = TetrahedronDOSAccumulator(
            grid.frequencies,
            grid.bz_grid,
            ir_grid_points=grid.ir_grid_points,
            ir_grid_weights=grid.weights,
            ir_grid_map=grid.grid_mapping_table,
            sampling_points=np.append(GRID - 0.025, GRID[-1] + 0.025),
        ).result.cumulative[0, :, 0]
        np.testing.assert_allclose(dos[i], np.diff(counted) / 0.05, atol=1e-4)


def test_sound_has_the_speed_of_the_elastic_constants(phonons, calculator, tungsten):
    def stress(strain):
        atoms = crystal("bcc", "W", tungsten.get_volume(), primitive=False)
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain), scale_atoms=True)
        atoms.calc = calculator
        return atoms.get_stress(voigt=False)

    def stiffness(i, j):
        strain = np.zeros((3, 3))
        strain[i, j] += 5e-4
        strain[j, i] += 5e-4
        return (stress(strain) - stress(-strain))[i, j] / (4 * strain[i, j])

    c11, c44 = 2 * stiffness(0, 0), stiffness(0, 1)
    bands = phonons.bands(force_constants(phonons, calculator, 1.0))[0]
    slope = bands[1] / phonons.path.distance[1]  # along [100]: THz for 2π/a
    density = tungsten.get_masses().sum() * units._amu / (tungsten.get_volume() * 1e-30)
    a = (2 * tungsten.get_volume()) ** (1 / 3) * 1e-10
    speeds = np.sqrt(np.array([c44, c44, c11]) / units.Pascal / density)
    np.testing.assert_allclose(slope * 1e12 * a, speeds, rtol=2e-3)


def test_density_of_states_counts_every_mode(phonons, calculator):
    """Its second moment is the stiffness of a single atom among fixed ones."""
    constants = force_constants(phonons, calculator, 0.98, 1.0, 1.03)
    mesh = phonons.mesh_frequencies(constants)
    density = phonons.dos(mesh, GRID)
    np.testing.assert_allclose(density.sum(axis=1) * 0.05, 3, atol=1e-9)
    assert density.min() > -1e-12
    assert phonons.weights.sum() == pytest.approx(1)
    on_site = np.trace(constants[:, 0], axis1=1, axis2=2) * units._e * 1e20
    squares = on_site / (phonons.supercells[0].get_masses()[0] * units._amu) / (2 * np.pi * 1e12) ** 2
    np.testing.assert_allclose(second_moments(phonons, mesh), squares, rtol=1e-6)
    np.testing.assert_allclose(density @ GRID**2 * 0.05, squares, rtol=2e-3)
    np.testing.assert_array_equal(phonons.imaginary_share(mesh), 0)
    # The order of the members, and who else is there, does not matter.
    np.testing.assert_allclose(phonons.dos(mesh[::-1], GRID)[::-1], density, atol=1e-12)


def test_unstable_crystals_have_negative_frequencies(phonons, calculator):
    """Stretched by 10 %, and compressed by 20 %, bcc would shear."""
    constants = force_constants(phonons, calculator, 0.8, 1.0, 1.1)
    mesh = phonons.mesh_frequencies(constants)
    share = phonons.imaginary_share(mesh)
    assert 0 < share[0] < 0.1 < share[2] < 1
    assert share[1] == 0
    bands = phonons.bands(constants)
    assert bands[2].min() < -1
    assert bands[1].min() > -1e-5
    assert np.all(np.diff(bands, axis=2) >= 0)
    below = phonons.dos(mesh, GRID)[:, GRID < 0].sum(axis=1) * 0.05
    np.testing.assert_allclose(below / 3, share, atol=0.02)


def test_a_broken_member_does_not_spoil_the_others(phonons, calculator):
    members = forces(phonons, calculator, [1.0, 1.0, 1.0])
    members[1, 0, 7, 2] = np.nan
    constants = phonons.force_constants(members, np.ones(3))
    mesh = phonons.mesh_frequencies(constants)
    results = [phonons.bands(constants), mesh, phonons.dos(mesh, GRID), phonons.imaginary_share(mesh)]
    for result in results:
        assert np.isnan(result[1]).all()
        assert np.isfinite(result[0]).all()
        np.testing.assert_allclose(result[0], result[2], rtol=0, atol=1e-11)


def test_phonopy_files_hold_the_same_numbers(calculator, tungsten, tmp_path):
    phonons = Phonons(tungsten, 3, DISPLACEMENT, mesh=6, points_per_unit=10)
    scale = 1.01
    members = forces(phonons, calculator, [scale])
    for folder in ("first", "second"):
        phonons.write_phonopy_files(tmp_path / folder, members[0], scale, GRID)
    names = ["band.yaml", "mesh.yaml", "total_dos.dat"]
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "first").iterdir()) == names

    constants = phonons.force_constants(members, scale)
    band = yaml.safe_load((tmp_path / "first" / "band.yaml").read_text())
    written = np.array([[branch["frequency"] for branch in point["band"]] for point in band["phonon"]])
    distance = np.array([point["distance"] for point in band["phonon"]])
    # phonopy repeats the point where two pieces of the path meet, and measures in 1/Å.
    a = scale * (2 * tungsten.get_volume()) ** (1 / 3)
    distance, unique = np.unique(np.round(distance * a, 6), return_index=True)
    np.testing.assert_allclose(distance, phonons.path.distance, atol=1e-5)
    np.testing.assert_allclose(written[unique], phonons.bands(constants)[0], atol=1e-6)
    mesh = yaml.safe_load((tmp_path / "first" / "mesh.yaml").read_text())
    written = np.array([[branch["frequency"] for branch in point["band"]] for point in mesh["phonon"]])
    np.testing.assert_allclose(written, phonons.mesh_frequencies(constants)[0], atol=1e-6)
    dos = np.loadtxt(tmp_path / "first" / "total_dos.dat")
    np.testing.assert_allclose(dos[:, 0], GRID, atol=1e-9)
    assert dos[:, 1].sum() * 0.05 == pytest.approx(3, abs=0.05)
