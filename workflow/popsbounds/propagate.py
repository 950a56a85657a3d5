"""From potentials to property tables: the MLE's baseline, the members, the reference."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from popsbounds.config import Propagate
from popsbounds.descriptors.snap import SnapCalculator
from popsbounds.errors import InputError
from popsbounds.member import Member, evaluate_models
from popsbounds.models import Model
from popsbounds.progress import progress
from popsbounds.properties import Property, PropertyError, Value

__all__ = [
    "DTYPES",
    "concatenate",
    "propagate",
    "value_table",
]

_LOG = logging.getLogger(__name__)

DTYPES = {
    "property": "str",
    "structure": "str",
    "quantity": "str",
    "unit": "str",
    "source": "str",
    "method": "str",
    "member": "Int32",
    "value": "float64",
    "status": "str",
    "reason": "str",
    "evaluations": "Int32",
    "coordinate": "float64",
}


def value_table(name: str, values: Sequence[Value], source: str, member: int | None = None) -> pd.DataFrame:
    """Values of one potential as lines of `properties.parquet`.

    Parameters
    ----------
    name
        Property.
    values
        Its values.
    source
        ``mle``, ``member`` or ``reference``.
    member
        Number of the member.
    """
    table = pd.DataFrame([vars(v) for v in values], columns=list(Value.__dataclass_fields__)).assign(
        property=name, source=source, method="explicit", member=member
    )
    return table[list(DTYPES)].astype(DTYPES)


def concatenate(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Lines of several tables, or of none, below each other."""
    empty = pd.DataFrame(columns=list(DTYPES)).astype(DTYPES)
    return pd.concat([*tables] or [empty], ignore_index=True).astype(DTYPES)


def propagate(
    name: str,
    prop: Property,
    models: Mapping[str, Model],
    thetas: Mapping[int, np.ndarray],
    calculator: SnapCalculator,
    settings: Propagate,
    expected: pd.DataFrame,
) -> pd.DataFrame:
    """A property under a batch of members.

    Parameters
    ----------
    name, prop
        The property.
    models
        What is known from the MLE.
    thetas
        Parameters by number of the member, shape (P,).
    calculator
        Any potential of the ensemble; its parameters are swapped.
    settings
        Section `propagate` of the configuration.
    expected
        The MLE's lines: a member that cannot have one has it with a status.

    Returns
    -------
    DataFrame
        Lines of `properties.parquet`.
    """
    known = evaluate_models(models, np.array(list(thetas.values())), settings.families.tolerance_eV_per_atom)
    tables, started = [], time.perf_counter()
    wanted = {_key(line): line for line in expected.itertuples()}
    for (number, theta), mine in zip(progress(thetas.items(), "member", len(thetas)), known, strict=True):
        calculator.set_theta(theta)
        potential = Member(mine, calculator, settings.relax)
        found: dict[tuple, Value] = {}
        reason = "the member yields no such value"
        try:
            for value in prop.values(potential):
                if _key(value) not in wanted:
                    at = "" if np.isnan(value.coordinate) else f" at {value.coordinate:.9g}"
                    raise PropertyError(f"yields {value.structure}, {value.quantity}{at}, which the MLE does not")
                found[_key(value)] = value
        except InputError:
            raise
        except PropertyError as error:
            reason = str(error)
        except Exception as error:  # whatever a potential brings about, the other members go on
            _LOG.exception("member %d", number)
            reason = f"{type(error).__name__}: {error}"
        values = [found.get(key) or _absent(line, reason) for key, line in wanted.items()]
        tables.append(value_table(name, values, "member", number))
    share = 100 * calculator.seconds / (time.perf_counter() - started)
    _LOG.info("%d force calls, %.0f %% of the time in them", calculator.calls, share)
    return concatenate(tables)


def _key(line: Any) -> tuple[str, str, str]:
    """What a line is of; a missing coordinate equals another."""
    return line.structure, line.quantity, repr(float(line.coordinate))


def _absent(line: Any, reason: str) -> Value:
    return Value(line.structure, line.quantity, line.unit, np.nan, "failed", reason, 0, line.coordinate)
