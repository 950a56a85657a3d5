"""The whole Hessian of a structure, symmetry-breaking directions included."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from popsbounds.coordinates import SYMMETRY_PRECISION, translations

__all__ = ["full_hessian", "softest_breaking", "unstable_modes"]

# Displacement of the finite differences (Å).
_DISTANCE = 0.01
# Curvatures (eV/Å²) closer to zero than this are rigid motions and rounding.
_UNSTABLE = -0.02


def full_hessian(atoms: Atoms, calculator: Calculator) -> np.ndarray:
    """Second derivatives of the energy, from forces under the displacements that symmetry leaves to be done.

    Parameters
    ----------
    atoms
        Relaxed structure of n atoms.
    calculator
        The potential.

    Returns
    -------
    ndarray, shape (3n, 3n)
        In eV/Å².
    """
    cell = PhonopyAtoms(numbers=atoms.numbers, cell=atoms.cell[:], scaled_positions=atoms.get_scaled_positions())
    work = Phonopy(cell, np.eye(3, dtype=int), "P", symprec=SYMMETRY_PRECISION, log_level=0)
    work.generate_displacements(distance=_DISTANCE)
    forces = []
    for displaced in work.supercells_with_displacements or []:
        moved = Atoms(displaced.numbers, cell=displaced.cell, positions=displaced.positions, pbc=True)
        moved.calc = calculator
        forces.append(moved.get_forces())
    work.forces = np.array(forces)
    work.produce_force_constants()
    n = len(atoms)
    matrix = np.asarray(work.force_constants).transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    return 0.5 * (matrix + matrix.T)


def unstable_modes(hessian: np.ndarray) -> int:
    """Number of unstable directions of a Hessian (eV/Å²)."""
    return int(np.count_nonzero(np.linalg.eigvalsh(hessian) < _UNSTABLE))


def softest_breaking(hessian: np.ndarray, symmetric: np.ndarray, count: int) -> np.ndarray:
    """The softest directions that break a structure's symmetry.

    Parameters
    ----------
    hessian
        Shape (3n, 3n).
    symmetric
        Basis of the directions that keep it, shape (3n, k).
    count
        How many are wanted.

    Returns
    -------
    ndarray, shape (3n, count or fewer)
    """
    size = len(hessian)
    taken = np.hstack([symmetric, translations(size // 3)])
    basis, values, _ = np.linalg.svd(np.eye(size) - taken @ np.linalg.pinv(taken))
    others = basis[:, values > 0.5]
    _, vectors = np.linalg.eigh(others.T @ hessian @ others)
    return others @ vectors[:, :count]
