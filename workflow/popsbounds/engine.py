"""A live LAMMPS behind ASE's calculator interface.

Instances are kept alive, one for each sequence of atomic numbers, so a force
call costs a box reset, a copy of positions and a `run 0`. Boxes are rotated to
LAMMPS's lower-triangular form on the way in; forces and stress are rotated
back.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import re
import shlex
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.data import atomic_masses, atomic_numbers

from popsbounds.config import Engine
from popsbounds.errors import InputError
from popsbounds.live import LiveCalculator

if TYPE_CHECKING:
    from lammps import lammps

__all__ = [
    "LammpsCalculator",
    "check_engine",
    "configure_engine",
    "load_atoms",
    "locate_potential",
    "new_lammps",
    "overlay_commands",
    "potential_commands",
]

# Instances kept alive by one calculator; the oldest goes first.
_MOST_LIVE = 64


@cache
def _load_mpi() -> None:
    # LAMMPS's wheel links against MPICH's, which lies where the loader does not look.
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        return  # LAMMPS was built against a system MPI
    for file in files:
        if file.name == "libmpi.so.12":
            ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)


def locate_potential(name: str) -> Path | None:
    """Path of a potential file: as given, or among those LAMMPS ships; None where there is none."""
    if Path(name).is_file():
        return Path(name).resolve()
    spec = importlib.util.find_spec("lammps")
    for folder in spec.submodule_search_locations or [] if spec else []:
        shipped = Path(folder) / "share" / "lammps" / "potentials" / name
        if shipped.is_file():
            return shipped
    return None


def _with_paths(arguments: str) -> list[str]:
    """Arguments of a `pair_coeff`, its file names made absolute: what has a slash, or a dot before a letter."""
    words = []
    for word in shlex.split(arguments):
        if not re.search(r"/|\.[A-Za-z]", word):
            words.append(word)
            continue
        path = locate_potential(word)
        if path is None:
            raise InputError(f"pair_coeff {arguments}", [f"'{word}' is neither a file nor shipped with LAMMPS"])
        words.append(f'"{path}"')
    return words


def potential_commands(pair_style: str, pair_coeff: Sequence[str]) -> list[str]:
    """LAMMPS commands of a pair style on its own.

    Parameters
    ----------
    pair_style
        With its arguments, such as ``eam/alloy``.
    pair_coeff
        Arguments of each `pair_coeff`.

    Raises
    ------
    InputError
        A file is neither there nor shipped with LAMMPS.
    """
    return [f"pair_style {pair_style}", *(" ".join(["pair_coeff", *_with_paths(line)]) for line in pair_coeff)]


def overlay_commands(styles: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """LAMMPS commands that overlay several ``(pair_style, pair_coeff lines)``.

    One style alone is written without `hybrid/overlay`. Raises as `potential_commands` does.
    """
    if len(styles) == 1:
        return potential_commands(*styles[0])
    commands = ["pair_style hybrid/overlay " + " ".join(style for style, _ in styles)]
    for style, lines in styles:
        for line in lines:
            first, second, *rest = _with_paths(line)
            commands.append(" ".join(["pair_coeff", first, second, style.split()[0], *rest]))
    return commands


_SWITCHES = ["-screen", "none", "-log", "none", "-nocite"]
_ENGINE = Engine()


def configure_engine(settings: Engine) -> None:
    """Choose the LAMMPS that this process runs from now on.

    Raises
    ------
    InputError
        There is no such module.
    """
    global _ENGINE
    _ENGINE = settings
    if settings.module is not None:
        folder = str(settings.module.resolve())
        if not (settings.module / "lammps" / "__init__.py").is_file():
            raise InputError("engine.module", [f"there is no Python module `lammps` in {folder}"])
        if folder not in sys.path:
            sys.path.insert(0, folder)


def check_engine() -> None:
    """Start the LAMMPS that was chosen, if it is another than the usual one.

    Raises
    ------
    InputError
        It cannot be imported, or does not start with its switches.
    """
    if _ENGINE.module is None and not _ENGINE.switches:
        return
    try:
        plain = _start_lammps([])
    except Exception as error:  # engines raise what they like
        raise InputError("engine.module", [f"LAMMPS of {_ENGINE.module} does not start: {error}"]) from None
    version, folder = plain.version(), Path(sys.modules["lammps"].__file__ or "").parent
    has = [name for name, kinds in plain.accelerator_config.items() if kinds["api"]]
    plain.close()
    try:
        new_lammps().close()
    except Exception as error:
        reason = f"LAMMPS {version} in {folder} does not start with {' '.join(_ENGINE.switches)}: {error}"
        built = f"its accelerators are {', '.join(has) or 'none'}; name a build that has more in engine.module"
        raise InputError("engine.switches", [f"{reason} (see above); {built}"]) from None


def _start_lammps(switches: Sequence[str]) -> lammps:
    if _ENGINE.module is None:
        _load_mpi()
    from lammps import lammps

    return lammps(cmdargs=[*_SWITCHES, *switches])


def new_lammps() -> lammps:
    """Start a silent LAMMPS."""
    return _start_lammps(_ENGINE.switches)


def load_atoms(lmp: lammps, atoms: Atoms, elements: Sequence[str]) -> np.ndarray:
    """Fill an empty LAMMPS with periodic atoms.

    Parameters
    ----------
    lmp
        A fresh instance, or one after `clear`.
    atoms
        Periodic in three directions.
    elements
        Chemical symbols in the order of LAMMPS's atom types.

    Returns
    -------
    ndarray, shape (3, 3)
        Rotation Q (a mirror with it, for a left-handed cell): lab-frame row
        vectors are LAMMPS's times Q.

    Raises
    ------
    CalculationFailed
        An element is not among `elements`, or an atom is where LAMMPS does not take it (not a number, say).
    """
    foreign = sorted(set(atoms.symbols) - set(elements))
    if foreign:
        raise CalculationFailed(f"holds {', '.join(foreign)}, not among elements {', '.join(elements)}")
    cell, rotation = _lower_triangular(atoms)
    # Neighbour lists live for one evaluation, so they need no skin; without
    # sorting, summation order (and the last digit) does not depend on history.
    lmp.commands_list(
        [
            "units metal",
            "atom_style atomic",
            "atom_modify map array sort 0 0",
            "boundary p p p",
            "box tilt large",
            "neighbor 0.0 bin",
            "region cell prism 0 1 0 1 0 1 0 0 0",
            f"create_box {len(elements)} cell",
            *(f"mass {i} {atomic_masses[atomic_numbers[e]]:.6f}" for i, e in enumerate(elements, 1)),
        ]
    )
    _change_box(lmp, cell)
    order = {atomic_numbers[e]: i for i, e in enumerate(elements, 1)}
    types = [order[z] for z in atoms.numbers]
    positions = atoms.get_scaled_positions(wrap=True) @ cell
    created = lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, positions.ravel().tolist())
    if created != len(atoms):
        raise CalculationFailed(f"LAMMPS took {created} of {len(atoms)} atoms")
    return rotation


def _lower_triangular(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Cell in LAMMPS's form L, and Q with cell = L Q; Q mirrors where the cell is left-handed."""
    cell = atoms.cell[:]
    lower = np.linalg.cholesky(cell @ cell.T)
    return lower, np.linalg.solve(lower, cell)


