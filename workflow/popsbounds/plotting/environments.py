"""What the training set covers of descriptor space, and which of the properties' structures lie outside."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from popsbounds.environments import names_outside
from popsbounds.plotting.style import COLOURS, FULL_WIDTH, new_figure, property_label, structure_label, styled

__all__ = ["descriptor_space"]

CLOUDS = {"training": ("training set", "#BDBDBD"), "rattled": ("rattled, all", "#56B4E9"), "MD": ("MD, all", "#0072B2")}
# Dark, light and coloured in turn, each with a shape of its own.
MARKS = {
    "formation": ("#000000", "o"),
    "elastic": ("#D55E00", "s"),
    "sia": ("#009E73", "^"),
    "surface": ("#CC79A7", "D"),
    "phonon": ("#882255", "<"),
    "neb": ("#F0E442", "X"),
    "path": ("#E69F00", "v"),
}
OWN = ("#666666", "P")
CENTRAL = 0.99  # share of the training set that is in sight
NEAREST = 1e-3  # distances below are drawn there
LETTERS = 24  # of the names at a row's end


def _draw_space(axes: Axes, points: pd.DataFrame, properties: list[str]) -> None:
    """Environments along the two principal axes of the training set."""
    clouds = {kind: points.loc[points["set"] == kind, ["axis_1", "axis_2"]] for kind in CLOUDS}
    widest_first = sorted(CLOUDS, key=lambda kind: -clouds[kind].std().sum())
    for kind, (name, colour) in CLOUDS.items():
        if len(clouds[kind]):  # thousands of points would choke a PDF viewer: they are drawn as a picture
            axes.plot(*clouds[kind].to_numpy().T, linestyle="none", marker="o", markersize=1.8, markeredgewidth=0,
                      color=colour, rasterized=True, label=name, zorder=1 + widest_first.index(kind) / 10)  # fmt: skip
    for prop in properties:
        colour, marker = MARKS.get(prop, OWN)
        places = points.loc[points["property"] == prop, ["axis_1", "axis_2"]].round(2).drop_duplicates()
        axes.plot(places["axis_1"], places["axis_2"], linestyle="none", marker=marker, markersize=4,
                  markeredgewidth=0.4, markeredgecolor="white", color=colour, label=property_label(prop))  # fmt: skip
    shown = points[~points["set"].isin(["rattled", "MD"])]
    training = shown["set"] == "training"
    for k, limit in ((1, axes.set_xlim), (2, axes.set_ylim)):
        values = shown[f"axis_{k}"]
        tails = values[training].quantile([(1 - CENTRAL) / 2, (1 + CENTRAL) / 2])
        ends = pd.concat([tails, values[~training]])
        low, high = ends.min(), ends.max()
        limit(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.set(xlabel="first principal axis (standard deviations)", ylabel="second principal axis (standard deviations)")


def _draw_entropy(axes: Axes, sets: pd.DataFrame) -> None:
    """Entropy of each set relative to the training set's, and what share of the structures is inside the set."""
    places = list(range(len(sets)))
    axes.barh(places, sets["entropy_over_training"], height=0.65, color=[CLOUDS[kind][1] for kind in sets["kind"]])
    whole = sets["set"] == sets["kind"]
    axes.set_yticks(places, [CLOUDS[name][0] if name in CLOUDS else name for name in sets["set"]])
    for label, bold in zip(axes.get_yticklabels(), whole, strict=True):
        label.set_fontweight("bold" if bold else "normal")
    for place, share in zip(places, sets["covers_structures"], strict=True):
        text = "blew up" if np.isnan(share) else f"{100 * share:.0f} %"
        axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), va="center_baseline", fontsize=7.5)
    number = f"{sets['n_environments'].iloc[0]:,} environments each"
    axes.set_title(number, loc="left", fontsize=7.5, color=COLOURS["note"])
    axes.set_title("inside", loc="right", fontsize=7.5, color=COLOURS["note"])
    axes.axvline(0, color="black", linewidth=0.7)
    axes.set_ylim(len(sets) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlabel("entropy relative to the training set's (nats)")


def _draw_distances(axes: Axes, table: pd.DataFrame, own: pd.Series, properties: list[str]) -> None:
    """Distances of the structures, below the distribution of the training set's own; those outside by name."""
    known = pd.concat([own, table["distance"]])
    lowest = max(NEAREST, 0.7 * known.min())
    edges = np.geomspace(lowest, 1.3 * max(1, known.max()), 61)
    counts, _ = np.histogram(own.clip(lowest), edges)
    axes.stairs(0.4 - 0.8 * counts / counts.max(), edges, baseline=0.4, fill=True, color=CLOUDS["training"][1])
    outside = names_outside(table)
    for place, prop in enumerate(properties, start=1):
        distances = table.loc[table["property"] == prop, "distance"].clip(lowest)
        colour, marker = MARKS.get(prop, OWN)
        axes.plot(distances, [place] * len(distances), linestyle="none", marker=marker, markersize=4,
                  markeredgewidth=0.4, markeredgecolor="white", color=colour)  # fmt: skip
        names = [structure_label(prop, name) for name in outside.get(prop, [])]
        text = ", ".join(names)
        if len(text) > LETTERS:
            fitting = max(1, int((np.cumsum([len(name) + 2 for name in names]) <= LETTERS - 4).sum()))
            text = f"{', '.join(names[:fitting])}" + (f" + {len(names) - fitting}" if fitting < len(names) else "")
        axes.text(1.3 * distances.max(), place, text, fontsize=6.5, va="center_baseline", color=COLOURS["outside"])
    axes.axvline(1, color="black", linewidth=0.7, linestyle="--")
    axes.set(xscale="log", xlim=(lowest / 1.3, edges[-1]))
    axes.set_yticks(range(len(properties) + 1), ["training set", *map(property_label, properties)])
    axes.set_ylim(len(properties) + 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlabel("distance to the training set / its own 99th percentile")


@styled
def descriptor_space(table: pd.DataFrame, sets: pd.DataFrame, points: pd.DataFrame) -> Figure:
    """Descriptor space (left), entropy and coverage of sets (top right), distances of structures (bottom right).

    Parameters
    ----------
    table, sets, points
        Tables `environments`, `entropy` and `descriptor_space`.
    """
    properties = list(dict.fromkeys(table["property"]))
    heights = [0.16 * len(sets), 0.2 * (len(properties) + 1)]
    fig = new_figure(FULL_WIDTH, sum(heights) + 1.8)
    grid = fig.add_gridspec(2, 2, height_ratios=heights)
    left = fig.add_subplot(grid[:, 0])
    _draw_space(left, points, properties)
    _draw_entropy(fig.add_subplot(grid[0, 1]), sets)
    _draw_distances(fig.add_subplot(grid[1, 1]), table, points.loc[points["set"] == "training", "distance"], properties)
    handles, labels = left.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper left", ncols=5, columnspacing=1.2, handletextpad=0.4)
    return fig
