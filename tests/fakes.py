"""Calculators that count, fail, dawdle and disagree with themselves, for `kind: ase` to import by their paths."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from popsbounds.descriptors.universal import Evaluation, UniversalModel
from popsbounds.errors import InputError


class Springs(Calculator):
    """Each atom on a spring to the origin: a free energy that the forces follow, and an energy that they do not.

    Class attributes tell what was computed, and where, by all instances together.
    """

    implemented_properties: ClassVar = ["energy", "free_energy", "forces", "stress"]
    computed: ClassVar[list] = []
    folders: ClassVar[list[Path]] = []

    def __init__(self, constant: float = 1.0) -> None:
        super().__init__()
        if constant <= 0:
            raise ValueError(f"a constant of {constant:g} is no spring")
        self.constant = constant
        self.calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)) -> None:
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        self.computed.append(self.atoms)
        self.folders.append(Path(self.directory))
        (self.folders[-1] / "scratch").write_text("left behind")
        x = self.atoms.positions
        free = 0.5 * self.constant * float((x**2).sum())
        self.results = {"energy": free + 7, "free_energy": free, "forces": -self.constant * x, "stress": np.ones(6) / 3}


class Forgetful(Springs):
    """Energies that depend on what the same instance computed before."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results["free_energy"] = self.calls


class Plain(Springs):
    """Knows one kind of energy, and no stress."""

    implemented_properties: ClassVar = ["energy", "forces"]


class Moody(Springs):
    """Does with a structure what its number of atoms says."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)) -> None:
        super().calculate(atoms, properties, system_changes)
        match len(self.atoms):
            case 2:
                raise RuntimeError("no\n  convergence")
            case 3:
                time.sleep(60)
            case 4:
                self.results["free_energy"] = np.inf
            case 5:
                raise InputError("somewhere", ["a file is missing"])


class OnlyCrowds(EMT):
    """EMT that fails on single atoms."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)) -> None:
        if len(atoms) == 1:
            raise RuntimeError("lonely")
        super().calculate(atoms, properties, system_changes)


class Cramped(UniversalModel):
    """A universal potential of one eV an atom squared, with room for few atoms at once."""

    energies, n_descriptors, cutoffs = "raw", 1, [5.0]
    room = 8
    sizes: ClassVar[list[int]] = []

    def __init__(self, device: str) -> None:
        self.device = device

    def evaluate(self, batch, gradients):
        import torch

        size = sum(map(len, batch))
        self.sizes.append(size)
        if size > self.room:
            raise MemoryError("not enough room")
        energies = [torch.tensor(float(len(atoms)) ** 2) for atoms in batch]
        return Evaluation(energies, [torch.ones(len(atoms), 1) for atoms in batch])


class Picky(Cramped):
    """One that fails on atoms in threes, whatever the room."""

    def evaluate(self, batch, gradients):
        if any(len(atoms) == 3 for atoms in batch):
            raise ValueError("three is a crowd")
        return super().evaluate(batch, gradients)
