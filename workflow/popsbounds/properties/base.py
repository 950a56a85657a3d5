"""What a property is: a function of one potential that yields named values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from popsbounds.potential import Potential
from popsbounds.relax import Relaxed

__all__ = [
    "Needed",
    "Property",
    "PropertyError",
    "Settings",
    "Value",
    "curve",
    "energy_above",
    "excess_energy",
    "key_of",
    "value",
]


class PropertyError(Exception):
    """A property cannot be computed under a potential at all."""


@dataclass(frozen=True)
class Value:
    """One number under one potential.

    Attributes
    ----------
    structure, quantity, unit : str
        What it is.
    value : float
        NaN unless `status` is ``ok``.
    status, reason : str
        As in `popsbounds.relax.Relaxed`.
    evaluations : int
        Force calls of what it rests on.
    coordinate : float
        Place on a curve; NaN for a single number.
    """

    structure: str
    quantity: str
    unit: str
    value: float
    status: str
    reason: str
    evaluations: int
    coordinate: float = np.nan


def key_of(line: Any) -> tuple[str, str, str]:
    """What a value, or a line of a table of values, is of; a missing coordinate equals another."""
    return line.structure, line.quantity, repr(float(line.coordinate))


@dataclass(frozen=True)
class Settings:
    """What a property is computed for.

    Attributes
    ----------
    options : Section
        The property's section of the configuration.
    species : str or list of str
        Fills the structures: an element, or the two of a binary compound.
    volume : float
        Volume per atom that structures start with (Å³).
    """

    options: Any
    species: str | list[str]
    volume: float

    @property
    def element(self) -> str:
        """The element, of a material that is no compound."""
        assert isinstance(self.species, str)  # as the configuration sees to
        return self.species


class Property(Protocol):
    """A property, made from its `Settings`; the same for the MLE, the members and the reference."""

    def __init__(self, settings: Settings) -> None: ...

    @property
    def units(self) -> Mapping[str, str]:
        """Unit of each single number, which a table may give a reference for."""

    @property
    def structures(self) -> list[str]:
        """Names of the structures that have values."""

    def values(self, potential: Potential) -> Iterable[Value]:
        """Every value, whatever became of the structures it rests on."""


class Needed(Protocol):
    """What a value can rest on: a relaxed structure, or a path."""

    @property
    def ok(self) -> bool: ...
    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def evaluations(self) -> int: ...


def value(
    structure: str,
    quantity: str,
    unit: str,
    needs: Mapping[str, Needed],
    compute: Callable[[], float],
    coordinate: float = np.nan,
) -> Value:
    """Compute a value, or say which of the structures it needs is not ok.

    Parameters
    ----------
    structure, quantity, unit
        What it is.
    needs
        What it rests on, by what it is called in the reason.
    compute
        Called only where all of that is ok; raises ArithmeticError where the
        potential gives the structure no such value.
    coordinate
        Place on a curve.
    """
    found = curve(structure, quantity, unit, needs, lambda: [compute()], [coordinate])
    return found[0]


def curve(
    structure: str,
    quantity: str,
    unit: str,
    needs: Mapping[str, Needed],
    compute: Callable[[], Iterable[float]],
    coordinates: Iterable[float],
) -> list[Value]:
    """Compute the values of a curve; parameters as in `value`."""
    evaluations = sum(need.evaluations for need in {id(need): need for need in needs.values()}.values())
    where = [float(x) for x in coordinates]

    def lost(status: str, reason: str) -> list[Value]:
        return [Value(structure, quantity, unit, np.nan, status, reason, evaluations, x) for x in where]

    for name, need in needs.items():
        if not need.ok:
            return lost(need.status, f"{name}: {need.reason}")
    try:
        numbers = [float(number) for number in compute()]
        if not np.isfinite(numbers).all():
            raise ArithmeticError("the value is not finite")
    except ArithmeticError as error:
        return lost("unstable", str(error))
    remarks = "; ".join(f"{name}: {need.reason}" for name, need in needs.items() if need.reason)
    return [
        Value(structure, quantity, unit, number, "ok", remarks, evaluations, x)
        for number, x in zip(numbers, where, strict=True)
    ]


def energy_above(relaxed: Relaxed, other: Relaxed) -> float:
    """Energy per atom of one structure above that of another (eV/atom)."""
    return relaxed.energy_per_atom - other.energy_per_atom


def excess_energy(relaxed: Relaxed, bulk: Relaxed) -> float:
    """Energy of a structure above as many atoms of the bulk (eV)."""
    return relaxed.energy - len(relaxed.atoms) * bulk.energy_per_atom
