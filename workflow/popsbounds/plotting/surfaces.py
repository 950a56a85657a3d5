"""Surface energies by facet."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from popsbounds.plotting.intervals import by_structure
from popsbounds.plotting.style import styled

__all__ = ["surface_energy"]


@styled
def surface_energy(bounds: pd.DataFrame) -> Figure:
    """Surface energy by facet (J/m²), and its error.

    Parameters
    ----------
    bounds
        Table `bounds`.

    Raises
    ------
    ValueError
        The table has no such rows.
    """
    return by_structure(bounds, "surface", "surface_energy")[0]
