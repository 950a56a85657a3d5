"""Rival posteriors on held-out data: how often they fail, and how sharp they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from popsbounds.plotting.style import FULL_WIDTH, narrow_log_ticks, new_figure, styled
from popsbounds.text import KINDS

__all__ = ["rival_posteriors"]

_MARKS = [
    ("o", "#0072B2"), ("s", "#D55E00"), ("^", "#009E73"), ("D", "#CC79A7"), ("v", "#E69F00"), ("P", "#56B4E9"),
    ("X", "#000000"), ("<", "#0072B2"), (">", "#D55E00"), ("p", "#009E73"),
]  # fmt: skip


def _panel(axes: Axes, rows: pd.DataFrame, column: str, names: list[str], cases: list[str]) -> None:
    height = {name: k for k, name in enumerate(reversed(names))}
    for (mark, colour), case in zip(_MARKS * len(cases), cases, strict=False):
        part = rows[rows["case"] == case]
        offset = 0.75 * ((cases.index(case) + 0.5) / len(cases) - 0.5)
        axes.plot(
            part[column], [height[name] - offset for name in part["posterior"]], linestyle="none",
            marker=mark, markersize=3.5, markeredgewidth=0, color=colour, label=case,
        )  # fmt: skip
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(range(len(names)), reversed(names))
    axes.grid(axis="x")
    axes.hlines(np.arange(len(names) - 1) + 0.5, 0, 1, transform=axes.get_yaxis_transform(), color="#EEEEEE", lw=0.5)


@styled
def rival_posteriors(posteriors: pd.DataFrame) -> Figure:
    """Envelope violation (left) and interval score beside the hypercube's (right), one row of panels a kind.

    Parameters
    ----------
    posteriors
        Table `posteriors`: case, draw, posterior, kind, conformal, EV, interval_score.
    """
    plain = posteriors[~posteriors["conformal"] & (posteriors["draw"] == "")].copy()
    first = plain[plain["posterior"] == "hypercube"].set_index(["case", "kind"])["interval_score"]
    first = first.where(first > 1e-6)  # a kind that symmetry fixes has nothing to score
    plain["relative"] = plain["interval_score"] / first.reindex(pd.MultiIndex.from_frame(plain[["case", "kind"]])).array
    plain["percent"] = 100 * plain["EV"]
    plain = plain[plain["relative"].notna()]
    names, cases = list(dict.fromkeys(plain["posterior"])), list(dict.fromkeys(plain["case"]))
    kinds = [kind for kind in KINDS if (plain["kind"] == kind).any()]
    fig = new_figure(FULL_WIDTH, (0.03 * len(cases) + 0.1) * len(names) * len(kinds) + 0.8)
    panels = fig.subplots(len(kinds), 2, squeeze=False, sharey=True)
    for row, kind in enumerate(kinds):
        for column, (quantity, label) in enumerate(
            {"percent": "outside the bounds (%)", "relative": "interval score / the hypercube's"}.items()
        ):
            axes = panels[row, column]
            _panel(axes, plain[plain["kind"] == kind], quantity, names, cases)
            axes.set_title(KINDS[kind][0], loc="left")
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
    fig.legend(handles, labels, loc="outside upper left", ncols=min(len(cases), 5))
    return fig
