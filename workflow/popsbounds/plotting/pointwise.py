"""Energies and forces of the test set: bounds against truth, and errors against the bounds' width."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from popsbounds.plotting.style import COLOURS, FULL_WIDTH, axis_label, new_figure, styled
from popsbounds.statistics import ROUNDING, outside_bounds

__all__ = ["parity_and_errors"]

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


def _ticks_of_narrow_range(axis: Axis) -> None:
    """Label 1, 2 and 5 of each decade where powers of ten alone would leave a logarithmic axis bare."""
    axis.set_minor_formatter(NullFormatter())
    low, high = axis.get_view_interval()
    if high / low < 100:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


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
    axes.axline((left, left), (right, right), color=COLOURS["reference"], linewidth=0.7, zorder=4)
    axes.set_xlim(left / 1.5, right * 1.5)
    # The lowest errors are accidents and would fill the panel.
    axes.set_ylim(np.percentile(error[drawn], 1) / 1.5, max(error[drawn].max(), right) * 1.5)
    _ticks_of_narrow_range(axes.xaxis)
    _ticks_of_narrow_range(axes.yaxis)


@styled
def parity_and_errors(pointwise: pd.DataFrame) -> Figure:
    """Parity with the members' bounds (top) and error against half-range (bottom), one column a kind.

    Parameters
    ----------
    pointwise
        The contract's table: kind, truth, mle, low, high (eV/atom, eV/Å).
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
    fig.legend(handles=handles, loc="outside upper left", ncols=3, columnspacing=1.2, handletextpad=0.5)
    return fig
