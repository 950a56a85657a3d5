"""Members without simulation: implicit expansion about the MLE, and its check by one force call.

A minimum X*(Θ) moves with the parameters as dX*/dΘ = −H⁻¹ ∂²U/∂X∂Θ, and for a
potential that is linear in its parameters the mixed derivative is that of the
descriptors: members cost linear algebra. `Implicit` answers what a property
asks at one of three levels of that expansion. `Automatic` puts together, from
structure to structure, what is predicted, what one force call corrects, and
what is relaxed, so that values are within a tolerance.

Reference: Perez et al., npj Comput. Mater. 11, 263 (2025), for the first order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from ase import Atoms

from popsbounds.band import Band, MemberBand
from popsbounds.config import Relax
from popsbounds.member import Member, MemberBasin, MemberModel, static_of_family
from popsbounds.potential import Potential
from popsbounds.properties.base import Property, PropertyError, Value, key_of
from popsbounds.relax import NO_MINIMUM, Relaxed, evaluate, failed, other_basin, strained

__all__ = ["Automatic", "Implicit", "propagate_automatically"]

# What changes values by less than this share of the tolerance needs no check.
_TRUSTED = 0.1
# A correction larger than this share of the tolerance is not trusted to leave less than the tolerance.
_SAFE = 0.5
# Cells closer than this (Å) are the same.
_SAME_CELL = 1e-9
_OUTSIDE = "beyond the reach of what is known of the MLE"

Way = Literal["predicted", "second", "quadratic", "called", "corrected", "relaxed", "unknown"]


class Implicit(Potential):
    """A member, answered for without any force call.

    Parameters
    ----------
    models
        By structure, what is known of it at one level of the expansion; see
        `popsbounds.member.evaluate_models`.
    settings
        Tolerances.
    """

    is_member = True

    def __init__(self, models: Mapping[str, MemberModel], settings: Relax) -> None:
        self.models, self.settings = models, settings
        # Structures whose answer is an expansion, in order; families interpolate, within their own tolerance.
        self.expanded: dict[str, None] = {}

    def _crystal(self, name: str, atoms: Atoms) -> Relaxed:
        known = self.models.get(name)
        if not isinstance(known, MemberBasin):
            return _unknown(atoms)
        found = known.crystal_of_family(self.settings)
        return self._predicted(name, known, atoms) if found is None else found

    def _relax(self, name: str, atoms: Atoms, crystal: str) -> Relaxed:
        known = self.models.get(name)
        if not isinstance(known, MemberBasin) or not known.basin.starts_as(atoms):
            return _unknown(atoms)
        return self._predicted(name, known, atoms)

    def _strain(self, name: str, crystal: Relaxed, deformation: np.ndarray) -> Relaxed:
        known = self.models.get(name)
        atoms = strained(crystal.atoms, deformation)
        if not isinstance(known, MemberBasin):
            return _unknown(atoms)
        found = known.strained_of_family(crystal)
        return self._predicted(name, known, atoms) if found is None else found

    def _static(self, name: str, atoms: Atoms, crystal: str, forces: bool) -> Relaxed:
        found = static_of_family(self.models.get(name), atoms)
        return _unknown(atoms) if found is None else found

    def unstable_modes(self, name: str, relaxed: Relaxed) -> int:
        known = self.models.get(name)
        counted = known.unstable_modes() if isinstance(known, MemberBasin) else None
        if counted is None:
            raise ArithmeticError("no curvatures are known that break the symmetry")
        return counted

    def _band(self, name: str, images: list[Atoms], crystal: str) -> Band:
        known = self.models.get(name)
        scale = known.scale_of(images) if isinstance(known, MemberBand) else None
        if not isinstance(known, MemberBand) or scale is None:
            return Band([_unknown(image) for image in images], "not_converged", _OUTSIDE, 0)
        self.expanded[name] = None
        return known.predict(scale, self.settings)[0]

    def _predicted(self, name: str, known: MemberBasin, atoms: Atoms) -> Relaxed:
        self.expanded[name] = None
        point = known.minimum(atoms, self.settings)
        if point is None:
            return failed(atoms, "not_converged", NO_MINIMUM)
        found = known.basin.with_strains(point.predicted())
        elsewhere = other_basin(known.basin.coordinates.origin, found.atoms, self.settings)
        return failed(found.atoms, "different_basin", f"{elsewhere} the MLE's structure") if elsewhere else found


def _unknown(atoms: Atoms) -> Relaxed:
    return failed(atoms, "not_converged", _OUTSIDE)


class Automatic(Potential):
    """A member, answered for structure by structure in the way that a plan says; by default as predicted.

    Ways are ``predicted``; ``second``, predicted to second order only, and
    ``quadratic``, without third derivatives; ``called``, computed where it is
    predicted to be; ``corrected``, one step of Newton's method from there, as
    the model's curvatures have it; ``relaxed``; ``unknown``, which shows what
    rests on it.

    Parameters
    ----------
    member
        The member, relaxed; it holds the models.
    second
        Its models to second order.

    Attributes
    ----------
    plan : mapping
        The way of each structure that is not answered for as predicted.
    """

    is_member = True

    def __init__(self, member: Member, second: Mapping[str, MemberModel]) -> None:
        self.member = member
        settings = member.settings
        self._predicted = Implicit(member.models, settings)
        self._ways: dict[Way, Potential] = {
            "predicted": self._predicted,
            "second": Implicit(second, settings),
            "quadratic": Implicit({name: model.quadratic() for name, model in member.models.items()}, settings),
            "relaxed": member,
            "unknown": Implicit({}, settings),
        }
        self.plan: Mapping[str, Way] = {}
        # Answers by structure and way, each with the cell that it was asked for in; and the prediction last given.
        self._known: dict[tuple[str, Way], list[tuple[np.ndarray, Relaxed | Band]]] = {}
        self._last: dict[str, Relaxed | Band] = {}
        self._spent: Counter[str] = Counter()
        self._hosts: dict[str, str] = {}
        self._modes: dict[str, int] = {}

    def asked(self) -> list[str]:
        """Structures in the order in which they were first asked for."""
        return list(self._last)

    def lost(self) -> set[str]:
        """Structures that, as last asked for, have no prediction of their own."""
        return {name for name, answer in self._last.items() if not answer.ok}

    def host(self, name: str) -> str:
        """Crystal that a structure is, under strain; nothing for others."""
        return self._hosts.get(name, "")

    def is_expanded(self, name: str) -> bool:
        """Whether its prediction is an expansion."""
        return name in self._predicted.expanded

    def _answer(
        self,
        name: str,
        cell: np.ndarray,
        ask: Callable[[Potential], Relaxed | Band],
        check: Callable[[], tuple[Relaxed | Band, Relaxed | Band]],
    ) -> Any:
        way = self.plan.get(name, "predicted")
        known = self._known.setdefault((name, way), [])
        same = [found for before, found in known if np.abs(before - cell).max() < _SAME_CELL]
        if not same:
            if way in ("called", "corrected"):
                called, corrected = check()
                both: dict[Way, Relaxed | Band] = {"called": called, "corrected": corrected}
                self._spent[name] += called.evaluations
            else:
                both = {way: ask(self._ways[way])}
                self._spent[name] += both[way].evaluations
            for each, answer in both.items():
                self._known.setdefault((name, each), []).append((cell, answer))
            same = [both[way]]
        if way == "predicted":
            self._last[name] = same[0]
        return replace(same[0], evaluations=self._spent[name])

    def _checked(self, name: str, atoms: Atoms) -> tuple[Relaxed, Relaxed]:
        """A structure computed where it is predicted to be, and what the forces there make of it."""
        known = self.member.models[name]
        assert isinstance(known, MemberBasin)
        point = known.minimum(atoms, self.member.settings)
        if point is None:
            lost = failed(atoms, "not_converged", NO_MINIMUM)
            return lost, lost
        found = evaluate(point.atoms, self.member.calculator)
        if not found.ok:
            return found, found
        return known.basin.with_strains(found), known.basin.with_strains(point.corrected(found))

    def _crystal(self, name: str, atoms: Atoms) -> Relaxed:
        return self._answer(name, atoms.cell[:], lambda p: p._crystal(name, atoms), partial(self._checked, name, atoms))

    def _relax(self, name: str, atoms: Atoms, crystal: str) -> Relaxed:
        check = partial(self._checked, name, atoms)
        return self._answer(name, atoms.cell[:], lambda p: p._relax(name, atoms, crystal), check)

    def _strain(self, name: str, crystal: Relaxed, deformation: np.ndarray) -> Relaxed:
        self._hosts[name] = crystal.name
        atoms = strained(crystal.atoms, deformation)
        check = partial(self._checked, name, atoms)
        return self._answer(name, atoms.cell[:], lambda p: p._strain(name, crystal, deformation), check)

    def _static(self, name: str, atoms: Atoms, crystal: str, forces: bool) -> Relaxed:
        return self._answer(name, atoms.cell[:], lambda p: p._static(name, atoms, crystal, forces), _no_check)

    def _band(self, name: str, images: list[Atoms], crystal: str) -> Band:
        def check() -> tuple[Band, Band]:
            known, settings = self.member.models[name], self.member.settings
            assert isinstance(known, MemberBand)
            scale = known.scale_of(images)
            assert scale is not None  # it was predicted
            predicted, q = known.predict(scale, settings)
            return known.check(scale, q, self.member.calculator, settings) if predicted.ok else (predicted, predicted)

        return self._answer(name, images[0].cell[:], lambda p: p._band(name, images, crystal), check)

    def unstable_modes(self, name: str, relaxed: Relaxed) -> int:
        if name not in self._modes:
            self._modes[name] = self.member.unstable_modes(name, relaxed)
        return self._modes[name]


def _no_check() -> tuple[Relaxed, Relaxed]:
    raise AssertionError("what does not relax is never checked")


def propagate_automatically(
    prop: Property, potential: Automatic, tolerance: Mapping[str, float]
) -> list[tuple[Value, bool]]:
    """A property of one member, by as few force calls as a tolerance allows.

    A structure is checked by one force call where what its model adds to
    second order, the member's own curvatures or the third derivatives, changes
    a value by more than a tenth of the tolerance. The call gives the
    energy at the predicted geometry, and its forces a correction: where that
    moves a value by more than half of it, the structure is relaxed. It also
    is where it has no prediction, or is a relaxed crystal under strain.

    Parameters
    ----------
    prop
        The property.
    potential
        The member.
    tolerance
        By unit; values in other units go along with the others.

    Returns
    -------
    list of (Value, bool)
        And whether it rests on a structure that was relaxed.
    """

    def values(plan: Mapping[str, Way]) -> dict[tuple, Value] | None:
        """None where a property of the user's own has none: it is made from a structure that is lost."""
        potential.plan = plan
        try:
            return {key_of(value): value for value in prop.values(potential)}
        except PropertyError:
            return None

    def distance(first: dict[tuple, Value] | None, second: dict[tuple, Value] | None) -> float:
        """Largest difference between values that are judged, in tolerances; infinite where one has no other."""
        if first is None or second is None:
            return np.inf
        ours, theirs = ({key: a for key, a in some.items() if a.unit in tolerance} for some in (first, second))
        if ours.keys() != theirs.keys() or any(a.status != theirs[key].status for key, a in ours.items()):
            return np.inf
        apart = (abs(a.value - theirs[key].value) / tolerance[a.unit] for key, a in ours.items() if a.status == "ok")
        return max(apart, default=0.0)

    plan: dict[str, Way] = {}
    settled: set[str] = set()
    # Both, lest the two parts cancel in the one and leave nothing to be seen.
    coarse: tuple[Way, ...] = ("second", "quadratic")
    # What is lost is asked at once: it is another where a trial of a crystal has another size.
    found, lost = values(plan), potential.lost()
    # In the order in which they were asked for: while a crystal's way is sought, what lies within it is predicted,
    # which is free and follows it; what lies within is checked, or relaxed, once, at the crystal's final size.
    while waiting := [name for name in potential.asked() if name not in settled]:
        name = waiting[0]
        settled.add(name)
        # A strained crystal is not to be trusted more than the crystal.
        if name in lost or plan.get(potential.host(name)) == "relaxed":
            plan[name] = "relaxed"
        elif potential.is_expanded(name) and any(
            distance(values(plan | {name: way}), found) > _TRUSTED for way in coarse
        ):
            called, corrected = (values(plan | {name: way}) for way in ("called", "corrected"))
            plan[name] = "relaxed" if distance(called, corrected) > _SAFE else "corrected"
        if name in plan:
            found, lost = values(plan), potential.lost()
    without: dict[str, Way] = {name: "unknown" if way == "relaxed" else way for name, way in plan.items()}
    others = {key: (value.status, value.reason) for key, value in (values(without) or {}).items()}
    potential.plan = plan
    return [(value, others.get(key_of(value)) != (value.status, value.reason)) for value in prop.values(potential)]
