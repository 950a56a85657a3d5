"""Relaxation of one structure under one potential, warm-started from another's.

A member of the ensemble differs little from the loss-minimising potential, so
its minimum is near and its curvature nearly the same: started from that
minimum with that Hessian, ASE's BFGS needs a few force calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.filters import UnitCellFilter
from ase.optimize import BFGS

from popsbounds.config import Relax
from popsbounds.errors import InputError
from popsbounds.structures import nearest_neighbour_distance

__all__ = ["Relaxed", "Start", "hessian", "other_basin", "relax", "scaled", "strain", "symmetric_basis"]

# Softest curvature (eV/Å²) trusted in a Hessian: translations and rotations have none.
_SOFTEST = 0.05
# Curvature (eV/Å²) assumed where it is not computed: ASE's own default.
_STIFF = 70.0
# Step of finite differences (Å), and what spglib counts as symmetric (Å).
_DIFFERENCE, _SYMMETRY_PRECISION = 0.01, 1e-3
# Longest step: of an atom (Å), and of the cell's deformation gradient.
_LARGEST_STEP, _LARGEST_DEFORMATION = 0.2, 0.03


@dataclass(frozen=True)
class Start:
    """Where a relaxation starts.

    Attributes
    ----------
    atoms : Atoms
        Starting geometry.
    hessian : ndarray or None
        Of the energy in the coordinates of `relax` (eV/Å²), shape
        (3n + 9, 3n + 9) where the cell relaxes and (3n, 3n) where it does not;
        None starts cold, and then the result may lie in any basin.
    """

    atoms: Atoms
    hessian: np.ndarray | None = None


@dataclass(frozen=True)
class Relaxed:
    """A relaxed structure, or what became of it.

    Attributes
    ----------
    atoms : Atoms
        Last geometry.
    energy : float
        Its energy (eV); NaN unless `status` is ``ok``.
    status : str
        ``ok``, ``not_converged``, ``unstable``, ``different_basin`` or ``failed``.
    reason : str
        Why it is not ok.
    evaluations : int
        Force calls spent.
    stress : ndarray, shape (3, 3)
        Stress at the last geometry (eV/Å³).
    hessian : ndarray or None
        The one it started with: still good for nearby relaxations.
    """

    atoms: Atoms
    energy: float
    status: str
    reason: str
    evaluations: int
    stress: np.ndarray
    hessian: np.ndarray | None

    @property
    def ok(self) -> bool:
        """Whether the structure is relaxed."""
        return self.status == "ok"


class _Stop(Exception):
    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def scaled(atoms: Atoms, factor: float) -> Atoms:
    """Copy with all lengths multiplied by `factor`."""
    copy = atoms.copy()
    copy.set_cell(atoms.cell[:] * factor, scale_atoms=True)
    return copy


def _coordinates(atoms: Atoms, settings: Relax) -> UnitCellFilter:
    # Scaled so that one threshold on the generalised forces means fmax for
    # the atoms and smax for the stress.
    stress_tolerance = settings.smax_GPa * units.GPa
    return UnitCellFilter(atoms, cell_factor=atoms.get_volume() * stress_tolerance / settings.fmax_eV_per_A)


def relax(start: Start, calculator: Calculator, settings: Relax, cell: bool) -> Relaxed:
    """Relax the ions, and the cell if asked for, to the nearest minimum.

    Parameters
    ----------
    start
        Geometry and, if known, Hessian.
    calculator
        The potential.
    settings
        Tolerances.
    cell
        Whether the cell relaxes, at zero pressure.

    Returns
    -------
    Relaxed
        Never raises for a potential that misbehaves: see its status.
    """
    atoms = start.atoms.copy()
    atoms.calc = calculator
    evaluations = 0
    try:
        coordinates: Any = _coordinates(atoms, settings) if cell else atoms
        largest_step = min(_LARGEST_STEP, _LARGEST_DEFORMATION * coordinates.cell_factor) if cell else _LARGEST_STEP
        optimiser = BFGS(coordinates, logfile=None, maxstep=largest_step)
        if start.hessian is not None:
            optimiser.H0 = start.hessian.copy()
        first = None
        for done in optimiser.irun(fmax=settings.fmax_eV_per_A, steps=settings.max_steps):
            converged = done
            evaluations += 1
            energy = atoms.get_potential_energy()
            first = energy if first is None else first
            if not (np.isfinite(energy) and np.isfinite(atoms.get_forces()).all()):
                raise _Stop("unstable", "energy or forces are not finite")
            change = (energy - first) / len(atoms)
            if abs(change) > settings.max_energy_change_eV:
                raise _Stop("unstable", f"energy moved by {change:.3g} eV/atom from its start")
        if not converged:
            raise _Stop("not_converged", f"{settings.max_steps} steps did not reach the force tolerance")
        if start.hessian is not None:
            elsewhere = other_basin(start.atoms, atoms, settings)
            if elsewhere:
                raise _Stop("different_basin", f"{elsewhere} the MLE's structure")
        status, reason = "ok", ""
        # Not every calculator has stresses, and not every relaxation needs one.
        has_stress = "stress" in calculator.implemented_properties
        stress = atoms.get_stress(voigt=False) if has_stress else np.full((3, 3), np.nan)
    except _Stop as stop:
        energy, stress, status, reason = np.nan, np.full((3, 3), np.nan), stop.status, stop.reason
    except InputError:
        raise
    except Exception as error:  # calculators raise what they like
        energy, stress = np.nan, np.full((3, 3), np.nan)
        status, reason = "failed", f"{type(error).__name__}: {error}"
    atoms.calc = None
    return Relaxed(atoms, float(energy), status, reason, evaluations, stress, start.hessian)


def strain(relaxed: Relaxed, deformation: np.ndarray, calculator: Calculator, settings: Relax) -> Relaxed:
    """Deform a relaxed structure and relax its ions in the fixed cell.

    Parameters
    ----------
    relaxed
        Returned as it is where it is not ok.
    deformation
        Cell and positions (row vectors) are multiplied by it, shape (3, 3).
    calculator, settings
        As in `relax`.
    """
    if not relaxed.ok:
        return relaxed
    atoms = relaxed.atoms.copy()
    atoms.set_cell(atoms.cell[:] @ deformation, scale_atoms=True)
    ions = None if relaxed.hessian is None else relaxed.hessian[: 3 * len(atoms), : 3 * len(atoms)]
    return relax(Start(atoms, ions), calculator, settings, cell=False)


def other_basin(before: Atoms, after: Atoms, settings: Relax) -> str:
    """How far a structure, atom by atom the same as another, has left it.

    Returns
    -------
    str
        Empty where both lie in one basin; else what tells them apart, to be
        followed by a name for `before`.
    """
    deformation = np.linalg.solve(before.cell[:], after.cell[:])
    strain = np.abs(np.linalg.eigvalsh(0.5 * (deformation @ deformation.T - np.eye(3)))).max()
    if strain > settings.basin_strain:
        return f"strained by {strain:.2f} from"
    moved = after.get_positions() - before.get_positions() @ deformation
    moved = np.linalg.norm(moved - moved.mean(axis=0), axis=1).max() / nearest_neighbour_distance(before)
    if moved > settings.basin_displacement:
        return f"an atom moved {moved:.2f} neighbour distances from"
    return ""


def symmetric_basis(atoms: Atoms, cell: bool) -> np.ndarray:
    """Orthonormal basis of the changes of a structure that keep its symmetry.

    Parameters
    ----------
    atoms
        Periodic structure of n atoms.
    cell
        Whether the cell may change too.

    Returns
    -------
    ndarray, shape (3n, k) or, with the cell, (3n + 9, k)
        Displacements, and the deformation gradient, in the coordinates of `relax`.
    """
    scaled_positions = atoms.get_scaled_positions()
    symmetry = spglib.get_symmetry_dataset(
        (atoms.cell[:], scaled_positions, atoms.numbers), symprec=_SYMMETRY_PRECISION
    )
    if symmetry is None:  # spglib found not even the identity
        return np.eye(3 * len(atoms) + (9 if cell else 0))
    n = len(atoms)
    projector = np.zeros((3 * n + 9, 3 * n + 9))
    for rotation, translation in zip(symmetry.rotations, symmetry.translations, strict=True):
        turned = scaled_positions @ rotation.T + translation
        gaps = turned[:, None] - scaled_positions[None]
        images = np.abs(gaps - np.round(gaps)).sum(axis=2).argmin(axis=1)
        cartesian = atoms.cell[:].T @ rotation @ np.linalg.inv(atoms.cell[:].T)
        for atom, image in enumerate(images):
            projector[3 * image : 3 * image + 3, 3 * atom : 3 * atom + 3] += cartesian
        projector[3 * n :, 3 * n :] += np.kron(cartesian, cartesian)
    projector /= len(symmetry.rotations)
    if not cell:
        projector = projector[: 3 * n, : 3 * n]
    values, vectors = np.linalg.eigh(0.5 * (projector + projector.T))
    return vectors[:, values > 0.5]


def hessian(atoms: Atoms, calculator: Calculator, settings: Relax, cell: bool) -> np.ndarray:
    """Hessian in the coordinates of `relax`, by central differences of forces.

    Exact where the structure keeps its symmetry; stiff elsewhere, so that a
    relaxation started with it does not drift off by rounding along a direction
    in which a member happens to be unstable. Made positive definite (absolute
    eigenvalues, with a floor for rigid motions), as a quasi-Newton method
    wants it.

    Returns
    -------
    ndarray, shape (3n, 3n) or, with the cell, (3n + 9, 3n + 9)
        In eV/Å².
    """
    moving = atoms.copy()
    moving.calc = calculator
    coordinates: Any = _coordinates(moving, settings) if cell else moving
    origin = coordinates.get_positions()
    basis = symmetric_basis(atoms, cell)
    matrix = _STIFF * (np.eye(origin.size) - basis @ basis.T)
    if not basis.size:
        return matrix
    columns = []
    for direction in basis.T:
        gradient = []
        for sign in (1, -1):
            # Small against anharmonicity, large against rounding.
            coordinates.set_positions(origin + sign * _DIFFERENCE * direction.reshape(origin.shape))
            gradient.append(-coordinates.get_forces().ravel())
        columns.append(basis.T @ (gradient[0] - gradient[1]) / (2 * _DIFFERENCE))
    within = np.array(columns)
    values, vectors = np.linalg.eigh(0.5 * (within + within.T))
    vectors = basis @ vectors
    return matrix + (vectors * np.maximum(np.abs(values), _SOFTEST)) @ vectors.T
