"""Phonons of a bcc or fcc crystal under many potentials at once.

phonopy chooses the displacements, finds the symmetry and fixes the
conventions. Force constants and dynamical matrices are linear in the forces of
the displaced supercells, and the linear maps are the same for every potential,
so they are built once and applied to all members together. What is left for
each member is its own 3 × 3 eigenvalue problem at each q-point and its own
density of states.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import spglib
from ase import Atoms
from phonopy import Phonopy
from phonopy.harmonic.force_constants import get_positions_sent_by_rot_inv, symmetrize_compact_force_constants
from phonopy.phonon.tetrahedron_method import get_integration_weights
from phonopy.structure.atoms import PhonopyAtoms

from popsbounds.errors import InputError

__all__ = ["BandPath", "Phonons", "band_path", "cubic_lattice"]

# Modes below this frequency (THz) count as imaginary; those at Γ are zero to some 1e-6 only.
_IMAGINARY = -1e-3
# Dynamical matrices, and members' densities of states, in memory at a time.
_MATRICES_AT_ONCE, _DENSITIES_AT_ONCE = 200_000, 16
# The six elements of a symmetric matrix, and where each goes.
_ROWS, _COLUMNS = np.triu_indices(3)
_PLACES = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])


@dataclass(frozen=True)
class _Lattice:
    """A cubic Bravais lattice, in units of its lattice constant and of 2π over it."""

    space_group: int
    centring: Literal["I", "F"]
    sites: list[list[float]]
    # Straight pieces of the path, each a label and a q-point at either end. Where a piece does not start
    # at the end of the one before, the two q-points are equivalent.
    path: list[tuple[tuple[str, list[float]], tuple[str, list[float]]]]


_LATTICES = {
    "bcc": _Lattice(
        229,
        "I",
        [[0, 0, 0], [0.5, 0.5, 0.5]],
        [
            (("Γ", [0, 0, 0]), ("H", [1, 0, 0])),
            (("H", [1, 0, 0]), ("P", [0.5, 0.5, 0.5])),
            (("P", [0.5, 0.5, 0.5]), ("Γ", [0, 0, 0])),
            (("Γ", [0, 0, 0]), ("N", [0.5, 0.5, 0])),
        ],
    ),
    "fcc": _Lattice(
        225,
        "F",
        [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]],
        [
            (("Γ", [0, 0, 0]), ("X", [1, 0, 0])),
            (("X", [1, 1, 0]), ("K", [0.75, 0.75, 0])),
            (("K", [0.75, 0.75, 0]), ("Γ", [0, 0, 0])),
            (("Γ", [0, 0, 0]), ("L", [0.5, 0.5, 0.5])),
        ],
    ),
}


@dataclass(frozen=True)
class BandPath:
    """Path through the Brillouin zone, the same for every lattice constant.

    Attributes
    ----------
    q : ndarray, shape (n, 3)
        Cartesian q-points in units of 2π/a, a being the lattice constant of the
        conventional cell.
    distance : ndarray, shape (n,)
        Along the path, in the same units; strictly increasing.
    labels : tuple of str
        Of the special points.
    ticks : tuple of float
        Their distances.
    """

    q: np.ndarray
    distance: np.ndarray
    labels: tuple[str, ...]
    ticks: tuple[float, ...]


def cubic_lattice(crystal: Atoms) -> tuple[str, float]:
    """Lattice of a crystal with one atom per primitive cell, and its lattice constant.

    Parameters
    ----------
    crystal
        In any cell.

    Returns
    -------
    name : str
        'bcc' or 'fcc'.
    lattice_constant : float
        Of the conventional cell (Å).

    Raises
    ------
    InputError
        If it is neither.
    """
    symmetry = spglib.get_symmetry_dataset((crystal.cell[:], crystal.get_scaled_positions(), crystal.numbers))
    for name, lattice in _LATTICES.items():
        n_sites = len(lattice.sites)
        # The space group alone does not tell bcc from a larger crystal of the same symmetry.
        if symmetry is not None and (symmetry.number, len(symmetry.std_types)) == (lattice.space_group, n_sites):
            return name, float((crystal.get_volume() / len(crystal) * n_sites) ** (1 / 3))
    raise InputError("phonons", [f"{crystal.get_chemical_formula()} is not {' or '.join(_LATTICES)}"])


def _pieces(lattice: str, points_per_unit: int) -> list[np.ndarray]:
    """Evenly spaced q-points (2π/a) on the straight pieces of the path, both ends included."""
    pieces = []
    for (_, first), (_, last) in _LATTICES[lattice].path:
        start, step = np.array(first, dtype=float), np.subtract(last, first)
        n_steps = max(1, round(float(np.linalg.norm(step)) * points_per_unit))
        pieces.append(start + np.linspace(0, 1, n_steps + 1)[:, None] * step)
    return pieces


def band_path(lattice: str, points_per_unit: int) -> BandPath:
    """Path along which frequencies are shown: Γ–H–P–Γ–N in bcc, Γ–X–K–Γ–L in fcc.

    From X the path of fcc runs on along [110], from the X at (1, 1, 0).

    Parameters
    ----------
    lattice
        'bcc' or 'fcc'.
    points_per_unit
        Number of q-points per length of 2π/a, about.
    """
    pieces = _pieces(lattice, points_per_unit)
    # Each piece brings all points but its first, which the piece before has brought.
    lengths = [np.linalg.norm(piece - piece[0], axis=1)[1:] for piece in pieces]
    ends = np.concatenate([[0.0], np.cumsum([length[-1] for length in lengths])])
    path = _LATTICES[lattice].path
    return BandPath(
        q=np.concatenate([pieces[0][:1], *(piece[1:] for piece in pieces)]),
        distance=np.concatenate([[0.0], *(end + length for end, length in zip(ends[:-1], lengths, strict=True))]),
        labels=(path[0][0][0], *(last for _, (last, _) in path)),
        ticks=tuple(ends.tolist()),
    )


def _displaced(lattice: str, atom: Atoms, a: float, repeats: int, displacement: float) -> Phonopy:
    """phonopy on supercells of the conventional cell; `atom` gives the element and the mass."""
    sites = _LATTICES[lattice].sites
    cell = PhonopyAtoms(
        numbers=np.repeat(atom.numbers[:1], len(sites)),
        masses=np.repeat(atom.get_masses()[:1], len(sites)),
        cell=a * np.eye(3),
        scaled_positions=sites,
    )
    phonopy = Phonopy(cell, repeats * np.eye(3, dtype=int), primitive_matrix=_LATTICES[lattice].centring)
    phonopy.generate_displacements(distance=displacement)
    return phonopy


def _as_atoms(phonopy: Phonopy) -> list[Atoms]:
    return [
        Atoms(numbers=cell.numbers, masses=cell.masses, cell=cell.cell, positions=cell.positions, pbc=True)
        for cell in phonopy.supercells_with_displacements or []
    ]


class Phonons:
    """Harmonic phonons from forces on the displaced supercells.

    Force constants are phonopy's: the least-squares fit to the forces turned by
    the site symmetry, then made to obey the acoustic sum rule and the exchange of
    the two atoms in phonopy's own way.

    Parameters
    ----------
    crystal
        bcc or fcc, in any cell.
    repeats
        Number of conventional cells along each axis.
    displacement_A
        Length of the displacement of the one atom (Å).
    mesh
        Number of q-points along each axis of the reciprocal primitive cell, Γ included. With 24 the
        density of states of tungsten (bins of 0.05 THz) is 1 % off the converged one on average.
    points_per_unit
        As for `band_path`.

    Attributes
    ----------
    path : BandPath
        q-points of the bands.
    supercells : list of Atoms
        Supercells whose forces are all that the phonons need, by symmetry: a single one in both lattices.
        Under a potential with another lattice constant, scale it as a whole, with its displacement.
    weights : ndarray, shape (n_q,)
        Share of each irreducible q-point in the mesh.

    Raises
    ------
    InputError
        The crystal is not bcc or fcc.
    """

    def __init__(self, crystal: Atoms, repeats: int, displacement_A: float, mesh: int, points_per_unit: int) -> None:
        self._lattice, self._a = cubic_lattice(crystal)
        self._crystal, self._repeats, self._displacement = crystal.copy(), repeats, displacement_A
        self._mesh, self._points_per_unit = mesh, points_per_unit
        phonopy = _displaced(self._lattice, crystal, self._a, repeats, displacement_A)
        self.supercells = _as_atoms(phonopy)
        self.path = band_path(self._lattice, points_per_unit)
        self._n_atoms = len(phonopy.supercell)
        self._factor, self._mass = phonopy.unit_conversion_factor, float(phonopy.primitive.masses[0])
        self._force_map = _force_map(phonopy)

        # A mesh belongs to a dynamical matrix in phonopy, but its grid does not depend on it.
        phonopy.force_constants = np.zeros((1, self._n_atoms, 3, 3))
        grid = phonopy.run_mesh([mesh] * 3, is_gamma_center=True)
        self.weights = grid.weights / grid.weights.sum()
        self._grid, self._grid_points = grid.bz_grid, grid.bz_grid.grg2bzg[grid.ir_grid_points]
        self._irreducible = np.searchsorted(grid.ir_grid_points, grid.grid_mapping_table[grid.bz_grid.bzg2grg])
        self._path_phases = _phases(phonopy, self.path.q @ phonopy.primitive_matrix)
        self._mesh_phases = _phases(phonopy, grid.qpoints)

    def force_constants(self, forces: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
        """Force constants between the displaced atom and every atom of the supercell.

        Parameters
        ----------
        forces
            On the displaced supercells (eV/Å), shape
            (n_members, n_displacements, n_atoms, 3).
        scale
            Lattice constant under each member over that of the crystal, shape
            (n_members,): the forces are those of the supercells scaled by it.

        Returns
        -------
        ndarray, shape (n_members, n_atoms, 3, 3)
            In eV/Å²; the order of the atoms is that of the supercells.
        """
        members = np.asarray(forces, dtype=float).reshape(len(forces), -1)
        # The displacement is scaled with the crystal; nothing else in the map has a length.
        members = members / np.broadcast_to(scale, len(members))[:, None]
        return (members @ self._force_map).reshape(-1, self._n_atoms, 3, 3)

    def bands(self, force_constants: np.ndarray) -> np.ndarray:
        """Frequencies along the path.

        Parameters
        ----------
        force_constants
            Of `force_constants`.

        Returns
        -------
        ndarray, shape (n_members, n_path, 3)
            In THz, ascending; imaginary ones negative; NaN for a member whose forces are not finite.
        """
        return self._frequencies(force_constants, self._path_phases)

    def mesh_frequencies(self, force_constants: np.ndarray) -> np.ndarray:
        """Frequencies at the irreducible q-points of the mesh.

        Returns
        -------
        ndarray, shape (n_members, n_q, 3)
            As in `bands`.
        """
        return self._frequencies(force_constants, self._mesh_phases)

    def _frequencies(self, force_constants: np.ndarray, phases: np.ndarray) -> np.ndarray:
        frequencies = np.full((len(force_constants), len(phases), 3), np.nan)
        finite = np.flatnonzero(np.isfinite(force_constants).all(axis=(1, 2, 3)))
        n_chunks = max(1, -(-len(finite) * len(phases) // _MATRICES_AT_ONCE))
        for members in np.array_split(finite, n_chunks):
            # One atom per primitive cell, at a centre of inversion: the matrices are real and symmetric.
            chosen = force_constants[members]
            elements = 0.5 * (chosen + chosen.swapaxes(2, 3))[..., _ROWS, _COLUMNS]
            matrices = (phases @ elements / self._mass)[..., _PLACES]
            squares = np.linalg.eigvalsh(matrices)
            frequencies[members] = self._factor * np.sign(squares) * np.sqrt(np.abs(squares))
        return frequencies

    def imaginary_share(self, mesh_frequencies: np.ndarray) -> np.ndarray:
        """Share of imaginary modes in all modes of the mesh.

        Parameters
        ----------
        mesh_frequencies
            Of `mesh_frequencies`.

        Returns
        -------
        ndarray, shape (n_members,)
            From 0 to 1; NaN where the frequencies are.
        """
        share = (mesh_frequencies < _IMAGINARY).mean(axis=2) @ self.weights
        return np.where(np.isnan(mesh_frequencies).any(axis=(1, 2)), np.nan, share)

    def dos(self, mesh_frequencies: np.ndarray, grid_THz: np.ndarray) -> np.ndarray:
        """Density of states by the linear tetrahedron method.

        It is averaged over the bin around each frequency, so that the sum over bins
        times their width is the number of modes in them, without the noise of
        sampling singularities; that is 3 where the grid holds all frequencies.

        Parameters
        ----------
        mesh_frequencies
            Of `mesh_frequencies`.
        grid_THz
            Centres of the bins, ascending and evenly spaced, shape (n_frequencies,).

        Returns
        -------
        ndarray, shape (n_members, n_frequencies)
            States per THz and atom; NaN where the frequencies are.
        """
        step = (grid_THz[-1] - grid_THz[0]) / (len(grid_THz) - 1)
        edges = np.append(grid_THz - step / 2, grid_THz[-1] + step / 2)
        density = np.full((len(mesh_frequencies), len(grid_THz)), np.nan)
        finite = np.flatnonzero(np.isfinite(mesh_frequencies).all(axis=(1, 2)))
        for start in range(0, len(finite), _DENSITIES_AT_ONCE):
            members = finite[start : start + _DENSITIES_AT_ONCE]
            # phonopy takes any number of bands: those of several members, side by side.
            bands = mesh_frequencies[members].swapaxes(0, 1).reshape(len(self.weights), -1)
            below = get_integration_weights(
                edges,
                bands,
                self._grid,
                grid_points=self._grid_points,
                bzgp2irgp_map=self._irreducible,
                function="J",
            )
            cumulative = np.tensordot(self.weights, below, 1).reshape(len(edges), len(members), 3).sum(axis=2)
            density[members] = np.diff(cumulative, axis=0).T / step
        return density

    def write_phonopy_files(self, folder: Path, forces: np.ndarray, scale: float, grid_THz: np.ndarray) -> None:
        """Run phonopy itself for one potential and write its own files.

        Parameters
        ----------
        folder
            Gets ``band.yaml`` (its distances in 1/Å, without 2π), ``mesh.yaml``
            and ``total_dos.dat`` (tetrahedron method, at the grid's frequencies
            rather than averaged over bins).
        forces
            Of one member (eV/Å), shape (n_displacements, n_atoms, 3).
        scale
            Its lattice constant over that of the crystal.
        grid_THz
            As for `dos`.
        """
        phonopy = _displaced(self._lattice, self._crystal, self._a * scale, self._repeats, self._displacement * scale)
        phonopy.forces = forces
        phonopy.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
        phonopy.symmetrize_force_constants(show_drift=False)
        pieces = [q @ phonopy.primitive_matrix for q in _pieces(self._lattice, self._points_per_unit)]
        connections = [True] * (len(pieces) - 1) + [False]
        bands = phonopy.run_band_structure(pieces, path_connections=connections, labels=self.path.labels)
        mesh = phonopy.run_mesh([self._mesh] * 3, is_gamma_center=True)
        step = (grid_THz[-1] - grid_THz[0]) / (len(grid_THz) - 1)
        dos = phonopy.run_total_dos(freq_min=grid_THz[0], freq_max=grid_THz[-1], freq_pitch=step)
        folder.mkdir(parents=True, exist_ok=True)
        bands.write_yaml(filename=folder / "band.yaml")
        mesh.write_yaml(folder / "mesh.yaml")
        dos.write(folder / "total_dos.dat")


def _force_map(phonopy: Phonopy) -> np.ndarray:
    """Matrix that takes forces to force constants, shape (3 n_displacements n_atoms, 9 n_atoms)."""
    supercell, symmetry = phonopy.supercell, phonopy.symmetry
    n_atoms = len(supercell)
    displaced = np.array(phonopy.displacements)
    centre, displacements = int(displaced[0, 0]), displaced[:, 1:]

    # A displacement turned by the site's symmetry has the forces turned likewise, on the images of the atoms.
    rotations = symmetry.get_site_symmetry(centre)
    lattice = supercell.cell.T
    cartesian = lattice @ rotations @ np.linalg.inv(lattice)
    sources = get_positions_sent_by_rot_inv(
        lattice,
        supercell.scaled_positions - supercell.scaled_positions[centre],
        rotations,
        symmetry.tolerance,
        supercell.permutation_types,
    )
    turned = np.einsum("sab,db->dsa", cartesian, displacements)
    inverse = np.linalg.pinv(turned.reshape(-1, 3)).reshape(3, len(displacements), len(rotations))
    columns = np.zeros((len(displacements), n_atoms, 3, n_atoms, 3, 3))
    atoms = np.arange(n_atoms)
    for s, source in enumerate(sources):
        # Of an array with two index arrays, NumPy puts the axis of the indices first.
        columns[:, source, :, atoms] -= np.einsum("ad,bc->dcab", inverse[:, :, s], cartesian[s])

    columns = columns.reshape(-1, 1, n_atoms, 3, 3)
    for column in columns:
        symmetrize_compact_force_constants(column, phonopy.primitive)  # in place
    return columns.reshape(len(columns), -1)


def _phases(phonopy: Phonopy, q: np.ndarray) -> np.ndarray:
    """Real part of the phase factors, shape (n_q, n_atoms), at q-points in reduced coordinates.

    An atom as near to several images of the displaced one is shared by them, as in phonopy.
    """
    vectors, multiplicities = phonopy.primitive.get_smallest_vectors()
    counts, starts = multiplicities[:, 0].T
    waves = np.cos(2 * np.pi * q @ vectors.T)
    # The vectors of one atom are adjacent, and the atoms in order.
    return np.add.reduceat(waves, starts, axis=1) / counts
