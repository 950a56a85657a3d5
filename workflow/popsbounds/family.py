"""Energies of all members over the strains of a cell, from descriptors at Chebyshev nodes.

Where the geometry depends on a member through one or two smooth coordinates,
nothing needs to be simulated: the descriptors are computed once at a few
nodes, and every member's energy, forces and virial between them are
polynomials whose coefficients are linear in its parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import product

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.polynomial import chebyshev

from popsbounds.config import Families
from popsbounds.relax import strained
from popsbounds.response import Respond, augmented

__all__ = ["CHECKS", "Family", "MemberFamily"]

_NEWTON_STEPS, _TOLERANCE = 40, 1e-10
# Where the interpolation is checked, relative to the range; irrational, so that no node is near.
CHECKS = (-0.9003, -0.4142, 0.1618, 0.5772, 0.9511)
# Panels are not cut narrower than this strain.
_NARROWEST = 5e-4
# Positions (Å) closer than this are the same.
_SAME = 1e-7


@dataclass(frozen=True)
class Family:
    """Descriptors of a crystal, and of what is made from it, over the crystal's strains.

    Attributes
    ----------
    base : Atoms
        At strain zero: n atoms.
    strains : ndarray, shape (r, 3, 3)
        Coordinate x multiplies the cell, from the right, by I + Σ x_i strains_i …
    deformation : ndarray, shape (3, 3)
        … and then by this.
    panels : ndarray, shape (B, 2, r)
        Lower and upper ends of the boxes of coordinates that have polynomials of their own.
    energy : ndarray, shape (B, J, P + 1)
        Descriptor sums at the nodes.
    virial : ndarray, shape (B, J, 3, 3, P + 1)
        Their virials.
    forces : ndarray, shape (B, J, 3n, P + 1) or (0,)
        Their forces; empty where nobody asks for them.
    checks, check_energy : ndarray, shapes (C, r), (C, P + 1)
        Points beside the nodes, and the descriptor sums there.
    """

    base: Atoms
    strains: np.ndarray
    deformation: np.ndarray
    panels: np.ndarray
    energy: np.ndarray
    virial: np.ndarray
    forces: np.ndarray
    checks: np.ndarray
    check_energy: np.ndarray

    @classmethod
    def build(
        cls,
        base: Atoms,
        respond: Respond,
        cutoffs: Sequence[float],
        settings: Families,
        width: np.ndarray,
        strains: np.ndarray | None = None,
        deformation: np.ndarray | None = None,
        with_forces: bool = False,
    ) -> Family:
        """Compute the descriptors.

        Parameters
        ----------
        base
            At strain zero.
        respond
            Descriptors of a structure.
        cutoffs
            Distances (Å) at which the descriptors end: their second derivatives jump where a
            neighbour passes one, so polynomials of the volume alone end there too.
        settings
            Numbers of nodes.
        width
            Range to either side, by coordinate, shape (r,).
        strains, deformation
            As in the attributes; isotropic, and none, by default.
        with_forces
            Whether forces are wanted.
        """
        strains = np.eye(3)[None] if strains is None else strains
        deformation = np.eye(3) if deformation is None else deformation
        edges = [-width, width]
        if len(strains) == 1:
            inner = _crossings(_place(base, strains, deformation, np.zeros(1)), cutoffs, width[0])
            edges = [-width, *(np.array([x]) for x in inner), width]
        panels = np.array([edges[:-1], edges[1:]]).transpose(1, 0, 2)
        degree = settings.nodes if len(strains) == 1 else settings.nodes_2d
        unit = np.array(list(product(chebyshev.chebpts1(degree), repeat=len(strains))))
        nodes = np.array([0.5 * (low + high + unit * (high - low)) for low, high in panels])
        at = [[respond(_place(base, strains, deformation, x)) for x in panel] for panel in nodes]
        checks = width * np.array(list(product(CHECKS, repeat=len(strains))))
        beside = [respond(_place(base, strains, deformation, x)).energy for x in checks]
        return cls(
            base,
            strains,
            deformation,
            panels,
            np.array([[response.energy for response in panel] for panel in at]),
            np.array([[response.virial for response in panel] for panel in at]),
            np.array([[response.forces for response in panel] for panel in at]) if with_forces else np.zeros(0),
            checks,
            np.array(beside),
        )

    def place(self, x: np.ndarray) -> Atoms:
        """Structure at strain coordinates x, shape (r,)."""
        return _place(self.base, self.strains, self.deformation, x)

    @property
    def width(self) -> np.ndarray:
        """Range of the coordinates to either side of zero, shape (r,)."""
        return self.panels[-1, 1]

    @property
    def _degree(self) -> int:
        """Nodes along each axis of a panel."""
        return round(self.energy.shape[1] ** (1 / len(self.strains)))

    def coordinates_of(self, atoms: Atoms) -> np.ndarray | None:
        """Strain coordinates of a structure; None where it is not of the family."""
        if len(atoms) != len(self.base):
            return None
        wanted = atoms.cell[:] @ np.linalg.inv(self.deformation)
        ratio = np.linalg.solve(self.base.cell[:], wanted) - np.eye(3)
        x = self.strains.reshape(-1, 9) @ ratio.ravel() / 3  # the strains are orthogonal, with the unit matrix's norm
        there = self.place(x)
        apart = max(np.abs(atoms.positions - there.positions).max(), np.abs(atoms.cell[:] - there.cell[:]).max())
        return x if apart < _SAME else None

    @property
    def features(self) -> np.ndarray:
        """What the first order depends on, linear in the parameters: energy, virial and forces at zero, (…, P + 1)."""
        panel, unit = self.locate(np.zeros(len(self.strains)))
        weights = self._weights(unit)
        parts = [self.energy, self.virial, *([self.forces] if self.forces.size else [])]
        return np.vstack([np.tensordot(weights, part[panel], 1).reshape(-1, part.shape[-1]) for part in parts])

    def _weights(self, unit: np.ndarray) -> np.ndarray:
        """What the nodes of a panel weigh at a point in its own coordinates, shape (J,)."""
        weights = np.ones(1)
        for t in unit:
            row = chebyshev.chebvander(np.array([t]), self._degree - 1)[0] @ _transform(self._degree)
            weights = np.outer(weights, row).ravel()
        return weights

    def errors(self, thetas: np.ndarray) -> np.ndarray:
        """Largest error of each member's interpolated energy at the check points (eV/atom), shape (M,)."""
        missed = []
        for x, truth in zip(self.checks, self.check_energy, strict=True):
            panel, unit = self.locate(x)
            missed.append(self._weights(unit) @ self.energy[panel] - truth)
        return np.abs(np.array(missed) @ augmented(thetas).T).max(axis=0) / len(self.base)

    def locate(self, x: np.ndarray) -> tuple[int, np.ndarray]:
        """Panel that holds a point, and the point in the panel's own coordinates, −1 to 1."""
        # Only one coordinate is ever divided.
        panel = min(int(np.searchsorted(self.panels[:, 1, 0], x[0])), len(self.panels) - 1)
        low, high = self.panels[panel]
        return panel, (2 * x - low - high) / (high - low)

    def members(self, thetas: np.ndarray) -> list[MemberFamily]:
        """The family of each member, whose parameters have shape (M, P)."""
        full = augmented(thetas)
        r, degree = len(self.strains), self._degree
        transform = _transform(degree)

        def coefficients(values: np.ndarray) -> np.ndarray:
            """Chebyshev coefficients, shape (M, B, degree, …), of values by parameter, shape (B, J, …, P + 1)."""
            grid = np.moveaxis(values @ full.T, -1, 0)
            grid = grid.reshape(*grid.shape[:2], *[degree] * r, *grid.shape[3:])
            for axis in range(2, 2 + r):
                grid = np.moveaxis(np.tensordot(transform, grid, (1, axis)), 0, axis)
            return grid

        energy, virial = coefficients(self.energy), coefficients(self.virial)
        forces = coefficients(self.forces) if self.forces.size else [None] * len(thetas)
        parts = zip(energy, virial, forces, self.errors(thetas), strict=True)
        return [MemberFamily(self, *part) for part in parts]


