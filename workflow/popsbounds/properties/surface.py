"""Relaxed surface energies of a crystal's facets, at the potential's own lattice constant."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import MappingProxyType

import numpy as np
from ase import units

from popsbounds.potential import Potential
from popsbounds.properties.base import Settings, Value, excess_energy, value
from popsbounds.relax import Relaxed
from popsbounds.structures import crystal, slab

__all__ = ["SurfaceProperty"]


class SurfaceProperty:
    """Surface energy γ = (E_slab − n E_bulk) / 2A of each facet (J/m²)."""

    units = MappingProxyType({"surface_energy": "J/m2"})

    def __init__(self, settings: Settings) -> None:
        self.options = options = settings.options
        self.structures = list(options.facets)
        self.bulk = crystal(options.bulk, settings.element, settings.volume)
        self.slabs = {
            facet: slab(
                options.bulk, settings.element, settings.volume, facet, options.min_thickness_A, options.vacuum_A
            )
            for facet in options.facets
        }

    def values(self, potential: Potential) -> Iterator[Value]:
        bulk = potential.crystal(self.options.bulk, self.bulk)
        for facet, atoms in self.slabs.items():
            relaxed = potential.relax(facet, atoms, within=bulk)
            needs = {self.options.bulk: bulk, facet: relaxed}
            for quantity, unit in self.units.items():
                yield value(facet, quantity, unit, needs, partial(_surface_energy, relaxed, bulk))


def _surface_energy(slab: Relaxed, bulk: Relaxed) -> float:
    area = float(np.linalg.norm(np.cross(slab.atoms.cell[0], slab.atoms.cell[1])))
    return excess_energy(slab, bulk) / (2 * area) * units.m**2 / units.J
