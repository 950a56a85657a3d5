"""ASE calculators from the configuration: what labels frames and computes references."""

from __future__ import annotations

import hashlib
import importlib
import json
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator

from popsbounds.config import AseCalculator, PairStyle
from popsbounds.engine import LammpsCalculator, potential_commands
from popsbounds.errors import InputError
from popsbounds.files import replacing
from popsbounds.live import EvaluatedCalculator

__all__ = ["CachedCalculator", "make_calculator"]

# Decimals (Å) to which structures with the same results agree.
_DECIMALS = 8


class CachedCalculator(EvaluatedCalculator):
    """A calculator whose results are kept in files, by the content of the structure and its own settings.

    Every result is that of a calculator made anew, so that it depends on nothing that was computed before. The
    energy is the one that the forces are derivatives of: with smeared occupations, the free energy. Where it takes
    longer than `timeout_s`, `CalculationFailed` is raised; the calculator raises errors of its own besides.

    Parameters
    ----------
    factory
        Makes the calculator, from keyword arguments.
    settings
        Its section of the configuration: arguments, those of small cells, where results are kept, longest time.
    """

    def __init__(self, factory: Callable[..., Calculator], settings: AseCalculator) -> None:
        super().__init__()
        self.factory, self.settings = factory, settings
        self.implemented_properties = ["energy", "forces"]
        kinds = [settings.arguments, *([self._arguments(0)] if settings.small_cells else [])]
        made = [factory(**arguments) for arguments in kinds]  # all of them, so that each may refuse its arguments
        if all("stress" in calculator.implemented_properties for calculator in made):
            self.implemented_properties.append("stress")

    def _arguments(self, n_atoms: int) -> dict[str, Any]:
        small = self.settings.small_cells
        return self.settings.arguments | (small.arguments if small and n_atoms <= small.max_atoms else {})

    def _identity(self, atoms: Atoms) -> dict[str, Any]:
        """What tells the calculator of a structure from others."""
        return {"name": self.settings.name, "arguments": self._arguments(len(atoms))}

    def path(self, atoms: Atoms) -> Path:
        """File of a structure's results."""
        content = hashlib.sha256(json.dumps(self._identity(atoms), sort_keys=True).encode())
        content.update(atoms.numbers.astype("<i8").tobytes())
        # Adding 0 turns −0 into +0.
        content.update((np.vstack([atoms.cell, atoms.positions]).round(_DECIMALS) + 0.0).astype("<f8").tobytes())
        if not atoms.pbc.all():
            content.update(atoms.pbc.tobytes())
        for name in ("initial_magmoms", "initial_charges"):
            if atoms.has(name):
                content.update(name.encode() + atoms.get_array(name).astype("<f8").tobytes())
        digest = content.hexdigest()
        return self.settings.cache / digest[:2] / f"{digest}.json"

    def _evaluate(self, atoms: Atoms) -> dict[str, Any]:
        path = self.path(atoms)
        found = json.loads(path.read_text()) if path.exists() else {}
        if any(name not in found for name in self.implemented_properties):
            with _within(self.settings.timeout_s):
                found = self._compute(atoms)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({"calculator": self._identity(atoms), **found}))
        return {
            name: np.array(found[name]) if name != "energy" else found[name] for name in self.implemented_properties
        }

    def _compute(self, atoms: Atoms) -> dict[str, Any]:
        atoms = atoms.copy()
        atoms.set_constraint()
        atoms.calc = self.factory(**self._arguments(len(atoms)))
        # Programs that are run leave files, and jobs that run at once must not share them.
        with tempfile.TemporaryDirectory(prefix="popsbounds-") as folder:
            if hasattr(atoms.calc, "directory"):
                atoms.calc.directory = Path(folder)
            consistent = "free_energy" in atoms.calc.implemented_properties
            energy = atoms.get_potential_energy(force_consistent=consistent)
            found = {"energy": float(energy), "forces": atoms.get_forces().tolist()}
            if "stress" in atoms.calc.implemented_properties:
                found["stress"] = atoms.get_stress().tolist()
        return found


@contextmanager
def _within(seconds: float | None) -> Iterator[None]:
    """Raise where the body takes longer."""
    if seconds is None:
        yield
        return

    def give_up(*_: object) -> None:
        raise CalculationFailed(f"timeout: longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def make_calculator(settings: PairStyle | AseCalculator, elements: Sequence[str]) -> Calculator:
    """Make a calculator.

    Parameters
    ----------
    settings
        Its section of the configuration.
    elements
        Chemical symbols in the order of LAMMPS's atom types.

    Raises
    ------
    InputError
        A potential file or a Python class cannot be found, or refuses its arguments; or LAMMPS is given no elements.
    """
    if isinstance(settings, PairStyle):
        if not elements:
            raise InputError("elements", ["is missing: a calculator of LAMMPS needs the order of its atom types"])
        return LammpsCalculator(elements, potential_commands(settings.pair_style, settings.pair_coeff))
    module, _, name = settings.name.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module), name)
    except Exception as error:  # modules raise what they like, too
        raise InputError(f"calculator {settings.name}", [f"cannot be imported ({error}); is it installed?"]) from None
    try:
        return CachedCalculator(factory, settings)
    except Exception as error:  # calculators raise what they like
        raise InputError(f"calculator {settings.name}", [f"refuses its arguments: {error}"]) from None
