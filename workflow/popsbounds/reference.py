"""Reference values: computed by the members' own code, or read from a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms
from ase.calculators.calculator import Calculator

from popsbounds.band import MemberBand
from popsbounds.config import Relax
from popsbounds.errors import InputError, did_you_mean
from popsbounds.member import Member, MemberBasin, MemberModel, evaluate_models
from popsbounds.models import Model, Recorder
from popsbounds.propagate import concatenate, value_table
from popsbounds.properties import REGISTRY, Property, Value
from popsbounds.relax import other_basin

__all__ = [
    "WarmRecorder",
    "check_reference_table",
    "mark_other_basins",
    "read_reference_table",
    "reference_values",
    "warm_starts",
    "with_table",
]

_KEY = ["property", "structure", "quantity", "coordinate"]


class WarmRecorder(Recorder, Member):
    """A potential that starts at the MLE's structures, with the MLE's curvatures, and remembers what it was asked."""

    is_member = False


def reference_values(
    name: str,
    prop: Property,
    calculator: Calculator,
    settings: Relax,
    starts: Mapping[str, MemberModel] | None = None,
) -> tuple[pd.DataFrame, dict[str, Atoms]]:
    """Reference values of a property, computed by the members' own code.

    Parameters
    ----------
    name, prop
        The property.
    calculator
        The reference method.
    settings
        Tolerances of the relaxations.
    starts
        Of `warm_starts`: relaxations start at the MLE's structures, and need few force calls. None starts from the
        unrelaxed structures.

    Returns
    -------
    values : DataFrame
        Lines of `properties.parquet`.
    structures : dict
        What was relaxed, by name.
    """
    potential = Recorder(calculator, settings) if starts is None else WarmRecorder(starts, calculator, settings)
    return value_table(name, list(prop.values(potential)), "reference"), potential.structures()


def warm_starts(models: Mapping[str, Model], mle: np.ndarray) -> Mapping[str, MemberModel]:
    """Where the MLE has its structures, and their curvatures, without anything that answers for a calculator.

    Parameters
    ----------
    models
        What is known of the MLE's structures.
    mle
        Its parameters, shape (P,).
    """
    (known,) = evaluate_models(models, mle[None], tolerance=0.0)
    basins = {name: model for name, model in known.items() if isinstance(model, MemberBasin)}
    bands = {name: model for name, model in known.items() if isinstance(model, MemberBand)}
    return bands | {name: replace(model, family=None, soft=None) for name, model in basins.items()}


def with_table(computed: pd.DataFrame, path: Path, mle: pd.DataFrame) -> pd.DataFrame:
    """Reference values from a CSV file and computed ones; where both have a value, the file's counts.

    Parameters
    ----------
    computed
        Reference values, lines of `properties.parquet`.
    path
        The file.
    mle
        The MLE's values, of all that the study computes.

    Raises
    ------
    InputError
        The file cannot be read (see `read_reference_table`), or a point of a curve in it is none of the study's.
    """
    given = concatenate([read_reference_table(path, name) for name in mle["property"].unique()])
    curves = given[given["coordinate"].notna()]
    unknown = curves[~pd.MultiIndex.from_frame(curves[_KEY]).isin(pd.MultiIndex.from_frame(mle[_KEY]))]
    if len(unknown):
        points = unknown.groupby(["property", "structure", "quantity"])["coordinate"].agg(["first", "size"])
        problems = [
            f"{', '.join(key)}: {line['size']} points, first at {line['first']:g}, are none of the study's: "
            "compute both with the same settings"
            for key, line in points.iterrows()
        ]
        raise InputError(str(path), problems)
    return concatenate([given, computed]).drop_duplicates(_KEY, ignore_index=True)


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
        Computed reference values of a property.
    structures
        The reference's relaxed structures.
    mle
        The MLE's.
    settings
        What counts as one basin.

    Returns
    -------
    DataFrame
        The same lines; those of such structures have the status `different_basin`.
    """
    marked = values.copy()
    for name in structures.keys() & mle.keys():
        elsewhere = other_basin(mle[name], structures[name], settings)
        if elsewhere:
            reason = f"{elsewhere} the MLE's structure"
            marked.loc[marked["structure"] == name, ["status", "reason"]] = ["different_basin", reason]
    return marked


