"""Bounds that are sampled beside those in closed form, by the number of members."""

from __future__ import annotations

import math
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from popsbounds.plotting.curves import DASHES, limits, mark_cut
from popsbounds.plotting.intervals import members_note, short_number
from popsbounds.plotting.style import (
    COLOURS,
    FULL_WIDTH,
    axis_label,
    datum_label,
    narrow_log_ticks,
    new_figure,
    property_label,
    quantity_label,
    structure_label,
    styled,
)
from popsbounds.pops.posteriors import expected_reach
from popsbounds.statistics import principal

__all__ = ["sampled_against_analytic"]

COLUMNS = 3
PANELS = 6
WANTED = [
    ("formation", "formation_energy"),
    ("elastic", "C11"),
    ("sia", "formation_energy"),
    ("surface", "surface_energy"),
    ("neb", "barrier"),
    ("neb", "vacancy_formation_energy"),
]
METHODS = {"auto": "automatic", "implicit": "implicit"}
STRETCH = 1.6  # what a panel may grow by for closed-form values; those farther out are cut
ANALYTIC: dict[str, Any] = {"linewidth": 1.1, "color": COLOURS["analytic"]}
DOTS = (0, (1, 1.5))  # of mean ± std
REACH = (0, (5, 1.5, 1, 1.5))  # of what normal numbers reach


def _title(row: pd.Series) -> str:
    """What a panel shows, in a few words."""
    prop, structure, quantity = row["property"], row["structure"], quantity_label(row["quantity"])
    name = structure_label(prop, structure)
    if prop == "neb":
        text = f"{quantity} of the hop" if row["quantity"] == "barrier" else quantity
    elif prop in ("formation", "elastic"):
        text = f"{quantity} of {name}"
    elif prop in ("sia", "surface"):
        text = f"{property_label(prop)} {name}"
    else:
        text = f"{datum_label(prop, row['quantity'])} of {name}"
    return fill(text, 32)


def _choose(bounds: pd.DataFrame) -> pd.DataFrame:
    """Members' rows of the quantities to draw, each beside its analytic one (columns `analytic_*`)."""
    key = ["property", "structure", "quantity", "unit"]
    single = bounds[bounds["coordinate"].isna()]
    closed = single[(single["method"] == "analytic") & (single["std"] > 0)]
    closed = closed[[*key, "mean", "std", "low", "high"]]
    # The zero of a scale has no spread.
    members = principal(single[single["std"] > 0])
    rows = members.merge(closed, on=key, suffixes=("", "_analytic"), validate="one_to_one")
    first = rows.drop_duplicates(["property", "quantity"])
    names = list(zip(first["property"], first["quantity"], strict=True))
    wanted = [WANTED.index(name) if name in WANTED else len(WANTED) for name in names]
    if min(wanted, default=0) < len(WANTED):
        first = first[np.array(wanted) < len(WANTED)]
        wanted = [rank for rank in wanted if rank < len(WANTED)]
    return first.iloc[np.argsort(wanted, kind="stable")][:PANELS].reset_index(drop=True)


def _members(properties: pd.DataFrame, row: pd.Series) -> np.ndarray:
    """Usable values by number of the member."""
    chosen = properties["member"].notna() & properties["coordinate"].isna() & (properties["status"] == "ok")
    for name in ("property", "structure", "quantity", "method", "level"):
        chosen &= properties[name] == row[name]
    values = properties[chosen].sort_values("member")["value"].to_numpy(float)
    return values[np.isfinite(values)]


def _draw_members(axes: Axes, values: np.ndarray, bottom: float, top: float) -> None:
    """Range, and mean ± std, of the first member, the first two, …"""
    number = np.arange(1, len(values) + 1)
    low, high = np.minimum.accumulate(values), np.maximum.accumulate(values)
    shown = low.clip(bottom, top), high.clip(bottom, top)
    axes.fill_between(number, *shown, color=COLOURS["range"], linewidth=0, label="range", zorder=2)
    for line in shown:  # of few members, mean ± std may reach farther
        axes.plot(number, line, color=COLOURS["range"], linewidth=0.8, label="edge", zorder=3.5)
    so_far = pd.Series(values).expanding()
    mean, std = so_far.mean().to_numpy(), so_far.std().fillna(0.0).to_numpy()
    axes.fill_between(
        number, (mean - std).clip(bottom, top), (mean + std).clip(bottom, top), color=COLOURS["std_band"], linewidth=0,
        label="std", zorder=3,
    )  # fmt: skip
    for side, edge, reached in (("low", bottom, low), ("high", top, high)):
        if reached[-1] < bottom or reached[-1] > top:
            first = np.flatnonzero(reached == reached[-1])[0] + 1
            mark_cut(axes, float(first), edge, float(reached[-1]), side)


def _widen(bottom: float, top: float, values: list[float]) -> tuple[float, float]:
    """Limits that hold those values too, as far as the panel stays readable."""
    most = STRETCH * (top - bottom)
    for value in sorted(values, key=lambda value: max(bottom - value, value - top)):
        low, high = min(bottom, value), max(top, value)
        if high - low <= most:
            bottom, top = low, high
    return bottom, top


