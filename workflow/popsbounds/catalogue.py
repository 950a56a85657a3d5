"""Which figures a study has, and from which tables each is drawn; `popsbounds.plotting` draws them."""

from __future__ import annotations

from popsbounds.config import Config

__all__ = ["ON_DEMAND", "catalogue", "plain"]

ON_DEMAND = {"fig11_posteriors"}
"""Figures that are drawn only if someone asks for them."""


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
    names = config.properties.names()
    has = set(names)
    compared = any(len(config.properties.settings(name).method) > 1 for name in names)
    entries: dict[str, tuple[str, object]] = {
        "fig01_pointwise": ("pointwise", True),
        "fig02_formation_energy": ("bounds", "formation" in has),
        "fig03_volume": ("bounds", "formation" in has),
        "fig04_bulk_modulus": ("bounds", "formation" in has),
        "fig05_elastic_constants": ("bounds", "elastic" in has),
        "fig06_surface_energy": ("bounds", "surface" in has),
        "fig07_spearman": ("spearman", has & {"formation", "surface", "sia"}),
        "fig08_deviations": ("deviations", True),
        "fig09_coverage": ("coverage", True),
        "fig10_coefficients": ("coefficients", True),
        "fig11_posteriors": ("posteriors", True),
        "fig12_sia": ("bounds", "sia" in has),
        "fig13_phonons": ("bounds", "phonon" in has),
        "fig14_barrier": ("bounds", "neb" in has),
        "fig15_transformation_paths": ("bounds", "path" in has),
        "fig16_implicit": ("properties", has & {"formation", "neb"} and compared),
        "fig17_sampling": ("properties bounds", has & {"formation", "elastic", "sia", "surface", "neb"}),
        "fig18_drivers": ("drivers", has),
        "fig19_environments": ("environments entropy descriptor_space", has and config.descriptors.kind == "snap"),
    } | {f"fig{number}_own_{name}": ("bounds", True) for number, name in enumerate(config.properties.own, start=20)}
    return {name: tables.split() for name, (tables, shown) in entries.items() if shown}


def plain(figure: str) -> str:
    """Name of a figure without its number: ``formation_energy``."""
    return figure.split("_", maxsplit=1)[1]
