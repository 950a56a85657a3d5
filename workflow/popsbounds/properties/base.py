"""What a property is: structures in, named values out, the same for every potential."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from popsbounds.config import Elastic, Formation, Relax, Surface
from popsbounds.relax import Relaxed, Start, relax
from popsbounds.structures import crystal

__all__ = ["CrystalProperty", "Property", "Value", "value"]

S = TypeVar("S", Formation, Elastic, Surface)


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
        Force calls of the relaxations it rests on.
    """

    structure: str
    quantity: str
    unit: str
    value: float
    status: str
    reason: str
    evaluations: int


class Property(Protocol):
    """A property: one class a module, made from its settings.

    The same object serves the MLE and the reference (cold starts) and every
    member (started from the MLE's structures and Hessians).
    """

    units: Mapping[str, str]
    """Unit of each quantity."""

    def structures(self) -> dict[str, Atoms]:
        """Unrelaxed structures by name; no energies involved."""

    def cell_relaxes(self, structure: str) -> bool:
        """Whether the structure's cell relaxes with its ions."""

    def relax(self, calculator: Calculator, starts: Mapping[str, Start]) -> dict[str, Relaxed]:
        """Relax every structure under the potential."""

    def values(self, calculator: Calculator, relaxed: Mapping[str, Relaxed]) -> list[Value]:
        """Every value of every structure, whatever became of it."""


def value(
    structure: str, quantity: str, unit: str, needs: Mapping[str, Relaxed], compute: Callable[[], float]
) -> Value:
    """Compute a value, or say which of the relaxations it needs is not ok.

    Parameters
    ----------
    structure, quantity, unit
        What it is.
    needs
        Relaxations it rests on, by what they are called in the reason.
    compute
        Called only where all of them are ok; raises ArithmeticError where the
        potential gives the structure no such value.
    """
    evaluations = sum(r.evaluations for r in {id(r): r for r in needs.values()}.values())
    for name, relaxed in needs.items():
        if not relaxed.ok:
            return Value(structure, quantity, unit, np.nan, relaxed.status, f"{name}: {relaxed.reason}", evaluations)
    try:
        number = float(compute())
        if not np.isfinite(number):
            raise ArithmeticError("the value is not finite")
    except ArithmeticError as error:
        return Value(structure, quantity, unit, np.nan, "unstable", str(error), evaluations)
    return Value(structure, quantity, unit, number, "ok", "", evaluations)


class CrystalProperty(Generic[S]):
    """What properties of crystals share: prototypes whose cells and ions relax.

    Parameters
    ----------
    settings
        The property's section of the configuration.
    element
        Fills the crystals.
    volume
        Volume per atom that cells start with (Å³).
    relaxation
        Tolerances.
    """

    def __init__(self, settings: S, element: str, volume: float, relaxation: Relax) -> None:
        self.settings: S = settings
        self.element, self.volume, self.relaxation = element, volume, relaxation

    def crystals(self, names: list[str]) -> dict[str, Atoms]:
        """The named prototypes at the starting volume."""
        return {name: crystal(name, self.element, self.volume) for name in names}

    def cell_relaxes(self, structure: str) -> bool:
        """Whether the structure's cell relaxes with its ions."""
        return True

    def relax(self, calculator: Calculator, starts: Mapping[str, Start]) -> dict[str, Relaxed]:
        """Relax every structure under the potential."""
        return {
            name: relax(start, calculator, self.relaxation, self.cell_relaxes(name)) for name, start in starts.items()
        }
