"""What can be found wrong with a study before any work starts.

``python -m popsbounds.preflight`` reads a configuration, as JSON, from its
standard input; the workflow runs it first. With ``--elsewhere`` the jobs run on
other machines or in environments of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from popsbounds.calculators import make_calculator
from popsbounds.config import AseCalculator, Config, PairStyle
from popsbounds.descriptors.forms import make_form
from popsbounds.engine import check_engine, configure_engine
from popsbounds.errors import InputError, absent
from popsbounds.properties import make_property
from popsbounds.reference import check_reference_table

__all__ = ["check_inputs"]


def check_inputs(config: Config, elsewhere: bool = False) -> None:
    """Find the data, files, calculators and structures that a study names.

    Parameters
    ----------
    config
        The study.
    elsewhere
        Whether jobs run on other machines or in environments of their own. What
        may be there only is left to them: universal models, with their packages
        and devices, and LAMMPS's accelerators.

    Raises
    ------
    InputError
        Lists everything that is missing or cannot be made.
    """
    configure_engine(config.engine)
    if not elsewhere:
        check_engine()
    problems = [
        f"dataset.sources[{number}].path: {absent(source.path)}"
        for number, source in enumerate(config.dataset.sources)
        if not source.path.exists()
    ]

    def attempt(key: str, make: Callable[[], Any]) -> Any:
        """What is made; None where it cannot be, for reasons that are kept."""
        try:
            return make()
        except InputError as error:
            problems.extend(f"{key}: {error.origin}: {problem}" for problem in error.problems)
            return None

    if not elsewhere or config.descriptors.kind == "snap":
        attempt("descriptors", lambda: make_form(config).rows())
    generate, reference = config.dataset.generate, config.reference
    calculators: dict[str, PairStyle | AseCalculator | None] = {"reference.calculator": reference.calculator}
    if generate is not None:
        calculators["dataset.generate.calculator"] = generate.calculator
        calculators["dataset.generate.check.calculator"] = None if generate.check is None else generate.check.calculator
    for key, calculator in calculators.items():
        if calculator is not None:
            attempt(key, partial(make_calculator, calculator, config.elements))
    names = config.properties.names()
    properties = {name: attempt(f"properties.{name}", partial(make_property, config, name)) for name in names}
    # A table is about the properties: where one is missing, there is no telling what is wrong with it.
    if reference.table is not None and all(prop is not None for prop in properties.values()):
        attempt("reference.table", partial(check_reference_table, reference.table, properties))
    if problems:
        raise InputError(f"study {config.study}", problems)


if __name__ == "__main__":
    try:
        check_inputs(Config.model_validate_json(sys.stdin.read()), elsewhere="--elsewhere" in sys.argv)
    except InputError as error:
        sys.exit(str(error))
