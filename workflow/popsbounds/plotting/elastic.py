"""Elastic constants."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from popsbounds.plotting.intervals import select, two_panels
from popsbounds.plotting.style import FULL_WIDTH, quantity_label, structure_label, styled

__all__ = ["elastic_constants"]

ORDER = ["C11", "C12", "C44", "bulk_modulus", "shear_modulus"]
SHORT = {"bulk_modulus": "bulk", "shear_modulus": "shear"}


@styled
def elastic_constants(bounds: pd.DataFrame) -> Figure:
    """Elastic constants and moduli (GPa) of each crystal, and their errors.

    Parameters
    ----------
    bounds
        Table `bounds`.

    Raises
    ------
    ValueError
        The table has no such rows.
    """
    rows = select(bounds, "elastic", *ORDER)
    crystals = list(rows["structure"].unique())
    rank = rows["structure"].map(crystals.index) * len(ORDER) + rows["quantity"].map(ORDER.index)
    rows = rows.iloc[rank.argsort()]
    labels = [SHORT.get(name, quantity_label(name)) for name in rows["quantity"]]
    if len(crystals) > 1:
        names = [structure_label("elastic", name) for name in rows["structure"]]
        labels = [f"{label}\n{name}" for label, name in zip(labels, names, strict=True)]
    width = min(FULL_WIDTH, 4.6 + 0.4 * max(0, len(rows) - len(ORDER)))
    quantity = f"modulus of {structure_label('elastic', crystals[0])}" if len(crystals) == 1 else "modulus"
    return two_panels(rows, labels, quantity, width=width)
