"""Figures from the tables of `docs/tables.md`: one module a figure family, each function returns a matplotlib `Figure`.

Figures are built without pyplot, so nothing is global and no display is needed;
`popsbounds.plotting.style.save` writes them.
"""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from popsbounds.plotting.coefficients import coefficient_distributions
from popsbounds.plotting.drivers import variance_drivers
from popsbounds.plotting.elastic import elastic_constants
from popsbounds.plotting.environments import descriptor_space
from popsbounds.plotting.implicit import implicit_against_explicit
from popsbounds.plotting.interstitials import sia_energy
from popsbounds.plotting.own import own_property
from popsbounds.plotting.paths import barrier_path, transformation_paths
from popsbounds.plotting.phases import bulk_modulus, formation_energy, volume
from popsbounds.plotting.phonons import phonon_bands_and_dos
from popsbounds.plotting.pointwise import coverage_by_members, error_distributions, parity_and_errors
from popsbounds.plotting.posteriors import rival_posteriors
from popsbounds.plotting.sampling import sampled_against_analytic
from popsbounds.plotting.spearman import rank_correlations
from popsbounds.plotting.surfaces import surface_energy

__all__ = ["FIGURES", "draw"]

FIGURES: dict[str, Callable[..., Figure]] = {
    "pointwise": parity_and_errors,
    "formation_energy": formation_energy,
    "volume": volume,
    "bulk_modulus": bulk_modulus,
    "elastic_constants": elastic_constants,
    "surface_energy": surface_energy,
    "sia": sia_energy,
    "phonons": phonon_bands_and_dos,
    "barrier": barrier_path,
    "transformation_paths": transformation_paths,
    "own": own_property,
    "spearman": rank_correlations,
    "deviations": error_distributions,
    "coverage": coverage_by_members,
    "coefficients": coefficient_distributions,
    "posteriors": rival_posteriors,
    "implicit": implicit_against_explicit,
    "sampling": sampled_against_analytic,
    "drivers": variance_drivers,
    "environments": descriptor_space,
}
"""What draws each figure of a study, from its table or tables."""


def draw(name: str, *tables: pd.DataFrame) -> Figure:
    """Draw a figure.

    Parameters
    ----------
    name
        A key of `FIGURES`, or ``own_`` and the name of a property of the user's own.
    tables
        What it is drawn from.

    Raises
    ------
    KeyError
        There is no such figure.
    ValueError
        A table has no rows of what the figure shows.
    """
    if name.startswith("own_"):
        of = name.removeprefix("own_")
        return FIGURES["own"](*(table[table["property"] == of] for table in tables))
    return FIGURES[name](*tables)
