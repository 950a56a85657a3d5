"""Formation energies of self-interstitials."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from popsbounds.plotting.intervals import by_structure
from popsbounds.plotting.style import COLOURS, styled
from popsbounds.statistics import principal

__all__ = ["sia_energy"]


@styled
def sia_energy(bounds: pd.DataFrame) -> Figure:
    """Formation energy of each self-interstitial (eV), and its error; those that the MLE finds unstable are marked.

    Parameters
    ----------
    bounds
        Table `bounds`.

    Raises
    ------
    ValueError
        The table has no such rows.
    """
    fig, structures = by_structure(bounds, "sia", "formation_energy")
    known = (bounds["property"] == "sia") & (bounds["quantity"] == "hessian_index")
    unstable = principal(bounds[known]).set_index("structure")["mle"].reindex(structures)
    lower = fig.axes[1]
    for position, number in enumerate(unstable):
        if number > 0:
            lower.annotate(
                f"saddle, {number:.0f}", (position, 0), xycoords=("data", "axes fraction"), xytext=(0, -16),
                textcoords="offset points", ha="center", va="top", fontsize=6.5, color=COLOURS["note"],
            )  # fmt: skip
    return fig
