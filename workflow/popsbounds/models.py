"""What is learnt once from the MLE, so that members cost little: models of every structure it was asked for.

`Recorder` is the MLE; it remembers its structures, and `Builder` computes
their descriptors' derivatives. `popsbounds.member` answers the same questions
for members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms

from popsbounds.archive import read_archive, write_archive
from popsbounds.band import Band, BandModel
from popsbounds.config import Families
from popsbounds.coordinates import Coordinates, displacement_basis, strain_basis
from popsbounds.family import Family
from popsbounds.hessian import full_hessian, softest_breaking, unstable_modes
from popsbounds.potential import ColdPotential
from popsbounds.progress import progress
from popsbounds.reduced import Reduced, second_derivatives
from popsbounds.relax import Relaxed, strained
from popsbounds.response import Respond

__all__ = ["Basin", "Builder", "Model", "Record", "Recorder", "describe", "read_models", "write_models"]

# Symmetry-breaking directions, the MLE's softest, in which a member's stability is looked at.
_SOFT_MODES = 12
# Families reach this much farther than the members are predicted to, and at least so far.
_MARGIN, _LEAST_WIDTH = 1.5, 0.005


@dataclass(frozen=True)
class Record:
    """One question to the MLE, and its answer."""

    kind: str
    start: Atoms
    found: Relaxed | None = None
    band: Band | None = None
    crystal: str = ""
    deformation: np.ndarray | None = None
    forces: bool = False


class Recorder(ColdPotential):
    """Answers as any potential does, and remembers the questions by name: the MLE, or the reference."""

    def __init__(self, *arguments, **keywords) -> None:
        super().__init__(*arguments, **keywords)
        self.records: dict[str, Record] = {}
        self.hessians: dict[str, np.ndarray] = {}

    def structures(self) -> dict[str, Atoms]:
        """Everything that was relaxed, by name."""
        return {
            name: record.found.atoms
            for name, record in self.records.items()
            if record.found is not None and record.found.ok and record.kind != "static"
        }

    def _remember(self, name: str, record: Record) -> None:
        if name in self.records:
            raise ValueError(f"two structures are called '{name}'; give each a name of its own")
        self.records[name] = replace(record, start=record.start.copy())

    def _crystal(self, name: str, atoms: Atoms) -> Relaxed:
        found = super()._crystal(name, atoms)
        self._remember(name, Record("crystal", atoms, found))
        return found

    def _relax(self, name: str, atoms: Atoms) -> Relaxed:
        found = super()._relax(name, atoms)
        self._remember(name, Record("ions", atoms, found))
        return found

    def _strain(self, name: str, crystal: Relaxed, deformation: np.ndarray) -> Relaxed:
        start = strained(crystal.atoms, deformation)
        found = super()._strain(name, crystal, deformation)
        self._remember(name, Record("strained", start, found, crystal=crystal.name, deformation=deformation))
        return found

    def _static(self, name: str, atoms: Atoms, crystal: str, forces: bool) -> Relaxed:
        found = super()._static(name, atoms, crystal, forces)
        self._remember(name, Record("static", atoms, found, crystal=crystal, forces=forces))
        return found

    def unstable_modes(self, name: str, relaxed: Relaxed) -> int:
        self.hessians[name] = self._hessian(relaxed)
        return unstable_modes(self.hessians[name])

    def _band(self, name: str, images: list[Atoms]) -> Band:
        band = super()._band(name, images)
        self._remember(name, Record("band", images[0], band=band))
        return band


@dataclass(frozen=True)
class Basin:
    """What is known of a structure that relaxes.

    Attributes
    ----------
    start : Atoms
        Where the MLE's relaxation started.
    coordinates : Coordinates
        About the MLE's relaxed structure.
    reduced : Reduced
        Derivatives of the descriptors along them.
    family : Family or None
        Descriptors over strains, where there is no other freedom.
    soft : ndarray, shape (s, s, P + 1), or None
        Second derivatives along the softest symmetry-breaking directions.
    shift : ndarray, shape (n, 3), or None
        Of a strained crystal: how far the MLE's atoms moved, in scaled coordinates.
    unstable_modes : int or None
        Of the MLE's structure; None where they were not counted.
    """

    start: Atoms
    coordinates: Coordinates
    reduced: Reduced
    family: Family | None = None
    soft: np.ndarray | None = None
    shift: np.ndarray | None = None
    unstable_modes: int | None = None


# A structure that relaxes, one that does not, and a path.
Model = Basin | Family | BandModel


class Builder:
    """Computes models of what the MLE has an answer to.

    Parameters
    ----------
    recorder
        The MLE, after it was asked for everything a property needs.
    respond
        Descriptors of a structure.
    cutoffs
        Distances at which the descriptors end (Å).
    thetas
        Parameters of the members, shape (M, P): families reach as far as they do.
    settings
        Of the families.
    """

    def __init__(
        self,
        recorder: Recorder,
        respond: Respond,
        cutoffs: Sequence[float],
        thetas: np.ndarray,
        settings: Families,
    ) -> None:
        self.recorder, self.respond, self.cutoffs = recorder, respond, cutoffs
        self.thetas, self.settings = thetas, settings
        # By crystal: how far its strains reach.
        self.widths: dict[str, np.ndarray] = {}

    def build(self) -> dict[str, Model]:
        """Models of all structures, by name."""
        models: dict[str, Model] = {}
        records = self.recorder.records
        for name, record in progress(records.items(), "model of structure", len(records)):
            if record.band is not None and record.band.ok:
                models[name] = BandModel.build(record.band, self.respond)
            elif record.found is not None and record.found.ok:
                if record.kind == "static":
                    models[name] = self._static(record.found.atoms, record)
                else:
                    models[name] = self._basin(name, record.found.atoms, record, models.get(record.crystal))
        return models

    def _family(self, base: Atoms, width: np.ndarray, **options) -> Family:
        return Family.build(base, self.respond, self.cutoffs, self.settings, width, **options)

    def _static(self, atoms: Atoms, record: Record) -> Family:
        width = self.widths.get(record.crystal, np.zeros(0))
        if len(width) != 1:  # not within a cubic crystal
            width = np.full(1, self.settings.width)
        return self._family(atoms, width, with_forces=record.forces)

    def _basin(self, name: str, atoms: Atoms, record: Record, crystal: Model | None) -> Basin:
        cell = record.kind == "crystal"
        # The start's symmetry and constraints: what the MLE happens to restore, a member need not.
        strains = strain_basis(record.start) if cell else None
        coordinates = Coordinates(atoms, cell, displacement_basis(record.start), strains)
        reduced = Reduced.build(coordinates, self.respond)
        family, shift = None, None
        if cell and not coordinates.n_displacements and len(coordinates.strains) <= 2:
            self.widths[name] = self._reach(reduced, coordinates)
            family = self._family(atoms, self.widths[name], strains=coordinates.strains)
        if record.kind == "strained":
            shift = atoms.get_scaled_positions(wrap=False) - record.start.get_scaled_positions(wrap=False)
            if isinstance(crystal, Basin) and crystal.family is not None and not coordinates.n_displacements:
                base, strains = crystal.family.base, crystal.family.strains
                width = self.widths[record.crystal]
                family = self._family(base, width, strains=strains, deformation=record.deformation)
        soft, unstable = None, None
        if record.kind != "strained":
            hessian = self.recorder.hessians.get(name)
            if hessian is not None:
                directions = softest_breaking(hessian, coordinates.displacements, _SOFT_MODES)
                if directions.size:
                    soft = second_derivatives(Coordinates(atoms, cell=False, displacements=directions), self.respond)
            else:
                hessian = full_hessian(atoms, self.recorder.calculator)
            unstable = unstable_modes(hessian)
        return Basin(record.start, coordinates, reduced, family, soft, shift, unstable)

    def _reach(self, reduced: Reduced, coordinates: Coordinates) -> np.ndarray:
        """How far the members' strains reach, by coordinate, as their reduced models have it."""
        minima = [model.minimum(1.0, coordinates, np.inf) for model in reduced.members(self.thetas, coordinates)]
        strains = np.array([np.abs(q) / coordinates.length for q in minima if q is not None])
        strains = strains[(strains <= self.settings.width).all(axis=1)] if len(strains) else strains
        reach = _MARGIN * strains.max(axis=0) if len(strains) else np.zeros(coordinates.size)
        return np.clip(reach, _LEAST_WIDTH, self.settings.width)


