"""The intervals that phases, surfaces and elastic constants share: members' range, ±1 std, MLE, reference."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from popsbounds.plotting.style import COLOURS, FULL_WIDTH, axis_label, new_figure, quantity_label, structure_label
from popsbounds.statistics import principal
from popsbounds.text import shown_number

__all__ = ["by_structure", "draw_intervals", "members_note", "select", "short_number", "two_panels"]

CLIP = 2.5  # arms longer than this many times the median arm are cut and marked


def select(bounds: pd.DataFrame, property_name: str, *quantities: str) -> pd.DataFrame:
    """Rows of a property's quantities, by its principal method.

    Raises
    ------
    ValueError
        There are none.
    """
    rows = principal(bounds[(bounds["property"] == property_name) & bounds["quantity"].isin(quantities)])
    if rows.empty:
        raise ValueError(f"bounds: no rows for {property_name}/{quantities[0]}")
    return rows


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Axis limits (value) that one member far out cannot stretch beyond use."""
    centre = rows["mle"].fillna(rows["mean"])
    arms = {"low": centre - rows["low"], "high": rows["high"] - centre}
    ends = [rows["reference"], centre]
    for side, sign in (("low", -1), ("high", 1)):
        arm = arms[side].clip(lower=0)
        longest = CLIP * arm[arm > 0].median()
        ends.append(centre + sign * arm.clip(upper=longest if np.isfinite(longest) else None))
    values = pd.concat(ends)
    bottom, top = values.min(), values.max()
    if not np.isfinite([bottom, top]).all():
        return 0.0, 1.0
    margin = 0.06 * (top - bottom) or 0.1 * abs(top) or 1.0
    return bottom - margin, top + margin


def short_number(value: float) -> str:
    """Three digits, thousands set apart, with a true minus sign."""
    text = f"{value:,.0f}" if 1e3 <= abs(value) < 1e6 else shown_number(value)
    return text.replace("-", "−")


def draw_intervals(axes: Axes, rows: pd.DataFrame, from_zero: bool = False) -> None:
    """Draw one interval a row at x = 0, 1, …

    Parameters
    ----------
    axes
        Where to draw.
    rows
        Columns mle, mean, std, low, high, reference; NaN is not drawn. What
        lies beyond the limits is cut, with an arrow and its value.
    from_zero
        The rows are differences: a line at zero stands for what they are from.
    """
    x = np.arange(len(rows))
    bottom, top = _limits(rows.assign(reference=0.0) if from_zero else rows)
    if from_zero:
        axes.axhline(0, color=COLOURS["reference"], linewidth=0.9, zorder=3.5)
    axes.set_ylim(bottom, top)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y")
    # Bars are cut at the edge rather than by the canvas: a vector file would otherwise keep the far end.
    low, high = rows["low"].clip(bottom, top), rows["high"].clip(bottom, top)
    axes.vlines(x, low, high, color=COLOURS["range"], linewidth=5, label="range", zorder=2)
    low, high = rows["mean"] - rows["std"], rows["mean"] + rows["std"]
    low, high = low.clip(bottom, top), high.clip(bottom, top)
    axes.vlines(x, low, high, color=COLOURS["std"], linewidth=2, label="std", zorder=3)
    axes.plot(x, rows["mle"], linestyle="none", marker="o", markersize=4.5, color=COLOURS["mle"], label="mle", zorder=4)
    axes.plot(
        x, rows["reference"], linestyle="none", marker="D", markersize=6.5, markerfacecolor="none",
        markeredgecolor=COLOURS["reference"], markeredgewidth=1, label="reference", zorder=5,
    )  # fmt: skip
    for side, edge, marker, offset in (("low", bottom, "v", 5), ("high", top, "^", -5)):
        beyond = rows[side] < bottom if side == "low" else rows[side] > top
        for position, value in zip(x[beyond], rows.loc[beyond, side], strict=True):
            axes.plot(position, edge, marker=marker, markersize=5, color=COLOURS["outside"], clip_on=False, zorder=6)
            axes.annotate(
                short_number(value), (position, edge), xytext=(4, offset), textcoords="offset points",
                va="center", fontsize=6.5, color=COLOURS["outside"],
            )  # fmt: skip


