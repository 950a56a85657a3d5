"""Reference values: computed by the members' own code, or read from a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from ase.calculators.calculator import Calculator

from popsbounds.errors import InputError
from popsbounds.propagate import DTYPES, cold_starts, compute_values, concatenate, value_table
from popsbounds.properties import Property, Value

__all__ = ["read_reference_table", "reference_values"]

_KEY = ["property", "structure", "quantity"]


def reference_values(name: str, prop: Property, calculator: Calculator | None, table: Path | None) -> pd.DataFrame:
    """Reference values of a property; where both sources have a value, the table's counts.

    Parameters
    ----------
    name
        Property.
    prop
        Computes the values, with cold starts.
    calculator
        The reference method; None computes nothing.
    table
        CSV file of values; None reads nothing.
    """
    parts = []
    if table is not None:
        parts.append(read_reference_table(table, name))
    if calculator is not None:
        parts.append(value_table(name, compute_values(prop, calculator, cold_starts(prop)), "reference"))
    return concatenate(parts).drop_duplicates(_KEY, ignore_index=True)


def read_reference_table(path: Path, name: str) -> pd.DataFrame:
    """Reference values of a property from a CSV file.

    Columns: property, structure, quantity, unit, value, citation; lines that
    start with ``#`` are comments.

    Raises
    ------
    InputError
        A column is missing, or a value is not a finite number.
    """
    try:
        table = pd.read_csv(path, comment="#", dtype={"structure": str})
    except (OSError, ValueError) as error:
        raise InputError(str(path), [f"cannot be read as CSV: {error}"]) from None
    wanted = ["property", "structure", "quantity", "unit", "value", "citation"]
    missing = [column for column in wanted if column not in table.columns]
    if missing:
        raise InputError(str(path), [f"column '{column}' is missing" for column in missing])
    number = pd.to_numeric(table["value"], errors="coerce")
    if not np.isfinite(number).all():
        lines = np.flatnonzero(~np.isfinite(number))
        raise InputError(str(path), [f"row {i + 1}: value {table['value'][i]!r} is not a number" for i in lines])
    unsourced = np.flatnonzero(table["citation"].isna())
    if len(unsourced):
        raise InputError(str(path), [f"row {i + 1}: no citation; say where the value is from" for i in unsourced])
    values = [
        Value(line.structure, line.quantity, line.unit, float(line.value), "ok", str(line.citation), 0)
        for line in table[table["property"] == name].itertuples()
    ]
    return value_table(name, values, "reference") if values else pd.DataFrame(columns=list(DTYPES)).astype(DTYPES)
