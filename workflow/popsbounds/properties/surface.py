"""Relaxed surface energies of a crystal's facets, at the potential's own lattice constant."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator

from popsbounds.config import Surface
from popsbounds.properties.base import CrystalProperty, Value, value
from popsbounds.relax import Relaxed, Start, relax, scaled
from popsbounds.structures import slab

__all__ = ["SurfaceProperty"]


class SurfaceProperty(CrystalProperty[Surface]):
    """Surface energy γ = (E_slab − n E_bulk) / 2A of each facet (J/m²)."""

    units = MappingProxyType({"surface_energy": "J/m2"})

    def structures(self) -> dict[str, Atoms]:
        s = self.settings
        return self.crystals([s.bulk]) | {
            facet: slab(s.bulk, self.element, self.volume, facet, s.min_thickness_A, s.vacuum_A) for facet in s.facets
        }

    def cell_relaxes(self, structure: str) -> bool:
        return structure == self.settings.bulk

    def relax(self, calculator: Calculator, starts: Mapping[str, Start]) -> dict[str, Relaxed]:
        bulk_start = starts[self.settings.bulk]
        bulk = relax(bulk_start, calculator, self.relaxation, cell=True)
        relaxed: dict[str, Relaxed] = {self.settings.bulk: bulk}
        volume = bulk.atoms.get_volume() / len(bulk.atoms)
        for facet in self.settings.facets:
            if bulk.ok:
                # A slab starts at its own bulk's volume: the MLE's or, where the MLE has
                # no such slab (and no Hessian), the configured one.
                warm = starts[facet].hessian is not None
                own = bulk_start.atoms.get_volume() / len(bulk_start.atoms) if warm else self.volume
                growth = (volume / own) ** (1 / 3)
                start = Start(scaled(starts[facet].atoms, growth), starts[facet].hessian)
                relaxed[facet] = relax(start, calculator, self.relaxation, cell=False)
            else:
                relaxed[facet] = bulk
        return relaxed

    def values(self, calculator: Calculator, relaxed: Mapping[str, Relaxed]) -> list[Value]:
        bulk = relaxed[self.settings.bulk]
        rows = []
        for facet in self.settings.facets:
            needs = {self.settings.bulk: bulk, facet: relaxed[facet]}
            compute = partial(_surface_energy, relaxed[facet], bulk)
            rows += [value(facet, quantity, unit, needs, compute) for quantity, unit in self.units.items()]
        return rows


def _surface_energy(slab: Relaxed, bulk: Relaxed) -> float:
    excess = slab.energy - len(slab.atoms) * bulk.energy / len(bulk.atoms)
    area = float(np.linalg.norm(np.cross(slab.atoms.cell[0], slab.atoms.cell[1])))
    return excess / (2 * area) * units.m**2 / units.J