def _draw_analytic(axes: Axes, row: pd.Series, n_members: int, bottom: float, top: float) -> None:
    """Closed-form lines; those outside are named at the edge."""
    mean, std = row["mean_analytic"], row["std_analytic"]
    lines = {
        "low": (row["low_analytic"], "-"),
        "high": (row["high_analytic"], "-"),
        "mean − std": (mean - std, DOTS),
        "mean + std": (mean + std, DOTS),
    }
    for name, (value, dashes) in lines.items():
        if bottom <= value <= top:
            axes.axhline(value, linestyle=dashes, label=f"analytic {name}", zorder=4, **ANALYTIC)
    number = np.unique(np.geomspace(1, max(n_members, 1), 60).round().astype(int))
    reach = std * np.array([expected_reach(int(m)) for m in number])
    for sign in (-1, 1):
        curve = mean + sign * reach
        curve[(curve < bottom) | (curve > top)] = np.nan
        axes.plot(number, curve, linestyle=REACH, label="reach", zorder=4, **ANALYTIC)
    # In the corners on the left, which few members leave free.
    for edge, marker, step in ((bottom, "v", 1), (top, "^", -1)):
        beyond = {
            name: value
            for name, (value, _) in lines.items()
            if np.isfinite(value) and (value < bottom if edge == bottom else value > top)
        }
        if not beyond:
            continue
        place = axes.get_yaxis_transform()
        axes.plot(0.05, edge, marker=marker, markersize=5, color=COLOURS["analytic"], clip_on=False, zorder=6,
                  transform=place)  # fmt: skip
        text = "\n".join(f"{name} {short_number(value)}" for name, value in beyond.items())
        axes.annotate(
            text, (0.05, edge), xycoords=place, xytext=(6, 4 * step), textcoords="offset points", fontsize=6.5,
            ha="left", va="bottom" if step > 0 else "top", color=COLOURS["analytic"], zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _panel(axes: Axes, row: pd.Series, values: np.ndarray) -> None:
    bottom, top = limits(row.to_frame().T.infer_objects())
    mean, std = row["mean_analytic"], row["std_analytic"]
    reach = std * expected_reach(len(values))
    closed = [mean - std, mean + std, mean - reach, mean + reach, row["low_analytic"], row["high_analytic"]]
    inner = _widen(bottom, top, [value for value in closed if np.isfinite(value)])
    margin = 0.06 * (inner[1] - inner[0])
    bottom, top = min(bottom, inner[0] - margin), max(top, inner[1] + margin)
    axes.set_xscale("log")
    axes.set_xlim(1, max(len(values), 2))
    axes.set_ylim(bottom, top)
    axes.grid(axis="y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    narrow_log_ticks(axes.xaxis)
    _draw_members(axes, values, bottom, top)
    _draw_analytic(axes, row, len(values), bottom, top)
    for name, width, dashes in (("mle", 1.3, "-"), ("reference", 1.1, DASHES)):
        if np.isfinite(row[name]):
            axes.axhline(row[name], color=COLOURS[name], linewidth=width, linestyle=dashes, label=name, zorder=5)
    axes.set_ylabel(axis_label(quantity_label(row["quantity"]), row["unit"]))
    axes.set_title(_title(row), loc="left", pad=14)
    share = 100 * row["width_over_analytic"]
    if np.isfinite(share):
        axes.annotate(
            f"members: {share:.{0 if share >= 10 else 1}f} % of the analytic range", (0, 1), xycoords="axes fraction",
            xytext=(0, 4), textcoords="offset points", fontsize=6.5, color=COLOURS["note"],
        )  # fmt: skip


@styled
def sampled_against_analytic(properties: pd.DataFrame, bounds: pd.DataFrame) -> Figure:
    """Range of the first members, of more and more of them, beside bounds in closed form; one panel a quantity.

    Parameters
    ----------
    properties
        Table `properties`: values of the members.
    bounds
        Table `bounds`, with rows by the method `analytic`.
    """
    rows = _choose(bounds)
    if rows.empty:
        fig = new_figure(4.6, 1.2)
        fig.text(0.5, 0.5, "Nothing to compare: no members beside analytic bounds", ha="center", va="center")
        return fig
    columns = min(COLUMNS, len(rows))
    n_rows = math.ceil(len(rows) / columns)
    fig = new_figure(max(4.6, FULL_WIDTH * columns / COLUMNS), 0.9 + 2.2 * n_rows)
    panels = fig.subplots(n_rows, columns, squeeze=False)
    for axes, (_, row) in zip(panels.ravel(), rows.iterrows(), strict=False):
        _panel(axes, row, _members(properties, row))
    for axes in panels.ravel()[len(rows) :]:
        axes.remove()
    if (rows["method"] == "explicit").all():
        for column in range(columns):
            panels[(len(rows) - 1 - column) // columns, column].set_xlabel("members")
    else:
        for axes, method in zip(panels.ravel(), rows["method"], strict=False):
            axes.set_xlabel("members" if method == "explicit" else f"members, {METHODS[method]}")
    handles: list[Artist] = [
        Patch(color=COLOURS["range"], linewidth=0, label="members so far, lowest to highest"),
        Patch(color=COLOURS["std_band"], linewidth=0, label="their mean ± 1 std"),
        Line2D([], [], color=COLOURS["mle"], linewidth=1.3, label="MLE"),
        Line2D([], [], color=COLOURS["reference"], linewidth=1.1, linestyle=DASHES, label="reference"),
        Line2D([], [], label="analytic low and high", **ANALYTIC),
        Line2D([], [], linestyle=DOTS, label="analytic mean ± 1 std", **ANALYTIC),
        Line2D([], [], linestyle=REACH, label="a Gaussian's average extremes", **ANALYTIC),
    ]
    if rows["reference"].isna().all():
        del handles[3]
    fig.legend(
        handles=handles, loc="outside upper left", ncols=4 if columns == COLUMNS else 2, columnspacing=1.2,
        handletextpad=0.5,
    )  # fmt: skip
    note = members_note(rows, [_title(row).replace("\n", " ") for _, row in rows.iterrows()])
    fig.supxlabel(note, x=0.99, ha="right", fontsize=7, color=COLOURS["note"])
    return fig
