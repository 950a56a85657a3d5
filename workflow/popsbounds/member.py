"""Members of the ensemble, answered for from what is known of the MLE.

From a family over strains, without any force call; from the member's own
reduced model, in a few; or, where it has left the MLE's neighbourhood, by a
plain relaxation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from popsbounds.band import Band, BandModel, MemberBand
from popsbounds.config import Level, Relax
from popsbounds.coordinates import Coordinates, strain_basis
from popsbounds.family import Family, MemberFamily
from popsbounds.hessian import unstable_modes
from popsbounds.models import Basin, Centre, Model
from popsbounds.potential import ColdPotential
from popsbounds.reduced import MemberReduced, energy_gradient
from popsbounds.relax import NO_MINIMUM, Relaxed, evaluate, failed, other_basin, relax, strained
from popsbounds.response import augmented

__all__ = ["Member", "MemberBasin", "MemberModel", "Point", "evaluate_models", "static_of_family"]

# Step (Å) by which a stationary point is tried for a maximum.
_STEP = 0.01
# A minimum so near (Å) to the MLE's structure is looked for about that alone.
_NEAR = 0.04


@dataclass(frozen=True)
class Point:
    """Where a model has a member's minimum.

    Attributes
    ----------
    model : MemberReduced
        The model.
    coordinates : Coordinates
        About its centre.
    q, strains : ndarray, shapes (k,), (r,)
        Coordinates that relax, and the frame's.
    scale : ndarray, shape (3, 3)
        The frame's, as in `Coordinates`.
    """

    model: MemberReduced
    coordinates: Coordinates
    q: np.ndarray
    strains: np.ndarray
    scale: np.ndarray

    @property
    def distance(self) -> float:
        """From the centre (Å)."""
        return float(np.linalg.norm(self.model.point(self.q, self.strains)))

    @property
    def atoms(self) -> Atoms:
        """The structure."""
        return self.coordinates.place(self.q, self.scale)

    def predicted(self) -> Relaxed:
        """The structure as the model has it."""
        return self.model.relaxed(self.coordinates, self.q, self.strains, self.scale)

    def corrected(self, found: Relaxed) -> Relaxed:
        """The structure that was computed there, one step of Newton's method further."""
        return self.model.corrected(found, self.coordinates, self.q, self.strains, self.scale)


@dataclass(frozen=True)
class MemberBasin:
    """What is known of a relaxing structure under one member.

    Attributes
    ----------
    basin : Basin
        What is the same for all.
    family : MemberFamily or None
        Where there is one, and it is accurate enough for the member.
    reduced : MemberReduced
        Its own model, about the MLE's structure.
    farther : list of MemberReduced
        The same about the basin's other centres.
    soft : ndarray, shape (s, s), or None
        Its Hessian along the softest symmetry-breaking directions (eV/Å²).
    """

    basin: Basin
    family: MemberFamily | None
    reduced: MemberReduced
    farther: list[MemberReduced]
    soft: np.ndarray | None

    def crystal_of_family(self, settings: Relax) -> Relaxed | None:
        """A crystal without internal freedom at zero stress; None where the family does not reach.

        None at an order of the expansion, too: the family holds more.
        """
        if self.family is None or self.reduced.level != "reduced":
            return None
        x = self.family.minimum()
        if x is None:
            return None
        found = _by_symmetry(_from_family(self.family, x))
        return None if other_basin(self.basin.coordinates.origin, found.atoms, settings) else found

    def strained_of_family(self, crystal: Relaxed) -> Relaxed | None:
        """A strained crystal without internal freedom; None where the family does not reach."""
        if self.family is None or crystal.strains is None or not self.family.inside(crystal.strains):
            return None
        return _by_symmetry(_from_family(self.family, crystal.strains))

    def minimum(self, atoms: Atoms, settings: Relax) -> Point | None:
        """Where its model has the minimum in the cell of a structure; None where there is none within the trust radius.

        Of several centres, the model about that which is nearest to its minimum is asked.
        """
        found = self._minimum(self.basin, self.reduced, atoms, settings)
        if not self.farther or (found is not None and found.distance <= _NEAR):
            return found
        others = zip(self.basin.farther, self.farther, strict=True)
        points = [found, *(self._minimum(centre, model, atoms, settings) for centre, model in others)]
        return min((p for p in points if p is not None), key=lambda p: p.distance, default=None)

    def _minimum(self, centre: Centre, model: MemberReduced, atoms: Atoms, settings: Relax) -> Point | None:
        strains = centre.strains_of(atoms)
        if strains is None:
            return None
        q = model.minimum(strains, centre.coordinates, settings.trust_radius_A)
        return None if q is None else Point(model, centre.coordinates, q, strains, centre.scale_of(atoms))

    def quadratic(self) -> MemberBasin:
        """Without third derivatives."""
        farther = [replace(model, cubic=None) for model in self.farther]
        return replace(self, reduced=replace(self.reduced, cubic=None), farther=farther)

    def unstable_modes(self) -> int | None:
        """Number of unstable directions among the MLE's softest; None where they were not looked at."""
        return None if self.soft is None else unstable_modes(self.soft)


