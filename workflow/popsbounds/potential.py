"""A potential, asked for structures by name: the one interface between properties and potentials.

A property is written once, for a single `Potential`. `ColdPotential` answers
with plain relaxations under any ASE calculator: that is how references are
computed, and the MLE. `popsbounds.models` remembers what the MLE was asked;
`popsbounds.member` answers the same questions for members, in few or no force
calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from popsbounds.band import Band, cold_band
from popsbounds.config import Relax
from popsbounds.coordinates import Coordinates, strain_basis
from popsbounds.errors import InputError
from popsbounds.hessian import full_hessian, unstable_modes
from popsbounds.relax import Relaxed, evaluate, failed, relax, scaled, strained

__all__ = ["ColdPotential", "Potential"]


class Potential(ABC):
    """One potential.

    Every structure has a name, unique within a property and the same for every
    potential. What is asked for `within` a crystal follows that crystal's size:
    its lengths are multiplied by the crystal's `scale`. Nothing raises for a
    potential that misbehaves: ask the result whether it is `ok`; what depends
    on a failed structure fails with the same status.

    Attributes
    ----------
    is_member : bool
        Whether it is one of many: what it brings about must not stop the others.
    """

    is_member = False

    def crystal(self, name: str, atoms: Atoms) -> Relaxed:
        """Relax a crystal's cell and ions at zero pressure, keeping its symmetry."""
        result = self._crystal(name, atoms)
        scale = (result.atoms.get_volume() / atoms.get_volume()) ** (1 / 3) if result.ok else np.nan
        return replace(result, name=name, scale=scale)

    def relax(self, name: str, atoms: Atoms, within: Relaxed | None = None) -> Relaxed:
        """Relax the ions in a fixed cell, keeping the structure's symmetry and constraints."""
        if within is not None and not within.ok:
            return _orphan(atoms, within)
        return self._relax(name, _sized(atoms, within), _name(within))

    def strain(self, name: str, crystal: Relaxed, deformation: np.ndarray) -> Relaxed:
        """Multiply a relaxed crystal's cell, row vectors, by a deformation (3, 3) and relax its ions."""
        if not crystal.ok:
            return _orphan(crystal.atoms, crystal)
        return self._strain(name, crystal, deformation)

    def static(self, name: str, atoms: Atoms, within: Relaxed | None = None, forces: bool = False) -> Relaxed:
        """Energy and stress, and forces if asked for, of a structure as it is."""
        if within is not None and not within.ok:
            return _orphan(atoms, within)
        return self._static(name, _sized(atoms, within), _name(within), forces)

    @abstractmethod
    def unstable_modes(self, name: str, relaxed: Relaxed) -> int:
        """Number of directions, those that break symmetry or constraints included, in which a structure is unstable.

        Raises
        ------
        ArithmeticError
            The potential fails near the structure.
        """

    def band(self, name: str, images: Sequence[Atoms], within: Relaxed) -> Band:
        """Minimum-energy path between two minima, from images whose ends are to be relaxed too."""
        if not within.ok:
            return Band([_orphan(image, within) for image in images], within.status, within.reason, 0)
        return self._band(name, [_sized(image, within) for image in images], within.name)

    @abstractmethod
    def _crystal(self, name: str, atoms: Atoms) -> Relaxed: ...

    @abstractmethod
    def _relax(self, name: str, atoms: Atoms, crystal: str) -> Relaxed: ...

    @abstractmethod
    def _strain(self, name: str, crystal: Relaxed, deformation: np.ndarray) -> Relaxed: ...

    @abstractmethod
    def _static(self, name: str, atoms: Atoms, crystal: str, forces: bool) -> Relaxed: ...

    @abstractmethod
    def _band(self, name: str, images: list[Atoms], crystal: str) -> Band: ...


def _sized(atoms: Atoms, within: Relaxed | None) -> Atoms:
    return atoms if within is None else scaled(atoms, within.scale)


def _name(within: Relaxed | None) -> str:
    return "" if within is None else within.name


def _orphan(atoms: Atoms, parent: Relaxed) -> Relaxed:
    return failed(atoms, parent.status, parent.reason)


class ColdPotential(Potential):
    """A potential behind an ASE calculator; every relaxation starts from the structure that is given.

    Parameters
    ----------
    calculator
        The potential.
    settings
        Tolerances.
    """

    def __init__(self, calculator: Calculator, settings: Relax) -> None:
        self.calculator, self.settings = calculator, settings

    def _crystal(self, name: str, atoms: Atoms) -> Relaxed:
        return relax(Coordinates(atoms, strains=strain_basis(atoms)), self.calculator, self.settings)

    def _relax(self, name: str, atoms: Atoms, crystal: str) -> Relaxed:
        return relax(Coordinates(atoms), self.calculator, self.settings)

    def _strain(self, name: str, crystal: Relaxed, deformation: np.ndarray) -> Relaxed:
        return relax(Coordinates(strained(crystal.atoms, deformation)), self.calculator, self.settings)

    def _static(self, name: str, atoms: Atoms, crystal: str, forces: bool) -> Relaxed:
        found = evaluate(atoms, self.calculator)
        return found if forces else replace(found, forces=np.full((len(atoms), 3), np.nan))

    def unstable_modes(self, name: str, relaxed: Relaxed) -> int:
        return unstable_modes(self._hessian(relaxed))

    def _hessian(self, relaxed: Relaxed) -> np.ndarray:
        try:
            return full_hessian(relaxed.atoms, self.calculator)
        except InputError:
            raise
        except Exception as error:  # calculators raise what they like
            raise ArithmeticError(f"no Hessian: {type(error).__name__}: {error}") from error

    def _band(self, name: str, images: list[Atoms], crystal: str) -> Band:
        return cold_band(images, self.calculator, self.settings)