def members_note(rows: pd.DataFrame, labels: list[str]) -> str:
    """How many members the bounds rest on, and how if not relaxed; names the structure that most members fail for."""
    n_all = int((rows["n_ok"] + rows["n_failed"]).max())
    method, level = rows[["method", "level"]].iloc[0]
    note = f"{n_all} members" + {"explicit": "", "auto": ", relaxed where needed"}.get(method, f", implicit ({level})")
    if (rows["n_failed"] > 0).any():
        worst = int(rows["n_failed"].to_numpy().argmax())
        note += f"; fewest usable: {rows['n_ok'].iloc[worst]} for {labels[worst]}"
    return note


def add_key(fig: Figure, note: str, with_reference: bool) -> None:
    """Legend above the panels, with the number of members."""
    handles = [
        Line2D([], [], color=COLOURS["range"], linewidth=5, solid_capstyle="butt", label="members, lowest to highest"),
        Line2D([], [], color=COLOURS["std"], linewidth=2, label="mean ± 1 std"),
        Line2D([], [], linestyle="none", marker="o", markersize=4.5, color=COLOURS["mle"], label="MLE"),
    ]
    if with_reference:
        handles.append(
            Line2D([], [], linestyle="none", marker="D", markersize=6, markerfacecolor="none",
                   markeredgecolor=COLOURS["reference"], label="reference")
        )  # fmt: skip
    fig.legend(handles=handles, loc="outside upper left", ncols=len(handles), columnspacing=1.2, handletextpad=0.5)
    fig.supxlabel(note, x=0.99, ha="right", fontsize=7, color=COLOURS["note"])


def two_panels(
    rows: pd.DataFrame, labels: list[str], quantity: str, width: float = FULL_WIDTH, height: float = 4.6
) -> Figure:
    """Values above, errors below.

    Parameters
    ----------
    rows
        Rows of `bounds`, one an interval, in the order of drawing.
    labels
        Their names on the x axis.
    quantity
        Name of the quantity on the y axis.
    width, height
        Size in inches.

    Returns
    -------
    Figure
        The lower panel shows differences from the reference, or from the MLE
        where no row has a reference.
    """
    rows = rows.reset_index(drop=True)
    with_reference = bool(rows["reference"].notna().any())
    unit = str(rows["unit"].iloc[0])
    fig = new_figure(width, height)
    upper, lower = fig.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    draw_intervals(upper, rows)
    upper.set_ylabel(axis_label(quantity, unit))
    zero = rows["reference"] if with_reference else rows["mle"]
    shifted = rows.copy()
    shifted[["mle", "mean", "low", "high"]] = rows[["mle", "mean", "low", "high"]].sub(zero, axis=0)
    shifted["reference"] = np.nan
    draw_intervals(lower, shifted, from_zero=True)
    lower.set_ylabel(axis_label("minus reference" if with_reference else "minus MLE", unit))
    lower.set_xticks(np.arange(len(rows)), labels)
    lower.tick_params(axis="x", length=0)
    upper.tick_params(axis="x", length=0)
    fig.align_ylabels()
    add_key(fig, members_note(rows, labels), with_reference)
    return fig


def by_structure(bounds: pd.DataFrame, property_name: str, quantity: str) -> tuple[Figure, list[str]]:
    """One quantity of each structure of a property, as `two_panels` draws it.

    Parameters
    ----------
    bounds
        Table `bounds`.
    property_name, quantity
        Which of its rows.

    Returns
    -------
    Figure
        In the order of the references, or of the MLE where any reference is missing.
    list of str
        The structures in this order.

    Raises
    ------
    ValueError
        The table has no such rows.
    """
    rows = select(bounds, property_name, quantity)
    key = "reference" if rows["reference"].notna().all() else "mle"
    rows = rows.sort_values([key, "structure"], ignore_index=True)
    structures = [str(name) for name in rows["structure"]]
    labels = [structure_label(property_name, name) for name in structures]
    return two_panels(rows, labels, quantity_label(quantity)), structures
