"""Implicit against explicit propagation: the same members, with and without relaxation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from popsbounds.plotting.intervals import short_number
from popsbounds.plotting.style import (
    COLOURS,
    FULL_WIDTH,
    axis_label,
    new_figure,
    quantity_label,
    structure_label,
    styled,
)
from popsbounds.statistics import truncation

__all__ = ["implicit_against_explicit"]


@dataclass(frozen=True)
class _Level:
    name: str
    marker: str
    colour: str
    size: float
    apart: float  # size of the marker where levels lie apart


# Drawn in this order, each smaller than the one before: on the parity line they lie on top of each other.
LEVELS = {
    "first": _Level("first order", "^", "#E69F00", 4.6, 2.8),
    "second": _Level("second order", "s", "#0072B2", 3.0, 2.2),
    "reduced": _Level("reduced model", "o", "#000000", 2.0, 2.1),
    "auto": _Level("automatic", "D", "#E58CC0", 0.9, 2.0),
}
PHASES = ["bcc", "hcp"]  # as the paper does
MARGIN = 0.3  # of the range of 98 % of the members that the axes follow the others to
WORTH = 1.4  # what the axes must shrink by for a cut
TICKS = 4  # labelled powers of ten on either side of zero
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _number(value: float, unit: str = "") -> str:
    """Two digits; a small number with a power of ten."""
    if not np.isfinite(value):
        return "–"
    if value == 0 or value >= 1e-4:
        return (f"{value:,.0f}" if value >= 100 else f"{value:.2g}") + unit
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}·10{str(int(exponent)).translate(_SUPERSCRIPTS)}{unit}"


def _phases(volumes: pd.DataFrame, formation: pd.DataFrame) -> list[str]:
    """Two phases: those of the paper, else the zero of the formation energies and the next one."""
    found = list(volumes["structure"].unique())
    if set(PHASES) <= set(found):
        return PHASES
    spread = formation[formation["quantity"] == "formation_energy"].groupby("structure")["value"].agg(["min", "max"])
    zeros = spread.index[(spread["min"] == 0) & (spread["max"] == 0)]
    return sorted(found, key=lambda name: name not in zeros)[:2]


def _by_level(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Explicit lines of one quantity, and by level explicit and implicit values of those members that have both."""
    members = rows[rows["source"].isin(["member", "implicit"]) & rows["member"].notna()]
    usable = members[(members["status"] == "ok") & np.isfinite(members["value"].to_numpy(float))]
    explicit = usable[usable["method"] == "explicit"].set_index("member")
    levels = {}
    for name in LEVELS:
        wanted = usable["method"] == "auto" if name == "auto" else usable["method"] == "implicit"
        if name != "auto":
            wanted &= usable["level"] == name
        found = usable[wanted].set_index("member")["value"].rename("implicit")
        both = found.to_frame().join(explicit["value"].rename("explicit"), how="inner").sort_index()
        if len(both):
            levels[name] = both
    return members[members["method"] == "explicit"], levels


def _limits(explicit: np.ndarray, implicit: np.ndarray) -> tuple[float, float]:
    """Limits of both axes, which a few members far out cannot stretch beyond use."""
    known = np.concatenate([explicit, implicit])
    low, high = np.percentile(explicit, [1, 99])
    reach = MARGIN * (high - low)
    bottom, top = max(known.min(), low - reach), min(known.max(), high + reach)
    if np.ptp(known) <= WORTH * (top - bottom):
        bottom, top = known.min(), known.max()
    margin = 0.06 * (top - bottom) or 0.1 * abs(top) or 1.0
    return float(bottom - margin), float(top + margin)


def _mark_cuts(axes: Axes, levels: dict[str, pd.DataFrame], bottom: float, top: float) -> None:
    """At the corner where they are drawn: how many points lie beyond, and where the farthest is."""
    points = pd.concat(levels.values())[["explicit", "implicit"]]
    for side, corner, marker in (("low", bottom, "v"), ("high", top, "^")):
        beyond = points[(points < bottom).any(axis=1) if side == "low" else (points > top).any(axis=1)]
        if beyond.empty:
            continue
        farthest = beyond.min(axis=None) if side == "low" else beyond.max(axis=None)
        axes.plot(corner, corner, marker=marker, markersize=5, color=COLOURS["outside"], clip_on=False, zorder=6)
        # In the corner away from the parity line.
        x, y, align = (0.97, 0.08, "right") if side == "low" else (0.03, 0.93, "left")
        axes.text(
            x, y, f"{len(beyond)} points beyond, to {short_number(farthest)}", ha=align, va="center",
            transform=axes.transAxes, fontsize=6.5, color=COLOURS["outside"], zorder=6,
        )  # fmt: skip


