"""Elastic constants of cubic crystals from stress differences, ions relaxed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator

from popsbounds.config import Elastic
from popsbounds.properties.base import CrystalProperty, Value, value
from popsbounds.relax import Relaxed, strain

__all__ = ["ElasticProperty"]


class ElasticProperty(CrystalProperty[Elastic]):
    """C11, C12, C44, bulk modulus and Voigt-Reuss-Hill shear modulus (GPa)."""

    units = MappingProxyType(dict.fromkeys(("C11", "C12", "C44", "bulk_modulus", "shear_modulus"), "GPa"))

    def structures(self) -> dict[str, Atoms]:
        return self.crystals(list(self.settings.structures))

    def values(self, calculator: Calculator, relaxed: Mapping[str, Relaxed]) -> list[Value]:
        rows = []
        for name, here in relaxed.items():
            # One axial and one shear strain give all constants of a cubic crystal
            # in its own axes.
            axial, shear = np.zeros((3, 3)), np.zeros((3, 3))
            axial[0, 0] = 1.0
            shear[1, 2] = shear[2, 1] = 0.5
            strained = {
                f"{name} under {kind} strain {sign:+d}": self._strain(here, sign * direction, calculator)
                for kind, direction in (("axial", axial), ("shear", shear))
                for sign in (1, -1)
            }
            needs = {name: here} | strained
            rows += [
                value(name, quantity, unit, needs, partial(self._modulus, _FORMULAS[quantity], *strained.values()))
                for quantity, unit in self.units.items()
            ]
        return rows

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
        return (plus.stress - minus.stress) / (2 * self.settings.strain) / units.GPa

    def _strain(self, relaxed: Relaxed, direction: np.ndarray, calculator: Calculator) -> Relaxed:
        return strain(relaxed, np.eye(3) + self.settings.strain * direction, calculator, self.relaxation)


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
