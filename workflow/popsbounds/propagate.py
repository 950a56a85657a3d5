"""From potentials to property tables: the MLE's baseline, the members, the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms
from ase.calculators.calculator import Calculator

from popsbounds.config import Relax
from popsbounds.progress import progress
from popsbounds.properties import Property, Value
from popsbounds.relax import Relaxed, Start, hessian

__all__ = [
    "DTYPES",
    "baseline",
    "cold_starts",
    "compute_values",
    "concatenate",
    "read_baseline",
    "value_table",
    "write_baseline",
]

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
    table = pd.DataFrame([vars(v) for v in values]).assign(
        property=name, source=source, method="explicit", member=member, coordinate=np.nan
    )
    return table[list(DTYPES)].astype(DTYPES)


def concatenate(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Lines of several tables below each other."""
    return pd.concat(list(tables), ignore_index=True).astype(DTYPES)


def cold_starts(prop: Property) -> dict[str, Start]:
    """The property's unrelaxed structures as starts."""
    return {name: Start(atoms) for name, atoms in prop.structures().items()}


def baseline(prop: Property, calculator: Calculator, settings: Relax) -> tuple[dict[str, Relaxed], dict[str, Start]]:
    """Relax the MLE's structures from scratch and find their Hessians.

    Returns
    -------
    relaxed
        The MLE's structures.
    starts
        Where the members start: the relaxed structure with its Hessian or,
        where the MLE found none, the unrelaxed structure.
    """
    cold = cold_starts(prop)
    relaxed = prop.relax(calculator, cold)
    starts = {}
    for name, outcome in progress(relaxed.items(), "Hessian of structure", len(relaxed)):
        starts[name] = cold[name]
        if outcome.ok:
            curvature = hessian(outcome.atoms, calculator, settings, prop.cell_relaxes(name))
            starts[name] = Start(outcome.atoms, curvature)
    return relaxed, starts


def write_baseline(path: Path, starts: Mapping[str, Start]) -> None:
    """Write the members' starts: numbers, cell (Å), positions (Å), hessian (eV/Å²) of each structure."""
    arrays = {}
    for name, start in starts.items():
        arrays[f"{name}/numbers"] = start.atoms.numbers
        arrays[f"{name}/cell"] = start.atoms.cell[:]
        arrays[f"{name}/positions"] = start.atoms.positions
        if start.hessian is not None:
            arrays[f"{name}/hessian"] = start.hessian
    np.savez(path, **arrays)


def read_baseline(path: Path) -> dict[str, Start]:
    """Read what `write_baseline` wrote."""
    with np.load(path) as data:
        arrays = dict(data)
    return {
        name: Start(
            Atoms(
                arrays[f"{name}/numbers"],
                cell=arrays[f"{name}/cell"],
                positions=arrays[f"{name}/positions"],
                pbc=True,
            ),
            arrays.get(f"{name}/hessian"),
        )
        for name in dict.fromkeys(key.rpartition("/")[0] for key in arrays)
    }


def compute_values(prop: Property, calculator: Calculator, starts: Mapping[str, Start]) -> list[Value]:
    """All values of a property under one potential."""
    return prop.values(calculator, prop.relax(calculator, starts))
