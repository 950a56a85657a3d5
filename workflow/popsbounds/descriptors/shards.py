"""Shards of the design matrix: a float64 `.npy` and a table of its rows each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from popsbounds.config import Weights
from popsbounds.dataset import Frame, exponential_weights
from popsbounds.descriptors.forms import FormRows
from popsbounds.errors import InputError
from popsbounds.progress import progress

__all__ = ["Shard", "open_shards", "select_components", "write_shard"]


@dataclass(frozen=True)
class Shard:
    """A part of the design matrix.

    Attributes
    ----------
    matrix : ndarray, shape (n, P)
        Memory-mapped rows.
    rows : DataFrame
        One line a row: frame, kind (``energy`` | ``force``), atom, component, split,
        group, n_atoms, truth (label: eV/atom or eV/Å), reference (of the reference potential,
        same unit), weight (not normalised).
    """

    matrix: np.ndarray
    rows: pd.DataFrame


def select_components(n_atoms: int, limit: int | None, rng: np.random.Generator) -> np.ndarray:
    """Indices of the force components to keep, sorted; all 3n where `limit` is None or larger."""
    if limit is None or limit >= 3 * n_atoms:
        return np.arange(3 * n_atoms)
    return np.sort(rng.choice(3 * n_atoms, size=limit, replace=False))


def write_shard(
    matrix_path: Path,
    rows_path: Path,
    frames: Sequence[Frame],
    table: pd.DataFrame,
    descriptor_rows: FormRows,
    n_parameters: int,
    components: Callable[[int, int], np.ndarray],
    weights: Weights,
) -> None:
    """Compute the rows of some frames and write them.

    Parameters
    ----------
    matrix_path, rows_path
        The `.npy` and `.parquet` to write.
    frames
        The frames, in the order of `table`.
    table
        Their lines of the frame table.
    descriptor_rows
        Computes a frame's rows.
    n_parameters
        P.
    components
        Called with frame number and number of atoms: force components to keep.
    weights
        Scales of the row weights.

    Raises
    ------
    InputError
        The descriptors of a frame cannot be computed.
    """
    kept = [
        components(frame_id, len(frame.atoms)) if frame.forces is not None else np.arange(0)
        for frame_id, frame in zip(table["frame"], frames, strict=True)
    ]
    n_rows = len(frames) + sum(len(k) for k in kept)
    matrix = np.lib.format.open_memmap(matrix_path, mode="w+", dtype=np.float64, shape=(n_rows, n_parameters))
    parts, start = [], 0
    stream = descriptor_rows.stream([frame.atoms for frame in frames], [len(k) > 0 for k in kept])
    lines = zip(table.itertuples(), frames, kept, strict=True)
    for line, frame, keep in progress(lines, "descriptors of frame", len(frames)):
        n = len(frame.atoms)
        try:
            rows, reference = next(stream)
        except Exception as error:  # exception types vary with what computes them
            raise InputError(str(frame), [f"its descriptors cannot be computed: {error}"]) from error
        use = np.concatenate([[0], 1 + keep])
        matrix[start : start + len(use)] = rows[use]
        start += len(use)
        forces = np.zeros((n, 3)) if frame.forces is None else frame.forces
        force_weights = exponential_weights(np.linalg.norm(forces, axis=1), weights.force_scale_eV_per_A)
        parts.append(
            pd.DataFrame(
                {
                    "frame": line.frame,
                    "kind": np.where(use == 0, "energy", "force"),
                    "atom": np.where(use == 0, -1, (use - 1) // 3),
                    "component": np.where(use == 0, -1, (use - 1) % 3),
                    "split": line.split,
                    "group": line.group,
                    "n_atoms": n,
                    "truth": np.concatenate([[frame.energy_per_atom], forces.ravel()])[use],
                    "reference": reference[use],
                    "weight": np.concatenate([[line.weight_energy], np.repeat(force_weights, 3)])[use],
                }
            )
        )
    matrix.flush()
    rows = pd.concat(parts, ignore_index=True)
    rows.astype({"frame": "int64", "atom": "int32", "component": "int8", "n_atoms": "int32"}).to_parquet(
        rows_path, index=False
    )


def open_shards(matrix_paths: Sequence[Path], rows_paths: Sequence[Path]) -> list[Shard]:
    """Memory-map shards, in the order given."""
    return [
        Shard(np.load(matrix, mmap_mode="r"), pd.read_parquet(rows))
        for matrix, rows in zip(matrix_paths, rows_paths, strict=True)
    ]
