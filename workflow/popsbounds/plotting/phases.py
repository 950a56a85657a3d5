"""Formation energy, volume and bulk modulus by phase."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from popsbounds.plotting.intervals import order_structures, select, two_panels
from popsbounds.plotting.style import quantity_label, structure_label, styled

__all__ = ["bulk_modulus", "formation_energy", "volume"]


def _phases(bounds: pd.DataFrame, quantity: str) -> Figure:
    rows = order_structures(select(bounds, "formation", quantity))
    labels = [structure_label("formation", name) for name in rows["structure"]]
    return two_panels(rows, labels, quantity_label(quantity))


@styled
def formation_energy(bounds: pd.DataFrame) -> Figure:
    """Formation energy by phase (eV/atom), and its error.

    Parameters
    ----------
    bounds
        The contract's table.
    """
    return _phases(bounds, "formation_energy")


@styled
def volume(bounds: pd.DataFrame) -> Figure:
    """Volume per atom by phase (Å³), and its error; parameters as `formation_energy`."""
    return _phases(bounds, "volume")


@styled
def bulk_modulus(bounds: pd.DataFrame) -> Figure:
    """Bulk modulus by phase (GPa), and its error; parameters as `formation_energy`."""
    return _phases(bounds, "bulk_modulus")
