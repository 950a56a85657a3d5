"""Rival posteriors on held-out data: how often they fail, and how sharp they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from popsbounds.plotting.style import FULL_WIDTH, narrow_log_ticks, new_figure, styled

__all__ = ["rival_posteriors"]

_KINDS = {"energy": "energies", "force": "forces"}
_MARKS = [("o", "#0072B2"), ("s", "#D55E00"), ("^", "#009E73"), ("D", "#CC79A7"), ("v", "#E69F00"), ("P", "#56B4E9")]


def _panel(axes: Axes, rows: pd.DataFrame, column: str, names: list[str], splits: list[str]) -> None:
    height = {name: k for k, name in enumerate(reversed(names))}
    for (mark, colour), split in zip(_MARKS * len(splits), splits, strict=False):
        part = rows[rows["split"] == split]
        offset = 0.12 * (splits.index(split) - (len(splits) - 1) / 2)
        axes.plot(
            part[column], [height[name] - offset for name in part["posterior"]], linestyle="none",
            marker=mark, markersize=3.5, markeredgewidth=0, color=colour, label=split,
        )  # fmt: skip
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(range(len(names)), reversed(names))
    axes.grid(axis="x")
    axes.hlines(np.arange(len(names) - 1) + 0.5, 0, 1, transform=axes.get_yaxis_transform(), color="#EEEEEE", lw=0.5)


@styled
def rival_posteriors(posteriors: pd.DataFrame) -> Figure:
    """Envelope violation (left) and interval score beside the raw hypercube's (right), one row of panels a kind.

    Parameters
    ----------
    posteriors
        The contract's table: split, posterior, kind, conformal, EV, interval_score.
    """
    plain = posteriors[~posteriors["conformal"]].copy()
    first = plain[plain["posterior"] == "hypercube, raw"].set_index(["split", "kind"])["interval_score"]
    first = first.where(first > 1e-6)  # a kind that symmetry fixes has nothing to score
    plain["relative"] = (
        plain["interval_score"] / first.reindex(pd.MultiIndex.from_frame(plain[["split", "kind"]])).array
    )
    plain["percent"] = 100 * plain["EV"]
    plain = plain[plain["relative"].notna()]
    names, splits = list(dict.fromkeys(plain["posterior"])), list(dict.fromkeys(plain["split"]))
    kinds = [kind for kind in _KINDS if (plain["kind"] == kind).any()]
    fig = new_figure(FULL_WIDTH, 3.4 * len(kinds) + 0.3)
    panels = fig.subplots(len(kinds), 2, squeeze=False, sharey=True)
    for row, kind in enumerate(kinds):
        for column, (quantity, label) in enumerate(
            {"percent": "outside the bounds (%)", "relative": "interval score / the hypercube's"}.items()
        ):
            axes = panels[row, column]
            _panel(axes, plain[plain["kind"] == kind], quantity, names, splits)
            axes.set_title(_KINDS[kind], loc="left")
            axes.set_xlabel(label)
            if quantity == "percent":
                axes.set_xscale("symlog", linthresh=1)
                axes.set_xticks([0, 1, 5, 20, 100], ["0", "1", "5", "20", "100"])
                axes.set_xlim(-0.15, 110)
            else:
                axes.set_xscale("log")
                narrow_log_ticks(axes.xaxis)
                axes.axvline(1, color="black", linewidth=0.7)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper left", ncols=len(splits))
    return fig
