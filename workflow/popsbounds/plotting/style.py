"""What all figures share: fonts, colours, labels, saving.

Colours are from the Okabe–Ito set, which colour-blind readers can tell apart;
what they tell is told by shape or position too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

__all__ = [
    "COLOURS",
    "axis_label",
    "datum_label",
    "narrow_log_ticks",
    "new_figure",
    "property_label",
    "quantity_label",
    "save",
    "structure_label",
    "styled",
    "unit_label",
]

COLOURS = {
    "range": "#9CCBE8",  # members, low to high
    "std": "#0072B2",  # members, mean ± one standard deviation
    "std_band": "#4E9DD0",  # the same beside lines, which would be lost on the darker colour
    "mle": "#00304D",
    "reference": "#000000",
    "outside": "#D55E00",  # truths outside the bounds
    "analytic": "#00674B",  # closed forms
    "grid": "#DDDDDD",
    "note": "#555555",
}
FULL_WIDTH = 7.0  # inches: a two-column page's text width

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so the picture does not depend on the machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
}

_STRUCTURES = {"sigma": "σ", "chi": "χ", "mu": "μ", "vacancy_hop": "vacancy hop"}
_INTERSTITIALS = {"TS": "tetrahedral", "OS": "octahedral"}
_PROPERTIES = {"formation": "phase", "sia": "interstitial", "neb": "vacancy", "path": "transformation path"}
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_QUANTITIES = {
    "formation_energy": "formation energy",
    "volume": "volume",
    "relative_volume": "relative volume",
    "bulk_modulus": "bulk modulus",
    "shear_modulus": "shear modulus",
    "surface_energy": "surface energy",
    "energy": "energy",
    "path_energy": "energy along the path",
    "dos": "density of states",
}
_UNITS = {"A3/atom": "Å³/atom", "J/m2": "J/m²", "eV/A": "eV/Å", "1": ""}

P = ParamSpec("P")


@contextmanager
def _style() -> Iterator[None]:
    """The style alone, whatever the user's own matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def styled(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw a figure under the style."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _style():
            return function(*args, **kwargs)

    return wrapper


def new_figure(width: float, height: float) -> Figure:
    """Empty figure (inches) that lays itself out without overlaps."""
    return Figure(figsize=(width, height), layout="constrained")


def structure_label(property_name: str, structure: str) -> str:
    """Structure as it is written on an axis: (110) for a facet, ⟨110⟩ for a dumbbell, Al₁₂W for a lattice."""
    if property_name == "surface":
        return f"({structure})"
    if property_name == "sia":
        return _INTERSTITIALS.get(structure, f"⟨{structure}⟩")
    if structure.startswith("Al"):
        return structure.translate(_SUBSCRIPTS)
    return _STRUCTURES.get(structure, structure)


def property_label(property_name: str) -> str:
    """Property in words."""
    return _PROPERTIES.get(property_name, property_name.replace("_", " "))


def quantity_label(quantity: str) -> str:
    """Quantity in words; C11 as C₁₁."""
    if quantity[0] == "C" and quantity[1:].isdigit():
        return quantity.translate(_SUBSCRIPTS)
    return _QUANTITIES.get(quantity, quantity.replace("_", " "))


def datum_label(property_name: str, quantity: str) -> str:
    """Quantity of a property in words: interstitial formation energy; surface energy, which names its property."""
    name, text = property_label(property_name), quantity_label(quantity)
    return text if text.startswith(name) else f"{name} {text}"


def unit_label(unit: str) -> str:
    """Unit as it is written: Å³/atom; nothing for plain numbers."""
    return _UNITS.get(unit, unit)


def axis_label(text: str, unit: str) -> str:
    """Axis label with its unit, if it has one."""
    unit = unit_label(unit)
    return f"{text} ({unit})" if unit else text


def narrow_log_ticks(axis: Axis) -> None:
    """Label 1, 2 and 5 of each decade where powers of ten alone would leave a logarithmic axis bare."""
    axis.set_minor_formatter(NullFormatter())
    low, high = axis.get_view_interval()
    if high / low < 100:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def save(fig: Figure, stem: str | Path) -> list[Path]:
    """Write `<stem>.pdf` and `<stem>.png` (200 dpi); the same figure gives the same bytes.

    Parameters
    ----------
    fig
        The figure.
    stem
        Path without the suffix; its folder is made.

    Returns
    -------
    list of Path
        The two files.
    """
    pdf, png = Path(f"{stem}.pdf"), Path(f"{stem}.png")
    pdf.parent.mkdir(parents=True, exist_ok=True)
    with _style():  # some settings are read only when the figure is drawn
        # Dates and versions would make every run's files differ.
        fig.savefig(pdf, dpi=200, metadata={"CreationDate": None, "Creator": None, "Producer": None})
        fig.savefig(png, dpi=200, metadata={"Software": None})
    return [pdf, png]
