"""Phonons of a cubic crystal at the potential's own lattice constant: bands, density of states, imaginary modes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from popsbounds.errors import InputError
from popsbounds.phonons import Phonons
from popsbounds.potential import Potential
from popsbounds.properties.base import Settings, Value, curve, value
from popsbounds.relax import Relaxed
from popsbounds.structures import crystal

__all__ = ["PhononProperty"]


class PhononProperty:
    """Frequencies of each branch along the path (THz; imaginary ones negative), density of states (1/THz per
    atom), and the share of imaginary modes.
    """

    units = MappingProxyType({"imaginary_fraction": "1"})

    def __init__(self, settings: Settings) -> None:
        self.options = options = settings.options
        self.structures = [options.bulk]
        self.bulk = crystal(options.bulk, settings.element, settings.volume)
        low, high = options.frequency_range_THz
        self.grid = np.linspace(low, high, round((high - low) / options.frequency_step_THz) + 1)

    @cached_property
    def phonons(self) -> Phonons:
        """The linear map from forces to frequencies."""
        o = self.options
        return Phonons(self.bulk, o.repeats, o.displacement_A, o.mesh, o.points_per_unit)

    def _displaced(self, potential: Potential) -> tuple[Relaxed, list[Relaxed]]:
        bulk = potential.crystal(self.options.bulk, self.bulk)
        return bulk, [
            potential.static(f"displacement {i}", atoms, within=bulk, forces=True)
            for i, atoms in enumerate(self.phonons.supercells)
        ]

    def values(self, potential: Potential) -> Iterator[Value]:
        name, path = self.options.bulk, self.phonons.path
        bulk, displaced = self._displaced(potential)
        needs = {name: bulk} | {f"displacement {i}": d for i, d in enumerate(displaced)}
        bands = np.full((3, len(path.distance)), np.nan)
        density, imaginary = np.full(len(self.grid), np.nan), np.nan
        if all(need.ok for need in needs.values()):
            constants = self.phonons.force_constants(np.array([[d.forces for d in displaced]]), bulk.scale)
            mesh = self.phonons.mesh_frequencies(constants)
            bands, density = self.phonons.bands(constants)[0].T, self.phonons.dos(mesh, self.grid)[0]
            imaginary = float(self.phonons.imaginary_share(mesh)[0])
        for branch, frequencies in enumerate(bands, start=1):
            yield from curve(name, f"branch_{branch}", "THz", needs, frequencies.tolist, path.distance)
        yield from curve(name, "dos", "1/THz", needs, density.tolist, self.grid)
        yield value(name, "imaginary_fraction", "1", needs, lambda: imaginary)

    def write_files(self, potential: Potential, folder: Path) -> None:
        """Write phonopy's `band.yaml`, `mesh.yaml` and `total_dos.dat` of a potential.

        Raises
        ------
        InputError
            The potential does not hold the crystal.
        """
        bulk, displaced = self._displaced(potential)
        for structure in (bulk, *displaced):
            if not structure.ok:
                raise InputError(f"phonons of {self.options.bulk}", [f"{structure.status}: {structure.reason}"])
        forces = np.array([d.forces for d in displaced])
        self.phonons.write_phonopy_files(folder, forces, bulk.scale, self.grid)
