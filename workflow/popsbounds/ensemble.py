"""The ensemble of potentials: to LAMMPS files, and to ASE calculators."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from popsbounds.config import load_config
from popsbounds.descriptors.forms import Form, FormCalculator, make_form
from popsbounds.descriptors.snap import SnapModel
from popsbounds.errors import InputError

__all__ = ["Ensemble", "read_members", "write_members", "write_potentials"]


@dataclass(frozen=True)
class Ensemble:
    """The MLE and the members of a study.

    Attributes
    ----------
    model : SnapModel or UniversalForm
        The functional form.
    mle : ndarray, shape (P,)
        Loss-minimising parameters Θ*.
    members : ndarray, shape (M, P)
        Parameters of each member.
    """

    model: Form
    mle: np.ndarray
    members: np.ndarray

    @classmethod
    def load(cls, study: str | Path) -> Ensemble:
        """Load the ensemble of a finished study from its folder, such as ``results/demo``.

        Raises
        ------
        InputError
            There is no configuration in the folder, or it is not one of this version's.
        FileNotFoundError
            No members were drawn.
        """
        config = load_config(Path(study) / "config.yaml")
        return cls(make_form(config), *read_members(Path(study) / "ensemble" / "members.npz"))

    def calculator(self, member: int | None = None) -> FormCalculator:
        """ASE calculator of a member, or of the MLE.

        For many members of the same structure, swap parameters in one
        calculator instead: ``calculator.set_theta(ensemble.members[i])``.

        Parameters
        ----------
        member
            Its number; None for the MLE.
        """
        return self.model.calculator(self.mle if member is None else self.members[member])

    def write_lammps(self, folder: str | Path, members: Iterable[int] | None = None) -> None:
        """Write potentials that LAMMPS reads as they are.

        Parameters
        ----------
        folder
            Receives `mle.snapcoeff`, `0000.snapcoeff`, …, each with its
            `.snapparam`, and `mle.in`, …: the commands to include in a LAMMPS
            input (the reference potential, if any, with them).
        members
            Which members; None for all.

        Raises
        ------
        InputError
            They are no LAMMPS potentials.
        """
        numbers = range(len(self.members)) if members is None else members
        thetas = {"mle": self.mle} | {f"{i:04d}": self.members[i] for i in numbers}
        write_potentials(folder, self.model, thetas)


def write_members(path: Path, mle: np.ndarray, members: np.ndarray) -> None:
    """Write `members.npz`.

    Parameters
    ----------
    path
        The file.
    mle
        Loss-minimising parameters Θ*, shape (P,): its array `mle`.
    members
        Parameters of each member, shape (M, P): its array `theta`.
    """
    np.savez(path, mle=mle, theta=members)


def read_members(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read what `write_members` wrote.

    Returns
    -------
    mle : ndarray, shape (P,)
    members : ndarray, shape (M, P)
    """
    with np.load(path) as data:
        return data["mle"], data["theta"]


def write_potentials(folder: str | Path, model: Form, thetas: Mapping[str, np.ndarray]) -> None:
    """Write potentials that LAMMPS reads as they are.

    Parameters
    ----------
    folder
        Receives of each `<name>.snapcoeff`, `<name>.snapparam` and `<name>.in`, with an underscore in the place of
        what is neither a plain letter, a digit, nor one of ``_.+-``: LAMMPS stumbles over it.
    model
        Their form.
    thetas
        Parameters by name, shape (P,).

    Raises
    ------
    InputError
        They are no LAMMPS potentials, or two would have the same file.
    """
    if not isinstance(model, SnapModel):
        reason = "a corrected universal potential is no LAMMPS potential: use popsbounds.ensemble.Ensemble.calculator"
        raise InputError("descriptors.kind", [reason])
    names: dict[str, str] = {}
    for name in thetas:
        other = names.setdefault(re.sub(r"[^\w.+-]+", "_", name, flags=re.ASCII), name)
        if other != name:
            raise InputError(f"{folder}", [f"potentials '{other}' and '{name}' would have the same file: rename one"])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file, name in names.items():
        coefficients, parameters = folder / f"{file}.snapcoeff", folder / f"{file}.snapparam"
        model.write_coefficients(coefficients, thetas[name])
        model.write_parameters(parameters)
        commands = "\n".join(model.pair_commands(coefficients, parameters)) + "\n"
        # Names without the folder: it can be moved, and LAMMPS is run in it.
        (folder / f"{file}.in").write_text(commands.replace(f"{folder.resolve()}/", ""))
