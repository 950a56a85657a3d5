"""Energies along paths: the hop of a vacancy, and homogeneous transformations of the crystal."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from popsbounds.paths import PATHS
from popsbounds.plotting.curves import add_curve_key, draw_curves, draw_few_intervals
from popsbounds.plotting.intervals import members_note, select
from popsbounds.plotting.style import (
    COLOURS,
    FULL_WIDTH,
    axis_label,
    new_figure,
    quantity_label,
    structure_label,
    styled,
)
from popsbounds.statistics import principal

__all__ = ["barrier_path", "transformation_paths"]

BESIDE = {"barrier": "barrier", "vacancy_formation_energy": "vacancy\nformation"}


@styled
def barrier_path(bounds: pd.DataFrame) -> Figure:
    """Energy along the hop of a vacancy (eV); beside it its barrier and the vacancy's formation energy.

    Parameters
    ----------
    bounds
        Table `bounds`.

    Raises
    ------
    ValueError
        The table has no such rows.
    """
    path = select(bounds, "neb", "path_energy")
    beside = principal(bounds[(bounds["property"] == "neb") & bounds["quantity"].isin(list(BESIDE))])
    beside = beside.iloc[beside["quantity"].map(list(BESIDE).index).argsort()]
    fig = new_figure(FULL_WIDTH if len(beside) else 0.7 * FULL_WIDTH, 3.0)
    panels = fig.subplots(1, 2 if len(beside) else 1, squeeze=False, width_ratios=[2.2, 1] if len(beside) else [1])[0]
    unit = str(path["unit"].iloc[0])
    draw_curves(panels[0], path, points=True)
    panels[0].set_xlabel("position along the path")
    panels[0].set_ylabel(axis_label("energy", unit))
    if len(beside):
        draw_few_intervals(panels[1], beside)
        panels[1].set_xticks(range(len(beside)), [BESIDE[name] for name in beside["quantity"]])
        panels[1].tick_params(axis="x", length=0)
        panels[1].set_ylabel(axis_label("energy", unit))
    rows = pd.concat([path, beside])
    names = [quantity_label(name) for name in rows["quantity"]]
    add_curve_key(fig, members_note(rows, names), bool(rows["reference"].notna().any()), points=True)
    return fig


def _mark_crystals(axes: Axes, name: str) -> None:
    """Name the crystals that the path passes through, above the panel."""
    left, right = axes.get_xlim()
    for crystal, coordinate in PATHS[name].points if name in PATHS else ():
        if left < coordinate < right:
            axes.axvline(coordinate, color=COLOURS["note"], linewidth=0.5, linestyle=":", zorder=4.5)
            axes.annotate(
                structure_label("path", crystal), (coordinate, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
                textcoords="offset points", ha="center", va="bottom", fontsize=6.5, color=COLOURS["note"],
            )  # fmt: skip


@styled
def transformation_paths(bounds: pd.DataFrame) -> Figure:
    """Energy along homogeneous transformations of the crystal (eV/atom), one panel a path.

    Parameters
    ----------
    bounds
        Table `bounds`.

    Raises
    ------
    ValueError
        The table has no such rows.
    """
    rows = select(bounds, "path", "path_energy")
    found = list(rows["structure"].unique())
    names = [name for name in PATHS if name in found]
    names += [name for name in found if name not in names]
    columns = min(2, len(names))
    n_rows = math.ceil(len(names) / columns)
    fig = new_figure(FULL_WIDTH * columns / 2, 0.6 + 2.3 * n_rows)
    panels = fig.subplots(n_rows, columns, squeeze=False)
    for axes, name in zip(panels.ravel(), names, strict=False):
        draw_curves(axes, rows[rows["structure"] == name])
        _mark_crystals(axes, name)
        axes.set_title(structure_label("path", name), loc="left", pad=14)
    for axes in panels.ravel()[len(names) :]:
        axes.remove()
    for column in range(columns):
        last = (len(names) - 1 - column) // columns
        panels[last, column].set_xlabel("path parameter")
    for axes in panels[:, 0]:
        axes.set_ylabel(axis_label("energy", str(rows["unit"].iloc[0])))
    fig.align_ylabels()
    labels = [structure_label("path", name) for name in rows["structure"]]
    add_curve_key(fig, members_note(rows, labels), bool(rows["reference"].notna().any()))
    return fig
