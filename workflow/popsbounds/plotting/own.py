"""Properties that users define: curves as bands, single numbers as intervals."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from popsbounds.plotting.curves import add_curve_key, draw_curves, draw_few_intervals
from popsbounds.plotting.intervals import add_key, members_note
from popsbounds.plotting.style import FULL_WIDTH, axis_label, new_figure, quantity_label, structure_label, styled
from popsbounds.statistics import principal

__all__ = ["own_property"]

LETTERS = 34  # of all names together that fit below a panel without being turned


def _panel(axes: Axes, rows: pd.DataFrame, labels: list[str], title: str) -> None:
    """One quantity: the curve of one structure, or one interval a structure."""
    if rows["coordinate"].notna().any():
        draw_curves(axes, rows)
        axes.set_xlabel("coordinate")
    else:
        draw_few_intervals(axes, rows.reset_index(drop=True))
        axes.set_xticks(range(len(labels)), labels)
        if sum(map(len, labels)) > LETTERS:
            for label in axes.get_xticklabels():
                label.set(rotation=40, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="x", length=0)
    axes.set_ylabel(axis_label(quantity_label(str(rows["quantity"].iloc[0])), str(rows["unit"].iloc[0])))
    axes.set_title(title, loc="left")


@styled
def own_property(bounds: pd.DataFrame) -> Figure:
    """All quantities of one property; one panel a quantity, and a structure where it is a curve.

    Parameters
    ----------
    bounds
        Rows of one property in the table of this name.

    Raises
    ------
    ValueError
        Rows of several properties, or of none.
    """
    rows = principal(bounds)
    names = list(rows["property"].unique())
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise ValueError(f"bounds: rows of one property are needed; found: {found}")
    curves = rows["coordinate"].notna()
    groups = []
    for _, part in rows.groupby("quantity", sort=False):
        if curves[part.index].any():
            groups += [curve for _, curve in part.groupby("structure", sort=False)]
        else:
            groups.append(part)
    columns = min(2, len(groups))
    n_rows = math.ceil(len(groups) / columns)
    fig = new_figure(max(4.6, FULL_WIDTH * columns / 2), 0.6 + 2.3 * n_rows)
    panels = fig.subplots(n_rows, columns, squeeze=False).ravel()
    for axes, part in zip(panels, groups, strict=False):
        labels = [structure_label(names[0], name) for name in part["structure"]]
        _panel(axes, part, labels, labels[0] if curves[part.index].any() else "")
    for axes in panels[len(groups) :]:
        axes.remove()
    key = [f"{quantity_label(line.quantity)}, {line.structure}" for line in rows.itertuples()]
    note, with_reference = members_note(rows, key), bool(rows["reference"].notna().any())
    if curves.any():
        add_curve_key(fig, note, with_reference, points=not curves.all())
    else:
        add_key(fig, note, with_reference)
    return fig
