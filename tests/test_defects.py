"""Interstitials, vacancy hop, phonons and transformation paths of members, against computations from scratch."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.mep import NEB
from ase.optimize import FIRE
from ase.utils.forcecurve import fit_images
from ensembles import FORM, RELAX, VOLUME, as_members, fire, make, narrow, wild

from popsbounds.config import Interstitial, Neb, Phonon, Transformations
from popsbounds.descriptors.snap import SnapCalculator
from popsbounds.engine import load_atoms, new_lammps
from popsbounds.paths import transformation_path
from popsbounds.phonons import Phonons, band_path
from popsbounds.potential import ColdPotential
from popsbounds.structures import crystal, interstitial, vacancy_hop


def each(table, thetas):
    """Number, lines, potential and its bcc crystal (volume and energy per atom) of every member."""
    calculator = SnapCalculator(FORM, thetas[0])
    for number, theta in enumerate(thetas):
        calculator.set_theta(theta)
        atoms = bulk("W", "bcc", a=3.17)
        atoms.calc = calculator
        assert FIRE(FrechetCellFilter(atoms, hydrostatic_strain=True), logfile=None).run(fmax=1e-6)
        yield table[table["member"] == number], calculator, atoms.get_volume(), atoms.get_potential_energy()


def hessian(atoms, calculator, step=0.01):
    """Second derivatives, every atom moved along every axis."""
    rows = []
    for i in range(3 * len(atoms)):
        gradients = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions.flat[i] += sign * step
            moved.calc = calculator
            gradients.append(-moved.get_forces().ravel())
        rows.append((gradients[0] - gradients[1]) / (2 * step))
    matrix = np.array(rows)
    return 0.5 * (matrix + matrix.T)


def test_interstitials_equal_relaxations_from_scratch():
    options = Interstitial(repeats=2)
    mle, thetas = wild(2)
    for lines, calculator, volume, energy in each(as_members("sia", options, mle, thetas), thetas):
        found = lines.set_index(["structure", "quantity"])["value"]
        for kind in options.structures:
            rival = fire(interstitial(kind, "W", volume, options.repeats), calculator)
            expected = rival.get_potential_energy() - len(rival) * energy
            assert found[kind, "formation_energy"] == pytest.approx(expected, abs=1e-3)


def test_hessian_index_of_the_mle_is_that_of_its_own_hessian():
    options = Interstitial(repeats=2)
    calculator = SnapCalculator(FORM, wild(1)[0])
    potential = ColdPotential(calculator, RELAX)
    found = {v.structure: v for v in make("sia", options).values(potential) if v.quantity == "hessian_index"}
    volume = potential.crystal("bcc", crystal("bcc", "W", VOLUME)).volume
    indices = set()
    for kind, line in found.items():
        rival = fire(interstitial(kind, "W", volume, options.repeats), calculator)
        curvatures = np.linalg.eigvalsh(hessian(rival, calculator))
        # Curvatures closer to zero may count or not; three are rigid motions.
        least, most = np.count_nonzero(curvatures < -0.1), np.count_nonzero(curvatures < 0.1) - 3
        assert least <= line.value <= most, kind
        indices.add(line.value)
    assert len(indices) > 1


def test_vacancy_hops_equal_a_plain_band():
    options = Neb(repeats=2, images=7, points=13)
    mle, thetas = wild(2)
    for lines, calculator, volume, energy in each(as_members("neb", options, mle, thetas), thetas):
        images = vacancy_hop("W", volume, options.repeats, options.images)
        ends = [fire(image, calculator) for image in (images[0], images[-1])]
        images = [ends[0], *images[1:-1], ends[1]]
        for image in images:  # a rigid shift is no part of the path
            image.positions -= image.positions.mean(axis=0)
        for climb, fmax in ((False, 0.05), (True, 0.005)):
            for image in images[1:-1]:
                image.calc = calculator
            band = NEB(images, k=5.0, climb=climb, method="improvedtangent", allow_shared_calculator=True)
            assert FIRE(band, logfile=None).run(fmax=fmax, steps=2000)
        energies = np.array([image.get_potential_energy() for image in images])
        alone = lines.set_index("quantity")["value"]
        assert alone["barrier"] == pytest.approx(energies.max() - energies[0], abs=1e-3)
        vacancy = energies[0] - len(images[0]) * energy
        assert alone["vacancy_formation_energy"] == pytest.approx(vacancy, abs=1e-3)
        along = lines[lines["quantity"] == "path_energy"]
        fit = fit_images(images)
        expected = np.interp(along["coordinate"], fit.fit_path / fit.fit_path[-1], fit.fit_energies)
        # Both interpolate between their images, each with its own tangents.
        np.testing.assert_allclose(along["value"], expected, atol=0.01 * alone["barrier"])


def test_phonons_equal_those_of_lammps(tmp_path):
    """At wave vectors commensurate with the supercell."""
    options = Phonon(repeats=3, points_per_unit=3, mesh=6, frequency_range_THz=(-10.0, 20.0))
    path = band_path("bcc", options.points_per_unit)
    commensurate = [i for i, q in enumerate(path.q) if np.allclose(q * options.repeats, np.round(q * options.repeats))]
    assert len(commensurate) >= 4
    mle, thetas = wild(2)
    table = as_members("phonon", options, mle, thetas)
    assert (table["evaluations"] == 0).all()
    for lines, calculator, volume, _ in each(table, thetas):
        branches = [lines[lines["quantity"] == f"branch_{i}"] for i in (1, 2, 3)]
        np.testing.assert_allclose(branches[0]["coordinate"], path.distance)
        bands = np.array([branch["value"] for branch in branches]).T

        bulk = crystal("bcc", "W", volume)
        (atoms,) = Phonons(bulk, options.repeats, 1e-9, mesh=3, points_per_unit=3).supercells
        file = tmp_path / "dynamical_matrix.dat"
        lmp = new_lammps()
        load_atoms(lmp, atoms, ["W"])
        lmp.commands_list([*calculator.commands, "run 0", f"dynamical_matrix all regular 0.01 file {file}"])
        lmp.close()
        n, a = len(atoms), atoms.cell[0, 0] / options.repeats
        matrix = np.loadtxt(file).reshape(n, 3, n, 3)[0]  # in eV/Å²/u
        for i in commensurate:
            waves = np.exp(2j * np.pi * (atoms.positions - atoms.positions[0]) @ path.q[i] / a)
            squares = np.linalg.eigvalsh(np.einsum("ajb,j->ab", matrix, waves)) * units._e * 1e20 / units._amu
            expected = np.sign(squares) * np.sqrt(np.abs(squares)) / (2 * np.pi * 1e12)
            np.testing.assert_allclose(bands[i], expected, atol=0.01)
        density = lines[lines["quantity"] == "dos"]
        assert density["value"].sum() * options.frequency_step_THz == pytest.approx(3, abs=0.05)
        (imaginary,) = lines.loc[lines["quantity"] == "imaginary_fraction", "value"]
        share = density.loc[density["coordinate"] < -0.1, "value"].sum() * options.frequency_step_THz / 3
        assert imaginary == pytest.approx(share, abs=0.01)


def test_transformation_paths_equal_single_energies():
    options = Transformations(points=9)
    mle, thetas = wild(3)
    table = as_members("path", options, mle, thetas)
    assert (table["evaluations"] == 0).all()
    for lines, calculator, volume, energy in each(table, thetas):
        expected = []
        for line in lines.itertuples():
            atoms = transformation_path(line.structure, "W", volume, line.coordinate)
            atoms.calc = calculator
            expected.append(atoms.get_potential_energy() / len(atoms) - energy)
        assert set(lines["structure"]) == {"tetragonal", "orthorhombic", "trigonal", "hexagonal"}
        np.testing.assert_allclose(lines["value"], expected, atol=1e-4)


def test_members_cost_few_force_calls():
    defects = as_members("sia", Interstitial(repeats=2, unstable_modes=False), *narrow())
    assert 0 < defects["evaluations"].median() <= 3
    # A converged band costs an image at least one call.
    hops = as_members("neb", Neb(repeats=2, images=7), *narrow())
    assert 2 <= hops["evaluations"].median() <= 20
