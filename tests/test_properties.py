"""Relaxation and properties against independent computations and published values."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
from ase import units
from ase.build import bulk
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from popsbounds.calculators import make_calculator
from popsbounds.config import Elastic, Formation, LammpsCalculator, Relax, Surface
from popsbounds.propagate import baseline, cold_starts, compute_values, read_baseline, write_baseline
from popsbounds.properties.elastic import ElasticProperty, hill_shear_modulus
from popsbounds.properties.formation import FormationProperty
from popsbounds.properties.surface import SurfaceProperty
from popsbounds.reference import mark_other_basins, reference_values
from popsbounds.relax import Start, hessian, relax, scaled, symmetric_basis
from popsbounds.structures import crystal

SETTINGS = Relax()
EAM = LammpsCalculator(pair_style="eam/alloy", pair_coeff=["* * W_zhou.eam.alloy W"])
VOLUME = 15.8


@pytest.fixture
def calculator():
    return make_calculator(EAM, ["W"])


def by_quantity(values, structure):
    return {v.quantity: v for v in values if v.structure == structure}


@pytest.mark.parametrize("name", ["hcp", "A15", "C14", "mu"])
def test_warm_relaxation_equals_a_cold_one_with_another_optimiser(calculator, name):
    start = crystal(name, "W", VOLUME)
    cold = relax(Start(start), calculator, SETTINGS, cell=True)
    curvature = hessian(cold.atoms, calculator, SETTINGS, cell=True)
    warm = relax(Start(scaled(cold.atoms, 1.02), curvature), calculator, SETTINGS, cell=True)

    rival = start.copy()
    rival.calc = calculator
    FIRE(FrechetCellFilter(rival), logfile=None).run(fmax=1e-4, steps=2000)
    assert cold.ok
    assert warm.ok
    assert warm.evaluations < 10
    for ours in (cold, warm):
        assert ours.energy / len(rival) == pytest.approx(rival.get_potential_energy() / len(rival), abs=1e-6)
        assert ours.atoms.get_volume() == pytest.approx(rival.get_volume(), rel=2e-4)
    forces = warm.atoms.copy()
    forces.calc = calculator
    assert np.abs(forces.get_forces()).max() < SETTINGS.fmax_eV_per_A
    assert np.abs(forces.get_stress()).max() < SETTINGS.smax_GPa * units.GPa


@pytest.mark.parametrize("name", ["C14", "sigma", "Al4W"])
def test_hessian_is_the_second_derivative(calculator, name):
    atoms = relax(Start(crystal(name, "W", VOLUME)), calculator, SETTINGS, cell=True).atoms
    matrix = hessian(atoms, calculator, SETTINGS, cell=False)
    basis = symmetric_basis(atoms, cell=False)
    push = 5e-3 * (basis @ np.random.default_rng(0).normal(size=basis.shape[1])).reshape(-1, 3)
    push -= push.mean(axis=0)

    def energy(sign):
        moved = atoms.copy()
        moved.positions += sign * push
        moved.calc = calculator
        return moved.get_potential_energy()

    curvature = energy(1) + energy(-1) - 2 * energy(0)
    assert curvature == pytest.approx(push.ravel() @ matrix @ push.ravel(), rel=1e-2)


def test_symmetric_changes_keep_the_space_group():
    """Free parameters of each prototype (International Tables): cell and Wyckoff coordinates."""
    free = {"bcc": 0, "hcp": 0, "A15": 0, "C15": 0, "C14": 2, "mu": 5, "sigma": 7, "Al12W": 2, "chi": 5}
    lattice = {"bcc": 1, "hcp": 2, "A15": 1, "C15": 1, "C14": 2, "mu": 2, "sigma": 2, "Al12W": 1, "chi": 1}
    rng = np.random.default_rng(1)
    for name, expected in free.items():
        atoms = crystal(name, "W", VOLUME)
        ions = symmetric_basis(atoms, cell=False)
        both = symmetric_basis(atoms, cell=True)
        rigid = len(both.T) - len(ions.T) - lattice[name]  # rotations about a polar axis
        assert len(ions.T) == expected, name
        assert 0 <= rigid <= 1, name
        if not expected:
            continue
        moved = atoms.copy()
        moved.positions += 0.05 * (ions @ rng.normal(size=expected)).reshape(-1, 3)
        groups = [spglib.get_symmetry_dataset((a.cell[:], a.get_scaled_positions(), a.numbers)) for a in (atoms, moved)]
        assert groups[0].number == groups[1].number, name


def test_members_keep_the_symmetry_of_their_start(calculator):
    """Even where the potential is unstable against breaking it: fcc would turn into bcc."""
    fcc = relax(Start(crystal("fcc", "W", VOLUME)), calculator, SETTINGS, cell=True)
    curvature = hessian(fcc.atoms, calculator, SETTINGS, cell=True)
    for factor in (0.97, 1.0, 1.03):
        again = relax(Start(scaled(fcc.atoms, factor), curvature), calculator, SETTINGS, cell=True)
        assert again.ok
        assert again.energy == pytest.approx(fcc.energy, abs=1e-6)
        np.testing.assert_allclose(again.atoms.cell.angles(), 60, atol=1e-6)


def test_baseline_is_where_members_start(calculator, tmp_path):
    prop = FormationProperty(Formation(structures=["bcc", "C15"]), "W", VOLUME, SETTINGS)
    relaxed, starts = baseline(prop, calculator, SETTINGS)
    write_baseline(tmp_path / "a.npz", starts)
    again = read_baseline(tmp_path / "a.npz")
    assert list(again) == list(starts)
    values = {(v.structure, v.quantity): v for v in prop.values(calculator, relaxed)}
    for value in compute_values(prop, calculator, again):
        same = values[value.structure, value.quantity]
        assert value.value == pytest.approx(same.value, rel=1e-8, abs=1e-8)
        assert value.evaluations <= same.evaluations


def test_bulk_modulus_equals_an_equation_of_state(calculator):
    prop = FormationProperty(Formation(structures=["bcc", "A15", "C36"]), "W", VOLUME, SETTINGS)
    values = compute_values(prop, calculator, cold_starts(prop))
    for name in ("bcc", "A15"):  # no internal freedom along the path of volumes
        found = by_quantity(values, name)
        atoms = crystal(name, "W", found["volume"].value)
        atoms.calc = calculator
        volumes, energies = [], []
        for factor in np.linspace(0.99, 1.01, 9):
            copy = scaled(atoms, factor)
            copy.calc = calculator
            volumes.append(copy.get_volume())
            energies.append(copy.get_potential_energy())
        v0, _, b = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
        assert found["bulk_modulus"].value == pytest.approx(b / units.GPa, rel=5e-3)
        assert found["volume"].value == pytest.approx(v0 / len(atoms), rel=1e-4)
    bcc = by_quantity(values, "bcc")
    assert bcc["formation_energy"].value == 0
    assert bcc["relative_volume"].value == 0
    a15 = by_quantity(values, "A15")
    assert a15["formation_energy"].value == pytest.approx(a15["energy"].value - bcc["energy"].value)
    assert a15["relative_volume"].value == pytest.approx(a15["volume"].value / bcc["volume"].value - 1)


def test_elastic_constants_equal_energy_strain_curvatures_and_the_literature(calculator):
    prop = ElasticProperty(Elastic(), "W", VOLUME, SETTINGS)
    found = by_quantity(compute_values(prop, calculator, cold_starts(prop)), "bcc")
    # Zhou, Johnson & Wadley fitted their potential to these (GPa).
    assert found["C11"].value == pytest.approx(523, rel=0.01)
    assert found["C12"].value == pytest.approx(204, rel=0.01)
    assert found["C44"].value == pytest.approx(161, rel=0.01)

    atoms = relax(Start(crystal("bcc", "W", VOLUME)), calculator, SETTINGS, cell=True).atoms

    def curvature(direction):
        step = 2e-3
        energies = []
        for sign in (1, 0, -1):
            copy = atoms.copy()
            copy.set_cell(atoms.cell[:] @ (np.eye(3) + sign * step * direction), scale_atoms=True)
            copy.calc = calculator
            energies.append(copy.get_potential_energy())
        return (energies[0] - 2 * energies[1] + energies[2]) / step**2 / atoms.get_volume() / units.GPa

    axial = np.diag([1.0, 0, 0])
    shear = np.array([[0, 0, 0], [0, 0, 0.5], [0, 0.5, 0]])
    assert found["C11"].value == pytest.approx(curvature(axial), rel=2e-3)
    assert 2 * (found["C11"].value + found["C12"].value) == pytest.approx(curvature(np.diag([1.0, 1, 0])), rel=2e-3)
    assert found["C44"].value == pytest.approx(curvature(shear), rel=2e-3)


def test_elastic_constants_of_an_internally_free_crystal_are_relaxed(calculator):
    prop = ElasticProperty(Elastic(structures=["A15"]), "W", VOLUME, SETTINGS)
    found = by_quantity(compute_values(prop, calculator, cold_starts(prop)), "A15")
    atoms = relax(Start(crystal("A15", "W", VOLUME)), calculator, SETTINGS, cell=True).atoms
    step, energies = 4e-3, {True: [], False: []}
    for sign in (1, 0, -1):
        deformation = np.eye(3)
        deformation[1, 2] = deformation[2, 1] = 0.5 * sign * step
        for relaxed, list_ in energies.items():
            copy = atoms.copy()
            copy.set_cell(atoms.cell[:] @ deformation, scale_atoms=True)
            copy.calc = calculator
            if relaxed:
                FIRE(copy, logfile=None).run(fmax=1e-5, steps=2000)
            list_.append(copy.get_potential_energy())
    stiffness = {
        relaxed: (e[0] - 2 * e[1] + e[2]) / step**2 / atoms.get_volume() / units.GPa for relaxed, e in energies.items()
    }
    assert found["C44"].value == pytest.approx(stiffness[True], rel=3e-3)
    assert stiffness[False] > 1.01 * stiffness[True]


def test_unstable_crystals_have_no_elastic_constants(calculator):
    prop = ElasticProperty(Elastic(structures=["fcc"]), "W", VOLUME, SETTINGS)
    found = compute_values(prop, calculator, cold_starts(prop))
    squeezed = {v.status for v in found}
    prop = ElasticProperty(Elastic(structures=["sc"]), "W", VOLUME, SETTINGS)
    found = compute_values(prop, calculator, cold_starts(prop))
    assert {v.status for v in found} == {"unstable"}
    assert all("mechanically unstable" in v.reason for v in found)
    assert squeezed == {"ok"}


def test_reference_of_another_basin_is_marked(calculator):
    prop = FormationProperty(Formation(structures=["bcc", "C14"]), "W", VOLUME, SETTINGS)
    table, structures = reference_values("formation", prop, calculator, None)
    _, starts = baseline(prop, calculator, SETTINGS)
    assert mark_other_basins(table, structures, starts, SETTINGS).equals(table)
    moved = structures["C14"].atoms.copy()
    moved.positions[0] += [0.5, 0.5, 0.5]
    marked = mark_other_basins(table, structures | {"C14": Start(moved)}, starts, SETTINGS)
    assert set(marked.loc[marked["status"] == "different_basin", "structure"]) == {"C14"}
    assert marked.loc[marked["structure"] == "C14", "reason"].str.contains("the MLE's structure").all()
    assert (marked.loc[marked["structure"] == "bcc", "status"] == "ok").all()


def test_slabs_that_the_mle_lacks_start_at_the_members_lattice(calculator):
    """A cold slab beside a warm bulk: both starts belong to different volumes."""
    prop = SurfaceProperty(Surface(facets=["110"]), "W", 1.05 * VOLUME, SETTINGS)
    _, starts = baseline(prop, calculator, SETTINGS)
    mixed = {"bcc": starts["bcc"], "110": cold_starts(prop)["110"]}
    values = [compute_values(prop, calculator, s)[0].value for s in (starts, mixed)]
    assert values[0] == pytest.approx(values[1], abs=1e-4)


def test_shear_modulus():
    assert hill_shear_modulus(300.0, 100.0, 100.0) == pytest.approx(100.0)  # isotropic
    assert hill_shear_modulus(523.0, 204.0, 161.0) == pytest.approx(160.4, abs=0.1)


def test_surface_energies_converge_with_thickness_and_equal_plain_slabs(calculator):
    thin, thick = (
        SurfaceProperty(Surface(facets=["110", "100"], min_thickness_A=t, vacuum_A=9), "W", VOLUME, SETTINGS)
        for t in (14.0, 30.0)
    )
    for facet in ("110", "100"):
        energies = [by_quantity(compute_values(p, calculator, cold_starts(p)), facet) for p in (thin, thick)]
        assert energies[0]["surface_energy"].value == pytest.approx(energies[1]["surface_energy"].value, rel=2e-3)

    # A free-standing slab of many cubic cells, made and relaxed otherwise.
    lattice = (2 * relax(Start(crystal("bcc", "W", VOLUME)), calculator, SETTINGS, cell=True).atoms.get_volume()) ** (
        1 / 3
    )
    cubic = bulk("W", "bcc", a=lattice, cubic=True)
    cubic.calc = calculator
    slab = cubic.repeat((1, 1, 6))
    slab.center(vacuum=6, axis=2)
    slab.calc = calculator
    FIRE(slab, logfile=None).run(fmax=1e-3, steps=500)
    expected = (
        (slab.get_potential_energy() - 6 * cubic.get_potential_energy()) / (2 * lattice**2) * units.m**2 / units.J
    )
    assert energies[1]["surface_energy"].value == pytest.approx(expected, rel=2e-3)


def test_surfaces_sit_on_the_potentials_own_lattice(calculator):
    prop = SurfaceProperty(Surface(facets=["110"]), "W", 1.1 * VOLUME, SETTINGS)
    relaxed = prop.relax(calculator, cold_starts(prop))
    bulk_length = (2 * relaxed["bcc"].atoms.get_volume()) ** (1 / 3)
    area = np.linalg.norm(np.cross(relaxed["110"].atoms.cell[0], relaxed["110"].atoms.cell[1]))
    assert area == pytest.approx(bulk_length**2 / np.sqrt(2), rel=1e-6)


def far_off(calculator):
    """A start from which nothing can come back in one step."""
    return Start(scaled(crystal("A15", "W", VOLUME), 0.75))


def test_every_failure_has_a_status_and_a_reason(calculator):
    atoms = crystal("A15", "W", VOLUME)
    good = relax(Start(atoms), calculator, SETTINGS, cell=True)
    curvature = hessian(good.atoms, calculator, SETTINGS, cell=True)

    few = relax(Start(atoms), calculator, Relax(max_steps=1), cell=True)
    assert (few.status, few.energy) == ("not_converged", pytest.approx(np.nan, nan_ok=True))
    falling = relax(far_off(calculator), calculator, SETTINGS, cell=True)
    assert falling.status == "unstable"
    assert "eV/atom" in falling.reason
    elsewhere = relax(
        Start(scaled(good.atoms, 1.08), curvature),
        calculator,
        Relax(basin_strain=0.02, max_energy_change_eV=50),
        cell=True,
    )
    assert elsewhere.status == "different_basin"

    prop = FormationProperty(Formation(structures=["bcc", "A15"]), "W", VOLUME, SETTINGS)
    starts = {"bcc": Start(scaled(crystal("bcc", "W", VOLUME), 0.7)), "A15": Start(good.atoms, curvature)}
    values = compute_values(prop, calculator, starts)
    bcc, a15 = by_quantity(values, "bcc"), by_quantity(values, "A15")
    assert {v.status for v in bcc.values()} == {"unstable"}
    assert a15["volume"].status == "ok"
    assert a15["formation_energy"].status == "unstable"
    assert a15["formation_energy"].reason.startswith("bcc: ")
