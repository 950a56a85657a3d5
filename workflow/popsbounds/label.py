"""Labels: energies and forces of frames from a calculator."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator

from popsbounds.errors import InputError
from popsbounds.progress import progress

__all__ = ["label_frames"]

_LOG = logging.getLogger(__name__)


def label_frames(frames: Sequence[Atoms], calculator: Calculator) -> list[Atoms]:
    """Energy (eV), forces (eV/Å) and, where the calculator has it, stress (eV/Å³) of each frame.

    A frame that the calculator fails on is left out, with a line in the log.

    Raises
    ------
    InputError
        The calculator failed on every frame.
    """
    labelled = []
    for number, frame in enumerate(progress(frames, "label of frame", len(frames))):
        copy = frame.copy()
        copy.calc = calculator
        try:
            results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces()}
            if "stress" in calculator.implemented_properties:
                results["stress"] = copy.get_stress()
        except InputError:
            raise
        except Exception as error:  # calculators raise what they like
            _LOG.warning("frame %d of the batch is left out: %s", number, error)
            continue
        if not all(np.isfinite(value).all() for value in results.values()):
            _LOG.warning("frame %d of the batch is left out: its labels are not finite", number)
            continue
        copy.calc = SinglePointCalculator(copy, **results)
        labelled.append(copy)
    _LOG.info("labelled %d of %d frames", len(labelled), len(frames))
    if not labelled:
        raise InputError("dataset.generate.calculator", [f"failed on all {len(frames)} frames of a batch; see the log"])
    return labelled
