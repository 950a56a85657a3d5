"""Reduced model of a relaxed structure: each member's own energy in the few coordinates that matter.

About the MLE's minimum the first and second derivatives of the descriptors
along the symmetry-allowed coordinates are the same for all members; a member's
gradient and Hessian are its parameters times them. Where more is asked for,
the MLE's third derivatives are added, along the directions in which the
members differ most. A member's minimum is then known without any force call:
to first order in its parameters' distance from the MLE's, to second, or as
that of its own model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from popsbounds.config import Level
from popsbounds.coordinates import Coordinates
from popsbounds.relax import Relaxed
from popsbounds.response import Respond, Response, augmented

__all__ = [
    "DIRECTIONS",
    "Cubic",
    "MemberReduced",
    "Reduced",
    "energy_gradient",
    "principal_directions",
    "second_derivatives",
    "with_frame",
]

# Steps of the central differences: along a displacement (Å) and along a strain; small beside anharmonicity and
# large beside rounding.
_STEP, _STRAIN_STEP = 1e-3, 1e-4
# Softest curvature (eV/Å²) that a member may have in its own model.
_SOFTEST = 0.05
# Third derivatives: along so many directions at most, which leave out no more than this share of the members'
# relaxation energy; by steps as large as the members' own, within limits (Å).
DIRECTIONS, _LEFT_OUT = 12, 1e-4
_SHORTEST_STEP, _LONGEST_STEP = 0.01, 0.1
_NEWTON_STEPS, _TOLERANCE = 30, 1e-9


@dataclass(frozen=True)
class Cubic:
    """Third derivatives of one potential's energy, along r directions of its K coordinates.

    Attributes
    ----------
    dual : ndarray, shape (r, K)
        dual · z is how far a point z lies along each direction.
    tensor : ndarray, shape (r, r, K)
        Second derivatives of the gradient along pairs of them (eV/Å³).
    """

    dual: np.ndarray
    tensor: np.ndarray

    def gradient(self, z: np.ndarray) -> np.ndarray:
        """Its part of the gradient at a point (eV/Å), shape (K,)."""
        along = self.dual @ z
        return 0.5 * along @ self._along(along)

    def energy(self, z: np.ndarray) -> float:
        """Its part of the energy (eV)."""
        return float(self.gradient(z) @ z) / 3

    def hessian(self, z: np.ndarray) -> np.ndarray:
        """Its part of the Hessian (eV/Å²), shape (K, K)."""
        matrix = self.dual.T @ self._along(self.dual @ z)
        return 0.5 * (matrix + matrix.T)

    def _along(self, along: np.ndarray) -> np.ndarray:
        """Second derivatives of the gradient along a direction, shape (r, K)."""
        r, _, size = self.tensor.shape
        return (along @ self.tensor.reshape(r, r * size)).reshape(r, size)


@dataclass(frozen=True)
class Reduced:
    """Derivatives of the descriptor sums about a structure, along K coordinates.

    The first k relax. The others are the frame, strains that are imposed: the
    scale of the crystal that the structure lies within, or the strains of the
    crystal that it is strained from.

    Attributes
    ----------
    mle : ndarray, shape (P,)
        Parameters whose structure it is.
    energy : ndarray, shape (P + 1,)
        Value.
    gradient : ndarray, shape (K, P + 1)
        First derivatives (eV/Å).
    hessian : ndarray, shape (K (K + 1) / 2, P + 1)
        Upper triangle of the second (eV/Å²).
    virial : ndarray, shape (3, 3, P + 1)
        Volume times stress (eV).
    virial_slope : ndarray, shape (K, 3, 3, P + 1)
        Its derivatives (eV/Å).
    n_frame : int
        How many coordinates do not relax, K − k.
    length : float
        What a strain is multiplied by to be a coordinate (Å).
    strains : ndarray, shape (r, 3, 3)
        The last coordinates: strains that relax, or the frame's.
    cubic : Cubic or None
        Third derivatives of the MLE's energy.
    """

    mle: np.ndarray
    energy: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    virial: np.ndarray
    virial_slope: np.ndarray
    n_frame: int
    length: float
    strains: np.ndarray
    cubic: Cubic | None = None

    @classmethod
    def build(
        cls, coordinates: Coordinates, respond: Respond, mle: np.ndarray, frame: np.ndarray | None = None
    ) -> Reduced:
        """Compute the derivatives at the origin of the coordinates.

        Parameters
        ----------
        coordinates
            What relaxes.
        respond
            Descriptors of a structure.
        mle
            Parameters whose structure it is, shape (P,).
        frame
            Strains that are imposed, shape (r, 3, 3), where none relaxes.
        """
        joint = with_frame(coordinates, frame)
        origin = np.zeros(joint.size)
        here = respond(joint.place(origin))
        hessian, virial_slope = _slopes(joint, respond, _steps(joint))
        return cls(
            mle,
            here.energy,
            joint.gradient(origin, here.forces, here.virial),
            hessian[np.triu_indices(joint.size)],
            here.virial,
            virial_slope,
            joint.size - coordinates.size,
            joint.length,
            joint.strains,
        )

    def with_third_derivatives(
        self,
        coordinates: Coordinates,
        frame: np.ndarray | None,
        force: Callable[[Coordinates, np.ndarray], np.ndarray],
        thetas: np.ndarray,
        strains: np.ndarray,
    ) -> Reduced:
        """With the MLE's third derivatives, along the directions in which members differ most.

        Parameters
        ----------
        coordinates, frame
            As for `build`.
        force
            Gradient of the MLE's energy along coordinates at a point (eV/Å).
        thetas
            Parameters of the members, shape (M, P).
        strains
            Frame that each is to be looked at in, shape (M, r).
        """
        joint = with_frame(coordinates, frame)
        moves = []
        for model, strain in zip(self.members(thetas, "first"), strains, strict=True):
            moves.append(model.point(model.solve(strain), strain))
        known = np.array([move for move in moves if np.isfinite(move).all()]).reshape(-1, joint.size)
        found = principal_directions(known, self.members(self.mle[None], "first")[0].hessian)[:DIRECTIONS]
        if not found:
            return self
        sizes = [min(max(size, _SHORTEST_STEP), _LONGEST_STEP) for _, _, size in found]

        def there(*parts: tuple[int, float]) -> np.ndarray:
            return force(joint, np.sum([sign * sizes[i] * found[i][0] for i, sign in parts], axis=0))

        r, zero = len(found), force(joint, np.zeros(joint.size))
        tensor = np.zeros((r, r, joint.size))
        for i in range(r):
            tensor[i, i] = (there((i, 1)) + there((i, -1)) - 2 * zero) / sizes[i] ** 2
        for i, j in combinations(range(r), 2):
            both = there((i, 1), (j, 1)) + there((i, -1), (j, -1)) - 2 * zero
            alone = sizes[i] ** 2 * tensor[i, i] + sizes[j] ** 2 * tensor[j, j]
            tensor[i, j] = tensor[j, i] = (both - alone) / (2 * sizes[i] * sizes[j])
        dual = np.array([dual for _, dual, _ in found])
        return replace(self, cubic=Cubic(dual, tensor)) if np.isfinite(tensor).all() else self

    @property
    def n_nodes(self) -> int:
        """Descriptor evaluations behind it."""
        return 2 * len(self.gradient) + 1

    @property
    def features(self) -> np.ndarray:
        """What the first order depends on, linear in the parameters: shape (1 + K + 9, P + 1)."""
        return np.vstack([self.energy, self.gradient, self.virial.reshape(9, -1)])

    def members(self, thetas: np.ndarray, level: Level = "reduced") -> list[MemberReduced]:
        """The model of each member, whose parameters have shape (M, P), at a level of the expansion."""
        size = len(self.gradient)
        full = augmented(np.vstack([self.mle, thetas]))
        energies, gradients = full @ self.energy, full @ self.gradient.T
        virials = np.tensordot(full, self.virial, (1, 2))
        slopes = np.tensordot(full, self.virial_slope, (1, 3))
        hessians = np.zeros((len(full), size, size))
        rows, columns = np.triu_indices(size)
        hessians[:, rows, columns] = hessians[:, columns, rows] = full @ self.hessian.T
        own = level == "reduced"
        shared = (size - self.n_frame, self.length, self.strains, level, gradients[0])
        return [
            MemberReduced(
                energies[i],
                gradients[i],
                hessians[i if own else 0],
                virials[i],
                slopes[0 if level == "first" else i],
                None if level == "first" else self.cubic,
                hessians[i] - hessians[0] if level == "second" else None,
                *shared,
            )
            for i in range(1, len(full))
        ]


def energy_gradient(
    found: Relaxed, coordinates: Coordinates, q: np.ndarray, scale: float | np.ndarray = 1.0
) -> np.ndarray:
    """Derivatives along coordinates of the energy of a structure that was evaluated at a point.

    Parameters
    ----------
    found
        As computed there.
    coordinates, q, scale
        The point, as in `Coordinates`.

    Returns
    -------
    ndarray, shape (k,)
        In eV/Å.
    """
    return coordinates.gradient(q, found.forces.ravel(), found.atoms.get_volume() * found.stress, scale)


def with_frame(coordinates: Coordinates, frame: np.ndarray | None) -> Coordinates:
    """Coordinates and, behind them, strains that are imposed, shape (r, 3, 3)."""
    if frame is None:
        return coordinates
    return Coordinates(coordinates.origin, coordinates.displacements, frame)


def _steps(coordinates: Coordinates) -> np.ndarray:
    lengths = np.full(coordinates.size, _STEP)
    lengths[coordinates.n_displacements :] = _STRAIN_STEP * coordinates.length
    return lengths


def _slopes(coordinates: Coordinates, respond: Respond, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of the descriptors' gradient, shape (K, K, P + 1), and virial, shape (K, 3, 3, P + 1)."""

    def gradient(q: np.ndarray, there: Response) -> np.ndarray:
        return coordinates.gradient(q, there.forces, there.virial)

    size = coordinates.size
    if not size:
        here = respond(coordinates.place(np.zeros(0)))
        return np.zeros((0, 0, len(here.energy))), np.zeros((0, *here.virial.shape))
    hessian, virial = [], []
    for step in np.diag(lengths):
        ahead, behind = respond(coordinates.place(step)), respond(coordinates.place(-step))
        hessian.append((gradient(step, ahead) - gradient(-step, behind)) / (2 * step.sum()))
        virial.append((ahead.virial - behind.virial) / (2 * step.sum()))
    matrix = np.array(hessian)
    return 0.5 * (matrix + matrix.transpose(1, 0, 2)), np.array(virial)


