"""Tables and numbers as text, and what is said of figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import pandas as pd

__all__ = ["KINDS", "caption", "markdown", "shown_number"]


KINDS = {"energy": ("energies", "eV/atom"), "force": ("forces", "eV/Å")}
"""Name and unit of each kind of held-out data."""


def caption(name: str) -> str:
    """What there is to say of a figure or a table; figures of the user's own properties share one text.

    With ``*emphasis*``, and code in backquotes.
    """
    name = "own" if name.startswith("own_") else name
    return files("popsbounds").joinpath("captions", f"{name}.rst").read_text(encoding="utf-8").strip()


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def shown_number(value: float, digits: int = 3) -> str:
    """Significant digits, without an exponent from 1e-4 to a million; nothing for a number that is missing."""
    if pd.isna(value):
        return ""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return np.format_float_positional(value, precision=digits, unique=False, fractional=False, trim="-")
    return f"{value:.{digits}g}"