MemberModel = MemberBasin | MemberFamily | MemberBand


def evaluate_models(
    models: Mapping[str, Model], thetas: np.ndarray, tolerance: float, level: Level = "reduced"
) -> list[dict[str, MemberModel]]:
    """Evaluate all models for a batch of members.

    Parameters
    ----------
    models
        By structure, what is known from the MLE.
    thetas
        Parameters of the members, shape (M, P).
    tolerance
        Largest interpolation error of a family that is made use of (eV/atom).
    level
        Of the reduced models' expansion.

    Returns
    -------
    list of dict
        For each member, its models by structure.
    """
    found: list[dict[str, MemberModel]] = [{} for _ in thetas]
    for name, model in models.items():
        for mine, evaluated in zip(found, _evaluated(model, thetas, tolerance, level), strict=True):
            if evaluated is not None:
                mine[name] = evaluated
    return found


def _evaluated(model: Model, thetas: np.ndarray, tolerance: float, level: Level) -> list:
    if isinstance(model, BandModel):
        return model.members(thetas, level)
    if isinstance(model, Family):
        return [family if family.error <= tolerance else None for family in model.members(thetas)]
    n = len(thetas)
    families = [None] * n if model.family is None else _evaluated(model.family, thetas, tolerance, level)
    soft = [None] * n if model.soft is None else np.einsum("ijp,mp->mij", model.soft, augmented(thetas))
    reduced = model.reduced.members(thetas, level)
    # An order of the expansion is about the MLE.
    others = [centre.reduced.members(thetas, level) for centre in model.farther] if level == "reduced" else []
    farther = [list(parts) for parts in zip(*others, strict=True)] if others else [[] for _ in range(n)]
    return [MemberBasin(model, *parts) for parts in zip(families, reduced, farther, soft, strict=True)]