def second_derivatives(coordinates: Coordinates, respond: Respond) -> np.ndarray:
    """Second derivatives of the descriptors along the coordinates (eV/Å²), shape (k, k, P + 1)."""
    return _slopes(coordinates, respond, _steps(coordinates))[0]


def principal_directions(moves: np.ndarray, hessian: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Principal directions of moves, in the metric of the curvatures, that which takes most energy first.

    Parameters
    ----------
    moves
        Shape (M, K).
    hessian
        Shape (K, K).

    Returns
    -------
    list of (direction, dual, size)
        Unit vector (K,), vector (K,) whose product with a move is how far it goes along, and the root mean square
        of that. Those are left out that take less than 1e-4 of the energy together.
    """
    values, vectors = np.linalg.eigh(hessian)
    root = np.sqrt(np.maximum(np.abs(values), _SOFTEST))
    _, spread, axes = np.linalg.svd(moves @ (vectors * root), full_matrices=False)
    energy = spread**2
    if not energy.sum() > 0:
        return []
    left_out = 1 - np.cumsum(energy) / energy.sum()
    count = int(np.count_nonzero(left_out > _LEFT_OUT)) + 1
    directions, duals = (vectors / root) @ axes.T, axes @ (vectors * root).T
    found = []
    for direction, dual, size in list(zip(directions.T, duals, spread, strict=True))[:count]:
        length = float(np.linalg.norm(direction))
        found.append((direction / length, dual * length, float(size) * length / np.sqrt(len(moves))))
    return found


@dataclass(frozen=True)
class MemberReduced:
    """One member's energy as a polynomial of the coordinates, at a level of the expansion.

    Attributes
    ----------
    energy : float
        At the origin (eV).
    gradient : ndarray, shape (K,)
        There (eV/Å).
    hessian : ndarray, shape (K, K)
        The MLE's or, at level ``reduced``, its own (eV/Å²).
    virial, virial_slope : ndarray, shapes (3, 3), (K, 3, 3)
        Virial (eV) and its derivatives (eV/Å).
    cubic : Cubic or None
        Third derivatives of the MLE, if they are known.
    change : ndarray, shape (K, K), or None
        At level ``second``: its own Hessian less the MLE's.
    k : int
        How many coordinates relax.
    length : float
        What a strain is multiplied by to be a coordinate (Å).
    strains : ndarray, shape (r, 3, 3)
        The last coordinates: strains that relax, or the frame's.
    level : str
        ``first``, ``second`` or ``reduced``.
    mle_gradient : ndarray, shape (K,)
        The MLE's gradient at the origin: zero where it is stationary.
    """

    energy: float
    gradient: np.ndarray
    hessian: np.ndarray
    virial: np.ndarray
    virial_slope: np.ndarray
    cubic: Cubic | None
    change: np.ndarray | None
    k: int
    length: float
    strains: np.ndarray
    level: str
    mle_gradient: np.ndarray

    @property
    def _bend(self) -> Cubic | None:
        """Third derivatives of the polynomial: an order of the expansion is quadratic."""
        return self.cubic if self.level == "reduced" else None

    def point(self, q: np.ndarray, strains: Sequence[float] | np.ndarray) -> np.ndarray:
        """Coordinates that relax and those of the frame, shape (K,)."""
        return np.concatenate([q, self.length * np.asarray(strains, float)])

    def gradient_at(self, q: np.ndarray, strains: Sequence[float] | np.ndarray = ()) -> np.ndarray:
        """Derivatives along the coordinates that relax (eV/Å), shape (k,)."""
        z = self.point(q, strains)
        gradient = self.gradient + self.hessian @ z
        if self._bend is not None:
            gradient = gradient + self._bend.gradient(z)
        return gradient[: self.k]

    def hessian_at(self, q: np.ndarray, strains: Sequence[float] | np.ndarray = ()) -> np.ndarray:
        """Second derivatives along the coordinates that relax (eV/Å²), shape (k, k)."""
        hessian = self.hessian
        if self._bend is not None:
            hessian = hessian + self._bend.hessian(self.point(q, strains))
        return hessian[: self.k, : self.k]

    def energy_at(self, q: np.ndarray, strains: Sequence[float] | np.ndarray = ()) -> float:
        """Energy (eV) at a point."""
        z = self.point(q, strains)
        if self.level == "first":
            return float(self.energy + self.mle_gradient @ z)
        energy = float(self.energy + self.gradient @ z + 0.5 * z @ self.hessian @ z)
        if self._bend is not None:
            energy += self._bend.energy(z)
        return energy

    def virial_at(self, q: np.ndarray, strains: Sequence[float] | np.ndarray = ()) -> np.ndarray:
        """Volume times stress (eV), shape (3, 3); along the strains as exact as the energy is."""
        z = self.point(q, strains)
        virial = self.virial + np.tensordot(z, self.virial_slope, 1)
        if self.cubic is not None and len(self.strains):
            # A strain's derivative of the energy is the virial along it; the strains have the unit matrix's norm.
            bend = self.length * self.cubic.gradient(z)[-len(self.strains) :]
            virial = virial + np.tensordot(bend, self.strains, 1) / 3
        return virial

    def relaxed(
        self, coordinates: Coordinates, q: np.ndarray, strains: Sequence[float] | np.ndarray, scale: float | np.ndarray
    ) -> Relaxed:
        """The structure at a point as the model has it; `scale` is the frame's, as in `Coordinates`."""
        atoms = coordinates.place(q, scale)
        forces = _forces(coordinates, self.gradient_at(q, strains), scale)
        stress = self.virial_at(q, strains) / atoms.get_volume()
        return Relaxed(atoms, self.energy_at(q, strains), "ok", "", 0, stress, forces)

    def corrected(
        self,
        found: Relaxed,
        coordinates: Coordinates,
        q: np.ndarray,
        strains: Sequence[float] | np.ndarray,
        scale: float | np.ndarray,
        step: np.ndarray | None = None,
    ) -> Relaxed:
        """A structure that was evaluated at a point, one step of Newton's method further, as its curvatures have it.

        Parameters
        ----------
        found
            As computed at the point.
        coordinates, q, strains, scale
            The point.
        step
            Another step than Newton's to the stationary point, shape (k,).
        """
        gradient = energy_gradient(found, coordinates, q, scale)
        hessian = self.hessian_at(q, strains)
        if step is None:
            step = -np.linalg.solve(hessian, gradient) if self.k else np.zeros(0)
        atoms = coordinates.place(q + step, scale)
        energy = found.energy + float(gradient @ step + 0.5 * step @ hessian @ step)
        forces = found.forces + _forces(coordinates, hessian @ step, scale)
        virial = found.atoms.get_volume() * found.stress + np.tensordot(step, self.virial_slope[: self.k], 1)
        return replace(found, atoms=atoms, energy=energy, forces=forces, stress=virial / atoms.get_volume())

    def solve(self, strains: Sequence[float] | np.ndarray = ()) -> np.ndarray:
        """Stationary point in a frame, shape (k,); NaN where there is none."""
        k = self.k
        nowhere = np.full(k, np.nan)
        try:
            q = -np.linalg.solve(self.hessian[:k, :k], self.gradient_at(np.zeros(k), strains))
            if self.level == "second":
                z = self.point(q, strains)
                missed = self.change @ z + (0 if self.cubic is None else self.cubic.gradient(z))
                q = q - np.linalg.solve(self.hessian[:k, :k], missed[:k])
            if self._bend is not None:
                for _ in range(_NEWTON_STEPS):
                    step = -np.linalg.solve(self.hessian_at(q, strains), self.gradient_at(q, strains))
                    q = q + step
                    if not np.abs(step).max(initial=0.0) > _TOLERANCE:
                        return q
                return nowhere
        except np.linalg.LinAlgError:
            return nowhere
        return q

    def minimum(
        self, strains: Sequence[float] | np.ndarray, coordinates: Coordinates, trust_radius: float
    ) -> np.ndarray | None:
        """Coordinates of the minimum in a frame; None where there is none within the trust radius (Å)."""
        if not self.k:
            return np.zeros(0)
        if not np.isfinite(self.hessian).all():
            return None
        q = self.solve(strains)
        if not np.isfinite(q).all() or coordinates.largest_step(q) > trust_radius:
            return None
        return q if np.linalg.eigvalsh(self.hessian_at(q, strains))[0] >= _SOFTEST else None

    def stiffened(self, q: np.ndarray | None = None, strains: Sequence[float] | np.ndarray = ()) -> np.ndarray:
        """The Hessian made positive definite, as a quasi-Newton method wants it, shape (k, k)."""
        hessian = self.hessian[: self.k, : self.k] if q is None else self.hessian_at(q, strains)
        if not np.isfinite(hessian).all():
            return np.eye(self.k)
        values, vectors = np.linalg.eigh(hessian)
        return (vectors * np.maximum(np.abs(values), _SOFTEST)) @ vectors.T


def _forces(coordinates: Coordinates, gradient: np.ndarray, scale: float | np.ndarray) -> np.ndarray:
    """Forces on the atoms (eV/Å), shape (n, 3), from derivatives along the displacements."""
    pulled = -(coordinates.displacements @ gradient[: coordinates.n_displacements]).reshape(-1, 3)
    return pulled / scale if np.ndim(scale) == 0 else np.linalg.solve(scale, pulled.T).T