def _draw_points(axes: Axes, name: str, x: np.ndarray, y: np.ndarray, size: float) -> None:
    level = LEVELS[name]
    axes.plot(
        x, y, linestyle="none", marker=level.marker, markersize=size, color=level.colour, markeredgewidth=0,
        alpha=0.8, label=name, rasterized=True, clip_on=False, zorder=3 + list(LEVELS).index(name) / 10,
    )  # fmt: skip


def _scale_differences(axes: Axes, differences: list[np.ndarray], std: float) -> None:
    """Linear up to the smallest level's typical difference, logarithmic beyond."""
    typical = [np.median(np.abs(part[part != 0])) for part in differences if (part != 0).any()]
    if not typical:
        axes.set_ylim(-1, 1)
        return
    largest = np.max(np.abs(np.concatenate([*differences, [std if np.isfinite(std) else 0.0]])))
    first = int(np.floor(np.log10(min(typical))))
    last = max(int(np.ceil(np.log10(largest))), first + 1)
    axes.set_yscale("symlog", linthresh=10.0**first, linscale=0.5)
    axes.set_ylim(-1.6 * largest, 1.6 * largest)
    step = int(np.ceil((last - first + 1) / TICKS))
    powers = 10.0 ** np.arange(last - (last - first) // step * step, last + 1, step)
    axes.yaxis.set_major_locator(FixedLocator([*-powers[::-1], 0, *powers]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _power(y)))


def _power(value: float) -> str:
    if value == 0:
        return "0"
    exponent = str(round(np.log10(abs(value)))).translate(_SUPERSCRIPTS)
    return f"{'−' if value < 0 else ''}10{exponent}"


def _write_table(axes: Axes, explicit: pd.DataFrame, known: pd.DataFrame, n_lines: int) -> None:
    """What the points say, in numbers: one line a level."""
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(n_lines + 2.2, 0))
    left, columns = -0.36, (0.36, 0.73, 1.0)  # from below the axis labels on
    small: dict = {"fontsize": 6.5, "va": "center"}
    for x, header in zip(columns, ("median\n|error|/std", "median\n|error|/value", "force\ncalls"), strict=True):
        axes.text(x, 0.9, header, ha="right", linespacing=1.1, color=COLOURS["note"], **small)
    calls = explicit.loc[explicit["status"] == "ok", "evaluations"].astype(float).mean()
    lines: list[tuple[str, _Level | None, tuple[str, ...]]] = [("explicit", None, ("", "", _number(calls)))]
    for name, row in known.iterrows():
        relative = 100 * row["median_relative_error"]
        cells = (_number(row["median_error_over_std"]), _number(relative, " %"), _number(row["evaluations"]))
        lines.append((LEVELS[str(name)].name, LEVELS[str(name)], cells))
    for y, (label, level, row_cells) in enumerate(lines):
        axes.text(left + 0.05, y + 2.7, label, ha="left", **small)
        if level:
            axes.plot(left, y + 2.7, marker=level.marker, markersize=3.5, color=level.colour, markeredgewidth=0,
                      linestyle="none", clip_on=False)  # fmt: skip
        for x, cell in zip(columns, row_cells, strict=True):
            axes.text(x, y + 2.7, cell, ha="right", **small)


def _note(panels: list[tuple[str, pd.DataFrame, dict[str, pd.DataFrame]]]) -> str:
    """How many members there are, and how few of them can be compared."""
    n_all = max(len(explicit) for _, explicit, _ in panels)
    counts = {
        f"{LEVELS[level].name}, {title}": (len(both), len(explicit))
        for title, explicit, levels in panels
        for level, both in levels.items()
    }
    worst = min(counts, key=lambda key: counts[key][0] / counts[key][1])
    fewest, there = counts[worst]
    note = f"{n_all} members"
    return note if fewest == there else f"{note}; fewest with both values: {fewest} ({worst})"


