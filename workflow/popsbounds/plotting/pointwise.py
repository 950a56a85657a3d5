"""Energies and forces of the test set: bounds against truth, and errors against the bounds' width."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from popsbounds.plotting.style import COLOURS, FULL_WIDTH, axis_label, narrow_log_ticks, new_figure, styled
from popsbounds.statistics import ROUNDING, outside_bounds

__all__ = ["coverage_by_members", "error_distributions", "parity_and_errors"]

KINDS = {"energy": ("energy", "eV/atom"), "force": ("force component", "eV/A")}


def _alpha(part: np.ndarray) -> float:
    """Opacity that keeps the shape of a dense cloud visible."""
    return float(np.clip((3000 / max(part.sum(), 1)) ** 0.5, 0.1, 1))


def _parity(axes: Axes, rows: pd.DataFrame, outside: np.ndarray, name: str, unit: str) -> None:
    """Prediction against truth; limits from the truths and MLEs, so that no far bound stretches them."""
    truth = rows["truth"].to_numpy(float)
    known = np.concatenate([truth, rows["mle"].to_numpy(float)])
    bottom, top = known.min(), known.max()
    margin = 0.04 * (top - bottom) or 1.0
    bottom, top = bottom - margin, top + margin
    low, high = rows["low"].clip(bottom, top), rows["high"].clip(bottom, top)
    # Thousands of segments would choke a PDF viewer: the data are drawn as a picture, the text stays text.
    axes.vlines(truth, low, high, color=COLOURS["range"], linewidth=0.6, rasterized=True, zorder=2)
    for part, colour, size in ((~outside, "std", 2.0), (outside, "outside", 2.5)):
        axes.plot(
            truth[part], rows["mle"].to_numpy(float)[part], linestyle="none", marker="o", markersize=size,
            markeredgewidth=0, color=COLOURS[colour], alpha=_alpha(part), rasterized=True, zorder=3,
        )  # fmt: skip
    axes.plot([bottom, top], [bottom, top], color=COLOURS["reference"], linewidth=0.7, zorder=4)
    axes.set(xlim=(bottom, top), ylim=(bottom, top))
    axes.locator_params(nbins=5)
    axes.set_box_aspect(1)
    axes.set_xlabel(axis_label(f"true {name}", unit))
    axes.set_ylabel(axis_label(f"predicted {name}", unit))
    axes.set_title(f"{100 * outside.mean():.2g} % of {len(rows):,} outside the bounds", loc="left")


def _errors(axes: Axes, rows: pd.DataFrame, outside: np.ndarray, name: str, unit: str) -> None:
    """|error| against half the bounds' width, logarithmic."""
    error = (rows["truth"] - rows["mle"]).abs().to_numpy(float)
    half = ((rows["high"] - rows["low"]) / 2).to_numpy(float)
    # What symmetry fixes has no width but rounding.
    drawn = (error > 0) & (half > ROUNDING) & np.isfinite(half)
    axes.set(xscale="log", yscale="log")
    axes.grid()
    axes.set_box_aspect(1)
    axes.set_xlabel(axis_label("half of high − low", unit))
    axes.set_ylabel(axis_label("|error of the MLE|", unit))
    if not drawn.any():
        return
    # A width far beyond all others is drawn at the edge.
    left, right = np.percentile(half[drawn], [0.1, 99.9]) * [0.1, 10]
    left, right = max(left, half[drawn].min()), min(right, half[drawn].max())
    half = half.clip(left, right)
    for part, colour, size in ((~outside, "std", 2.0), (outside, "outside", 2.5)):
        axes.plot(
            half[drawn & part], error[drawn & part], linestyle="none", marker="o", markersize=size,
            markeredgewidth=0, color=COLOURS[colour], alpha=_alpha(part), rasterized=True, zorder=3,
        )  # fmt: skip
    axes.axline((left, left), (10 * left, 10 * left), color=COLOURS["reference"], linewidth=0.7, zorder=4)
    axes.set_xlim(left / 1.5, right * 1.5)
    # The lowest errors are accidents and would fill the panel.
    axes.set_ylim(np.percentile(error[drawn], 1) / 1.5, max(error[drawn].max(), right) * 1.5)
    narrow_log_ticks(axes.xaxis)
    narrow_log_ticks(axes.yaxis)


