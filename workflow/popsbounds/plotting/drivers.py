"""What drives the uncertainty: shares of the variance by training data, and by axis of the posterior."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from popsbounds.plotting.style import (
    COLOURS,
    FULL_WIDTH,
    narrow_log_ticks,
    new_figure,
    property_label,
    quantity_label,
    structure_label,
    styled,
)
from popsbounds.statistics import COUNTS

__all__ = ["variance_drivers"]

HEADLINES = {
    "formation": ["formation_energy"],
    "elastic": ["C11", "C12", "C44"],
    "sia": ["formation_energy"],
    "surface": ["surface_energy"],
    "neb": ["barrier", "vacancy_formation_energy"],
}
NAMES = {"formation": "formation energies", "sia": "interstitials", "surface": "surfaces"}
MOST = 34  # bars
LETTERS = 22  # of a bar's name
NAMED = 7  # groups with a colour of their own
# Neighbours differ in brightness, so that the stack can be read in grey print too.
PALETTE = ["#0072B2", "#F0E442", "#D55E00", "#56B4E9", "#882255", "#E69F00", "#009E73"]
OTHERS = "#BBBBBB"
ROW = 0.155  # inches a bar, its gap included
THICKEST = 0.2  # inches
HIGHEST = 3.0  # inches, of the panel on the right
LEAST = 0.12  # share with its number written on it
LINES = [
    ("#000000", "o"), ("#0072B2", "s"), ("#D55E00", "^"), ("#009E73", "D"), ("#CC79A7", "v"), ("#E69F00", "P"),
    ("#56B4E9", "X"), ("#882255", "<"), ("#666666", ">"),
]  # fmt: skip
KEY = ["property", "structure", "quantity"]


def _headlines(drivers: pd.DataFrame) -> pd.DataFrame:
    """Rows of the quantities that speak for their property; the rest follows from them."""
    quantity = drivers["quantity"]
    wanted = ~quantity.isin(COUNTS)
    for prop, names in HEADLINES.items():
        wanted &= (drivers["property"] != prop) | quantity.isin(names)
    return drivers[wanted & np.isfinite(drivers["share"].to_numpy(float))]


def _thin(bars: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """As many bars as fit, the first ones of each property, and what is left out in words."""
    rank = bars.groupby("property", sort=False).cumcount()
    each = next((k for k in range(len(bars), 0, -1) if (rank < k).sum() <= MOST), 1)
    left = bars[rank >= each].groupby("property", sort=False).size()
    words = ", ".join(f"{number} of {property_label(str(prop))}" for prop, number in left.items())
    return bars[rank < each], f"not shown: {words}" if words else ""


def _heading(prop: str, bars: pd.DataFrame) -> str:
    """Name of a block of bars, with what they have in common."""
    text = NAMES.get(prop, property_label(prop))
    if prop in (*NAMES, "neb"):
        return text
    if bars["structure"].nunique() == 1:
        return f"{text}, {structure_label(prop, bars['structure'].iloc[0])}"
    return text if bars["quantity"].nunique() > 1 else f"{text}, {quantity_label(bars['quantity'].iloc[0])}"


def _labels(prop: str, bars: pd.DataFrame) -> list[str]:
    """Names of the bars, without what they have in common."""
    structures = [structure_label(prop, name) for name in bars["structure"]]
    quantities = [quantity_label(name) for name in bars["quantity"]]
    if prop == "neb":
        labels = ["formation" if name == "vacancy_formation_energy" else name for name in bars["quantity"]]
    elif bars["structure"].nunique() == 1:
        labels = quantities
    elif bars["quantity"].nunique() == 1:
        labels = structures
    else:
        labels = [f"{quantity}, {name}" for quantity, name in zip(quantities, structures, strict=True)]
    return [text if len(text) <= LETTERS else text[: LETTERS - 1] + "…" for text in labels]


def _ink(colour: str) -> str:
    return "white" if np.dot(to_rgb(colour), [0.299, 0.587, 0.114]) < 0.55 else "black"


def _stack(axes: Axes, y: float, shares: pd.Series, colours: dict[str, str], height: float) -> None:
    """One bar of shares (%), side by side in the order of the colours."""
    left = 0.0
    for name, colour in colours.items():
        width = 100 * float(shares.get(name, 0.0))
        axes.barh(y, width, left=left, height=height, color=colour, edgecolor="white", linewidth=0.4, label=name)
        if width >= 100 * LEAST:
            axes.text(left + width / 2, y, f"{width:.0f}", ha="center", va="center_baseline", fontsize=6,
                      color=_ink(colour))  # fmt: skip
        left += width


def _axes_needed(share: float, cumulative: np.ndarray) -> int | None:
    """Number of axes that hold that share; None if more than are listed."""
    reached = np.flatnonzero(cumulative >= share)
    return int(reached[0]) + 1 if len(reached) else None


def _draw_axes(axes: Axes, rows: pd.DataFrame) -> None:
    """Share of the variance in the largest axes, one line a property."""
    longest = 1
    for (prop, part), (colour, marker) in zip(rows.groupby("property", sort=False), LINES * len(rows), strict=False):
        curves = [np.sort(one["share"].to_numpy())[::-1].cumsum() for _, one in part.groupby(KEY, sort=False)]
        length = min(map(len, curves))
        longest = max(longest, length)
        table = np.array([curve[:length] for curve in curves])
        number, mean = np.arange(1, length + 1), table.mean(axis=0)
        axes.fill_between(number, 100 * table.min(axis=0), 100 * table.max(axis=0), color=colour, alpha=0.12,
                          linewidth=0, label=f"range {prop}")  # fmt: skip
        needed = _axes_needed(0.9, mean)
        name = NAMES.get(str(prop), property_label(str(prop)))
        text = f"{name}: {needed or f'> {length}'}"
        marks = np.unique(np.geomspace(1, length, 6).round().astype(int)) - 1
        axes.plot(number, 100 * mean, color=colour, marker=marker, markersize=3.5, markevery=list(marks),
                  linewidth=1.1, label=text)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(0.93, max(longest, 2) * 1.07)
    axes.set_ylim(0, 103)
    narrow_log_ticks(axes.xaxis)
    axes.grid()
    axes.set_xlabel("axes, largest first")
    axes.set_ylabel("share of the variance (%)")
    title = "Line: mean, band: range over quantities\nAxes that hold 90 %:"
    axes.legend(handles=list(axes.lines), loc="upper left", bbox_to_anchor=(-0.25, -0.2), title=title, title_fontsize=7,
                alignment="left", borderaxespad=0)  # fmt: skip


def _groups(shares: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Shares with the smaller groups in one column, largest mean first, and the columns' colours."""
    order = shares.mean().sort_values(ascending=False, kind="stable").index
    if len(order) <= NAMED + 1:
        return shares[order], dict(zip(order, [*PALETTE, OTHERS], strict=False))
    rest = f"{len(order) - NAMED} other groups"
    few = shares[order[:NAMED]].assign(**{rest: shares[order[NAMED:]].sum(axis=1)})
    return few, dict(zip(few.columns, [*PALETTE, OTHERS], strict=True))


