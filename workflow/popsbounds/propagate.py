"""From potentials to property tables: the MLE's baseline, the members, the reference."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from popsbounds.config import Level, Method, Propagate
from popsbounds.descriptors.forms import FormCalculator
from popsbounds.errors import InputError
from popsbounds.implicit import Automatic, Implicit, propagate_automatically
from popsbounds.member import Member, MemberModel, evaluate_models
from popsbounds.models import Model
from popsbounds.progress import progress
from popsbounds.properties import Property, PropertyError, Value
from popsbounds.properties.base import key_of

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
    "level": "str",
    "member": "Int32",
    "value": "float64",
    "status": "str",
    "reason": "str",
    "evaluations": "Int32",
    "coordinate": "float64",
}


def value_table(name: str, values: Sequence[Value], source: str) -> pd.DataFrame:
    """Values of one potential that is no member as lines of `properties.parquet`.

    Parameters
    ----------
    name
        Property.
    values
        Its values.
    source
        ``mle`` or ``reference``.
    """
    return _table(name, [(value, source, None, "") for value in values], "explicit")


def _table(name: str, rows: Sequence[tuple[Value, str, int | None, str]], method: str) -> pd.DataFrame:
    """Lines of values, each with its source, member and level."""
    columns = [*Value.__dataclass_fields__, "source", "member", "level"]
    table = pd.DataFrame([(*vars(value).values(), *rest) for value, *rest in rows], columns=columns)
    return table.assign(property=name, method=method)[list(DTYPES)].astype(DTYPES)


def concatenate(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Lines of several tables, or of none, below each other."""
    empty = pd.DataFrame(columns=list(DTYPES)).astype(DTYPES)
    return pd.concat([*tables] or [empty], ignore_index=True).astype(DTYPES)


def propagate(
    name: str,
    prop: Property,
    models: Mapping[str, Model],
    thetas: Mapping[int, np.ndarray],
    calculator: FormCalculator,
    settings: Propagate,
    expected: pd.DataFrame,
    method: Method = "explicit",
    levels: Sequence[Level] = ("reduced",),
    tolerance: Mapping[str, float] | None = None,
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
    method
        ``explicit`` relaxes, ``implicit`` expands about the MLE, ``auto`` does
        as much of both as a tolerance asks for.
    levels
        Of the expansion, for ``implicit``.
    tolerance
        By unit, for ``auto``.

    Returns
    -------
    DataFrame
        Lines of `properties.parquet`.

    Raises
    ------
    ValueError
        There is no tolerance for ``auto``, which without one would check nothing.
    InputError
        Whatever a user can mend, such as a calculator that is not there.
    """
    judged = tolerance or {}
    if method == "auto" and not judged:
        raise ValueError("method 'auto' needs a tolerance, such as {'eV': 0.001}")
    relax, wanted = settings.relax, {key_of(line): line for line in expected.itertuples()}

    def known(level: Level) -> list[dict[str, MemberModel]]:
        several = np.array(list(thetas.values()))
        return evaluate_models(models, several, settings.families.tolerance_eV_per_atom, level)

    def explicit(mine: dict[str, MemberModel]) -> Iterator[tuple[Value, str]]:
        return ((value, "member") for value in prop.values(Member(mine, calculator, relax)))

    def implicit(mine: dict[str, MemberModel]) -> Iterator[tuple[Value, str]]:
        return ((value, "implicit") for value in prop.values(Implicit(mine, relax)))

    def automatic(mine: dict[str, MemberModel], second: dict[str, MemberModel]) -> Iterator[tuple[Value, str]]:
        potential = Automatic(Member(mine, calculator, relax), second)
        found = propagate_automatically(prop, potential, judged)
        return ((value, "member" if relaxed else "implicit") for value, relaxed in found)

    ways: dict[str, Callable[..., Iterator[tuple[Value, str]]]]
    ways, missing = {"explicit": explicit, "implicit": implicit, "auto": automatic}, "member"
    needs: dict[str, tuple[Level, ...]] = {"": ("reduced",)}
    if method == "auto":
        needs = {"": ("reduced", "second")}
    if method == "implicit":
        needs, missing = {level: (level,) for level in levels}, "implicit"
    rows: list[tuple[Value, str, int | None, str]] = []
    started = time.perf_counter()
    for shown, needed in needs.items():
        each = zip(progress(thetas.items(), "member", len(thetas)), *map(known, needed), strict=True)
        for (number, theta), *mine in each:
            if method != "implicit":
                calculator.set_theta(theta)
            found = _collected(partial(ways[method], *mine), wanted, number, missing)
            rows += [(value, source, number, shown) for value, source in found]
    share = 100 * calculator.seconds / (time.perf_counter() - started)
    _LOG.info("%d force calls, %.0f %% of the time in them", calculator.calls, share)
    return _table(name, rows, method)


def _collected(
    compute: Callable[[], Iterator[tuple[Value, str]]], wanted: Mapping[tuple, Any], number: int, missing: str
) -> list[tuple[Value, str]]:
    """Values of one member and their sources, in the order that is wanted; those that are missing have a status."""
    found: dict[tuple, tuple[Value, str]] = {}
    reason = "the member yields no such value"
    try:
        for value, source in compute():
            if key_of(value) not in wanted:
                at = "" if np.isnan(value.coordinate) else f" at {value.coordinate:.9g}"
                raise PropertyError(f"yields {value.structure}, {value.quantity}{at}, which the MLE does not")
            found[key_of(value)] = value, source
    except InputError:
        raise
    except PropertyError as error:
        reason = str(error)
    except Exception as error:  # whatever a potential brings about, the other members go on
        _LOG.exception("member %d", number)
        reason = f"{type(error).__name__}: {error}"
    return [found.get(key) or (_absent(line, reason), missing) for key, line in wanted.items()]


def _absent(line: Any, reason: str) -> Value:
    return Value(line.structure, line.quantity, line.unit, np.nan, "failed", reason, 0, line.coordinate)
