"""Properties of the user's own: a Python file with one function.

The study names the file, relative to the folder Snakemake runs in, and keyword
arguments for the function::

    properties:
      own:
        vacancy:
          file: config/vacancy.py
          arguments: {repeats: 3}

The file defines the generator ``quantities(potential, element, volume, **arguments)``,
with the material's element (a list of two for a binary compound) and the volume per atom (Å³) that structures
start with::

    from popsbounds.structures import supercell

    def quantities(potential, element, volume, repeats):
        atoms = supercell("bcc", element, volume, repeats)
        bulk = potential.crystal("bcc", supercell("bcc", element, volume, 1))
        del atoms[0]
        vacancy = potential.relax("vacancy", atoms, within=bulk)
        energy = vacancy.energy - len(atoms) * bulk.energy_per_atom
        yield "vacancy", "formation_energy", "eV", energy

It is called for each potential: the MLE, every member (more than once where
ways of propagation are compared or tried), the reference.
Each row is ``(structure, quantity, unit, value)`` or, on a curve, ``(structure,
quantity, unit, value, coordinate)``. All potentials must yield the same rows:
coordinates are fractions or other numbers that do not depend on the potential.
A quantity has one unit, and is a curve or a number, not both.

The potential is asked for structures, ASE's `Atoms`, periodic along all axes:

``crystal(name, atoms)``
    Relaxes cell and atoms at zero pressure.
``relax(name, atoms, within=None)``
    Relaxes the atoms in the cell as it is, or, `within` a crystal, multiplied in
    all its lengths by what the crystal's have changed by. Linear constraints of
    ASE, such as FixAtoms and FixedLine, are kept.
``strain(name, crystal, deformation)``
    Multiplies a relaxed crystal's cell, row vectors, by a (3, 3) matrix and relaxes the atoms.
``static(name, atoms, within=None, forces=False)``
    Energy and stress of the structure as it is, but for `within`; forces only if asked for.
``unstable_modes(name, relaxed)``
    Number of directions, constrained ones too, along which what was relaxed under that name is unstable.
``band(name, images, within)``
    Minimum-energy path from images along it, the first and last near minima.

Relaxations keep the symmetry of what they are given: displace atoms a little to
break it. Each structure has a name of its own and must be the same for every
potential but for what `within` does to it, for members start from what the MLE
made of it.

Answers but for the number of modes have `ok`, `status`, `reason` and
`evaluations`. A structure has `atoms`, `energy` (eV), `energy_per_atom`,
`volume` (per atom, Å³), `stress` (3, 3) (eV/Å³) and `forces` (n, 3) (eV/Å); a
band `energies` and `fractions` of its images, `barrier` and ``along(fractions)``.
A potential never raises for a structure that fails: all numbers of the answer
are NaN, those made of them too, and a value that is NaN has the status and the
reason of what failed.
"""

from __future__ import annotations

import inspect
import runpy
import traceback
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms

from popsbounds.band import Band
from popsbounds.errors import InputError
from popsbounds.potential import Potential
from popsbounds.properties.base import PropertyError, Settings, Value
from popsbounds.relax import Relaxed

__all__ = ["OwnProperty"]


class OwnProperty:
    """Whatever the user's function yields.

    Parameters
    ----------
    settings
        With the file, and the arguments of its function.

    Raises
    ------
    InputError
        The file is missing, cannot be run, or has no function that can be called so.
    """

    def __init__(self, settings: Settings) -> None:
        self.options, self.species, self.volume = settings.options, settings.species, settings.volume
        self.file = str(self.options.file)
        # Not known before the function has run.
        self.units: dict[str, str] = {}
        self.structures: list[str] = []
        if not self.options.file.is_file():
            raise InputError(self.file, ["there is no such file"])
        try:
            function = runpy.run_path(self.file).get("quantities")
        except Exception as error:
            raise InputError(self.file, [self._complaint(error)]) from error
        if not callable(function):
            raise InputError(self.file, ["defines no function `quantities(potential, element, volume, ...)`"])
        self._function = function
        try:
            inspect.signature(function).bind(None, self.species, self.volume, **self.options.arguments)
        except TypeError as error:
            given = ", ".join(["potential", "element", "volume", *self.options.arguments])
            raise InputError(self.file, [f"`quantities` cannot be called with {given}: {error}"]) from None

    def values(self, potential: Potential) -> Iterator[Value]:
        """Every value that the function yields.

        Raises
        ------
        InputError
            The function raises, or yields what is no row.
        PropertyError
            The same, where only the potential of a member is at stake.
        """
        watched = _Watched(potential)
        try:
            yield from self._values(watched)
        except InputError:  # of a calculator
            raise
        except Exception as error:  # the user's code may do anything
            problem = self._complaint(error) + watched.remark()
            if potential.is_member:
                raise PropertyError(f"{self.file} {problem}") from error
            raise InputError(self.file, [problem]) from error

    def _values(self, watched: _Watched) -> Iterator[Value]:
        rows = self._function(watched, self.species, self.volume, **self.options.arguments)
        if not isinstance(rows, Iterator | list | tuple):
            raise _NoRow(f"`quantities` returns {rows!r} instead of yielding rows")
        there: set[tuple[str, str, float | None]] = set()
        forms: dict[str, tuple[str, bool]] = {}
        for row in rows:
            structure, quantity, unit, number, x = _read(row)
            if (structure, quantity, x) in there:
                raise _NoRow(f"yields {_named(structure, quantity, x)} twice")
            there.add((structure, quantity, x))
            form = (unit, x is None)
            if forms.setdefault(quantity, form) != form:
                raise _NoRow(f"yields '{quantity}' in two units, or both as a number and as a curve")
            calls, status, reason = watched.account(structure)
            if np.isfinite(number):
                status, reason = "ok", ""
            else:
                number = np.nan
            yield Value(structure, quantity, unit, number, status, reason, calls, np.nan if x is None else x)
        if not there:
            raise _NoRow("yields nothing")

    def _complaint(self, error: Exception) -> str:
        """What is wrong and, where the user's own code raises, in which line."""
        if isinstance(error, _NoRow):
            return str(error)
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == self.file]
        where = f"line {lines[-1]} " if lines else ""
        return f"{where}raises {type(error).__name__}: {error}"


