"""Phases: formation energy, volume and bulk modulus, cell and ions relaxed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator

from popsbounds.config import Formation
from popsbounds.properties.base import CrystalProperty, Value, value
from popsbounds.relax import Relaxed, strain

__all__ = ["FormationProperty"]


class FormationProperty(CrystalProperty[Formation]):
    """Energy (eV/atom), formation energy relative to one phase (eV/atom), volume
    (Å³/atom), volume relative to that phase, and bulk modulus (GPa).

    The bulk modulus is −V dP/dV under isotropic strain with the ions relaxed
    at each volume.
    """

    units = MappingProxyType(
        {
            "energy": "eV/atom",
            "formation_energy": "eV/atom",
            "volume": "A3/atom",
            "relative_volume": "1",
            "bulk_modulus": "GPa",
        }
    )

    def structures(self) -> dict[str, Atoms]:
        return self.crystals(list(self.settings.structures))

    def values(self, calculator: Calculator, relaxed: Mapping[str, Relaxed]) -> list[Value]:
        zero = relaxed[self.settings.zero]
        rows = []
        for name, here in relaxed.items():
            alone, both = {name: here}, {name: here, self.settings.zero: zero}
            squeezed = self._scale(here, -1, calculator)
            stretched = self._scale(here, 1, calculator)
            needs = alone | {f"compressed {name}": squeezed, f"expanded {name}": stretched}
            recipes = {
                "energy": (alone, partial(_energy, here)),
                "formation_energy": (both, partial(_formation_energy, here, zero)),
                "volume": (alone, partial(_volume, here)),
                "relative_volume": (both, partial(_relative_volume, here, zero)),
                "bulk_modulus": (needs, partial(_bulk_modulus, squeezed, stretched)),
            }
            rows += [value(name, quantity, unit, *recipes[quantity]) for quantity, unit in self.units.items()]
        return rows

    def _scale(self, relaxed: Relaxed, sign: int, calculator: Calculator) -> Relaxed:
        deformation = (1 + sign * self.settings.strain) * np.eye(3)
        return strain(relaxed, deformation, calculator, self.relaxation)


def _energy(relaxed: Relaxed) -> float:
    return relaxed.energy / len(relaxed.atoms)


def _volume(relaxed: Relaxed) -> float:
    return relaxed.atoms.get_volume() / len(relaxed.atoms)


def _formation_energy(relaxed: Relaxed, zero: Relaxed) -> float:
    return _energy(relaxed) - _energy(zero)


def _relative_volume(relaxed: Relaxed, zero: Relaxed) -> float:
    return _volume(relaxed) / _volume(zero) - 1


def _bulk_modulus(squeezed: Relaxed, stretched: Relaxed) -> float:
    pressures = [-np.trace(r.stress) / 3 for r in (squeezed, stretched)]
    log_volumes = [np.log(r.atoms.get_volume()) for r in (squeezed, stretched)]
    return -(pressures[1] - pressures[0]) / (log_volumes[1] - log_volumes[0]) / units.GPa
