"""Crystals, surfaces, point defects and a vacancy's hop: atoms only, no energies.

The crystal prototypes are data, in `resources/crystals.yaml`, each with its source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.data import atomic_numbers, reference_states
from ase.geometry import minkowski_reduce

from popsbounds.errors import InputError

__all__ = [
    "INTERSTITIALS",
    "HopInversion",
    "at_volume",
    "crystal",
    "crystal_names",
    "hop_inversion",
    "interstitial",
    "is_facet",
    "material_volume",
    "nearest_neighbour_distance",
    "slab",
    "supercell",
    "vacancy_hop",
]

INTERSTITIALS = ("111", "110", "100", "TS", "OS")
"""Self-interstitials of bcc: three dumbbells by their axis, the tetrahedral and the octahedral site."""

# Primitive lattice vectors in units of half the cubic lattice constant, so that they are integers.
_HALF_LATTICES = {
    "bcc": np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
    "fcc": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]),
}

# Where the inserted atoms sit relative to a lattice site, in bcc lattice constants. The dumbbells are 0.80 (111),
# 0.85 (110) and 0.80 (100) bcc bonds long, within 4 % of those relaxed with the EAM of Zhou et al. for W.
_BCC_BOND = math.sqrt(3) / 2
_DUMBBELLS = {
    "111": 0.80 / 2 * _BCC_BOND * np.array([1, 1, 1]) / math.sqrt(3),
    "110": 0.85 / 2 * _BCC_BOND * np.array([1, 1, 0]) / math.sqrt(2),
    "100": 0.80 / 2 * _BCC_BOND * np.array([1, 0, 0]),
}
_HOLES = {"TS": np.array([1 / 2, 1 / 4, 0]), "OS": np.array([1 / 2, 1 / 2, 0])}
# Lattice atoms closer than this to an inserted one are pushed away to it. Along ⟨111⟩ it makes five equal bonds
# out of four: a crowdion.
_PUSHED_TO = 0.80 * _BCC_BOND


_FIRST_CUBIC = 195  # of the space groups


@cache
def _prototypes() -> dict[str, dict[str, Any]]:
    """All prototypes of `crystals.yaml`, by name."""
    return yaml.safe_load((resources.files("popsbounds.resources") / "crystals.yaml").read_text(encoding="utf-8"))


def crystal_names(binary: bool = False, cubic: bool = False) -> list[str]:
    """Names that `crystal` knows, of crystals of one element or of binary compounds; of cubic ones only, if asked."""
    return [
        name
        for name, prototype in _prototypes().items()
        if prototype.get("binary", False) == binary and (not cubic or prototype["space_group"] >= _FIRST_CUBIC)
    ]


def at_volume(atoms: Atoms, volume: float) -> Atoms:
    """The same atoms scaled to another volume per atom (Å³)."""
    scaled = atoms.copy()
    scaled.set_cell(atoms.cell * (volume * len(atoms) / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
    return scaled


def is_facet(facet: str) -> bool:
    """Whether a text is three Miller indices of one digit, not all of them 0."""
    return len(facet) == 3 and facet.isdigit() and facet != "000"


def crystal(name: str, species: str | Sequence[str], volume: float | None = None, primitive: bool = True) -> Atoms:
    """Crystal of one element, or of a binary compound, on the lattice of a prototype.

    Parameters
    ----------
    name
        One of `crystal_names`.
    species
        Chemical element on all sites, or the two of a binary compound in the order of the prototype's:
        cation and anion.
    volume
        Volume per atom (Å³); None takes that of the element's ground state.
    primitive
        Reduce the cell by the lattice centring of the prototype. It is not reduced
        further where equal species would allow it, so the number of atoms is the
        prototype's.

    Returns
    -------
    Atoms
        Periodic, with the prototype's c/a, b/a, angles and internal coordinates.
        The primitive cell is Minkowski-reduced, so that it is as little skewed as possible;
        its axes come in order of length, whatever their order in the prototype. The axes of a
        cubic crystal's conventional cell are x, y and z.

    Raises
    ------
    InputError
        There is no such crystal, or no volume is known for the element.
    """
    elements = [species] if isinstance(species, str) else list(species)
    known = crystal_names(binary=len(elements) > 1)
    if name not in known or len(elements) > 2:
        raise InputError(
            "crystal", [f"unknown crystal '{name}' of {' and '.join(elements)}; known: {', '.join(known)}"]
        )
    prototype = _prototypes()[name]
    volume = material_volume(elements[0]) if volume is None else volume
    symbols = elements if len(elements) == 2 else elements * len(prototype["sites"])
    atoms = at_volume(_build(prototype, symbols, primitive), volume)
    atoms.info = {"name": name}
    return atoms


def _build(prototype: dict[str, Any], symbols: list[str], primitive: bool) -> Atoms:
    """The prototype at its own size, with one chemical symbol per site."""
    # Imported where it is used: the configuration, and with it every dry run, imports this module.
    from ase.spacegroup import crystal as spacegroup_crystal

    cell = prototype["cell"]
    atoms = spacegroup_crystal(
        symbols,
        basis=[site["position"] for site in prototype["sites"]],
        spacegroup=prototype["space_group"],
        setting=prototype.get("setting", 1),
        cellpar=[cell[key] for key in ("a", "b", "c", "alpha", "beta", "gamma")],
        primitive_cell=primitive,
        onduplicates="error",
    )
    # A plain Atoms: ASE's carries the space group in `info` and per-atom arrays of its own.
    atoms = Atoms(atoms.symbols, cell=atoms.cell, scaled_positions=atoms.get_scaled_positions(), pbc=True)
    if primitive:
        reduced, _ = minkowski_reduce(atoms.cell)
        atoms.set_cell(reduced)
        if atoms.cell.handedness < 0:
            atoms.set_cell(-atoms.cell)
    atoms.wrap()
    return atoms


def material_volume(element: str) -> float:
    """Volume per atom (Å³) of the element's ground state.

    Parameters
    ----------
    element
        Chemical symbol.

    Raises
    ------
    InputError
        If the ground state is not tabulated as a simple crystal.
    """
    try:
        state: dict[str, Any] = reference_states[atomic_numbers[element]] or {}
    except KeyError:
        raise InputError("material_volume", [f"'{element}' is not a chemical element"]) from None
    a = state.get("a")
    c_over_a = state.get("c/a")
    # Volume per atom in units of a³.
    shapes = {"sc": 1.0, "fcc": 1 / 4, "bcc": 1 / 2, "diamond": 1 / 8}
    if c_over_a is not None:
        shapes |= {"hcp": np.sqrt(3) / 4 * c_over_a}
    if a is None or state.get("symmetry") not in shapes:
        raise InputError(
            "material_volume", [f"no reference crystal is tabulated for '{element}': give material.volume_A3"]
        )
    return float(a**3 * shapes[state["symmetry"]])


def nearest_neighbour_distance(atoms: Atoms) -> float:
    """Smallest distance (Å) between two atoms, periodic images included.

    Parameters
    ----------
    atoms
        Periodic along all axes.
    """
    return _shortest_distance(atoms.cell[:].tobytes(), atoms.positions.tobytes())


@lru_cache(maxsize=256)  # members are compared with the same structures again and again
def _shortest_distance(cell: bytes, positions: bytes) -> float:
    from ase.neighborlist import neighbor_list  # see `_build`

    places = np.frombuffer(positions).reshape(-1, 3)
    atoms = Atoms(positions=places, numbers=np.ones(len(places)), cell=np.frombuffer(cell).reshape(3, 3), pbc=True)
    # The mean spacing holds a pair in any compact crystal; sparse or elongated cells need a wider look.
    radius = (atoms.get_volume() / len(atoms)) ** (1 / 3)
    while True:
        distances = neighbor_list("d", atoms, radius)
        if len(distances):
            return float(distances.min())
        radius *= 1.5


def slab(bulk: str, element: str, volume: float, facet: str, min_thickness: float, vacuum: float) -> Atoms:
    """Unrelaxed slab with two equivalent faces, one atom a layer.

    The in-plane cell is the smallest one of the surface, as little skewed as possible.
    The slab is a stack of lattice planes of a Bravais lattice, so that it has inversion
    symmetry whatever the number of planes.

    Parameters
    ----------
    bulk
        'bcc' or 'fcc'.
    element
        Chemical element.
    volume
        Volume per atom of the bulk (Å³).
    facet
        Miller indices as three digits in the cubic axes, such as '110'.
    min_thickness
        Smallest distance between the two outermost planes (Å).
    vacuum
        Distance across the gap between the outermost planes of neighbouring slabs (Å).

    Returns
    -------
    Atoms
        Periodic along all axes, the first one along x and the third one along z, normal to the
        surface; the slab is centred along z and its layers are ordered from below.
        ``info`` holds name, facet and area_A2 (of one face).

    Raises
    ------
    InputError
        No such crystal is cut, or the facet is none.
    """
    if bulk not in _HALF_LATTICES:
        raise InputError("slab", [f"no slabs of '{bulk}'; known: {', '.join(_HALF_LATTICES)}"])
    if not is_facet(facet):
        raise InputError("slab", [f"'{facet}' is not a facet: write three digits, such as '110'"])
    in_plane, step = _surface_vectors(bulk, facet)
    half_a = (volume / abs(np.linalg.det(_HALF_LATTICES[bulk]))) ** (1 / 3)
    in_plane, step = half_a * in_plane, half_a * step

    spacing = step[2]
    # A thickness that is a whole number of spacings must not gain a layer by rounding.
    n_layers = max(math.ceil(min_thickness / spacing - 1e-6), 0) + 1
    thickness = (n_layers - 1) * spacing
    cell = np.vstack([in_plane, [0, 0, thickness + vacuum]])
    positions = np.arange(n_layers)[:, None] * step + [0, 0, vacuum / 2]
    area = float(np.linalg.det(in_plane[:, :2]))
    info = {"name": f"{bulk}({facet})", "facet": facet, "area_A2": area}
    atoms = Atoms([element] * n_layers, positions=positions, cell=cell, pbc=True, info=info)
    # Only along the surface: without vacuum, the topmost plane would be a cell's boundary.
    atoms.wrap(pbc=(True, True, False))
    return atoms


def _surface_vectors(bulk: str, facet: str) -> tuple[np.ndarray, np.ndarray]:
    """Reduced in-plane basis and step to the next layer, in half lattice constants, with z normal to the surface."""
    miller = np.array([int(digit) for digit in facet])
    miller //= np.gcd.reduce(miller)
    # Far enough for both vectors of the reduced basis of any plane with these indices.
    reach = 2 * math.ceil(np.linalg.norm(miller))
    grid = np.arange(-reach, reach + 1)
    vectors = np.array(np.meshgrid(grid, grid, grid, indexing="ij")).reshape(3, -1).T @ _HALF_LATTICES[bulk]
    heights = vectors @ miller
    lengths = np.linalg.norm(vectors, axis=1)

    # In two dimensions the shortest vector and the shortest one not parallel to it are a reduced basis.
    plane = vectors[heights == 0][np.argsort(lengths[heights == 0], kind="stable")]
    first = plane[1]
    second = next(v for v in plane[2:] if np.any(np.cross(first, v)))
    if np.cross(first, second) @ miller < 0:
        second = -second
    above = heights == heights[heights > 0].min()
    step = vectors[above][np.argmin(lengths[above])]

    x, z = first / np.linalg.norm(first), miller / np.linalg.norm(miller)
    axes = np.array([x, np.cross(z, x), z])
    return np.array([first, second]) @ axes.T, step @ axes.T


def supercell(bulk: str, element: str, volume: float, repeats: int) -> Atoms:
    """Conventional cubic cell of a crystal, repeated equally along its three axes.

    Parameters
    ----------
    bulk
        'bcc' or 'fcc'.
    element
        Chemical element.
    volume
        Volume per atom (Å³).
    repeats
        Cubic cells along each axis.

    Returns
    -------
    Atoms
        Periodic, 2 repeats³ (bcc) or 4 repeats³ (fcc) of them, one at the origin.

    Raises
    ------
    InputError
        Another crystal, or less than one repeat.
    """
    if bulk not in _HALF_LATTICES:
        raise InputError("supercell", [f"no cubic cell of '{bulk}'; known: {', '.join(_HALF_LATTICES)}"])
    if repeats < 1:
        raise InputError("supercell", [f"{repeats} repeats: take at least 1"])
    return crystal(bulk, element, volume, primitive=False).repeat(repeats)


def interstitial(kind: str, element: str, volume: float, repeats: int) -> Atoms:
    """Unrelaxed self-interstitial in a cubic supercell of bcc, with the full point group of the defect.

    Point groups: D3d (111), D2h (110), D4h (100), D2d (TS), D4h (OS). Lattice atoms near the
    inserted ones are pushed straight away from them, which keeps every symmetry, so that no
    bond is much shorter than in the relaxed defect.

    Parameters
    ----------
    kind
        One of `INTERSTITIALS`.
    element
        Chemical element.
    volume
        Volume per atom of the bulk (Å³).
    repeats
        Cubic cells along each axis, at least 2.

    Returns
    -------
    Atoms
        Periodic, 2 repeats³ + 1 of them, in the cell of the perfect crystal. The last ones are
        inserted: two of a dumbbell, in place of the lattice site at the cell's centre, otherwise one
        beside it.

    Raises
    ------
    InputError
        There is no such interstitial, or the supercell is too small.
    """
    if kind not in INTERSTITIALS:
        raise InputError("interstitial", [f"no interstitial '{kind}'; known: {', '.join(INTERSTITIALS)}"])
    atoms, site = _bcc_with_site("interstitial", element, volume, repeats)
    a = atoms.cell[0, 0] / repeats
    origin = atoms.positions[site].copy()
    if kind in _DUMBBELLS:
        inserted = origin + a * np.array([-_DUMBBELLS[kind], _DUMBBELLS[kind]])
        del atoms[site]
    else:
        inserted = origin + a * _HOLES[kind][None]

    away = atoms.positions[:, None] - inserted
    away -= atoms.cell[0, 0] * np.round(away / atoms.cell[0, 0])
    distances = np.linalg.norm(away, axis=2)
    push = np.maximum(_PUSHED_TO * a / distances - 1, 0)
    atoms.positions += np.einsum("ji,jix->jx", push, away)
    atoms += Atoms([element] * len(inserted), positions=inserted)
    atoms.info = {"name": kind}
    return atoms


def vacancy_hop(element: str, volume: float, repeats: int, images: int) -> list[Atoms]:
    """Straight, unrelaxed path of a vacancy to a first-neighbour site of bcc, by a/2 [111].

    One atom moves, by equal steps; all others stay on their lattice sites. Inversion through
    the middle of the hop maps every image onto the one with the opposite number
    (see `hop_inversion`), the middle one onto itself.

    Parameters
    ----------
    element
        Chemical element.
    volume
        Volume per atom of the bulk (Å³).
    repeats
        Cubic cells along each axis, at least 2.
    images
        Geometries, both ends included: odd, so that one is in the middle, and at least 3.

    Returns
    -------
    list[Atoms]
        Periodic, 2 repeats³ - 1 atoms each in the cell of the perfect crystal, in the same order;
        no position is wrapped.

    Raises
    ------
    InputError
        The number of images is even or below 3, or the supercell is too small.
    """
    if images < 3 or images % 2 == 0:
        raise InputError("vacancy_hop", [f"{images} images: take an odd number of at least 3"])
    atoms, site = _bcc_with_site("vacancy_hop", element, volume, repeats)
    end = atoms.positions[site].copy()
    start = end + atoms.cell[0, 0] / repeats / 2
    del atoms[site]
    moving = _nearest(atoms, start)
    atoms.info = {"name": "vacancy_hop"}
    path = [atoms.copy() for _ in range(images)]
    for image, fraction in zip(path, np.linspace(0, 1, images), strict=True):
        image.positions[moving] = (1 - fraction) * start + fraction * end
    return path


def _bcc_with_site(caller: str, element: str, volume: float, repeats: int) -> tuple[Atoms, int]:
    """A bcc supercell and the site at its centre, so that nothing near it crosses a face of the cell."""
    if repeats < 2:
        raise InputError(caller, [f"{repeats} repeats: take at least 2, a defect must not touch its own image"])
    atoms = supercell("bcc", element, volume, repeats)
    return atoms, _nearest(atoms, np.full(3, atoms.cell[0, 0] / 2))


def _nearest(atoms: Atoms, point: np.ndarray) -> int:
    """Index of the atom nearest to a point (Å), periodic images aside."""
    return int(np.argmin(np.linalg.norm(atoms.positions - point, axis=1)))


@dataclass(frozen=True)
class HopInversion:
    """Inversion that maps the images of a vacancy's hop onto each other.

    Attributes
    ----------
    permutation
        Shape (atoms,): atom i of the mirrored image comes from atom permutation[i].
    centre
        Fixed point (Å), shape (3,): the middle of the hop.
    shifts
        Lattice vectors (Å), shape (atoms, 3), that bring each mirrored atom where it is in the
        other image rather than to a periodic copy of it.
    """

    permutation: np.ndarray
    centre: np.ndarray
    shifts: np.ndarray

    def mirror(self, positions: np.ndarray) -> np.ndarray:
        """Positions (Å), shape (atoms, 3), of the mirrored image."""
        return 2 * self.centre - positions[self.permutation] + self.shifts

    def mirror_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Forces or displacements, shape (atoms, 3), of the mirrored image."""
        return -vectors[self.permutation]


