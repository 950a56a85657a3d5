"""Regression coefficients over the pointwise optimal parameter sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import norm

from popsbounds.plotting.style import COLOURS, FULL_WIDTH, new_figure, styled

__all__ = ["coefficient_distributions"]

REACH = 8  # robust standard deviations shown


@styled
def coefficient_distributions(coefficients: pd.DataFrame) -> Figure:
    """Distributions of single coefficients beside a Gaussian, and their rank correlations.

    Parameters
    ----------
    coefficients
        Table `coefficients`: coefficient, deviation.
    """
    columns = {number: rows["deviation"].to_numpy() for number, rows in coefficients.groupby("coefficient", sort=False)}
    names = [f"Θ{number}" for number in columns]
    fig = new_figure(FULL_WIDTH, 3.0)
    left, right = fig.subplots(1, 2, width_ratios=[1.2, 1])
    edges = np.linspace(-REACH, REACH, 65)
    for name, values in zip(names, columns.values(), strict=True):
        # The interquartile range: fat tails would set a standard deviation.
        spread = np.subtract(*np.percentile(values, [75, 25])) / 1.349
        if spread > 0:
            density = np.histogram(values / spread, edges)[0] / len(values) / np.diff(edges)
            left.stairs(density, edges, linewidth=0.9, label=name, color=f"C{names.index(name)}")
    grid = np.linspace(-REACH, REACH, 200)
    left.plot(grid, norm.pdf(grid), color=COLOURS["reference"], linewidth=0.8, linestyle="--", label="Gaussian")
    left.set(yscale="log", ylim=(1e-4, 20), xlim=(-REACH, REACH))
    left.set_xlabel("deviation from the MLE / interquartile spread")
    left.set_ylabel("probability density")
    left.legend(ncols=2, loc="upper right", handlelength=1.2, columnspacing=0.8)
    correlation = pd.DataFrame(dict(zip(names, columns.values(), strict=True))).corr(method="spearman").to_numpy()
    image = right.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1)
    right.set_xticks(range(len(names)), names)
    right.set_yticks(range(len(names)), names)
    for (i, j), value in np.ndenumerate(correlation):
        right.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=6.5,
                   color="white" if abs(value) > 0.6 else "black")  # fmt: skip
    fig.colorbar(image, ax=right, label="Spearman ρ", shrink=0.85)
    return fig
