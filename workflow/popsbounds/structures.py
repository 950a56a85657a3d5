"""Crystals and surfaces: atoms only, no energies.

The crystal prototypes are data, in `resources/crystals.yaml`, each with its source.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.data import atomic_numbers, reference_states
from ase.geometry import minkowski_reduce
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal as spacegroup_crystal

from popsbounds.errors import InputError

__all__ = ["crystal", "crystal_names", "material_volume", "nearest_neighbour_distance", "slab"]

# Primitive lattice vectors in units of half the cubic lattice constant, so that they are integers.
_HALF_LATTICES = {
    "bcc": np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
    "fcc": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]),
}


@cache
def _prototypes() -> dict[str, dict[str, Any]]:
    """All prototypes of `crystals.yaml`, by name."""
    return yaml.safe_load((resources.files("popsbounds.resources") / "crystals.yaml").read_text(encoding="utf-8"))


def crystal_names() -> list[str]:
    """Names that `crystal` knows."""
    return list(_prototypes())


def crystal(name: str, element: str, volume: float | None = None, primitive: bool = True) -> Atoms:
    """Crystal of one element on the lattice of a prototype.

    Parameters
    ----------
    name
        One of `crystal_names`.
    element
        Chemical element on all sites.
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
        its axes come in order of length, whatever their order in the prototype.
    """
    if name not in _prototypes():
        raise InputError("crystal", [f"unknown crystal '{name}'; known: {', '.join(crystal_names())}"])
    prototype = _prototypes()[name]
    volume = material_volume(element) if volume is None else volume
    atoms = _build(prototype, [element] * len(prototype["sites"]), primitive)
    atoms.set_cell(atoms.cell * (volume * len(atoms) / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
    atoms.info = {"name": name}
    return atoms


def _build(prototype: dict[str, Any], symbols: list[str], primitive: bool) -> Atoms:
    """The prototype at its own size, with one chemical symbol per site."""
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
    """
    if bulk not in _HALF_LATTICES:
        raise InputError("slab", [f"no slabs of '{bulk}'; known: {', '.join(_HALF_LATTICES)}"])
    if len(facet) != 3 or not facet.isdigit() or facet == "000":
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
