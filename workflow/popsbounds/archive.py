"""Structures, and dataclasses of arrays, by name in one .npz file of plain arrays: reading it executes nothing.

Keys are `<number>/<attribute>/…`, numbers in the order of `names`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from popsbounds.coordinates import Coordinates

__all__ = ["read_archive", "write_archive"]


def write_archive(path: Path, things: Mapping[str, Any]) -> None:
    """Write things by name: periodic `Atoms` (numbers, cell and positions), `Coordinates`, arrays, numbers, lists
    of such, and dataclasses of such; attributes that are None are left out.
    """
    arrays: dict[str, np.ndarray] = {"names": np.array(list(things), dtype=str)}
    for number, thing in enumerate(things.values()):
        _pack(str(number), thing, arrays)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def read_archive(path: Path, *classes: type) -> dict[str, Any]:
    """Read what `write_archive` wrote; `classes` are the dataclasses that may be in it."""
    tree: dict = {}
    with np.load(path) as data:
        names = data["names"].tolist()
        for key in data.files:
            *folders, last = key.split("/")
            branch = tree
            for folder in folders:
                branch = branch.setdefault(folder, {})
            branch[last] = data[key]
    known = {cls.__name__: cls for cls in classes}
    return {name: _unpack(tree[str(number)], known) for number, name in enumerate(names)}


def _pack(key: str, value: Any, arrays: dict[str, np.ndarray]) -> None:
    if value is None:
        return
    parts: dict[str, Any]
    kind = type(value).__name__
    if isinstance(value, Atoms):
        parts = {"numbers": value.numbers, "cell": value.cell[:], "positions": value.positions}
    elif isinstance(value, Coordinates):
        parts = {"origin": value.origin, "displacements": value.displacements, "strains": value.strains}
    elif isinstance(value, list):
        parts = {str(i): item for i, item in enumerate(value)}
    elif is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
    else:
        arrays[key] = np.asarray(value)
        return
    arrays[f"{key}/kind"] = np.array(kind)
    for name, part in parts.items():
        _pack(f"{key}/{name}", part, arrays)


def _unpack(value: Any, known: Mapping[str, type]) -> Any:
    if not isinstance(value, dict):
        return value if value.ndim else value.item()
    parts = {name: _unpack(part, known) for name, part in value.items() if name != "kind"}
    kind = str(value["kind"])
    if kind == "Atoms":
        return Atoms(parts["numbers"], cell=parts["cell"], positions=parts["positions"], pbc=True)
    if kind == "Coordinates":
        return Coordinates(parts["origin"], parts["displacements"], parts["strains"])
    if kind == "list":
        return [parts[str(i)] for i in range(len(parts))]
    return known[kind](**parts)