class Member(ColdPotential):
    """A member of the ensemble.

    Parameters
    ----------
    models
        By structure, what is known of it; see `evaluate_models`.
    calculator
        The member's potential.
    settings
        Tolerances.
    """

    is_member = True

    def __init__(self, models: Mapping[str, MemberModel], calculator: Calculator, settings: Relax) -> None:
        super().__init__(calculator, settings)
        self.models = models

    def _crystal(self, name: str, atoms: Atoms) -> Relaxed:
        known = self.models.get(name)
        if not isinstance(known, MemberBasin):
            return super()._crystal(name, atoms)
        found = known.crystal_of_family(self.settings)
        return self._nearby(atoms, known) if found is None else found

    def _relax(self, name: str, atoms: Atoms, crystal: str) -> Relaxed:
        known = self.models.get(name)
        if not isinstance(known, MemberBasin) or not known.basin.starts_as(atoms):
            return super()._relax(name, atoms, crystal)
        return self._nearby(atoms, known)

    def _strain(self, name: str, crystal: Relaxed, deformation: np.ndarray) -> Relaxed:
        known = self.models.get(name)
        if not isinstance(known, MemberBasin):
            return super()._strain(name, crystal, deformation)
        found = known.strained_of_family(crystal)
        return self._nearby(strained(crystal.atoms, deformation), known) if found is None else found

    def _static(self, name: str, atoms: Atoms, crystal: str, forces: bool) -> Relaxed:
        found = static_of_family(self.models.get(name), atoms)
        return evaluate(atoms, self.calculator) if found is None else found

    def unstable_modes(self, name: str, relaxed: Relaxed) -> int:
        known = self.models.get(name)
        counted = known.unstable_modes() if isinstance(known, MemberBasin) else None
        return super().unstable_modes(name, relaxed) if counted is None else counted

    def _band(self, name: str, images: list[Atoms], crystal: str) -> Band:
        known = self.models.get(name)
        scale = known.scale_of(images) if isinstance(known, MemberBand) else None
        if not isinstance(known, MemberBand) or scale is None:
            return super()._band(name, images, crystal)
        band = known.solve(scale, self.calculator, self.settings)
        if band.ok or band.status == "different_basin":
            return band
        again = known.model.of_this_basin(super()._band(name, images, crystal), self.settings)
        reason = f"path converged from scratch, after: {band.reason}" if again.ok else again.reason
        return replace(again, reason=reason, evaluations=again.evaluations + band.evaluations)

    def _minimum_or_not(self, found: Relaxed, coordinates: Coordinates, hessian: np.ndarray) -> Relaxed:
        """Refuse a stationary point that is no minimum along the direction in which the member's model has none."""
        values, vectors = np.linalg.eigh(hessian)
        if values[0] > 0:
            return found
        about = Coordinates(found.atoms, coordinates.displacements, coordinates.strains)
        slopes = []
        for step in (_STEP * vectors[:, 0], -_STEP * vectors[:, 0]):
            there = evaluate(about.place(step), self.calculator)
            slopes.append(vectors[:, 0] @ energy_gradient(there, about, step))
        found = replace(found, evaluations=found.evaluations + 2)
        if slopes[0] > slopes[1]:
            return found
        return failed(found.atoms, "unstable", "a stationary point that is no minimum", found.evaluations)

    def _nearby(self, start: Atoms, known: MemberBasin) -> Relaxed:
        """Relax from the minimum of the member's own model, or from scratch; the start's cell may be imposed."""
        basin = known.basin.coordinates.origin
        point = known.minimum(start, self.settings)
        if point is not None:
            coordinates, scale, stiff = point.coordinates, point.scale, point.model.stiffened(point.q, point.strains)
            first = relax(coordinates, self.calculator, self.settings, point.q, stiff, scale, basin)
            remark = ""
        else:
            model, coordinates = known.reduced, known.basin.coordinates
            scale = known.basin.scale_of(start)
            first = relax(coordinates, self.calculator, self.settings, None, model.stiffened(), scale, basin)
            if first.ok:
                first = self._minimum_or_not(first, coordinates, model.hessian[: model.k, : model.k])
            remark = f"relaxed from the MLE's structure: {NO_MINIMUM}"
        if first.ok:
            return replace(first, reason=remark)
        afresh = Coordinates(start, strains=strain_basis(start) if len(coordinates.strains) else None)
        again = relax(afresh, self.calculator, self.settings, basin=basin)
        reason = f"relaxed from scratch, after: {first.reason}" if again.ok else first.reason
        status = again.status if again.ok else first.status
        return replace(again, status=status, reason=reason, evaluations=again.evaluations + first.evaluations)


def _by_symmetry(found: Relaxed) -> Relaxed:
    """With the forces of a structure without internal freedom."""
    return replace(found, forces=np.zeros((len(found.atoms), 3)))


def static_of_family(known: MemberModel | None, atoms: Atoms) -> Relaxed | None:
    """A structure as it is; None where there is no family of it, or the family does not reach."""
    if not isinstance(known, MemberFamily):
        return None
    x = known.family.coordinates_of(atoms)
    return None if x is None or not known.inside(x) else _from_family(known, x, atoms)


def _from_family(family: MemberFamily, x: np.ndarray, atoms: Atoms | None = None) -> Relaxed:
    atoms = family.family.place(x) if atoms is None else atoms
    stress = family.virial(x) / atoms.get_volume()
    return Relaxed(atoms, family.energy(x), "ok", "", 0, stress, family.forces(x), strains=x)
