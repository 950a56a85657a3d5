"""Curves with their bounds, and intervals beside them: members' range, ±1 std, MLE, reference."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from popsbounds.plotting.intervals import draw_intervals, short_number
from popsbounds.plotting.style import COLOURS

__all__ = ["DASHES", "add_curve_key", "draw_curves", "draw_few_intervals", "limits", "mark_cut"]

SPREADS = 5  # standard deviations of the other members that the axis follows a member to
WORTH = 2  # what the axis must shrink by for a cut
DASHES = (0, (4, 2))  # of the reference


def _spread_of_the_others(rows: pd.DataFrame) -> pd.Series:
    """Standard deviation without the lowest and the highest member; NaN where fewer than two are left.

    It follows from the table alone: a member taken out changes the mean and
    the sum of squares in a known way.
    """
    number, mean = rows["n_ok"].astype(float), rows["mean"]
    squares = (number - 1) * rows["std"] ** 2
    for side in ("low", "high"):
        left = (number - 1).where(number > 1)
        squares = squares - number / left * (rows[side] - mean) ** 2
        mean, number = (number * mean - rows[side]) / left, left
    return (squares.clip(lower=0) / (number - 1).where(number > 1)) ** 0.5


def limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Axis limits (value) that one member far out cannot stretch beyond use.

    Unlike those of many intervals, they must not rest on the neighbours: a
    member far out is so all along a curve.
    """
    centre = rows["mle"].fillna(rows["mean"])
    reach = np.fmax(SPREADS * _spread_of_the_others(rows).fillna(np.inf), (rows["reference"] - rows["mle"]).abs())
    low = centre - (centre - rows["low"]).clip(lower=0, upper=reach)
    high = centre + (rows["high"] - centre).clip(lower=0, upper=reach)
    known = [rows["reference"], centre]
    values, uncut = pd.concat([*known, low, high]), pd.concat([*known, rows["low"], rows["high"]])
    bottom, top = values.min(), values.max()
    if not np.isfinite([bottom, top]).all():
        return 0.0, 1.0
    if uncut.max() - uncut.min() <= WORTH * (top - bottom):
        bottom, top = uncut.min(), uncut.max()
    margin = 0.06 * (top - bottom) or 0.1 * abs(top) or 1.0
    return float(bottom - margin), float(top + margin)


def mark_cut(axes: Axes, position: float, edge: float, value: float, side: str, sideways: bool = False) -> None:
    """Arrow at the edge of a panel, with the value that lies beyond.

    Parameters
    ----------
    axes
        The panel.
    position, edge
        Where along the edge; where the edge is.
    value
        What is written.
    side
        ``low`` or ``high``.
    sideways
        The edge is on the left or right.
    """
    low = side == "low"
    xy, marker = ((edge, position), "<" if low else ">") if sideways else ((position, edge), "v" if low else "^")
    axes.plot(*xy, marker=marker, markersize=5, color=COLOURS["outside"], clip_on=False, zorder=6)
    # Towards the middle of the panel, where there is room.
    x, y = axes.transAxes.inverted().transform(axes.transData.transform(xy))
    axes.annotate(
        short_number(value), xy, xytext=(5 if x < 0.5 else -5, 5 if y < 0.5 else -5), textcoords="offset points",
        ha="left" if x < 0.5 else "right", va="center", fontsize=6.5, color=COLOURS["outside"], zorder=6,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},  # it would not stand out from a band
    )  # fmt: skip


