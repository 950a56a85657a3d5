"""Formation energy, volume and bulk modulus by phase."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from popsbounds.plotting.intervals import by_structure
from popsbounds.plotting.style import styled

__all__ = ["bulk_modulus", "formation_energy", "volume"]


@styled
def formation_energy(bounds: pd.DataFrame) -> Figure:
    """Formation energy by phase (eV/atom), and its error.

    Parameters
    ----------
    bounds
        Table `bounds`.

    Raises
    ------
    ValueError
        The table has no such rows.
    """
    return by_structure(bounds, "formation", "formation_energy")[0]


@styled
def volume(bounds: pd.DataFrame) -> Figure:
    """Volume per atom by phase (Å³), and its error; parameters and errors as of `formation_energy`."""
    return by_structure(bounds, "formation", "volume")[0]


@styled
def bulk_modulus(bounds: pd.DataFrame) -> Figure:
    """Bulk modulus by phase (GPa), and its error; parameters and errors as of `formation_energy`."""
    return by_structure(bounds, "formation", "bulk_modulus")[0]
