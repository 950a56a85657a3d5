"""Elastic constants of cubic crystals from stress differences, ions relaxed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import MappingProxyType

import numpy as np
from ase import units

from popsbounds.potential import Potential
from popsbounds.properties.base import Settings, Value, value
from popsbounds.relax import Relaxed
from popsbounds.structures import crystal

__all__ = ["ElasticProperty", "hill_shear_modulus"]


class ElasticProperty:
    """C11, C12, C44, bulk modulus and Voigt-Reuss-Hill shear modulus (GPa)."""

    units = MappingProxyType(dict.fromkeys(("C11", "C12", "C44", "bulk_modulus", "shear_modulus"), "GPa"))

    def __init__(self, settings: Settings) -> None:
        self.options = settings.options
        self.structures = list(self.options.structures)
        self.crystals = {name: crystal(name, settings.species, settings.volume) for name in self.structures}

    def values(self, potential: Potential) -> Iterator[Value]:
        # One axial and one shear strain give all constants of a cubic crystal
        # in its own axes.
        axial, shear = np.zeros((3, 3)), np.zeros((3, 3))
        axial[0, 0] = 1.0
        shear[1, 2] = shear[2, 1] = 0.5
        for name, atoms in self.crystals.items():
            here = potential.crystal(name, atoms)
            strained = {}
            for kind, direction in (("axial", axial), ("shear", shear)):
                for sign in (1, -1):
                    title = f"{name} under {kind} strain {sign:+d}"
                    deformation = np.eye(3) + sign * self.options.strain * direction
                    strained[title] = potential.strain(title, here, deformation)
            needs = {name: here} | strained
            for quantity, unit in self.units.items():
                compute = partial(self._modulus, _FORMULAS[quantity], *strained.values())
                yield value(name, quantity, unit, needs, compute)

    def _modulus(
        self, formula: Callable[[float, float, float], float], stretched: Relaxed, squeezed: Relaxed, *sheared: Relaxed
    ) -> float:
        along = self._slope(stretched, squeezed)
        c11, c12, c44 = along[0, 0], 0.5 * (along[1, 1] + along[2, 2]), self._slope(*sheared)[1, 2]
        # Born's criteria; a crystal that fails them has no elastic constants to speak of.
        if not (c11 > abs(c12) and c11 + 2 * c12 > 0 and c44 > 0):
            raise ArithmeticError(f"mechanically unstable: C11 {c11:.0f}, C12 {c12:.0f}, C44 {c44:.0f} GPa")
        return formula(c11, c12, c44)

    def _slope(self, plus: Relaxed, minus: Relaxed) -> np.ndarray:
        return (plus.stress - minus.stress) / (2 * self.options.strain) / units.GPa


def hill_shear_modulus(c11: float, c12: float, c44: float) -> float:
    """Voigt-Reuss-Hill average shear modulus of a cubic crystal, in the unit of the constants.

    Source: Hill, Proc. Phys. Soc. A 65, 349 (1952).
    """
    voigt = (c11 - c12 + 3 * c44) / 5
    reuss = 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    return 0.5 * (voigt + reuss)


_FORMULAS: dict[str, Callable[[float, float, float], float]] = {
    "C11": lambda c11, c12, c44: c11,
    "C12": lambda c11, c12, c44: c12,
    "C44": lambda c11, c12, c44: c44,
    "bulk_modulus": lambda c11, c12, c44: (c11 + 2 * c12) / 3,
    "shear_modulus": hill_shear_modulus,
}
