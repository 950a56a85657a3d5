"""Phonon branches along high-symmetry lines, and their density of states."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from popsbounds.phonons import band_path
from popsbounds.plotting.curves import add_curve_key, draw_curves
from popsbounds.plotting.intervals import members_note
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

__all__ = ["phonon_bands_and_dos"]


def _bands(axes: Axes, rows: pd.DataFrame, crystal: str) -> None:
    draw_curves(axes, rows)
    axes.grid(visible=False)
    axes.set_xlim(rows["coordinate"].min(), rows["coordinate"].max())
    axes.set_ylabel(axis_label("frequency", str(rows["unit"].iloc[0])))
    path = band_path(crystal, 1)
    axes.set_xticks(path.ticks, path.labels)
    axes.tick_params(axis="x", length=0)
    for distance in path.ticks:
        axes.axvline(distance, color=COLOURS["note"], linewidth=0.5, zorder=1, clip_on=False)


def _note(rows: pd.DataFrame) -> str:
    """Members, and how much of the spectrum is imaginary if anything is."""
    note = members_note(rows, [structure_label("phonon", name) for name in rows["structure"]])
    imaginary = rows[rows["quantity"] == "imaginary_fraction"]
    if (imaginary[["mle", "high"]] > 0).any(axis=None):
        mle, high = 100 * imaginary["mle"].max(), 100 * imaginary["high"].max()
        note += f"; imaginary modes: {mle:.2g} % of the MLE, {high:.2g} % of the worst member"
    return note


@styled
def phonon_bands_and_dos(bounds: pd.DataFrame) -> Figure:
    """Phonon branches (THz, imaginary ones negative) and their density of states, one row of panels a crystal.

    Parameters
    ----------
    bounds
        Table `bounds`.

    Raises
    ------
    ValueError
        The table has no branches.
    """
    rows = principal(bounds[bounds["property"] == "phonon"])
    branches = rows[rows["quantity"].str.startswith("branch_")]
    if branches.empty:
        raise ValueError("bounds: no rows for phonon/branch")
    crystals = list(branches["structure"].unique())
    fig = new_figure(FULL_WIDTH, 0.5 + 3.1 * len(crystals))
    panels = fig.subplots(len(crystals), 2, squeeze=False, sharey="row", width_ratios=[3, 1])
    for (left, right), crystal in zip(panels, crystals, strict=True):
        _bands(left, branches[branches["structure"] == crystal], crystal)
        dos = rows[(rows["structure"] == crystal) & (rows["quantity"] == "dos")]
        if dos.empty:
            right.remove()
        else:
            frequencies = left.get_ylim()
            draw_curves(right, dos, sideways=True)
            right.grid(visible=False)
            right.set_xlim(left=0)
            # The zero of this axis would run into the last special point's label.
            right.xaxis.set_major_locator(MaxNLocator(3, prune="lower"))
            right.tick_params(axis="y", length=0)
            right.set_ylim(frequencies)
            right.set_xlabel(axis_label(quantity_label("dos"), str(dos["unit"].iloc[0])))
        for axes in (left, right):
            axes.axhline(0, color=COLOURS["note"], linewidth=0.5, zorder=1)
        if len(crystals) > 1:
            left.set_title(structure_label("phonon", crystal), loc="left")
    add_curve_key(fig, _note(rows), bool(branches["reference"].notna().any()))
    return fig
