"""Phases: formation energy, volume and bulk modulus, cell and ions relaxed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import MappingProxyType

import numpy as np
from ase import units

from popsbounds.potential import Potential
from popsbounds.properties.base import Settings, Value, energy_above, value
from popsbounds.relax import Relaxed
from popsbounds.structures import crystal

__all__ = ["FormationProperty"]


class FormationProperty:
    """Energy (eV/atom), formation energy relative to one phase (eV/atom), volume
    (Å³/atom), its relative difference from that phase's, V/V₀ − 1, and bulk modulus (GPa).

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

    def __init__(self, settings: Settings) -> None:
        self.options = settings.options
        self.structures = list(self.options.structures)
        self.crystals = {name: crystal(name, settings.species, settings.volume) for name in self.structures}

    def values(self, potential: Potential) -> Iterator[Value]:
        relaxed = {name: potential.crystal(name, atoms) for name, atoms in self.crystals.items()}
        zero = relaxed[self.options.zero]
        for name, here in relaxed.items():
            alone, both = {name: here}, {name: here, self.options.zero: zero}
            squeezed, stretched = (
                potential.strain(f"{kind} {name}", here, (1 + sign * self.options.strain) * np.eye(3))
                for kind, sign in (("compressed", -1), ("expanded", 1))
            )
            needs = alone | {f"compressed {name}": squeezed, f"expanded {name}": stretched}
            recipes: dict[str, tuple[dict[str, Relaxed], Callable[[], float]]] = {
                "energy": (alone, partial(_energy, here)),
                "formation_energy": (both, partial(energy_above, here, zero)),
                "volume": (alone, partial(_volume, here)),
                "relative_volume": (both, partial(_relative_volume, here, zero)),
                "bulk_modulus": (needs, partial(_bulk_modulus, squeezed, stretched)),
            }
            for quantity, unit in self.units.items():
                yield value(name, quantity, unit, *recipes[quantity])


def _energy(relaxed: Relaxed) -> float:
    return relaxed.energy_per_atom


def _volume(relaxed: Relaxed) -> float:
    return relaxed.volume


def _relative_volume(relaxed: Relaxed, zero: Relaxed) -> float:
    return relaxed.volume / zero.volume - 1


def _bulk_modulus(squeezed: Relaxed, stretched: Relaxed) -> float:
    pressures = [-np.trace(r.stress) / 3 for r in (squeezed, stretched)]
    modulus = -(pressures[1] - pressures[0]) / np.log(stretched.volume / squeezed.volume) / units.GPa
    if modulus <= 0:
        raise ArithmeticError(f"unstable against a change of volume: bulk modulus {modulus:.0f} GPa")
    return modulus
