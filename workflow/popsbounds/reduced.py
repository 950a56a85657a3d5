"""Reduced model of a relaxed structure: each member's own quadratic energy in the few coordinates that matter.

About the MLE's minimum the first and second derivatives of the descriptors
along the symmetry-allowed coordinates are the same for all members; a member's
gradient and Hessian are its parameters times them. Its minimum is the start of
its relaxation, its Hessian the optimiser's first one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from popsbounds.coordinates import Coordinates
from popsbounds.response import Respond, augmented

__all__ = ["MemberReduced", "Reduced", "second_derivatives"]

# Steps of the central differences: along a coordinate (Å), small beside anharmonicity and large beside
# rounding, and of the scale, about as far as members lie apart.
_STEP, _SCALE_STEP = 0.01, 0.005
# Softest curvature (eV/Å²) that a member may have in its own model.
_SOFTEST = 0.05


@dataclass(frozen=True)
class Reduced:
    """Derivatives of the descriptor sums about a structure, k coordinates.

    Attributes
    ----------
    energy : ndarray, shape (3, P + 1)
        Value, first and second derivative along the scale.
    gradient : ndarray, shape (3, k, P + 1)
        The same of the gradient (eV/Å).
    hessian : ndarray, shape (k (k + 1) / 2, P + 1)
        Upper triangle (eV/Å²).
    """

    energy: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray

    @classmethod
    def build(cls, coordinates: Coordinates, respond: Respond) -> Reduced:
        """Compute the derivatives at the origin of the coordinates."""
        k = coordinates.size
        origin, scales = np.zeros(k), (1 - _SCALE_STEP, 1, 1 + _SCALE_STEP)
        at_scale = [respond(coordinates.place(origin, s)) for s in scales]
        along = [coordinates.gradient(origin, r.forces, r.virial, s) for r, s in zip(at_scale, scales, strict=True)]
        hessian = second_derivatives(coordinates, respond) if k else np.zeros((0, 0, along[1].shape[-1]))
        return cls(_differences([r.energy for r in at_scale]), _differences(along), hessian[np.triu_indices(k)])

    def members(self, thetas: np.ndarray, coordinates: Coordinates) -> list[MemberReduced]:
        """The model of each member, whose parameters have shape (M, P)."""
        full = augmented(thetas)
        k = coordinates.size
        upper = np.triu_indices(k)
        triangles = full @ self.hessian.T
        gradients = np.einsum("skp,mp->msk", self.gradient, full)
        energies = full @ self.energy.T
        models = []
        for energy, gradient, triangle in zip(energies, gradients, triangles, strict=True):
            hessian = np.zeros((k, k))
            hessian[upper] = triangle
            models.append(MemberReduced(energy, gradient, hessian + np.triu(hessian, 1).T))
        return models


def second_derivatives(coordinates: Coordinates, respond: Respond) -> np.ndarray:
    """Second derivatives of the descriptors along one coordinate or more (eV/Å²), shape (k, k, P + 1)."""

    def gradient(q: np.ndarray) -> np.ndarray:
        response = respond(coordinates.place(q))
        return coordinates.gradient(q, response.forces, response.virial)

    steps = _STEP * np.eye(coordinates.size)
    matrix = np.array([(gradient(step) - gradient(-step)) / (2 * _STEP) for step in steps])
    return 0.5 * (matrix + matrix.transpose(1, 0, 2))


def _differences(values: list[np.ndarray]) -> np.ndarray:
    below, here, above = values
    return np.array([here, (above - below) / (2 * _SCALE_STEP), (above + below - 2 * here) / _SCALE_STEP**2])


@dataclass(frozen=True)
class MemberReduced:
    """One member's quadratic model: value and derivatives along the scale, of energy and gradient; Hessian."""

    energy: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray

    def gradient_at(self, scale: float) -> np.ndarray:
        """Gradient at the origin of the coordinates (eV/Å), shape (k,)."""
        change = scale - 1
        return self.gradient[0] + change * self.gradient[1] + 0.5 * change**2 * self.gradient[2]

    def energy_at(self, scale: float, q: np.ndarray) -> float:
        """Energy (eV) at a point of the coordinates."""
        change = scale - 1
        origin = self.energy[0] + change * self.energy[1] + 0.5 * change**2 * self.energy[2]
        return float(origin + self.gradient_at(scale) @ q + 0.5 * q @ self.hessian @ q)

    def minimum(self, scale: float, coordinates: Coordinates, trust_radius: float) -> np.ndarray | None:
        """Coordinates of the minimum at a scale; None where there is none within the trust radius (Å)."""
        if not coordinates.size:
            return np.zeros(0)
        if not np.isfinite(self.hessian).all() or np.linalg.eigvalsh(self.hessian)[0] < _SOFTEST:
            return None
        q = -np.linalg.solve(self.hessian, self.gradient_at(scale))
        return q if coordinates.largest_step(q) <= trust_radius else None

    def stiffened(self) -> np.ndarray:
        """The Hessian made positive definite, as a quasi-Newton method wants it."""
        if not np.isfinite(self.hessian).all():
            return np.eye(len(self.hessian))
        values, vectors = np.linalg.eigh(self.hessian)
        return (vectors * np.maximum(np.abs(values), _SOFTEST)) @ vectors.T