def _read_lines(path: Path) -> pd.DataFrame:
    """All lines of a CSV file of reference values, checked but for what they are of."""
    try:
        text = path.read_text(encoding="utf-8")
        content = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
        table = pd.read_csv(StringIO(content), dtype=str, keep_default_na=False).fillna("")
    except (OSError, ValueError) as error:
        raise InputError(str(path), [f"cannot be read as CSV: {error}"]) from None
    words = ["property", "structure", "quantity", "unit", "citation"]
    missing = [column for column in [*words, "value"] if column not in table.columns]
    if missing:
        raise InputError(str(path), [f"column '{column}' is missing" for column in missing])
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(str(path), ["rows have more fields than the heading: put what has commas in quotes"])
    if "coordinate" not in table:
        table["coordinate"] = ""
    problems = []
    for number, line in enumerate(table.to_dict("records"), start=1):
        problems += [f"row {number}: no {column}" for column in words if not line[column].strip()]
        if not np.isfinite(_float(line["value"])):
            problems.append(f"row {number}: value '{line['value']}' is not a number")
        if line["coordinate"] and not np.isfinite(_float(line["coordinate"])):
            problems.append(f"row {number}: coordinate '{line['coordinate']}' is not a number")
    if problems:
        raise InputError(str(path), problems)
    return table.assign(**{name: table[name].map(_float) for name in ("value", "coordinate")})


def _float(text: str) -> float:
    """A number, or NaN."""
    try:
        return float(text)
    except ValueError:
        return np.nan


def read_reference_table(path: Path, name: str) -> pd.DataFrame:
    """Reference values of a property from a CSV file.

    Columns: property, structure, quantity, unit, value, citation and, for
    curves, coordinate; lines that start with ``#`` are comments.

    Raises
    ------
    InputError
        It is no CSV file, a column or a field is missing, or a value or a coordinate is not a finite number.
    """
    table = _read_lines(path)
    values = [
        Value(line.structure, line.quantity, line.unit, line.value, "ok", line.citation, 0, line.coordinate)
        for line in table[table["property"] == name].itertuples()
    ]
    return value_table(name, values, "reference")


def check_reference_table(path: Path, properties: Mapping[str, Property]) -> None:
    """Compare a table's keys with what a study computes.

    Raises
    ------
    InputError
        The file cannot be read (see `read_reference_table`), a structure, quantity
        or unit is not one of the study's properties, or a value is given twice.
        Properties that the study leaves out are passed over.
    """
    problems = []
    lines = _read_lines(path)
    for name in lines["property"].unique():
        if name not in REGISTRY and name not in properties:
            problems.append(f"no such property '{name}'{did_you_mean(name, [*REGISTRY, *properties])}")
    for name, prop in properties.items():
        table = lines[lines["property"] == name]
        structures = prop.structures
        if not structures:  # the user's own: known only when it is run
            continue
        for line in table.itertuples():
            where = f"{name}, {line.structure}, {line.quantity}"
            if line.structure not in structures:
                problems.append(f"{where}: no such structure; the study has {', '.join(structures)}")
            elif not np.isnan(line.coordinate):  # what points a curve has is known when it is computed
                continue
            elif line.quantity not in prop.units:
                known = ", ".join(prop.units) or "none"
                problems.append(f"{where}: no such quantity; single numbers of the property are: {known}")
            elif line.unit != prop.units[line.quantity]:
                problems.append(f"{where}: unit is '{line.unit}', give it in '{prop.units[line.quantity]}'")
        repeated = table.duplicated(["structure", "quantity", "coordinate"])
        problems += [f"{name}, {line.structure}, {line.quantity}: given twice" for line in table[repeated].itertuples()]
    if problems:
        raise InputError(str(path), problems)