@cache
def _transform(degree: int) -> np.ndarray:
    """Chebyshev coefficients from values at the nodes, shape (degree, degree)."""
    return np.linalg.inv(chebyshev.chebvander(chebyshev.chebpts1(degree), degree - 1))


def _place(base: Atoms, strains: np.ndarray, deformation: np.ndarray, x: np.ndarray) -> Atoms:
    return strained(base, (np.eye(3) + np.tensordot(x, strains, 1)) @ deformation)


def _crossings(atoms: Atoms, cutoffs: Sequence[float], width: float) -> list[float]:
    """Isotropic strains within the width at which a distance passes a cutoff, in order."""
    distances = neighbor_list("d", atoms, max(cutoffs) / (1 - width))
    found = [x for cutoff in cutoffs for x in cutoff / np.unique(np.round(distances, 8)) - 1 if abs(x) < width]
    kept = [-width]
    for x in sorted(found):
        if x - kept[-1] > _NARROWEST and width - x > _NARROWEST:
            kept.append(x)
    return kept[1:]


class MemberFamily:
    """One member's energy, virial and forces over the strains.

    Attributes
    ----------
    error : float
        Largest error of the interpolated energy at the family's check points (eV/atom).
    """

    def __init__(
        self, family: Family, energy: np.ndarray, virial: np.ndarray, forces: np.ndarray | None, error: float
    ) -> None:
        self.family, self.error = family, float(error)
        self._energy, self._virial, self._forces = energy, virial, forces

    def _evaluate(self, coefficients: np.ndarray, x: np.ndarray) -> np.ndarray:
        panel, unit = self.family.locate(x)

        def along(values: np.ndarray, t: float) -> np.ndarray:
            # Faster than the general contraction, and this is where the time goes.
            row = chebyshev.chebvander(t, len(values) - 1)
            return (row @ values.reshape(len(values), -1)).reshape(values.shape[1:])

        return reduce(along, unit, coefficients[panel])

    def quadratic(self) -> MemberFamily:
        """Itself: nothing is cut off."""
        return self

    def inside(self, x: np.ndarray) -> bool:
        """Whether a point lies where the family was computed."""
        return bool((np.abs(x) <= self.family.width).all())

    def energy(self, x: np.ndarray) -> float:
        """Energy (eV) at strain coordinates x."""
        return float(self._evaluate(self._energy, x))

    def virial(self, x: np.ndarray) -> np.ndarray:
        """Volume times stress (eV), shape (3, 3)."""
        return self._evaluate(self._virial, x)

    def forces(self, x: np.ndarray) -> np.ndarray:
        """Forces (eV/Å), shape (n, 3); NaN where the family has none."""
        if self._forces is None:
            return np.full((len(self.family.base), 3), np.nan)
        return self._evaluate(self._forces, x).reshape(-1, 3)

    def _gradient(self, x: np.ndarray) -> np.ndarray:
        """Derivative of the energy along the coordinates, from virials: shape (r,)."""
        strains = self.family.strains
        inverse = np.linalg.inv(np.eye(3) + np.tensordot(x, strains, 1))
        return np.tensordot(strains, inverse @ self.virial(x), 2)

    def minimum(self) -> np.ndarray | None:
        """Strain coordinates of the minimum next to zero, by Newton's method; None where there is none inside."""
        family = self.family
        x = np.zeros(len(family.strains))
        h = 1e-4 * family.width.min()
        for _ in range(_NEWTON_STEPS):
            gradient = self._gradient(x)
            columns = [(self._gradient(x + h * e) - self._gradient(x - h * e)) / (2 * h) for e in np.eye(len(x))]
            values, vectors = np.linalg.eigh(0.5 * (np.array(columns) + np.array(columns).T))
            if not np.abs(values).max() > 0:  # flat, or not a number
                return None
            # Downhill even where the energy curves the other way.
            change = -vectors @ (vectors.T @ gradient / np.maximum(np.abs(values), 1e-3 * np.abs(values).max()))
            change *= min(1.0, 0.3 / max(float(np.abs(change / family.width).max()), 1e-300))
            x = x + change
            if not self.inside(x):
                return None
            if np.abs(change).max() < _TOLERANCE:
                return x if values.min() > 0 else None
        return None
