"""Rows of the design matrix against LAMMPS's own SNAP, and the live engine against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from scipy.spatial.transform import Rotation

from popsbounds.calculators import make_calculator
from popsbounds.config import AseCalculator, PairStyle, ReferencePotential, Snap
from popsbounds.descriptors.snap import SnapCalculator, SnapModel, SnapRows
from popsbounds.engine import locate_potential, new_lammps
from popsbounds.errors import InputError

ZBL = ReferencePotential(pair_style="zbl 4.0 4.8", pair_coeff=["1 1 74 74"])
EAM = ReferencePotential(pair_style="eam/alloy", pair_coeff=["* * W_zhou.eam.alloy W"])


def distorted(elements, seed):
    """A strained, rattled and rotated (also left-handed) triclinic cell."""
    rng = np.random.default_rng(seed)
    atoms = bulk("W", "bcc", a=3.2) * (2, 2, 1)
    atoms.set_chemical_symbols(list(rng.choice(elements, len(atoms))))
    atoms.rattle(0.1, rng=rng)
    turn = Rotation.random(random_state=seed).as_matrix()
    mirror = np.diag([1.0, 1.0, -1.0 if seed % 2 else 1.0])
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + rng.uniform(-0.1, 0.1, (3, 3))) @ turn @ mirror, scale_atoms=True)
    atoms.positions += rng.uniform(-20, 20, 3)
    return atoms


def random_theta(rows, seed):
    scale = np.abs(rows).max(axis=0)
    return np.random.default_rng(seed).normal(size=rows.shape[1]) / np.where(scale > 0, scale, 1)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("elements", "quadratic", "reference"),
    [
        (["W"], True, None),
        (["W"], False, ZBL),
        (["W"], True, EAM),
        (["Ta", "W"], True, None),
        (["W", "Ta"], False, None),
    ],
)
def test_rows_times_theta_is_lammps(elements, quadratic, reference, seed):
    settings = Snap(twojmax=5, quadratic=quadratic, reference=reference, radii={"W": 0.52}, density_weights={"W": 0.9})
    model = SnapModel(settings, elements)
    compute = SnapRows(model)
    compute(distorted(elements, 10))  # state left by another frame must not matter
    atoms = distorted(elements, seed)
    rows, fixed = compute(atoms)
    theta = random_theta(rows, seed)
    assert rows.shape == (1 + 3 * len(atoms), model.n_parameters)

    atoms.calc = SnapCalculator(model, theta)
    energy = rows[0] @ theta + fixed[0]
    assert atoms.get_potential_energy() / len(atoms) == pytest.approx(energy, rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces().ravel(), rows[1:] @ theta + fixed[1:], rtol=1e-9, atol=1e-9)
    assert np.abs(atoms.get_forces()).max() > 0.1


@pytest.mark.parametrize("twojmax", range(2, 10))
@pytest.mark.parametrize("quadratic", [True, False])
def test_number_of_parameters_is_lammps_own(twojmax, quadratic):
    model = SnapModel(Snap(twojmax=twojmax, quadratic=quadratic), ["W"])
    assert SnapRows(model)(bulk("W"))[0].shape == (4, model.n_parameters)


def test_paper_size():
    assert SnapModel(Snap(twojmax=8), ["W"]).n_parameters == 1596
    assert SnapModel(Snap(twojmax=6), ["W"]).n_parameters == 496


def test_swapped_parameters_equal_a_fresh_calculator():
    model = SnapModel(Snap(twojmax=4, reference=ZBL), ["W"])
    atoms, other = distorted(["W"], 2), bulk("W") * (3, 1, 1)
    rows, _ = SnapRows(model)(atoms)
    first, second = random_theta(rows, 0), random_theta(rows, 1)
    live = SnapCalculator(model, first)
    for structure in (atoms, other):
        structure.calc = live
        structure.get_forces()
    live.set_theta(second)
    for structure in (atoms, other, atoms):
        structure.calc = live
        forces = structure.get_forces()
        structure.calc = SnapCalculator(model, second)
        np.testing.assert_array_equal(forces, structure.get_forces())


def test_forces_and_stress_are_derivatives_of_the_energy():
    atoms = distorted(["W"], 3)
    atoms.calc = make_calculator(PairStyle(pair_style=EAM.pair_style, pair_coeff=EAM.pair_coeff), ["W"])
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    step = 1e-4

    def energy(change):
        copy = atoms.copy()
        copy.calc = atoms.calc
        change(copy)
        return copy.get_potential_energy()

    def push(atom, axis, sign):
        def change(copy):
            copy.positions[atom, axis] += sign * step

        return change

    def deform(i, j, sign):
        deformation = np.eye(3)
        deformation[i, j] += 0.5 * sign * step
        deformation[j, i] += 0.5 * sign * step
        return lambda copy: copy.set_cell(atoms.cell[:] @ deformation, scale_atoms=True)

    for atom, axis in [(0, 0), (2, 1), (3, 2)]:
        slope = (energy(push(atom, axis, 1)) - energy(push(atom, axis, -1))) / (2 * step)
        assert forces[atom, axis] == pytest.approx(-slope, abs=1e-5)
    for i, j in [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]:
        slope = (energy(deform(i, j, 1)) - energy(deform(i, j, -1))) / (2 * step) / atoms.get_volume()
        assert stress[i, j] == pytest.approx(slope, abs=1e-6)


def test_cells_far_smaller_than_the_cutoff_equal_their_supercells():
    one = bulk("W", "bcc", a=3.1)
    many = one * (4, 3, 2)
    calculator = make_calculator(PairStyle(pair_style=EAM.pair_style, pair_coeff=EAM.pair_coeff), ["W"])
    one.calc = many.calc = calculator
    assert many.get_potential_energy() / len(many) == pytest.approx(one.get_potential_energy(), abs=1e-10)


def test_a_failing_configuration_raises_and_the_engine_lives_on():
    atoms = distorted(["W"], 0)
    calculator = make_calculator(PairStyle(pair_style=EAM.pair_style, pair_coeff=EAM.pair_coeff), ["W"])
    atoms.calc = calculator
    before = atoms.get_potential_energy()
    broken = atoms.copy()
    broken.positions[0] = np.nan
    broken.calc = calculator
    with pytest.raises(CalculationFailed):
        broken.get_potential_energy()
    atoms.rattle(0)
    calculator.reset()
    assert atoms.get_potential_energy() == before


def test_files_of_a_member_run_in_plain_lammps(tmp_path):
    model = SnapModel(Snap(twojmax=4, reference=ZBL), ["W"])
    atoms = bulk("W", "bcc", a=3.2, cubic=True)
    theta = random_theta(SnapRows(model)(atoms)[0], 4)
    model.write_coefficients(tmp_path / "a.snapcoeff", theta)
    model.write_parameters(tmp_path / "a.snapparam")
    atoms.calc = SnapCalculator(model, theta)
    lmp = new_lammps()
    lmp.commands_string(
        f"""
        units metal
        lattice bcc 3.2
        region cell block 0 1 0 1 0 1
        create_box 1 cell
        create_atoms 1 box
        mass 1 183.84
        pair_style hybrid/overlay snap zbl 4.0 4.8
        pair_coeff * * snap {tmp_path}/a.snapcoeff {tmp_path}/a.snapparam W
        pair_coeff 1 1 zbl 74 74
        run 0
        """
    )
    assert lmp.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    lmp.close()


def test_missing_potential_files_and_calculators_are_named():
    with pytest.raises(InputError, match=r"no_such\.eam\.alloy"):
        make_calculator(PairStyle(pair_style="eam/alloy", pair_coeff=["* * no_such.eam.alloy W"]), ["W"])
    with pytest.raises(InputError, match=r"no_such_module\.Thing"):
        make_calculator(AseCalculator(kind="ase", name="no_such_module.Thing"), ["W"])
    with pytest.raises(InputError, match="refuses its arguments"):
        make_calculator(AseCalculator(kind="ase", name="ase.build.bulk", arguments={"no_such": 1}), ["W"])
    assert locate_potential("W_zhou.eam.alloy").is_file()


def test_any_ase_calculator_by_name():
    made = make_calculator(AseCalculator(kind="ase", name="ase.calculators.emt.EMT"), ["Cu"])
    atoms = Atoms(bulk("Cu"), calculator=made)
    assert np.isfinite(atoms.get_potential_energy())
