"""Symmetry-allowed changes of a structure, as a few generalised coordinates.

A potential that has no preferred direction keeps the symmetry of what it
relaxes, so a defect of a hundred atoms moves along a few tens of directions,
and a cubic crystal along one.
"""

from __future__ import annotations

import numpy as np
import spglib
from ase import Atoms

__all__ = [
    "SYMMETRY_PRECISION",
    "Coordinates",
    "displacement_basis",
    "strain_basis",
    "strains_between",
    "translations",
]

# What spglib counts as symmetric (Å).
SYMMETRY_PRECISION = 1e-3
# A direction is inside a space when its projection is; both spaces are spanned exactly, up to rounding.
_INSIDE = 1 - 1e-4
# Isotropic strain counts as so much displacement that both kinds of coordinates have curvatures of like size:
# a stiff solid has 9 B = 18 eV/Å³, a bond, and ASE's optimisers at their start, 70 eV/Å².
_STIFFNESS_RATIO = 18.0 / 70.0
# A step strains the cell by no more than a displacement would over this length (Å).
_SHORTEST = 4.0
# Strains closer than this are the same.
_SAME_STRAIN = 1e-6


def _operations(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    cell = (atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers)
    symmetry = spglib.get_symmetry(cell, symprec=SYMMETRY_PRECISION)
    if symmetry is None:  # spglib found not even the identity
        return np.eye(3, dtype=int)[None], np.zeros((1, 3))
    return symmetry["rotations"], symmetry["translations"]


def _cartesian(atoms: Atoms, rotation: np.ndarray) -> np.ndarray:
    return atoms.cell[:].T @ rotation @ np.linalg.inv(atoms.cell[:].T)


def displacement_basis(atoms: Atoms) -> np.ndarray:
    """Orthonormal basis of the displacements that keep a structure's symmetry and constraints.

    Parameters
    ----------
    atoms
        Periodic structure of n atoms; ASE constraints are kept if they are linear.

    Returns
    -------
    ndarray, shape (3n, k)
        Without uniform translations.
    """
    n = len(atoms)
    scaled_positions = atoms.get_scaled_positions()
    allowed = _allowed(atoms) if atoms.constraints else None
    projector, kept = np.zeros((3 * n, 3 * n)), 0
    for rotation, translation in zip(*_operations(atoms), strict=True):
        turned = scaled_positions @ rotation.T + translation
        gaps = turned[:, None] - scaled_positions[None]
        images = np.abs(gaps - np.round(gaps)).sum(axis=2).argmin(axis=1)
        operation = np.zeros((n, 3, n, 3))
        operation[images, :, np.arange(n), :] = _cartesian(atoms, rotation)
        matrix = operation.reshape(3 * n, 3 * n)
        # Constraints that treat equivalent atoms differently take away the symmetry between them.
        if allowed is None or np.abs(matrix @ allowed - allowed @ matrix).max() < 1e-6:
            projector += matrix
            kept += 1
    projector /= kept
    if allowed is not None:
        projector = allowed @ projector @ allowed
    values, vectors = np.linalg.eigh(0.5 * (projector + projector.T))
    basis = vectors[:, values > _INSIDE]
    _, overlaps, turns = np.linalg.svd(translations(n).T @ basis)
    return basis @ turns[np.count_nonzero(overlaps > _INSIDE) :].T


def translations(n: int) -> np.ndarray:
    """Orthonormal basis of the uniform displacements of n atoms, shape (3n, 3)."""
    return np.tile(np.eye(3), (n, 1)) / np.sqrt(n)


def _allowed(atoms: Atoms) -> np.ndarray:
    """Projector on the displacements that the constraints allow, shape (3n, 3n)."""
    columns = []
    for direction in np.eye(3 * len(atoms)):
        moved = direction.reshape(-1, 3).copy()
        for constraint in atoms.constraints:
            constraint.adjust_forces(atoms, moved)
        columns.append(moved.ravel())
    return np.array(columns).T


def strain_basis(atoms: Atoms) -> np.ndarray:
    """Basis of the symmetric strains that keep a structure's symmetry.

    Returns
    -------
    ndarray, shape (r, 3, 3)
        The first is the isotropic one, the unit matrix; all have its norm.
    """
    rotations, _ = _operations(atoms)
    projector = np.zeros((9, 9))
    for rotation in rotations:
        turn = _cartesian(atoms, rotation)
        projector += np.kron(turn, turn) / len(rotations)
    swap = np.eye(9).reshape(3, 3, 9).transpose(1, 0, 2).reshape(9, 9)
    projector = 0.5 * (projector + swap @ projector)
    isotropic = np.eye(3).ravel() / np.sqrt(3)
    projector -= np.outer(isotropic, isotropic)
    values, vectors = np.linalg.eigh(0.5 * (projector + projector.T))
    others = vectors[:, values > 0.5].T
    return np.sqrt(3) * np.vstack([isotropic, others]).reshape(-1, 3, 3)


def strains_between(before: np.ndarray, after: np.ndarray, strains: np.ndarray) -> np.ndarray | None:
    """Strain coordinates x that turn one cell into another, C(I + Σ x_i strains_i).

    Parameters
    ----------
    before, after
        Cells, row vectors, shape (3, 3).
    strains
        Shape (r, 3, 3).

    Returns
    -------
    ndarray, shape (r,), or None
        None where no x does.
    """
    wanted = np.linalg.solve(before, after)
    x = np.linalg.lstsq(strains.reshape(-1, 9).T, (wanted - np.eye(3)).ravel(), rcond=None)[0]
    left = np.linalg.solve(np.eye(3) + np.tensordot(x, strains, 1), wanted)
    # One strain after another turns some cells a little, which costs no energy.
    return x if np.abs(left @ left.T - np.eye(3)).max() < _SAME_STRAIN else None


def _matrix(scale: float | np.ndarray) -> np.ndarray:
    return scale * np.eye(3) if np.ndim(scale) == 0 else np.asarray(scale)


class Coordinates:
    """Displacements, and strains where the cell relaxes, about an origin.

    A point q stands for the cell C(I + ε) and the positions (X + u)(I + ε), row
    vectors, with u and ε linear in q. A `scale` multiplies all that once more:
    a number or, where no strain relaxes, a matrix of shape (3, 3).

    Parameters
    ----------
    origin
        Structure at q = 0.
    displacements
        As made by `displacement_basis`; by default of the origin.
    strains
        As made by `strain_basis`; by default none, and the cell is fixed.
    """

    def __init__(
        self,
        origin: Atoms,
        displacements: np.ndarray | None = None,
        strains: np.ndarray | None = None,
    ) -> None:
        self.origin = origin.copy()
        self.displacements = displacement_basis(origin) if displacements is None else displacements
        self.strains = np.zeros((0, 3, 3)) if strains is None else strains
        self.length = float(np.sqrt(_STIFFNESS_RATIO * origin.get_volume()))

    @property
    def n_displacements(self) -> int:
        """Number of coordinates that move atoms in the cell."""
        return self.displacements.shape[1]

    @property
    def size(self) -> int:
        """Number of coordinates, k."""
        return self.n_displacements + len(self.strains)

    def _deformation(self, q: np.ndarray) -> np.ndarray:
        return np.eye(3) + np.tensordot(q[self.n_displacements :] / self.length, self.strains, 1)

    def _moves(self, q: np.ndarray) -> np.ndarray:
        return (self.displacements @ q[: self.n_displacements]).reshape(-1, 3)

    def place(self, q: np.ndarray, scale: float | np.ndarray = 1.0) -> Atoms:
        """Structure at a point, shape (k,)."""
        deformation = self._deformation(q) @ _matrix(scale)
        atoms = self.origin.copy()
        atoms.set_constraint()
        atoms.set_cell(self.origin.cell[:] @ deformation)
        atoms.positions = (self.origin.positions + self._moves(q)) @ deformation
        return atoms

    def gradient(
        self, q: np.ndarray, forces: np.ndarray, virial: np.ndarray, scale: float | np.ndarray = 1.0
    ) -> np.ndarray:
        """Derivatives of the energy along the coordinates.

        Parameters
        ----------
        q
            Where, shape (k,).
        forces
            There, shape (3n, ...): of one potential, or by parameter (eV/Å).
        virial
            Volume times stress there, shape (3, 3, ...) (eV).
        scale
            As in `place`.

        Returns
        -------
        ndarray, shape (k, ...)
            In eV/Å.
        """
        trailing = forces.shape[1:]
        deformation = self._deformation(q)
        both = deformation @ _matrix(scale)
        # Turned back into the frame of the origin: dE/du = −f Fᵀ.
        pulled = np.einsum("ij,nj...->ni...", both, forces.reshape(-1, 3, *trailing))
        moving = -np.tensordot(self.displacements.T, pulled.reshape(-1, *trailing), 1)
        if not len(self.strains):
            return moving
        stretching = np.tensordot(np.linalg.inv(deformation), virial, 1)
        straining = np.tensordot(self.strains / self.length, stretching, 2)
        return np.concatenate([moving, straining])

    def largest_step(self, q: np.ndarray) -> float:
        """Largest displacement of an atom at q (Å), or the strain as a displacement."""
        moves = np.linalg.norm(self._moves(q), axis=1).max(initial=0.0)
        strained = np.abs(self._deformation(q) - np.eye(3)).max() * max(self.length, _SHORTEST)
        return float(max(moves, strained))

    def largest_force(self, gradient: np.ndarray) -> float:
        """Largest force on an atom (eV/Å), from derivatives near the origin."""
        return float(np.linalg.norm(self._moves(gradient), axis=1).max(initial=0.0))

    def largest_stress(self, gradient: np.ndarray) -> float:
        """Largest component of the stress that the strains can feel (eV/Å³)."""
        felt = np.tensordot(gradient[self.n_displacements :] * self.length, self.strains / 3, 1)
        return float(np.abs(felt).max(initial=0.0) / self.origin.get_volume())
