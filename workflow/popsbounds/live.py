"""ASE calculators that live through many force calls."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from popsbounds.errors import InputError

__all__ = ["LiveCalculator"]


class LiveCalculator(Calculator):
    """ASE calculator that counts its force calls, and whose failures are all of one kind.

    Parameters
    ----------
    engine
        Named in the message of a failure.

    Attributes
    ----------
    calls : int
        Force calls so far.
    seconds : float
        Time spent in them.
    """

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 (ASE's convention)

    def __init__(self, engine: str) -> None:
        super().__init__()
        self.engine = engine
        self.calls, self.seconds = 0, 0.0

    @abstractmethod
    def _evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Results of a configuration, by ASE's names."""

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Energy (eV), forces (eV/Å), stress (eV/Å³, Voigt order).

        Raises
        ------
        ase.calculators.calculator.CalculationFailed
            The engine refused the configuration.
        """
        super().calculate(atoms, properties, system_changes)
        started = time.perf_counter()
        try:
            self.results = self._evaluate(self.atoms)
        except InputError:
            raise
        except Exception as error:  # engines raise what they like
            raise CalculationFailed(f"{self.engine}: {' '.join(str(error).split())}") from error
        finally:
            self.calls += 1
            self.seconds += time.perf_counter() - started
