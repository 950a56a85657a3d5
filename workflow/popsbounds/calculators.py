"""ASE calculators from the configuration: what labels frames and computes references."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from ase.calculators.calculator import Calculator as AseBase

from popsbounds.config import AseCalculator, LammpsCalculator
from popsbounds.engine import LammpsCalculator as LiveLammps
from popsbounds.engine import potential_commands
from popsbounds.errors import InputError

__all__ = ["make_calculator"]


def make_calculator(settings: LammpsCalculator | AseCalculator, elements: Sequence[str]) -> AseBase:
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
    except (ImportError, AttributeError) as error:
        raise InputError(f"calculator {settings.name}", [f"cannot be imported ({error}); is it installed?"]) from None
    try:
        return factory(**settings.arguments)
    except TypeError as error:
        raise InputError(f"calculator {settings.name}", [f"refuses its arguments: {error}"]) from None
