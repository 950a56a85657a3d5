"""Surface energies by facet."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from popsbounds.plotting.intervals import order_structures, select, two_panels
from popsbounds.plotting.style import quantity_label, structure_label, styled

__all__ = ["surface_energy"]


@styled
def surface_energy(bounds: pd.DataFrame) -> Figure:
    """Surface energy by facet (J/m²), and its error.

    Parameters
    ----------
    bounds
        The contract's table.
    """
    rows = order_structures(select(bounds, "surface", "surface_energy"))
    labels = [structure_label("surface", name) for name in rows["structure"]]
    return two_panels(rows, labels, quantity_label("surface_energy"))
