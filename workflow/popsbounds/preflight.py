"""What can be found wrong with a study before any work starts.

``python -m popsbounds.preflight`` reads a configuration, as JSON, from its
standard input; the workflow runs it first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from popsbounds.calculators import make_calculator
from popsbounds.config import AseCalculator, Config, PairStyle
from popsbounds.descriptors.forms import make_form
from popsbounds.engine import check_engine, configure_engine
from popsbounds.errors import InputError
from popsbounds.properties import make_property
from popsbounds.reference import check_reference_table

__all__ = ["check_inputs"]


def check_inputs(config: Config) -> None:
    """Find the files, calculators and structures that a study names.

    Raises
    ------
    InputError
        Lists everything that is missing or cannot be made.
    """
    configure_engine(config.engine)
    check_engine()
    checks: dict[str, Callable[[], object]] = {"descriptors": lambda: make_form(config).rows()}
    generate, reference = config.dataset.generate, config.reference
    calculators: dict[str, PairStyle | AseCalculator | None] = {"reference.calculator": reference.calculator}
    if generate is not None:
        calculators["dataset.generate.calculator"] = generate.calculator
        calculators["dataset.generate.check.calculator"] = None if generate.check is None else generate.check.calculator
    for key, calculator in calculators.items():
        if calculator is not None:
            checks[key] = partial(make_calculator, calculator, config.elements)
    if reference.table is not None:
        table = reference.table
        checks["reference.table"] = lambda: check_reference_table(
            table, {name: make_property(config, name) for name in config.properties.names()}
        )
    for name in config.properties.names():
        checks[f"properties.{name}"] = partial(_structures, config, name)

    problems = []
    for key, check in checks.items():
        try:
            check()
        except InputError as error:
            problems += [f"{key}: {error.origin}: {problem}" for problem in error.problems]
    if problems:
        raise InputError(f"study {config.study}", problems)


def _structures(config: Config, name: str) -> object:
    return make_property(config, name)


if __name__ == "__main__":
    try:
        check_inputs(Config.model_validate_json(sys.stdin.read()))
    except InputError as error:
        sys.exit(str(error))