class _NoRow(Exception):
    """What the function yields is not what it should."""


def _read(row: Any) -> tuple[str, str, str, float, float | None]:
    """Structure, quantity, unit, value and coordinate, None for a single number."""
    if not (isinstance(row, tuple | list) and len(row) in (4, 5)):
        raise _NoRow(f"yields {row!r}, which is not (structure, quantity, unit, value[, coordinate])")
    if not (all(isinstance(text, str) for text in row[:3]) and row[0] and row[1]):
        raise _NoRow(f"yields {row!r}, whose structure, quantity and unit are not all text")
    try:
        if any(isinstance(number, str) for number in row[3:]):
            raise TypeError
        number, *x = (float(number) for number in row[3:])
    except (TypeError, ValueError):
        raise _NoRow(f"yields {row!r}, whose numbers are not all numbers") from None
    if not np.isfinite(x).all():
        raise _NoRow(f"yields {row!r}, whose coordinate is not finite")
    # Rounded, for a coordinate must be the same number for all potentials.
    return row[0], row[1], row[2], number, float(f"{x[0]:.9g}") if x else None


def _named(structure: str, quantity: str, x: float | None) -> str:
    return f"'{structure}', '{quantity}'" + ("" if x is None else f" at {x:g}")


class _Watched:
    """A potential that keeps account of what its answers cost and of those that failed.

    Copies go in and come out, so that nothing that is remembered changes under
    the user's hands. All of a structure that failed is NaN, its geometry too.
    """

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self._calls = 0
        self._failed: dict[str, tuple[str, str]] = {}
        self._since: list[str] = []

    def __getattr__(self, question: str) -> Callable:
        method = getattr(self._potential, question)

        def ask(name: str, *arguments: Any, **keywords: Any) -> Any:
            given = [*arguments, *keywords.values()]
            lost = [thing for thing in given if isinstance(thing, Relaxed) and not thing.ok]
            if question == "unstable_modes" and lost:
                return np.nan
            if any(isinstance(thing, Atoms) and not np.isfinite(thing.positions).all() for thing in given):
                raise ValueError(f"structure '{name}' is made from one that failed")
            answer = method(str(name), *deepcopy(arguments), **deepcopy(keywords))
            if not isinstance(answer, Relaxed | Band):
                return answer
            self._calls += answer.evaluations
            if answer.ok:
                return deepcopy(answer)
            self._failed[name] = (answer.status, f"{name}: {answer.reason}")
            self._since.append(name)
            if isinstance(answer, Band):
                return replace(answer, images=[_nowhere(image) for image in answer.images])
            return _nowhere(answer)

        return ask

    def account(self, structure: str) -> tuple[int, str, str]:
        """Force calls since the last row, and why a row on a structure is missing, if it is."""
        calls, self._calls = self._calls, 0
        since, self._since = self._since, []
        names = [structure] if structure in self._failed else since or list(self._failed)
        if not names:
            return calls, "unstable", "the value is not finite"
        status, reason = self._failed[names[0]]
        return calls, status, reason + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")

    def remark(self) -> str:
        """What failed first, to be put behind the message of an exception."""
        return f", after {next(iter(self._failed.values()))[1]}" if self._failed else ""


def _nowhere(result: Relaxed) -> Relaxed:
    atoms = result.atoms.copy()
    atoms.set_constraint()
    atoms.set_cell(np.full((3, 3), np.nan))
    atoms.positions[:] = np.nan
    return replace(result, atoms=atoms, scale=np.nan)
