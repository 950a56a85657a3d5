"""Which tables and figures a study has, and from which tables each figure is drawn; `popsbounds.plotting` draws it."""

from __future__ import annotations

from popsbounds.config import Config

__all__ = ["ON_DEMAND", "catalogue", "plain", "tables"]

ON_DEMAND = {"fig11_posteriors"}
"""Figures that are drawn only if someone asks for them."""


def tables(config: Config) -> list[str]:
    """Names of the tables that a finished study has; those made on demand are not among them.

    Parameters
    ----------
    config
        The study's configuration.
    """
    names = ["pointwise", "calibration", "deviations", "coverage", "coefficients"]
    if config.properties.names():
        names += ["properties", "bounds", "std_ratio", "spearman", "failures", "models", "truncation", "drivers"]
        if config.descriptors.kind == "snap":
            names += ["environments", "entropy", "descriptor_space"]
    return names


def catalogue(config: Config) -> dict[str, list[str]]:
    """Tables that each figure is drawn from, in the order of its function's arguments.

    Parameters
    ----------
    config
        The study's configuration.

    Returns
    -------
    dict
        By name of the figure, such as ``fig02_formation_energy``; those of the
        user's own properties come last.
    """
    properties = config.properties
    has, own = set(properties.names()), set(properties.own)
    # Of the user's own properties nobody knows how many structures they have, and whether these have curves or numbers.
    structures = {"formation": "structures", "elastic": "structures", "sia": "structures", "surface": "facets"}
    ranked = own | {
        name for name, key in structures.items() if name in has and len(getattr(properties.settings(name), key)) >= 3
    }
    by_ways = (properties.settings(name).method for name in has & {"formation", "neb"})
    compared = any("explicit" in ways and len(ways) > 1 for ways in by_ways)
    entries: dict[str, tuple[str, object]] = {
        "fig01_pointwise": ("pointwise", True),
        "fig02_formation_energy": ("bounds", "formation" in has),
        "fig03_volume": ("bounds", "formation" in has),
        "fig04_bulk_modulus": ("bounds", "formation" in has),
        "fig05_elastic_constants": ("bounds", "elastic" in has),
        "fig06_surface_energy": ("bounds", "surface" in has),
        "fig07_spearman": ("spearman", ranked),
        "fig08_deviations": ("deviations", True),
        "fig09_coverage": ("coverage", True),
        "fig10_coefficients": ("coefficients", True),
        "fig11_posteriors": ("posteriors", True),
        "fig12_sia": ("bounds", "sia" in has),
        "fig13_phonons": ("bounds", "phonon" in has),
        "fig14_barrier": ("bounds", "neb" in has),
        "fig15_transformation_paths": ("bounds", "path" in has),
        "fig16_implicit": ("properties", compared),
        "fig17_sampling": ("properties bounds", has & {"formation", "elastic", "sia", "surface", "neb", *own}),
        "fig18_drivers": ("drivers", has),
        "fig19_environments": ("environments entropy descriptor_space", has and config.descriptors.kind == "snap"),
    } | {f"fig{number}_own_{name}": ("bounds", True) for number, name in enumerate(properties.own, start=20)}
    return {name: drawn_from.split() for name, (drawn_from, shown) in entries.items() if shown}


def plain(figure: str) -> str:
    """Name of a figure without its number: ``formation_energy``."""
    return figure.split("_", maxsplit=1)[1]