@styled
def implicit_against_explicit(properties: pd.DataFrame) -> Figure:
    """Values of the members by implicit and by explicit propagation: parity, differences, medians and force calls.

    Parameters
    ----------
    properties
        Table `properties`. Drawn are the volumes of two phases and the
        barrier of the vacancy's hop, with every level that the study has.
        A member without a usable value both ways is left out.
    """
    single = properties[properties["coordinate"].isna()]
    formation = single[single["property"] == "formation"]
    volumes = formation[formation["quantity"] == "volume"]
    wanted = [
        (f"volume of {structure_label('formation', name)}", volumes[volumes["structure"] == name])
        for name in _phases(volumes, formation)
    ]
    barriers = single[(single["property"] == "neb") & (single["quantity"] == "barrier")]
    wanted += [("barrier of the vacancy hop", rows) for _, rows in barriers.groupby("structure", sort=False)]
    panels = [(title, rows, *_by_level(rows)) for title, rows in wanted]
    panels = [panel for panel in panels if panel[-1]]
    if not panels:
        fig = new_figure(4.6, 1.2)
        fig.text(0.5, 0.5, "Nothing to compare: no implicit values beside explicit ones", ha="center", va="center")
        return fig
    n_lines = 1 + max(len(levels) for *_, levels in panels)
    table = 0.12 * (n_lines + 2.2)
    fig = new_figure(max(3.6, FULL_WIDTH * len(panels) / 3), 4.5 + table)
    grid = fig.subplots(3, len(panels), squeeze=False, height_ratios=[1.9, 1.7, table])
    for column, (title, rows, explicit, levels) in enumerate(panels):
        parity, errors, numbers = grid[:, column]
        errors.sharex(parity)
        quantity, unit = quantity_label(str(rows["quantity"].iloc[0])), str(rows["unit"].iloc[0])
        usable = explicit.loc[explicit["status"] == "ok", "value"].astype(float)
        std = float(usable[np.isfinite(usable)].std())
        together = pd.concat(levels.values())
        bottom, top = _limits(together["explicit"].to_numpy(), together["implicit"].to_numpy())
        for name, both in levels.items():
            x = both["explicit"].clip(bottom, top).to_numpy()
            _draw_points(parity, name, x, both["implicit"].clip(bottom, top).to_numpy(), LEVELS[name].size)
            _draw_points(errors, name, x, (both["implicit"] - both["explicit"]).to_numpy(), LEVELS[name].apart)
        parity.axline((bottom, bottom), (top, top), color=COLOURS["note"], linewidth=0.7, zorder=2)
        parity.set(xlim=(bottom, top), ylim=(bottom, top))
        parity.locator_params(nbins=4)
        parity.tick_params(labelbottom=False)
        _mark_cuts(parity, levels, bottom, top)
        _scale_differences(errors, [(b["implicit"] - b["explicit"]).to_numpy() for b in levels.values()], std)
        errors.axhline(0, color=COLOURS["note"], linewidth=0.7, zorder=2)
        for side in (-1, 1):
            errors.axhline(side * std, color=COLOURS["note"], linewidth=0.8, linestyle="--", zorder=2, label="std")
        errors.set_xlabel(axis_label(f"explicit {quantity}", unit))
        parity.set_ylabel(axis_label(f"implicit {quantity}", unit))
        errors.set_ylabel(axis_label("implicit − explicit", unit))
        parity.set_title(title, loc="left")
        for axes in (parity, errors):
            axes.grid()
        known = truncation(rows)
        known.index = pd.Index(known["level"].where(known["method"] == "implicit", known["method"]))
        _write_table(numbers, explicit, known.reindex(list(levels)), n_lines)
    fig.align_ylabels()
    used = [name for name in LEVELS if any(name in levels for *_, levels in panels)]
    handles: list[Artist] = [
        Line2D([], [], linestyle="none", marker=LEVELS[name].marker, markersize=4, color=LEVELS[name].colour,
               markeredgewidth=0, label=LEVELS[name].name)
        for name in used
    ]  # fmt: skip
    handles += [
        Line2D([], [], color=COLOURS["note"], linewidth=0.7, label="implicit = explicit"),
        Line2D([], [], color=COLOURS["note"], linewidth=0.8, linestyle="--", label="± std of explicit values"),
    ]
    columns = {1: 2, 2: 3}.get(len(panels), len(handles))
    fig.legend(handles=handles, loc="outside upper left", ncols=columns, columnspacing=1.0, handletextpad=0.4)
    fig.supxlabel(
        _note([(title, *rest) for title, _, *rest in panels]), x=0.99, ha="right", fontsize=7, color=COLOURS["note"]
    )
    return fig
