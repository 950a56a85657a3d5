"""Vacancy hop between first neighbours in bcc: path, barrier, vacancy formation energy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import MappingProxyType

import numpy as np

from popsbounds.potential import Potential
from popsbounds.properties.base import Needed, Settings, Value, curve, excess_energy, value
from popsbounds.structures import crystal, vacancy_hop

__all__ = ["NebProperty"]


class NebProperty:
    """Energy along the minimum-energy path (eV, over its length), barrier (eV) and vacancy formation energy (eV)."""

    units = MappingProxyType({"barrier": "eV", "vacancy_formation_energy": "eV"})

    def __init__(self, settings: Settings) -> None:
        self.options = options = settings.options
        self.structures = ["vacancy_hop"]
        self.bulk = crystal("bcc", settings.element, settings.volume)
        self.images = vacancy_hop(settings.element, settings.volume, options.repeats, options.images)

    def values(self, potential: Potential) -> Iterator[Value]:
        bulk = potential.crystal("bcc", self.bulk)
        (name,) = self.structures
        band = potential.band(name, self.images, within=bulk)
        needs: dict[str, Needed] = {"bcc": bulk, name: band}
        fractions = np.linspace(0, 1, self.options.points)
        yield from curve(name, "path_energy", "eV", needs, lambda: band.along(fractions), fractions)
        yield value(name, "barrier", "eV", needs, lambda: band.barrier)
        vacancy = partial(excess_energy, band.images[0], bulk)
        yield value(name, "vacancy_formation_energy", "eV", needs, vacancy)
