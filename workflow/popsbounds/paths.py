"""Homogeneous transformation paths between bcc and other crystals: atoms only, no energies.

Each path is one family of crystals at constant volume per atom, a function of one coordinate p. All start
from bcc with the cubic constant a₀ = (2 volume)^(1/3), by a pure stretch without rotation: factors s₁, s₂, s₃
with s₁ s₂ s₃ = 1 along three orthogonal axes.

========================= ================== ======================== ================================
path                      axes               stretches                passes through
========================= ================== ======================== ================================
tetragonal (Bain)         [100] [010] [001]  p^-1/3, p^-1/3, p^2/3    bcc p = 1, fcc p = √2
trigonal                  [1̄10] [1̄1̄2] [111]  p^-1/3, p^-1/3, p^2/3    bcc p = 1, sc p = 2, fcc p = 4
orthorhombic              [110] [001] [11̄0]  1, p, 1/p                bcc p = 1, bcc p = √2
hexagonal (Burgers)       [110] [001] [11̄0]  see below, and a shuffle bcc p = 0, hcp p = 1
========================= ================== ======================== ================================

Tetragonal: p is the axial ratio c/a of the body-centred cell. The face-centred cell turned by 45° in the plane
has c/(√2 a), which is 1, so fcc, at p = √2.

Trigonal: p is the axial ratio of the hexagonal cell relative to that of bcc. Neighbouring (111) planes are
√3/6 a₀ apart in bcc, and the triangular net in them has the side √2 a₀. The same stacking of the same net is
sc where the ratio of both, √6/12, has doubled, and fcc where it has quadrupled (√6/3).

Orthorhombic: along the three axes the face-centred cell measures √2, p and √2/p (in a₀). Exchanging the last
two maps p onto √2/p, so the path is its own mirror image: its two ends are bcc, with [001] and [11̄0] exchanged,
and its middle p = 2^(1/4) is body-centred tetragonal with c/a = 2^(3/4), a stationary point of the energy along
the path whatever the potential.

Hexagonal: the base-centred cell of bcc along the three axes has b/a = 1/√2 and c/a = 1; hcp with ideal axial
ratio √(8/3) in the same (orthohexagonal) cell has b/a = 1/√3 and c/a = 2√2/3. Both ratios go linearly from one
to the other. Every other plane normal to c shuffles by a p/6 along a, which takes an atom of it from above the
bridge between two atoms of the plane below (bcc) to above the centre of three (hcp): stretch and shuffle
advance together.

The tetragonal, trigonal and hexagonal paths are those of Paidar, Wang, Sob and Vitek, Modelling Simul. Mater. Sci.
Eng. 7, 369 (1999), the orthorhombic one is that of Luo, Roundy, Cohen and Morris, Phys. Rev. B 66, 094110 (2002).
Coordinates and ranges follow Lysogorskiy's implementation of them in pyiron (`TransformationPath`), which
counts the hexagonal path from bcc = 0 to hcp = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from popsbounds.errors import InputError

__all__ = ["PATHS", "TransformationPath", "path_coordinates", "transformation_path"]

# Lattice vectors of bcc as rows, in cubic lattice constants: one atom, and two atoms in adjacent (11̄0) planes.
_PRIMITIVE = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2
_BASE_CENTRED = np.array([[1 / 2, 1 / 2, 1 / 2], [-1 / 2, -1 / 2, 1 / 2], [1, -1, 0]])


@dataclass(frozen=True)
class TransformationPath:
    """One path of this module.

    Attributes
    ----------
    low, high
        Default range of the coordinate.
    points
        Name (of `structures.crystal`) and coordinate of the crystals on the path, in order of the
        coordinate. A name can come twice. Here hcp has the ideal axial ratio √(8/3), while the
        prototype has that of Mg, 1.6235.
    axes
        Directions of the stretches in the cubic axes of bcc, as rows, shape (3, 3); orthogonal,
        not normalised.
    stretches
        The coordinate's stretches along these axes, shape (3,); their common factor does not matter.
    shuffled
        Whether every other (11̄0) plane slides along [110], so that the cell has two atoms, not one.
    """

    low: float
    high: float
    points: tuple[tuple[str, float], ...]
    axes: np.ndarray
    stretches: Callable[[float], np.ndarray]
    shuffled: bool = False


def _uniaxial(p: float) -> np.ndarray:
    """Stretches that multiply the axial ratio by p."""
    return np.array([1, 1, p])


def _planar(p: float) -> np.ndarray:
    """Stretches 1, p and 1/p, times p to hold at 0 too."""
    return np.array([p, p * p, 1])


def _burgers(p: float) -> np.ndarray:
    """Stretches that lead from bcc to hcp, linear in b/a and c/a."""
    b_over_a = (1 - p) / math.sqrt(2) + p / math.sqrt(3)
    c_over_a = (1 - p) + p * 2 * math.sqrt(2) / 3
    return np.array([1, b_over_a * math.sqrt(2), c_over_a])


_CUBIC = np.eye(3)
_THREEFOLD = np.array([[-1, 1, 0], [-1, -1, 2], [1, 1, 1]])
_TWOFOLD = np.array([[1, 1, 0], [0, 0, 1], [1, -1, 0]])

PATHS: dict[str, TransformationPath] = {
    "tetragonal": TransformationPath(0.8, 2.0, (("bcc", 1.0), ("fcc", math.sqrt(2))), _CUBIC, _uniaxial),
    "orthorhombic": TransformationPath(1.0, math.sqrt(2), (("bcc", 1.0), ("bcc", math.sqrt(2))), _TWOFOLD, _planar),
    "trigonal": TransformationPath(0.8, 5.0, (("bcc", 1.0), ("sc", 2.0), ("fcc", 4.0)), _THREEFOLD, _uniaxial),
    "hexagonal": TransformationPath(-0.5, 1.8, (("bcc", 0.0), ("hcp", 1.0)), _TWOFOLD, _burgers, shuffled=True),
}
"""The paths by name."""


def _path(kind: str) -> TransformationPath:
    """The path of that name."""
    if kind not in PATHS:
        raise InputError("transformation path", [f"unknown path '{kind}'; known: {', '.join(PATHS)}"])
    return PATHS[kind]


def transformation_path(kind: str, element: str, volume: float, coordinate: float) -> Atoms:
    """Crystal at one point of a transformation path.

    Parameters
    ----------
    kind
        One of `PATHS`.
    element
        Chemical element.
    volume
        Volume per atom (Å³), the same all along the path.
    coordinate
        Path coordinate p (dimensionless), see this module's docstring. It may lie outside the
        default range.

    Returns
    -------
    Atoms
        Periodic, two atoms on the hexagonal path and one on the others. Cell and positions are smooth
        functions of the coordinate: the cell is neither reduced nor rotated, the atoms not wrapped.
        ``info`` holds name and coordinate.

    Raises
    ------
    InputError
        If the path is unknown, or ends before the coordinate because a stretch is not positive.
    """
    path = _path(kind)
    stretches = path.stretches(coordinate)
    if not stretches.min() > 0:
        raise InputError("transformation path", [f"the {kind} path has no crystal at the coordinate {coordinate:g}"])
    axes = path.axes / np.linalg.norm(path.axes, axis=1, keepdims=True)
    stretch = axes.T @ np.diag(stretches / np.prod(stretches) ** (1 / 3)) @ axes
    a = (2 * volume) ** (1 / 3)
    info = {"name": kind, "coordinate": coordinate}
    if not path.shuffled:
        return Atoms([element], scaled_positions=np.zeros((1, 3)), cell=a * _PRIMITIVE @ stretch, pbc=True, info=info)
    # Distance of either atom from the inversion centre between them, along [110] and in units of that edge, the
    # difference of the first two lattice vectors. Both give half of the shuffle.
    along = 1 / 4 - coordinate / 12
    half = np.array([along, -along, 1 / 4])
    scaled = np.array([1 / 2 - half, 1 / 2 + half])
    return Atoms([element] * 2, scaled_positions=scaled, cell=a * _BASE_CENTRED @ stretch, pbc=True, info=info)


def path_coordinates(kind: str, n: int) -> np.ndarray:
    """Coordinates that cover a path's default range and hit each of its crystals.

    They are evenly spaced between neighbouring crystals (and the ends of the range), and as evenly
    as possible overall: the largest step is as small as `n` allows.

    Parameters
    ----------
    kind
        One of `PATHS`.
    n
        Number of coordinates.

    Returns
    -------
    np.ndarray
        Ascending, shape (n,).

    Raises
    ------
    InputError
        If the path is unknown or has more crystals and ends than `n`.
    """
    path = _path(kind)
    stops = sorted({path.low, path.high, *(p for _, p in path.points)})
    if n < len(stops):
        raise InputError("transformation path", [f"{n} points: the {kind} path needs at least {len(stops)}"])
    gaps = np.diff(stops)
    steps = np.ones(len(gaps), dtype=int)
    for _ in range(n - len(stops)):
        # Rounding must not decide between equal steps.
        steps[np.argmax(np.round(gaps / steps, 12))] += 1
    parts = [np.linspace(stops[i], stops[i + 1], steps[i], endpoint=False) for i in range(len(gaps))]
    return np.concatenate([*parts, stops[-1:]])
