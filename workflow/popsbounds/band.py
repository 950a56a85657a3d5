"""Minimum-energy paths: ASE's nudged elastic band, and its quick reconvergence for members.

A member's path is near the MLE's and its Hessians are known from the reduced
models of the images, so Newton's method replaces the relaxation: stationary
points by full steps, the images between them by steps across the path and, to
keep them evenly spaced, along it. The tangents are those of the improved
tangent (Henkelman & Jónsson, J. Chem. Phys. 113, 9978, 2000), the climbing
image that of Henkelman, Uberuaga & Jónsson, J. Chem. Phys. 113, 9901 (2000).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.mep import NEB
from ase.optimize import FIRE
from scipy.interpolate import CubicHermiteSpline

from popsbounds.config import Level, Relax
from popsbounds.coordinates import Coordinates
from popsbounds.errors import InputError
from popsbounds.reduced import MemberReduced, Reduced
from popsbounds.relax import NO_MINIMUM, Relaxed, evaluate, failed, other_basin, relax, uniform_scale
from popsbounds.structures import HopInversion, hop_inversion

__all__ = ["Band", "BandModel", "MemberBand", "cold_band"]

# Evenness of the images that is asked for (Å): their energies are then right to a tenth of a meV or so.
_EVEN = 2e-4
_ITERATIONS = 30
# Share of the tolerances that models, which cost nothing, are converged to.
_MODELLED = 1e-3
# Springs of the cold band (eV/Å²): stiff, so that the force tolerance makes its images even too.
_SPRING = 5.0
# Positions (Å) closer than this are the same.
_SAME = 1e-3
# A path's top counts as a hump of its own when it is this much (eV) above both ends; looked for on so many points.
_HUMP, _RESOLUTION = 1e-3, 401
# Softest curvature across the path (eV/Å²), and longest step (Å).
_SOFTEST, _LARGEST_STEP = 0.05, 0.2


@dataclass(frozen=True)
class Band:
    """A path between two minima, or what became of it.

    Attributes
    ----------
    images : list of Relaxed
        From one minimum to the other, evenly spaced on either side of the climbing image.
    status, reason : str
        As in `Relaxed`.
    evaluations : int
        Force calls spent on all images.
    """

    images: list[Relaxed]
    status: str
    reason: str
    evaluations: int

    @property
    def ok(self) -> bool:
        """Whether the path is converged."""
        return self.status == "ok"

    @property
    def energies(self) -> np.ndarray:
        """Energies of the images above that of the first (eV)."""
        return np.array([image.energy for image in self.images]) - self.images[0].energy

    @property
    def fractions(self) -> np.ndarray:
        """Where the images are, as fractions of the path's length."""
        distance = self._distances()
        return distance / distance[-1]

    def _distances(self) -> np.ndarray:
        steps = np.diff([image.atoms.positions.ravel() for image in self.images], axis=0)
        return np.concatenate([[0.0], np.cumsum(np.linalg.norm(steps, axis=1))])

    def along(self, fractions: np.ndarray) -> np.ndarray:
        """Energy above the first image (eV) at fractions of the length, a spline through energies and forces.

        NaN unless the path is ok.
        """
        if not self.ok:
            return np.full(np.shape(fractions), np.nan)
        distance = self._distances()
        positions = np.array([image.atoms.positions.ravel() for image in self.images])
        tangents = np.gradient(positions, distance, axis=0)
        slopes = [
            -image.forces.ravel() @ tangent / np.linalg.norm(tangent)
            for image, tangent in zip(self.images, tangents, strict=True)
        ]
        return CubicHermiteSpline(distance, self.energies, slopes)(np.asarray(fractions) * distance[-1])

    @property
    def barrier(self) -> float:
        """Energy of the highest image above the first (eV)."""
        return float(self.energies.max())


def _lost(images: Sequence[Atoms], status: str, reason: str, evaluations: int) -> Band:
    return Band([failed(image, status, reason) for image in images], status, reason, evaluations)


def climbing(images: Sequence[Relaxed]) -> int | None:
    """Which image is to climb: the one next to the path's top; None where the top is an end."""
    if len(images) < 3:
        return None
    path = Band(list(images), "ok", "", 0)
    fractions = np.linspace(0, 1, _RESOLUTION)
    energies = path.along(fractions)
    top = int(np.argmax(energies))
    if energies[top] < max(path.energies[0], path.energies[-1]) + _HUMP:
        return None
    return 1 + int(np.argmin(np.abs(path.fractions[1:-1] - fractions[top])))


