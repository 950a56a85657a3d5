"""Rank correlations of the members with the MLE."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from popsbounds.plotting.style import COLOURS, FULL_WIDTH, datum_label, new_figure, styled

__all__ = ["rank_correlations"]

COLUMNS = 3
BINS = 24

# Ranked as formation energies and volumes are.
SAME_RANKS = [("formation", "energy"), ("formation", "relative_volume")]


@styled
def rank_correlations(spearman: pd.DataFrame) -> Figure:
    """Histograms of the members' Spearman correlation with the MLE, one panel a quantity.

    Parameters
    ----------
    spearman
        Table `spearman`. Energies and relative volumes are left out: they
        rank as formation energies and volumes do.
    """
    groups = [
        (key, rows) for key, rows in spearman.groupby(["property", "quantity"], sort=False) if key not in SAME_RANKS
    ]
    if not groups:
        fig = new_figure(3.6, 1.2)
        fig.text(0.5, 0.5, "Nothing to rank: no quantity with three structures", ha="center", va="center")
        return fig
    columns = min(COLUMNS, len(groups))
    n_rows = math.ceil(len(groups) / columns)
    fig = new_figure(max(3.6, FULL_WIDTH * columns / COLUMNS), 0.7 + 2.0 * n_rows)
    panels = fig.subplots(n_rows, columns, squeeze=False).ravel()
    for axes, ((prop, quantity), rows) in zip(panels, groups, strict=False):
        rho = rows.loc[rows["member"].notna(), "rho"].dropna()
        reference = rows.loc[rows["member"].isna(), "rho"].dropna()
        mean, std = rows["mean_rho"].iloc[0], rows["std_rho"].iloc[0]
        values = pd.concat([rho, reference])
        left = min(float(values.min()), 0.9) if len(values) else -1.0
        left = max(-1.0, math.floor(left * 10) / 10)
        axes.set_xlim(left, 1 + 0.03 * (1 - left))
        if np.isfinite([mean, std]).all():
            axes.axvspan(max(mean - std, left), min(mean + std, 1), color=COLOURS["grid"], linewidth=0)
        axes.hist(rho, bins=np.linspace(left, 1, BINS + 1), color=COLOURS["range"], edgecolor="white", linewidth=0.3)
        if np.isfinite(mean):
            axes.axvline(mean, color=COLOURS["mle"], linewidth=1, linestyle="--")
        for value in reference:
            axes.axvline(value, color=COLOURS["reference"], linewidth=1.6)
        axes.margins(y=0.08)
        axes.set_title(f"{datum_label(prop, quantity)}\n{len(rho)} members", loc="left")
        axes.set_xlabel("Spearman ρ with the MLE")
    for axes in panels[len(groups) :]:
        axes.remove()
    for axes in panels[: len(groups) : columns]:
        axes.set_ylabel("members")
    handles = [
        Patch(color=COLOURS["range"], label="members"),
        Line2D([], [], color=COLOURS["mle"], linewidth=1, linestyle="--", label="their mean"),
        Patch(color=COLOURS["grid"], linewidth=0, label="± 1 std"),
        Line2D([], [], color=COLOURS["reference"], linewidth=1.6, label="reference"),
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=4, columnspacing=1.2)
    return fig
