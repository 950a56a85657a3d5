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

from popsbounds.config import AseCalculator, LammpsCalculator
from popsbounds.engine import LammpsCalculator as LiveLammps
from popsbounds.engine import potential_commands
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
        Makes the calculator.
    identity
        Tells it from other calculators; JSON.
    folder
        Where results are kept.
    timeout_s
        Longest time for a structure; None for any.
    """

    def __init__(
        self, factory: Callable[[], Calculator], identity: dict, folder: Path, timeout_s: float | None
    ) -> None:
        super().__init__()
        self.factory, self.identity, self.folder, self.timeout_s = factory, identity, folder, timeout_s
        self.implemented_properties = ["energy", "forces"]
        if "stress" in factory().implemented_properties:
            self.implemented_properties.append("stress")

    def path(self, atoms: Atoms) -> Path:
        """File of a structure's results."""
        content = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode())
        content.update(atoms.numbers.astype("<i8").tobytes())
        # Adding 0 turns −0 into +0.
        content.update((np.vstack([atoms.cell, atoms.positions]).round(_DECIMALS) + 0.0).astype("<f8").tobytes())
        if not atoms.pbc.all():
            content.update(atoms.pbc.tobytes())
        for name in ("initial_magmoms", "initial_charges"):
            if atoms.has(name):
                content.update(name.encode() + atoms.get_array(name).astype("<f8").tobytes())
        digest = content.hexdigest()
        return self.folder / digest[:2] / f"{digest}.json"

    def _evaluate(self, atoms: Atoms) -> dict[str, Any]:
        path = self.path(atoms)
        if path.exists():
            found = json.loads(path.read_text())
        else:
            with _within(self.timeout_s):
                found = self._compute(atoms)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({"calculator": self.identity, **found}))
        return {
            name: np.array(found[name]) if name != "energy" else found[name] for name in self.implemented_properties
        }

    def _compute(self, atoms: Atoms) -> dict[str, Any]:
        atoms = atoms.copy()
        atoms.set_constraint()
        atoms.calc = self.factory()
        # Programs that are run leave files, and jobs that run at once must not share them.
        with tempfile.TemporaryDirectory(prefix="popsbounds-") as folder:
            if hasattr(atoms.calc, "directory"):
                atoms.calc.directory = Path(folder)
            consistent = "free_energy" in atoms.calc.implemented_properties
            energy = atoms.get_potential_energy(force_consistent=consistent)
            found = {"energy": float(energy), "forces": atoms.get_forces().tolist()}
            if "stress" in self.implemented_properties:
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


def make_calculator(settings: LammpsCalculator | AseCalculator, elements: Sequence[str]) -> Calculator:
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
        A potential file or a Python class cannot be found, or refuses its arguments.
    """
    if isinstance(settings, LammpsCalculator):
        return LiveLammps(elements, potential_commands(settings.pair_style, settings.pair_coeff))
    module, _, name = settings.name.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module), name)
    except Exception as error:  # modules raise what they like, too
        raise InputError(f"calculator {settings.name}", [f"cannot be imported ({error}); is it installed?"]) from None
    identity = {"name": settings.name, "arguments": settings.arguments}
    try:
        return CachedCalculator(
            lambda: factory(**settings.arguments), identity, settings.cache, timeout_s=settings.timeout_s
        )
    except Exception as error:  # calculators raise what they like
        raise InputError(f"calculator {settings.name}", [f"refuses its arguments: {error}"]) from None