def draw_curves(axes: Axes, rows: pd.DataFrame, points: bool = False, sideways: bool = False) -> None:
    """Draw each quantity of the rows as one curve over its coordinate.

    Parameters
    ----------
    axes
        Where to draw.
    rows
        Columns quantity, coordinate, mle, mean, std, low, high, reference,
        n_ok; NaN is not drawn. What lies beyond the limits is cut; an arrow
        shows where the farthest end of each side would be, and its value.
    points
        Mark the MLE's and the reference's points, for curves of a few.
    sideways
        The coordinate is upwards.
    """
    rows = rows.sort_values(["quantity", "coordinate"], ignore_index=True)
    bottom, top = limits(rows)
    spans = (rows["coordinate"].min(), rows["coordinate"].max())
    if sideways:
        axes.set_xlim(bottom, top)
    else:
        axes.set_ylim(bottom, top)
        margin = 0.03 * (spans[1] - spans[0]) or 1.0
        axes.set_xlim(spans[0] - margin, spans[1] + margin)
    axes.grid(axis="x" if sideways else "y")
    fill = axes.fill_betweenx if sideways else axes.fill_between
    marks = {"mle": ("o", 3.0, COLOURS["mle"]), "reference": ("D", 4.5, "none")}
    for _, curve in rows.groupby("quantity", sort=False):
        along = curve["coordinate"].to_numpy(float)
        # Cut at the edge rather than by the canvas: a vector file would otherwise keep the far end.
        low, high = curve["low"].clip(bottom, top), curve["high"].clip(bottom, top)
        fill(along, low, high, color=COLOURS["range"], linewidth=0, label="range", zorder=2)
        for side in (low, high):  # still to be seen where a band of another branch, or a wide std, lies over it
            line = (side, along) if sideways else (along, side)
            axes.plot(*line, color=COLOURS["range"], linewidth=0.8, label="edge", zorder=3.5)
        low = (curve["mean"] - curve["std"]).clip(bottom, top)
        high = (curve["mean"] + curve["std"]).clip(bottom, top)
        fill(along, low, high, color=COLOURS["std_band"], linewidth=0, label="std", zorder=3)
        for name, width, dashes in (("mle", 1.3, "-"), ("reference", 1.1, DASHES)):
            marker, size, face = marks[name]
            values = curve[name].to_numpy(float)
            axes.plot(
                *((values, along) if sideways else (along, values)), color=COLOURS[name], linewidth=width,
                linestyle=dashes, marker=marker if points else None, markersize=size, markerfacecolor=face,
                markeredgewidth=0.8, label=name, zorder=4 if name == "mle" else 5,
            )  # fmt: skip
    for side, edge in (("low", bottom), ("high", top)):
        beyond = rows[rows[side] < bottom] if side == "low" else rows[rows[side] > top]
        if len(beyond):
            worst = beyond.loc[beyond[side].idxmin() if side == "low" else beyond[side].idxmax()]
            mark_cut(axes, worst["coordinate"], edge, worst[side], side, sideways)


def draw_few_intervals(axes: Axes, rows: pd.DataFrame) -> None:
    """As `draw_intervals`, for one or two intervals too: there the other bars cannot tell which one is far out."""
    if len(rows) > 2:
        draw_intervals(axes, rows)
        return
    rows = rows.reset_index(drop=True)
    bottom, top = limits(rows)
    shown = rows.assign(low=rows["low"].clip(lower=bottom), high=rows["high"].clip(upper=top))
    draw_intervals(axes, shown)
    axes.set_ylim(bottom, top)
    for side, edge in (("low", bottom), ("high", top)):
        for position in np.flatnonzero(rows[side].notna() & (rows[side] != shown[side])):
            mark_cut(axes, float(position), edge, rows.loc[position, side], side)


def add_curve_key(fig: Figure, note: str, with_reference: bool, points: bool = False) -> None:
    """Legend above the panels, with the number of members; `points` where curves or intervals have markers."""
    handles: list[Artist] = [
        Patch(color=COLOURS["range"], linewidth=0, label="members, lowest to highest"),
        Patch(color=COLOURS["std_band"], linewidth=0, label="mean ± 1 std"),
        Line2D([], [], color=COLOURS["mle"], linewidth=1.3, marker="o" if points else None, markersize=3.5,
               label="MLE"),
    ]  # fmt: skip
    if with_reference:
        handles.append(
            Line2D([], [], color=COLOURS["reference"], linewidth=1.1, linestyle=DASHES,
                   marker="D" if points else None, markersize=4.5, markerfacecolor="none", label="reference")
        )  # fmt: skip
    fig.legend(handles=handles, loc="outside upper left", ncols=len(handles), columnspacing=1.2, handletextpad=0.5)
    fig.supxlabel(note, x=0.99, ha="right", fontsize=7, color=COLOURS["note"])