def _sizes(rows: pd.DataFrame) -> pd.Series:
    """Share of each name in the training rows."""
    sizes = rows.drop_duplicates("name").set_index("name")["n_rows"].astype(float)
    return sizes / sizes.sum()


@styled
def variance_drivers(drivers: pd.DataFrame) -> Figure:
    """Training data that a quantity's variance comes from (left; middle: energies), and in how many axes it lies.

    Parameters
    ----------
    drivers
        Table `drivers`: property, structure, quantity, by, name, share,
        n_rows. Each property is shown by its main quantities.
    """
    rows = _headlines(drivers)
    found = rows[rows["by"] == "group"]
    if found.empty:
        fig = new_figure(4.6, 1.2)
        fig.text(0.5, 0.5, "Nothing to share out: no quantity varies", ha="center", va="center")
        return fig
    bars, note = _thin(found[KEY].drop_duplicates().reset_index(drop=True))
    shares, colours = _groups(found.pivot(index=KEY, columns="name", values="share").fillna(0.0))
    sizes = _sizes(found)
    for name in colours:
        if name not in sizes:
            sizes[name] = sizes.drop(list(colours), errors="ignore").sum()
    axis_rows = rows[(rows["by"] == "axis") & (rows["name"] != "other")]
    kinds = rows[rows["by"] == "kind"]

    places, names, y = [0.0], ["training rows"], 1.6
    headings: list[tuple[str, float]] = []  # two properties may have the same
    for prop, block in bars.groupby("property", sort=False):
        headings.append((_heading(str(prop), block), y))
        names += _labels(str(prop), block)
        places += [y + 0.9 + k for k in range(len(block))]
        y += len(block) + 1.2
    height = max(ROW * (y + 0.3), HIGHEST + 1.0)
    thickness = min(0.8, THICKEST * (y + 0.3) / height)
    key_columns = max(1, min(4, int(FULL_WIDTH / (0.5 + 0.065 * max(map(len, colours))))))
    fig = new_figure(FULL_WIDTH, height + 0.65 + 0.16 * math.ceil(len(colours) / key_columns))
    grid = fig.add_gridspec(2, 3, width_ratios=[3.3, 0.8, 2.2], height_ratios=[HIGHEST, height - HIGHEST])
    left, right = fig.add_subplot(grid[:, 0]), fig.add_subplot(grid[0, 2])
    middle = fig.add_subplot(grid[:, 1], sharey=left)
    keys = [tuple(bar) for bar in bars.to_numpy()]
    for place, share in zip(places, [sizes, *(shares.loc[key] for key in keys)], strict=True):
        _stack(left, place, share, colours, thickness)
    for text, place in headings:
        left.text(1, place, text, va="center", fontsize=7, color=COLOURS["note"])
    left.set_yticks(places, names)
    left.set(xlim=(0, 100), ylim=(y - 0.5, -0.7), xlabel="share by group of the training data (%)")
    left.tick_params(axis="y", length=0)
    if kinds.empty:
        middle.remove()
    else:
        energies = kinds[kinds["name"] == "energy"].set_index(KEY)["share"].reindex(keys).fillna(0.0)
        middle.plot(
            [100 * _sizes(kinds).get("energy", 0.0), *(100 * energies)], places, linestyle="none", marker="o",
            markersize=3.5, color=COLOURS["std"], label="energy",
        )  # fmt: skip
        middle.set(xlim=(-5, 105), xticks=[0, 50, 100], xlabel="by energies (%)")
        middle.grid()
        middle.tick_params(axis="y", length=0, labelleft=False)
    if axis_rows.empty:
        right.remove()
    else:
        _draw_axes(right, axis_rows)
    handles: list[Artist] = [Patch(color=colour, label=name.replace("_", " ")) for name, colour in colours.items()]
    fig.legend(handles=handles, loc="outside upper left", ncols=key_columns, columnspacing=1.2, handletextpad=0.5)
    if note:
        fig.supxlabel(note, x=0.99, ha="right", fontsize=7, color=COLOURS["note"])
    return fig