def describe(name: str, models: Mapping[str, Model], thetas: np.ndarray) -> pd.DataFrame:
    """What the models of a property are and how well they interpolate, one row a structure.

    Parameters
    ----------
    name, models
        A property and its models.
    thetas
        Parameters of the members, shape (M, P).

    Returns
    -------
    DataFrame
        Columns property, structure, kind (``family``, ``reduced`` or ``band``), n_atoms, n_coordinates (strains
        of a family, symmetry-allowed coordinates of a reduced model, images of a band), n_nodes (descriptor
        evaluations behind it), interpolation_error_eV_per_atom (largest over members and check points; null for
        what is not interpolated) and unstable_modes of the MLE's structure (null where not counted).
    """
    rows = []
    for structure, model in models.items():
        error = np.nan
        unstable = model.unstable_modes if isinstance(model, Basin) else None
        family = model.family if isinstance(model, Basin) else model
        if isinstance(model, BandModel):
            sizes = [c.size for c in model.coordinates]
            kind, n_atoms, coordinates = "band", len(model.path[0]), len(model.path)
            nodes = sum(2 * size + 3 for size in sizes)
        elif isinstance(family, Family):
            kind, n_atoms, coordinates = "family", len(family.base), len(family.strains)
            nodes, error = family.nodes[..., 0].size, family.errors(thetas).max()
        elif isinstance(model, Basin):
            kind, n_atoms, coordinates = "reduced", len(model.start), model.coordinates.size
            nodes = 2 * coordinates + 3
        rows.append((name, structure, kind, n_atoms, coordinates, nodes, error, unstable))
    columns = ["property", "structure", "kind", "n_atoms", "n_coordinates", "n_nodes"]
    columns += ["interpolation_error_eV_per_atom", "unstable_modes"]
    integers = {name: "Int32" for name in columns if name.startswith(("n_", "unstable"))}
    return pd.DataFrame(rows, columns=columns).astype(integers)


def write_models(path: Path, models: Mapping[str, Model]) -> None:
    """Write models by their structures' names; see `popsbounds.archive`."""
    write_archive(path, models)


def read_models(path: Path) -> dict[str, Model]:
    """Read what `write_models` wrote."""
    return read_archive(path, Basin, Family, Reduced, BandModel)
