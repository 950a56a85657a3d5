"""Reference values: computed by the members' own code, or read from a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms
from ase.calculators.calculator import Calculator

from popsbounds.config import Relax
from popsbounds.errors import InputError
from popsbounds.models import Recorder
from popsbounds.propagate import DTYPES, concatenate, value_table
from popsbounds.properties import Property, Value
from popsbounds.relax import other_basin

__all__ = ["check_reference_table", "mark_other_basins", "read_reference_table", "reference_values"]

_KEY = ["property", "structure", "quantity", "coordinate"]


def reference_values(
    name: str, prop: Property, calculator: Calculator | None, table: Path | None, settings: Relax
) -> tuple[pd.DataFrame, dict[str, Atoms]]:
    """Reference values of a property; where both sources have a value, the table's counts.

    Parameters
    ----------
    name
        Property.
    prop
        Computes the values, from unrelaxed structures.
    calculator
        The reference method; None computes nothing.
    table
        CSV file of values; None reads nothing.
    settings
        Tolerances of the relaxations.

    Returns
    -------
    values : DataFrame
        Lines of `properties.parquet`.
    structures : dict
        What the computed values belong to.
    """
    parts, structures = [], {}
    if table is not None:
        parts.append(read_reference_table(table, name))
    if calculator is not None:
        potential = Recorder(calculator, settings)
        parts.append(value_table(name, list(prop.values(potential)), "reference"))
        structures = potential.structures()
    return concatenate(parts).drop_duplicates(_KEY, ignore_index=True), structures


def mark_other_basins(
    values: pd.DataFrame, structures: Mapping[str, Atoms], mle: Mapping[str, Atoms], settings: Relax
) -> pd.DataFrame:
    """Mark computed reference values of structures that the MLE does not hold.

    A prototype of low symmetry can relax to one structure under the reference
    and to another under the MLE; a difference of their values is then no error
    of the potential's, and is not counted as one.

    Parameters
    ----------
    values
        Reference values of a property.
    structures
        The reference's relaxed structures.
    mle
        The MLE's.
    settings
        What counts as one basin.
    """
    marked = values.copy()
    for name in structures.keys() & mle.keys():
        elsewhere = other_basin(mle[name], structures[name], settings)
        # A value from a table has its citation as reason, and no structure.
        lines = (marked["structure"] == name) & (marked["reason"] == "")
        if elsewhere:
            marked.loc[lines, ["status", "reason"]] = ["different_basin", f"{elsewhere} the MLE's structure"]
    return marked


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


def check_reference_table(path: Path, properties: Mapping[str, Property]) -> None:
    """Compare a table's keys with what a study computes.

    Raises
    ------
    InputError
        A structure, quantity or unit is not one of the study's properties, or a
        value is given twice. Properties that the study leaves out are passed over.
    """
    problems = []
    for name, prop in properties.items():
        table = read_reference_table(path, name)
        structures = prop.structures
        if not prop.units:  # the user's own: known only when it is run
            continue
        for line in table.itertuples():
            where = f"{name}, {line.structure}, {line.quantity}"
            if line.structure not in structures:
                problems.append(f"{where}: no such structure; the study has {', '.join(structures)}")
            elif line.quantity not in prop.units:
                problems.append(f"{where}: no such quantity; the property has {', '.join(prop.units)}")
            elif line.unit != prop.units[line.quantity]:
                problems.append(f"{where}: unit is '{line.unit}', give it in '{prop.units[line.quantity]}'")
        repeated = table.duplicated(_KEY)
        problems += [f"{name}, {line.structure}, {line.quantity}: given twice" for line in table[repeated].itertuples()]
    if problems:
        raise InputError(str(path), problems)
