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
from popsbounds.config import Relax
from popsbounds.coordinates import Coordinates
from popsbounds.family import Family, MemberFamily
from popsbounds.hessian import UNSTABLE
from popsbounds.models import Basin, Model
from popsbounds.potential import ColdPotential
from popsbounds.reduced import MemberReduced
from popsbounds.relax import Relaxed, evaluate, failed, other_basin, relax, strained, uniform_scale
from popsbounds.response import augmented

__all__ = ["Member", "MemberBasin", "evaluate_models"]

# Scaled coordinates closer than this are the same.
_SAME = 1e-6
# Step (Å) by which a stationary point is tried for a maximum.
_STEP = 0.01


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
        Its own quadratic model.
    soft : ndarray, shape (s, s), or None
        Its Hessian along the softest symmetry-breaking directions (eV/Å²).
    """

    basin: Basin
    family: MemberFamily | None
    reduced: MemberReduced
    soft: np.ndarray | None


MemberModel = MemberBasin | MemberFamily | MemberBand


def evaluate_models(models: Mapping[str, Model], thetas: np.ndarray, tolerance: float) -> list[dict[str, MemberModel]]:
    """Evaluate all models for a batch of members.

    Parameters
    ----------
    models
        By structure, what is known from the MLE.
    thetas
        Parameters of the members, shape (M, P).
    tolerance
        Largest interpolation error of a family that is made use of (eV/atom).

    Returns
    -------
    list of dict
        For each member, its models by structure.
    """
    found: list[dict[str, MemberModel]] = [{} for _ in thetas]
    for name, model in models.items():
        for mine, evaluated in zip(found, _evaluated(model, thetas, tolerance), strict=True):
            if evaluated is not None:
                mine[name] = evaluated
    return found


def _evaluated(model: Model, thetas: np.ndarray, tolerance: float) -> list:
    if isinstance(model, BandModel):
        return model.members(thetas)
    if isinstance(model, Family):
        return [family if family.error <= tolerance else None for family in model.members(thetas)]
    n = len(thetas)
    families = [None] * n if model.family is None else _evaluated(model.family, thetas, tolerance)
    soft = [None] * n if model.soft is None else np.einsum("ijp,mp->mij", model.soft, augmented(thetas))
    reduced = model.reduced.members(thetas, model.coordinates)
    return [MemberBasin(model, *parts) for parts in zip(families, reduced, soft, strict=True)]


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

    def __init__(self, models: Mapping[str, MemberModel], calculator: Calculator, settings: Relax) -> None:
        super().__init__(calculator, settings)
        self.models = models

    def _crystal(self, name: str, atoms: Atoms) -> Relaxed:
        known = self.models.get(name)
        if not isinstance(known, MemberBasin):
            return super()._crystal(name, atoms)
        coordinates = known.basin.coordinates
        x = None if known.family is None else known.family.minimum()
        if known.family is not None and x is not None:
            found = _by_symmetry(_from_family(known.family, x))
            if not other_basin(coordinates.origin, found.atoms, self.settings):
                return found
        return self._nearby(atoms, known, coordinates, 1.0)

    def _relax(self, name: str, atoms: Atoms) -> Relaxed:
        known = self.models.get(name)
        if not isinstance(known, MemberBasin) or not _same_places(known.basin.start, atoms):
            return super()._relax(name, atoms)
        coordinates = known.basin.coordinates
        scale = uniform_scale(known.basin.start, atoms)
        if scale is not None:
            return self._nearby(atoms, known, coordinates, scale)
        origin = coordinates.origin.copy()
        origin.set_cell(atoms.cell[:], scale_atoms=True)
        return self._nearby(atoms, known, Coordinates(origin, False, coordinates.displacements), None)

    def _strain(self, name: str, crystal: Relaxed, deformation: np.ndarray) -> Relaxed:
        known = self.models.get(name)
        start = strained(crystal.atoms, deformation)
        if not isinstance(known, MemberBasin):
            return super()._strain(name, crystal, deformation)
        if known.family is not None and crystal.strains is not None and known.family.inside(crystal.strains):
            return _by_symmetry(_from_family(known.family, crystal.strains))
        origin = start.copy()
        origin.set_scaled_positions(start.get_scaled_positions(wrap=False) + known.basin.shift)
        return self._nearby(start, known, Coordinates(origin, False, known.basin.coordinates.displacements), None)

    def _static(self, name: str, atoms: Atoms, crystal: str, forces: bool) -> Relaxed:
        family = self.models.get(name)
        if isinstance(family, MemberFamily):
            x = family.family.coordinates_of(atoms)
            if x is not None and family.inside(x):
                return _from_family(family, x, atoms)
        return evaluate(atoms, self.calculator)

    def unstable_modes(self, name: str, relaxed: Relaxed) -> int:
        known = self.models.get(name)
        if not isinstance(known, MemberBasin) or known.soft is None:
            return super().unstable_modes(name, relaxed)
        return int(np.count_nonzero(np.linalg.eigvalsh(known.soft) < UNSTABLE))

    def _band(self, name: str, images: list[Atoms]) -> Band:
        known = self.models.get(name)
        scale = uniform_scale(known.model.path[0], images[0]) if isinstance(known, MemberBand) else None
        if not isinstance(known, MemberBand) or scale is None:
            return super()._band(name, images)
        band = known.solve(scale, self.calculator, self.settings)
        if band.ok or band.status == "different_basin":
            return band
        again = known.model.of_this_basin(super()._band(name, images), self.settings)
        reason = f"path converged from scratch, after: {band.reason}" if again.ok else again.reason
        return replace(again, reason=reason, evaluations=again.evaluations + band.evaluations)

    def _minimum_or_not(self, found: Relaxed, coordinates: Coordinates, hessian: np.ndarray) -> Relaxed:
        """Refuse a stationary point that is no minimum along the direction in which the member's model has none."""
        values, vectors = np.linalg.eigh(hessian)
        if values[0] > 0:
            return found
        about = Coordinates(found.atoms, False, coordinates.displacements, coordinates.strains)
        slopes = []
        for step in (_STEP * vectors[:, 0], -_STEP * vectors[:, 0]):
            there = evaluate(about.place(step), self.calculator)
            virial = there.atoms.get_volume() * there.stress
            slopes.append(vectors[:, 0] @ about.gradient(step, there.forces.ravel(), virial))
        found = replace(found, evaluations=found.evaluations + 2)
        if slopes[0] > slopes[1]:
            return found
        return failed(found.atoms, "unstable", "a stationary point that is no minimum", found.evaluations)

    def _nearby(self, start: Atoms, known: MemberBasin, coordinates: Coordinates, scale: float | None) -> Relaxed:
        """Relax from the member's own model, then from scratch; `scale` is None where the model only has curvatures."""
        model = known.reduced
        fixed = 1.0 if scale is None else scale
        trust = self.settings.trust_radius_A
        q = np.zeros(coordinates.size) if scale is None else model.minimum(scale, coordinates, trust)
        basin = known.basin.coordinates.origin
        stiff = model.stiffened()
        first = relax(coordinates, self.calculator, self.settings, q, stiff, fixed, basin)
        if first.ok and q is None:
            first = self._minimum_or_not(first, coordinates, model.hessian)
        remark = (
            "" if q is not None else "relaxed from the MLE's structure: no minimum of its model within the trust radius"
        )
        if first.ok:
            return replace(first, reason=remark)
        afresh = Coordinates(start, cell=bool(len(coordinates.strains)))
        again = relax(afresh, self.calculator, self.settings, basin=basin)
        reason = f"relaxed from scratch, after: {first.reason}" if again.ok else first.reason
        status = again.status if again.ok else first.status
        return replace(again, status=status, reason=reason, evaluations=again.evaluations + first.evaluations)


def _same_places(before: Atoms, after: Atoms) -> bool:
    """Whether two structures are one in scaled coordinates."""
    if len(before) != len(after):
        return False
    places = [atoms.get_scaled_positions(wrap=False) for atoms in (before, after)]
    return bool(np.abs(places[0] - places[1]).max() < _SAME)


def _by_symmetry(found: Relaxed) -> Relaxed:
    """With the forces of a structure without internal freedom."""
    return replace(found, forces=np.zeros((len(found.atoms), 3)))


def _from_family(family: MemberFamily, x: np.ndarray, atoms: Atoms | None = None) -> Relaxed:
    atoms = family.family.place(x) if atoms is None else atoms
    stress = family.virial(x) / atoms.get_volume()
    return Relaxed(atoms, family.energy(x), "ok", "", 0, stress, family.forces(x), strains=x)
