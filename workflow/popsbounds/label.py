"""Labels: energies and forces of frames from a calculator."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator

from popsbounds.errors import InputError
from popsbounds.progress import progress

__all__ = ["compare_labels", "label_frames"]

_LOG = logging.getLogger(__name__)


def label_frames(
    frames: Sequence[Atoms], calculator: Calculator, origin: str
) -> tuple[list[Atoms], list[tuple[int, str]]]:
    """Energy (eV), forces (eV/Å) and, where the calculator has it, stress (eV/Å³) of each frame.

    Frames that come with results keep them.

    Parameters
    ----------
    frames
        With their number in ``info['frame']``.
    calculator
        The method.
    origin
        Configuration entry of the calculator, for messages.

    Returns
    -------
    labelled : list of Atoms
        Those that the calculator did not fail on.
    failures : list
        Number, and reason, of the others.

    Raises
    ------
    InputError
        The calculator failed on every frame.
    """
    labelled: list[Atoms] = []
    failures: list[tuple[int, str]] = []
    for frame in progress(frames, "label of frame", len(frames)):
        if frame.calc is not None:
            labelled.append(frame)
            continue
        copy = frame.copy()
        copy.calc = calculator
        try:
            results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces()}
            if "stress" in calculator.implemented_properties:
                results["stress"] = copy.get_stress()
            if not all(np.isfinite(value).all() for value in results.values()):
                raise ArithmeticError("its labels are not finite")
        except InputError:
            raise
        except Exception as error:  # calculators raise what they like
            failures.append((frame.info["frame"], f"{type(error).__name__}: {' '.join(str(error).split())}"))
            _LOG.warning("frame %d is left out: %s", *failures[-1])
            continue
        copy.calc = SinglePointCalculator(copy, **results)
        labelled.append(copy)
    _LOG.info("labelled %d of %d frames", len(labelled), len(frames))
    if failures and not labelled:
        raise InputError(origin, [f"failed on all {len(frames)} frames of a batch, first with: {failures[0][1]}"])
    return labelled, failures


def compare_labels(frames: Sequence[Atoms], calculator: Calculator, origin: str) -> pd.DataFrame:
    """Labels of frames beside those of another calculator, such as one with tighter settings.

    Parameters
    ----------
    frames
        Labelled, with their number in ``info['frame']``.
    calculator, origin
        The other one, and its configuration entry.

    Returns
    -------
    DataFrame
        Columns frame, n_atoms, energy_eV_per_atom (as labelled), energy_difference_eV_per_atom (label minus other,
        without the mean of all frames: a constant per atom is none of the potential's business), and the
        root-mean-square and largest difference of force components, force_rms_eV_per_A and force_max_eV_per_A;
        reason, of frames that the calculator fails on, whose differences are null.

    Raises
    ------
    InputError
        The calculator failed on every frame.
    """
    again, failures = label_frames([atoms.copy() for atoms in frames], calculator, origin)
    others, reasons = {atoms.info["frame"]: atoms for atoms in again}, dict(failures)
    rows = []
    for label in frames:
        number, n, energy = label.info["frame"], len(label), label.get_potential_energy()
        differences = [np.nan] * 3
        if number in others:
            forces = label.get_forces() - others[number].get_forces()
            above = (energy - others[number].get_potential_energy()) / n
            differences = [above, np.sqrt(np.mean(forces**2)), np.abs(forces).max()]
        rows.append((number, n, energy / n, *differences, reasons.get(number)))
    columns = ["frame", "n_atoms", "energy_eV_per_atom", "energy_difference_eV_per_atom"]
    table = pd.DataFrame(rows, columns=[*columns, "force_rms_eV_per_A", "force_max_eV_per_A", "reason"])
    table["energy_difference_eV_per_atom"] -= table["energy_difference_eV_per_atom"].mean()
    return table