def _change_box(lmp: lammps, cell: np.ndarray) -> None:
    keys = {"x": (0, 0), "y": (1, 1), "z": (2, 2), "xy": (1, 0), "xz": (2, 0), "yz": (2, 1)}
    changes = [f"{key} final {'0.0 ' if len(key) == 1 else ''}{float(cell[at])!r}" for key, at in keys.items()]
    lmp.command(f"change_box all {' '.join(changes)} units box")


class LammpsCalculator(LiveCalculator):
    """ASE calculator on a live LAMMPS.

    Parameters
    ----------
    elements
        Chemical symbols in the order of LAMMPS's atom types.
    commands
        LAMMPS commands that define the pair style.
    """

    def __init__(self, elements: Sequence[str], commands: Sequence[str]) -> None:
        super().__init__("LAMMPS")
        self.elements = list(elements)
        self.commands = list(commands)
        self._live: dict[bytes, lammps] = {}

    def _start(self, atoms: Atoms) -> lammps:
        lmp = new_lammps()
        load_atoms(lmp, atoms, self.elements)
        lmp.commands_list(
            [
                *self.commands,
                "thermo_style custom step pe pxx pyy pzz pyz pxz pxy",
                "thermo_modify norm no",
            ]
        )
        return lmp

    def _prepare(self, lmp: lammps, key: bytes) -> None:
        """Hook: bring an instance up to date before a force call."""

    def _evaluate(self, atoms: Atoms) -> dict[str, Any]:
        key = atoms.numbers.tobytes()
        try:
            if key not in self._live:
                if len(self._live) == _MOST_LIVE:
                    self._live.pop(next(iter(self._live))).close()
                self._live[key] = self._start(atoms)
            return self._run(self._live[key], key, atoms)
        except Exception:
            # What an instance is after an error is not known.
            lmp = self._live.pop(key, None)
            if lmp is not None:
                lmp.close()
            raise

    def _run(self, lmp: lammps, key: bytes, atoms: Atoms) -> dict[str, Any]:
        cell, rotation = _lower_triangular(atoms)
        n = len(atoms)
        self._prepare(lmp, key)
        _change_box(lmp, cell)
        order = lmp.numpy.extract_atom("id")[:n] - 1
        lmp.numpy.extract_atom("x")[:n] = (atoms.get_scaled_positions(wrap=True) @ cell)[order]
        lmp.command("run 0 post no")
        order = lmp.numpy.extract_atom("id")[:n] - 1
        forces = np.empty((n, 3))
        forces[order] = lmp.numpy.extract_atom("f")[:n]
        xx, yy, zz, xy, xz, yz = lmp.numpy.extract_compute("thermo_press", 0, 1)
        pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) / lmp.extract_global("nktv2p")
        stress = -rotation.T @ pressure @ rotation
        return {
            "energy": float(lmp.extract_compute("thermo_pe", 0, 0)),
            "forces": forces @ rotation,
            "stress": stress.ravel()[[0, 4, 8, 5, 2, 1]],
        }