@styled
def parity_and_errors(pointwise: pd.DataFrame) -> Figure:
    """Parity with the members' bounds (top) and error against half-range (bottom), one column a kind.

    Parameters
    ----------
    pointwise
        Table `pointwise`: kind, truth, mle, low, high (eV/atom, eV/Å).

    Raises
    ------
    ValueError
        The table is empty.
    """
    kinds = [kind for kind in KINDS if (pointwise["kind"] == kind).any()]
    if not kinds:
        raise ValueError("pointwise: no energies and no forces")
    fig = new_figure(FULL_WIDTH * len(kinds) / 2, FULL_WIDTH * 1.02)
    panels = fig.subplots(2, len(kinds), squeeze=False)
    for column, kind in enumerate(kinds):
        rows = pointwise[pointwise["kind"] == kind]
        outside = outside_bounds(rows)
        _parity(panels[0, column], rows, outside, *KINDS[kind])
        _errors(panels[1, column], rows, outside, *KINDS[kind])
    handles = [
        Line2D([], [], linestyle="none", marker="o", markersize=4, color=COLOURS["std"], label="MLE"),
        Line2D([], [], linestyle="none", marker="o", markersize=4, color=COLOURS["outside"],
               label="MLE, truth outside the bounds"),
        Line2D([], [], color=COLOURS["range"], linewidth=2, label="members, lowest to highest"),
    ]  # fmt: skip
    ncols = 3 if len(kinds) > 1 else 1  # as wide as the panels
    fig.legend(handles=handles, loc="outside upper left", ncols=ncols, columnspacing=1.2, handletextpad=0.5)
    return fig


@styled
def error_distributions(deviations: pd.DataFrame) -> Figure:
    """How errors of the MLE and deviations of the members are distributed, one panel a kind.

    Parameters
    ----------
    deviations
        Table `deviations`: kind, left, right (eV/atom, eV/Å), error, deviation (shares).
    """
    kinds = [kind for kind in KINDS if (deviations["kind"] == kind).any()]
    fig = new_figure(FULL_WIDTH * len(kinds) / 2, 2.6)
    for axes, kind in zip(fig.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        rows = deviations[deviations["kind"] == kind]
        edges = [*rows["left"], rows["right"].iloc[-1]]
        axes.stairs(rows["deviation"], edges, fill=True, color=COLOURS["range"], label="members − MLE")
        axes.stairs(rows["error"], edges, color=COLOURS["outside"], linewidth=1.2, label="truth − MLE")
        axes.set_yscale("log")
        smallest = rows.loc[rows["error"] > 0, "error"].min()
        axes.set_ylim(smallest / 20, 1.5)
        shown = rows[(rows["error"] > 0) | (rows["deviation"] > smallest / 20)]
        reach = 1.05 * shown[["left", "right"]].abs().to_numpy().max()
        axes.set_xlim(-reach, reach)
        name, unit = KINDS[kind]
        axes.set_xlabel(axis_label(f"deviation of {name}", unit))
        axes.locator_params(axis="x", nbins=5)
    fig.axes[0].set_ylabel("share of the data")
    handles, labels = fig.axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper left", ncols=2)
    return fig


@styled
def coverage_by_members(coverage: pd.DataFrame) -> Figure:
    """Envelope violation against the number of members.

    Parameters
    ----------
    coverage
        Table `coverage`: kind, n_members, EV.
    """
    fig = new_figure(3.6, 2.8)
    axes = fig.subplots()
    for (kind, rows), colour, marker in zip(coverage.groupby("kind"), ("std", "outside"), "os", strict=False):
        axes.plot(
            rows["n_members"], 100 * rows["EV"], marker=marker, markersize=3, linewidth=1, color=COLOURS[colour],
            label=KINDS[kind][0],
        )  # fmt: skip
    members = np.unique(coverage["n_members"])
    axes.plot(members, 200 / (members + 1), color=COLOURS["note"], linewidth=0.8, linestyle="--", label="2/(M + 1)")
    axes.set(xscale="log", yscale="log", xlabel="members", ylabel="outside the bounds (%)")
    axes.grid()
    fig.legend(loc="outside upper left", ncols=3, columnspacing=1.2)
    return fig