def hop_inversion(images: Sequence[Atoms], tolerance: float = 0.1) -> HopInversion:
    """Find the inversion between the two ends of a hop.

    Parameters
    ----------
    images
        From `vacancy_hop`, also after a relaxation that kept the symmetry. Only the first and the
        last are used, and the cell of the first.
    tolerance
        Largest distance (Å) allowed between the last image and the mirrored first one.

    Raises
    ------
    InputError
        If the two ends are not mirror images.
    """
    first, last = images[0].positions, images[-1].positions
    moving = np.argmax(np.linalg.norm(last - first, axis=1))
    centre = (first[moving] + last[moving]) / 2
    cell = images[0].cell[:]
    # Element [i, j]: from the mirrored atom j of the first image to atom i of the last one.
    away = (last[:, None] - (2 * centre - first)) @ np.linalg.inv(cell)
    shifts = np.round(away)
    distances = np.linalg.norm((away - shifts) @ cell, axis=2)
    permutation = np.argmin(distances, axis=1)
    atoms = np.arange(len(first))
    worst = distances[atoms, permutation].max()
    if len(set(permutation.tolist())) < len(atoms) or worst > tolerance:
        raise InputError("hop_inversion", [f"the first and the last image are not mirror images, by {worst:.3g} Å"])
    return HopInversion(permutation, centre, shifts[atoms, permutation] @ cell)
