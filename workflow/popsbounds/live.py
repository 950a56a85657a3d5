"""What the ASE calculators of this package share."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from popsbounds.errors import InputError

__all__ = ["EvaluatedCalculator", "LiveCalculator"]


class EvaluatedCalculator(Calculator):
    """ASE calculator that is one function of the configuration."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 (ASE's convention)

    @abstractmethod
    def _evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Results of a configuration, by ASE's names."""

    def _watched(self) -> AbstractContextManager[None]:
        """Hook: what an evaluation happens in."""
        return nullcontext()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Energy (eV), forces (eV/Å), stress (eV/Å³, Voigt order)."""
        super().calculate(atoms, properties, system_changes)
        with self._watched():
            self.results = self._evaluate(self.atoms)


class LiveCalculator(EvaluatedCalculator):
    """ASE calculator that counts its force calls, and whose failures are all of one kind.

    Where the engine refuses a configuration, `CalculationFailed` is raised.

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

    def __init__(self, engine: str) -> None:
        super().__init__()
        self.engine = engine
        self.calls, self.seconds = 0, 0.0

    @contextmanager
    def _watched(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # engines raise what they like
            raise CalculationFailed(f"{self.engine}: {' '.join(str(error).split())}") from error
        finally:
            self.calls += 1
            self.seconds += time.perf_counter() - started
