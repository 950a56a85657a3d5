"""Homogeneous transformations of bcc at constant volume: energy along each path."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import MappingProxyType

from popsbounds.paths import path_coordinates, transformation_path
from popsbounds.potential import Potential
from popsbounds.properties.base import Settings, Value, energy_above, value
from popsbounds.structures import crystal

__all__ = ["PathProperty"]


class PathProperty:
    """Energy above bcc along each path (eV/atom), at the volume of the potential's own bcc crystal."""

    units: MappingProxyType[str, str] = MappingProxyType({})  # a curve

    def __init__(self, settings: Settings) -> None:
        self.options = options = settings.options
        self.structures = list(options.structures)
        self.bulk = crystal("bcc", settings.element, settings.volume)
        self.points = {
            (kind, x): transformation_path(kind, settings.element, settings.volume, x)
            for kind in self.structures
            for x in path_coordinates(kind, options.points)
        }

    def values(self, potential: Potential) -> Iterator[Value]:
        bulk = potential.crystal("bcc", self.bulk)
        for (kind, x), atoms in self.points.items():
            there = potential.static(f"{kind} {x:.6f}", atoms, within=bulk)
            needs = {"bcc": bulk, kind: there}
            yield value(kind, "path_energy", "eV/atom", needs, partial(energy_above, there, bulk), x)