def cold_band(images: Sequence[Atoms], calculator: Calculator, settings: Relax) -> Band:
    """Relax the ends, then the images between them, with ASE's climbing-image NEB and FIRE.

    Where the second half of the path mirrors the first, the middle image is
    stationary by symmetry: it is relaxed as the ends are, and only the first
    half has images between.

    Parameters
    ----------
    images
        Starting geometries, in one cell and one order of atoms.
    calculator
        The potential.
    settings
        Tolerances.
    """
    images = _centred(images)
    mirror = _mirror(images)
    given = images if mirror is None else images[: len(images) // 2 + 1]
    ends = [relax(Coordinates(end), calculator, settings) for end in (given[0], given[-1])]
    calls = sum(end.evaluations for end in ends)
    for which, end in zip(("first", "last" if mirror is None else "middle"), ends, strict=True):
        if not end.ok:
            return _lost(images, end.status, f"{which} image: {end.reason}", calls)
    path = [image.copy() for image in given]
    for fraction, image in zip(np.linspace(0, 1, len(path)), path, strict=True):
        for share, end, start in ((1 - fraction, ends[0], given[0]), (fraction, ends[1], given[-1])):
            image.positions += share * (end.atoms.positions - start.positions)
        image.calc = calculator
    for end, image in zip(ends, (path[0], path[-1]), strict=True):
        NEB.freeze_results_on_image(image, energy=end.energy, forces=end.forces)
    inner: list[Relaxed] = []
    if len(path) > 2:
        try:
            for tolerance in (10 * settings.fmax_band_eV_per_A, settings.fmax_band_eV_per_A):
                # Nothing climbs before the path is roughly there, nor where an end is the highest.
                climb = climbing([ends[0], *inner, ends[1]]) is not None if inner else False
                neb = NEB(path, k=_SPRING, climb=climb, method="improvedtangent", allow_shared_calculator=True)
                optimiser = FIRE(neb, logfile=None)
                converged = optimiser.run(fmax=tolerance, steps=settings.max_steps_band)
                inner = [evaluate(image, calculator) for image in path[1:-1]]
                calls += (optimiser.nsteps + 2) * len(inner)
        except InputError:
            raise
        except Exception as error:  # calculators raise what they like
            return _lost(images, "failed", f"{type(error).__name__}: {error}", calls)
        if not converged:
            return _lost(images, "not_converged", f"{settings.max_steps_band} steps did not converge the path", calls)
        if not all(image.ok for image in inner):
            return _lost(images, "unstable", "energy or forces are not finite", calls)
    return Band(_whole([ends[0], *inner, ends[1]], mirror), "ok", "", calls)


def _centred(images: Sequence[Atoms]) -> list[Atoms]:
    """The images with one centre: a rigid shift costs no energy, and must not count as a way."""
    middle = images[len(images) // 2].positions.mean(axis=0)
    centred = [image.copy() for image in images]
    for image in centred:
        image.positions += middle - image.positions.mean(axis=0)
    return centred


def _mirror(path: Sequence[Atoms]) -> HopInversion | None:
    """The inversion that maps a path onto its reverse, if there is one."""
    if len(path) % 2 == 0:
        return None
    try:
        mirror = hop_inversion(path)
    except InputError:
        return None
    pairs = zip(path, reversed(path), strict=True)
    apart = max(np.abs(mirror.mirror(image.positions) - other.positions).max() for image, other in pairs)
    return mirror if apart < _SAME else None


def _whole(results: list[Relaxed], mirror: HopInversion | None, scale: float = 1.0) -> list[Relaxed]:
    """A path with its mirrored second half; `scale` multiplies the lengths that the inversion was found for."""
    if mirror is None:
        return results
    behind = []
    for result in results[-2::-1]:
        atoms = result.atoms.copy()
        atoms.positions = scale * mirror.mirror(atoms.positions / scale)
        behind.append(replace(result, atoms=atoms, forces=mirror.mirror_vectors(result.forces)))
    return [*results, *behind]


@dataclass(frozen=True)
class BandModel:
    """Reduced models along the MLE's path.

    Attributes
    ----------
    path : list of Atoms
        The MLE's images.
    coordinates : list of Coordinates
        Of each image that is modelled: all of them or, where the second half of
        the path mirrors the first, those up to the middle.
    models : list of Reduced
        Their models.
    climber : int or None
        Which image climbs; None where the path's top is an end or the middle.
    """

    path: list[Atoms]
    coordinates: list[Coordinates]
    models: list[Reduced]
    climber: int | None = None

    @classmethod
    def build(cls, band: Band, reduced: Callable[[Coordinates], Reduced]) -> BandModel:
        """Compute the models along a path; `reduced` makes that of one image."""
        path = [image.atoms for image in band.images]
        n = len(path) if _mirror(path) is None else len(path) // 2 + 1
        coordinates = [Coordinates(image) for image in path[:n]]
        return cls(path, coordinates, [reduced(c) for c in coordinates], climbing(band.images[:n]))

    @cached_property
    def mirror(self) -> HopInversion | None:
        """The inversion that makes the second half of the path of the first; None where all images are modelled."""
        return hop_inversion(self.path) if len(self.coordinates) < len(self.path) else None

    def of_this_basin(self, band: Band, settings: Relax) -> Band:
        """A path, or none where one of its images is in another basin than the MLE's."""
        for i, (image, mle) in enumerate(zip(band.images, self.path, strict=True)):
            elsewhere = other_basin(mle, image.atoms, settings) if band.ok else ""
            if elsewhere:
                return _lost(self.path, "different_basin", f"{elsewhere} image {i} of the MLE's path", band.evaluations)
        return band

    def members(self, thetas: np.ndarray, level: Level = "reduced") -> list[MemberBand]:
        """The path of each member, whose parameters have shape (M, P), at a level of the expansion."""
        by_image = [model.members(thetas, level) for model in self.models]
        return [MemberBand(self, list(models)) for models in zip(*by_image, strict=True)]


class MemberBand:
    """One member's path, in the frame of the MLE's: all lengths are divided by the member's scale."""

    def __init__(self, model: BandModel, images: list[MemberReduced]) -> None:
        self.model, self.images = model, images

    def scale_of(self, images: Sequence[Atoms]) -> float | None:
        """Factor of a path's cell to the MLE's; None where their shapes differ."""
        return uniform_scale(self.model.path[0], images[0])

    def solve(self, scale: float, calculator: Calculator, settings: Relax) -> Band:
        """Converge the path, without force calls as far as the models go and then with them.

        Parameters
        ----------
        scale
            Of the member's cell to the MLE's.
        calculator
            The member.
        settings
            Tolerances.

        Returns
        -------
        Band
            Its status says why it is not ok, if it is not.
        """
        coordinates, n = self.model.coordinates, len(self.model.coordinates)
        q: list[np.ndarray] = [np.zeros(c.size) for c in coordinates]
        results: dict[int, Relaxed] = {}
        calls = 0
        for i in self._stationary:
            start = self.images[i].minimum([scale - 1], coordinates[i], settings.trust_radius_A)
            hessian = self.images[i].stiffened(start, [scale - 1])
            found = relax(coordinates[i], calculator, settings, start, hessian, scale, self.model.path[i])
            calls += found.evaluations
            if not found.ok:
                return _lost(self.model.path, found.status, f"image {i}: {found.reason}", calls)
            results[i] = found
            moved = found.atoms.positions / scale - coordinates[i].origin.positions
            q[i] = coordinates[i].displacements.T @ moved.ravel()

        def computed(i: int, at: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal calls
            calls += 1
            results[i] = evaluate(coordinates[i].place(at, scale), calculator)
            if not results[i].ok:
                raise ArithmeticError(f"image {i}: {results[i].reason}")
            forces = results[i].forces.ravel()
            return results[i].energy, coordinates[i].gradient(at, forces, np.zeros((3, 3)), scale)

        energies = {i: results[i].energy for i in self._stationary}
        climber = self.model.climber
        converged = None
        try:
            # Where the models put it, or else where the MLE has it.
            q = self._converge(self._modelled(scale), q, energies, climber, scale, settings, _MODELLED) or q
            for _ in range(2):  # once more where the member's top is not where the MLE's is
                converged = self._converge(computed, q, energies, climber, scale, settings)
                if converged is None:
                    break
                seen = climbing([results[i] for i in range(n)])
                if seen == climber:
                    break
                q, climber, converged = converged, seen, None
        except (ArithmeticError, np.linalg.LinAlgError) as error:
            return _lost(self.model.path, "unstable", str(error), calls)
        if converged is None:
            return _lost(self.model.path, "not_converged", "Newton's method did not converge the path", calls)
        return self._path([results[i] for i in range(n)], scale, calls, settings)

    def predict(self, scale: float, settings: Relax) -> tuple[Band, list[np.ndarray]]:
        """The path that the models have, without any force call, and its coordinates.

        Parameters
        ----------
        scale, settings
            As for `solve`.

        Returns
        -------
        path : Band
            Its status says why it is not ok, if it is not.
        coordinates : list of ndarray
            Of each image that is modelled.
        """
        coordinates, strain = self.model.coordinates, [scale - 1]
        q: list[np.ndarray] = [np.zeros(c.size) for c in coordinates]
        for i in self._stationary:
            found = self.images[i].minimum(strain, coordinates[i], settings.trust_radius_A)
            if found is None:
                return _lost(self.model.path, "not_converged", f"image {i}: {NO_MINIMUM}", 0), q
            q[i] = found
        energies = {i: self.images[i].energy_at(q[i], strain) for i in self._stationary}
        try:
            climber = self.model.climber
            converged = self._converge(self._modelled(scale), q, energies, climber, scale, settings, _MODELLED)
        except np.linalg.LinAlgError:
            converged = None
        if converged is None:
            return _lost(self.model.path, "not_converged", "Newton's method did not converge the path", 0), q
        parts = zip(self.images, coordinates, converged, strict=True)
        images = [image.relaxed(c, at, strain, scale) for image, c, at in parts]
        return self._path(images, scale, 0, settings), converged

    def check(
        self, scale: float, q: Sequence[np.ndarray], calculator: Calculator, settings: Relax
    ) -> tuple[Band, Band]:
        """One force call an image, at a predicted path.

        Parameters
        ----------
        scale, calculator, settings
            As for `solve`.
        q
            Coordinates of the images, as predicted.

        Returns
        -------
        found, corrected : Band
            As computed there, and one step of Newton's method further, with the energies its quadratic model has.
        """
        coordinates, strain = self.model.coordinates, [scale - 1]
        found = [evaluate(c.place(at, scale), calculator) for c, at in zip(coordinates, q, strict=True)]
        calls = len(found)
        bad = [f"image {i}: {image.reason}" for i, image in enumerate(found) if not image.ok]
        if bad:
            lost = _lost(self.model.path, "unstable", bad[0], calls)
            return lost, lost
        nothing = np.zeros((3, 3))
        gradients = {
            i: c.gradient(q[i], image.forces.ravel(), nothing, scale)
            for i, (c, image) in enumerate(zip(coordinates, found, strict=True))
        }
        hessians = {i: image.hessian_at(q[i], strain) for i, image in enumerate(self.images)}
        energies = np.array([image.energy for image in found])
        moves = self._newton(list(q), energies, gradients, hessians, self.model.climber)
        corrected = [
            image.corrected(found[i], coordinates[i], q[i], strain, scale, moves[i][0] if i in moves else None)
            for i, image in enumerate(self.images)
        ]
        return self._path(found, scale, calls, settings), self._path(corrected, scale, calls, settings)

    def quadratic(self) -> MemberBand:
        """Without third derivatives."""
        return MemberBand(self.model, [replace(image, cubic=None) for image in self.images])

    @property
    def _stationary(self) -> list[int]:
        """Images that are so by themselves: the ends, and the middle of a path that mirrors itself."""
        return [0, len(self.images) - 1]

    def _modelled(self, scale: float) -> Callable[[int, np.ndarray], tuple[float, np.ndarray]]:
        strain = [scale - 1]
        return lambda i, at: (self.images[i].energy_at(at, strain), self.images[i].gradient_at(at, strain))

    def _path(self, images: list[Relaxed], scale: float, calls: int, settings: Relax) -> Band:
        return self.model.of_this_basin(Band(_whole(images, self.model.mirror, scale), "ok", "", calls), settings)

    def _converge(
        self,
        force: Callable[[int, np.ndarray], tuple[float, np.ndarray]],
        q: list[np.ndarray],
        fixed: Mapping[int, float],
        climber: int | None,
        scale: float,
        settings: Relax,
        share: float = 1.0,
    ) -> list[np.ndarray] | None:
        """Newton's method for all images that are not fixed, to a share of the tolerances; None where it fails."""
        coordinates, n = self.model.coordinates, len(q)
        q = [at.copy() for at in q]
        moving = [i for i in range(n) if i not in fixed]
        stale = set(moving)
        state: dict[int, tuple[float, np.ndarray]] = {}
        hessians = {i: self.images[i].hessian_at(q[i], [scale - 1]) for i in moving}
        steps: dict[int, np.ndarray] = {}
        for _ in range(_ITERATIONS):
            for i in stale:
                before = state.get(i)
                state[i] = force(i, q[i])
                if before is not None:
                    hessians[i] = _learnt(hessians[i], steps[i], state[i][1] - before[1])
            energies = np.array([fixed[i] if i in fixed else state[i][0] for i in range(n)])
            gradients = {i: state[i][1] for i in moving}
            steps = {}
            for i, (step, across, along) in self._newton(q, energies, gradients, hessians, climber).items():
                force_left = coordinates[i].largest_force(across) / scale
                if force_left > share * settings.fmax_band_eV_per_A or abs(along) > share * _EVEN:
                    steps[i] = step * min(1.0, _LARGEST_STEP / max(coordinates[i].largest_step(step), 1e-300))
            if not steps:
                return q
            for i, step in steps.items():
                q[i] = q[i] + step
                if coordinates[i].largest_step(q[i]) > 5 * settings.trust_radius_A:
                    return None
            stale = set(steps)
        return None

    def _newton(
        self,
        q: list[np.ndarray],
        energies: np.ndarray,
        gradients: Mapping[int, np.ndarray],
        hessians: Mapping[int, np.ndarray],
        climber: int | None,
    ) -> dict[int, tuple[np.ndarray, np.ndarray, float]]:
        """Steps of the images that are not stationary by themselves, the gradients that count, and the unevenness."""
        stationary = self._stationary if climber is None else sorted({*self._stationary, climber})
        points, found = self._points(q), {}
        for i in range(1, len(q) - 1):
            basis, gradient, hessian = self.model.coordinates[i].displacements, gradients[i], hessians[i]
            if i == climber:
                found[i] = -np.linalg.solve(hessian, gradient), gradient, 0.0
                continue
            tangent, turn = self._tangent(points, energies, i)
            tangent = basis.T @ tangent
            tangent /= np.linalg.norm(tangent)
            along = self._unevenness(points, stationary, i)
            # A step across the path turns the tangent, and with it the part of the force that counts.
            stiffer = hessian - turn * (tangent @ gradient) * np.eye(len(hessian))
            step = _across_and_along(gradient, stiffer, tangent, along)
            found[i] = step, gradient - tangent * (tangent @ gradient), along
        return found

    def _points(self, q: list[np.ndarray]) -> np.ndarray:
        """Positions of the images as flat vectors."""
        moved = zip(self.model.coordinates, q, strict=True)
        return np.array([c.origin.positions.ravel() + c.displacements @ at for c, at in moved])

    def _tangent(self, points: np.ndarray, energies: np.ndarray, i: int) -> tuple[np.ndarray, float]:
        """Improved tangent at image i, normalised, and how much it turns with the image (1/Å)."""
        ahead, behind = points[i + 1] - points[i], points[i] - points[i - 1]
        up, down = energies[i + 1] - energies[i], energies[i] - energies[i - 1]
        if up > 0 and down > 0:
            shares = 1.0, 0.0
        elif up < 0 and down < 0:
            shares = 0.0, 1.0
        else:
            shares = max(abs(up), abs(down)), min(abs(up), abs(down))
            if energies[i + 1] < energies[i - 1]:
                shares = shares[1], shares[0]
        tangent = shares[0] * ahead + shares[1] * behind
        length = float(np.linalg.norm(tangent))
        return tangent / length, (shares[1] - shares[0]) / length

    def _unevenness(self, points: np.ndarray, stationary: list[int], i: int) -> float:
        """How far image i must move along the path to be evenly spaced between the stationary ones (Å)."""
        first = max(s for s in stationary if s < i)
        last = min(s for s in stationary if s > i)
        lengths = np.linalg.norm(np.diff(points[first : last + 1], axis=0), axis=1)
        return float(lengths.sum() * (i - first) / (last - first) - lengths[: i - first].sum())


def _learnt(hessian: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Symmetric rank-one update of a Hessian from how a step changed the gradient."""
    missed = change - hessian @ step
    along = missed @ step
    if abs(along) <= 1e-6 * np.linalg.norm(missed) * np.linalg.norm(step):  # nothing to learn, or no telling
        return hessian
    return hessian + np.outer(missed, missed) / along


def _across_and_along(gradient: np.ndarray, hessian: np.ndarray, tangent: np.ndarray, along: float) -> np.ndarray:
    """Newton step to the minimum across the tangent, moved by so much along it."""
    across = np.eye(len(tangent)) - np.outer(tangent, tangent)
    values, vectors = np.linalg.eigh(across @ hessian @ across + np.outer(tangent, tangent) * _SOFTEST)
    shifted = across @ (gradient + along * (hessian @ tangent))
    step = -vectors @ (vectors.T @ shifted / np.maximum(np.abs(values), _SOFTEST))
    return across @ step + along * tangent
