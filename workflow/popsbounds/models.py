"""What is learnt once from the MLE, so that members cost little: models of every structure it was asked for.

`Recorder` is the MLE; it remembers its structures, and `Builder` computes
their descriptors' derivatives. `popsbounds.member` answers the same questions
for members.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms

from popsbounds.archive import read_archive, write_archive
from popsbounds.band import Band, BandModel
from popsbounds.config import Families
from popsbounds.coordinates import Coordinates, displacement_basis, strain_basis, strains_between
from popsbounds.family import Family
from popsbounds.hessian import full_hessian, softest_breaking, unstable_modes
from popsbounds.potential import ColdPotential
from popsbounds.progress import progress
from popsbounds.reduced import Cubic, Reduced, energy_gradient, principal_directions, second_derivatives, with_frame
from popsbounds.relax import Relaxed, evaluate, strained
from popsbounds.response import Respond

__all__ = [
    "SOFT_MODES",
    "Basin",
    "Builder",
    "Centre",
    "Model",
    "Record",
    "Recorder",
    "describe",
    "read_models",
    "read_structures",
    "write_models",
]

# Symmetry-breaking directions, the MLE's softest, in which a member's stability is looked at.
SOFT_MODES = 12
# Families reach this much farther than the members are predicted to, and at least so far.
_MARGIN, _LEAST_WIDTH = 1.5, 0.005
# Scaled coordinates closer than this are the same.
_SAME = 1e-6
# Members that show in which directions they differ.
_SOME = 100
# Members whose coordinates are farther from the MLE's than this (Å) are far; where fewer than that share are near,
# there are centres besides the MLE's structure, so many standard deviations from it.
_FAR, _NEAR_ENOUGH, _APART = 0.08, 0.95, 1.5
# What lies within a crystal follows its size only.
_UNIFORM = np.eye(3)[None]


@dataclass(frozen=True)
class Record:
    """One question to the MLE, and its answer.

    Attributes
    ----------
    kind : {"crystal", "ions", "strained", "static", "band"}
        What was asked for: a crystal whose cell relaxes; ions that relax in a fixed cell; those of a crystal under
        strain; a structure as it is; a path.
    start : Atoms
        Where it started; of a path, the first image.
    found : Relaxed or None
        The answer; None for a path.
    band : Band or None
        That of a path.
    crystal : str
        Name of the crystal that it lies within, or is strained from; empty where there is none.
    deformation : ndarray, shape (3, 3), or None
        What multiplied the cell of a crystal under strain.
    forces : bool
        Whether the forces of a structure as it is were asked for.
    """

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

    def _relax(self, name: str, atoms: Atoms, crystal: str) -> Relaxed:
        found = super()._relax(name, atoms, crystal)
        self._remember(name, Record("ions", atoms, found, crystal=crystal))
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

    def _band(self, name: str, images: list[Atoms], crystal: str) -> Band:
        band = super()._band(name, images, crystal)
        self._remember(name, Record("band", images[0], band=band, crystal=crystal))
        return band


@dataclass(frozen=True, kw_only=True)
class Centre:
    """A structure that others are expanded about.

    Attributes
    ----------
    coordinates : Coordinates
        About it, of what relaxes.
    reduced : Reduced
        Derivatives of the descriptors along them and, where the cell is imposed, along `frame`.
    frame : ndarray, shape (r, 3, 3), or None
        Strains that are imposed; None where the cell relaxes.
    """

    coordinates: Coordinates
    reduced: Reduced
    frame: np.ndarray | None = None

    def strains_of(self, atoms: Atoms) -> np.ndarray | None:
        """Strains of the frame at which a cell is imposed, shape (r,); None where it is not of the frame."""
        if self.frame is None:
            return np.zeros(0)
        return strains_between(self.coordinates.origin.cell[:], atoms.cell[:], self.frame)

    def scale_of(self, atoms: Atoms) -> np.ndarray:
        """What its cell must be multiplied by to be a cell that is imposed, shape (3, 3)."""
        return np.eye(3) if self.frame is None else np.linalg.solve(self.coordinates.origin.cell[:], atoms.cell[:])


@dataclass(frozen=True, kw_only=True)
class Basin(Centre):
    """What is known of a structure that relaxes, about the MLE's relaxed structure.

    Attributes
    ----------
    start : Atoms
        Where the MLE's relaxation started.
    farther : list of Centre
        Other structures, where members are too far from the MLE's to be expanded about that alone.
    family : Family or None
        Descriptors over strains, where there is no other freedom.
    soft : ndarray, shape (s, s, P + 1), or None
        Second derivatives along the softest symmetry-breaking directions.
    unstable_modes : int or None
        Of the MLE's structure; None where they were not counted.
    """

    start: Atoms
    farther: list[Centre]
    family: Family | None = None
    soft: np.ndarray | None = None
    unstable_modes: int | None = None

    def with_strains(self, found: Relaxed) -> Relaxed:
        """A crystal with its strains from the MLE's; anything else as it is."""
        if self.frame is not None:
            return found
        before, strains = self.coordinates.origin.cell[:], self.coordinates.strains
        return replace(found, strains=strains_between(before, found.atoms.cell[:], strains))

    def starts_as(self, atoms: Atoms) -> bool:
        """Whether a structure is, in scaled coordinates, what the MLE's relaxation started from."""
        if len(self.start) != len(atoms):
            return False
        places = [a.get_scaled_positions(wrap=False) for a in (self.start, atoms)]
        return bool(np.abs(places[0] - places[1]).max() < _SAME)


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
    mle
        Its parameters, shape (P,).
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
        mle: np.ndarray,
        thetas: np.ndarray,
        settings: Families,
    ) -> None:
        self.recorder, self.respond, self.cutoffs = recorder, respond, cutoffs
        self.mle, self.thetas, self.settings = mle, thetas, settings
        self.some = thetas[:_SOME]
        # By crystal: how far its strains reach, where those of some members lie, and what they do to its size.
        self.widths: dict[str, np.ndarray] = {}
        self.strains: dict[str, np.ndarray] = {}
        self.scales: dict[str, np.ndarray] = {}
        # By structure: which of some members are nearer to each of its farther centres.
        self.sides: dict[str, list[np.ndarray]] = {}

    def build(self) -> dict[str, Model]:
        """Models of all structures, by name."""
        models: dict[str, Model] = {}
        records = self.recorder.records
        for name, record in progress(records.items(), "model of structure", len(records)):
            if record.band is not None and record.band.ok:
                strains = self._scales(record.crystal)
                models[name] = BandModel.build(
                    record.band, partial(self._reduced, frame=_UNIFORM, some=self.some, strains=strains)
                )
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
        coordinates = Coordinates(atoms, displacement_basis(record.start), strains)
        host = crystal if record.kind == "strained" and isinstance(crystal, Basin) else None
        deformation = np.eye(3) if record.deformation is None else record.deformation
        frame = None if cell else _UNIFORM
        where = np.zeros((len(self.some), 0)) if cell else self._scales(record.crystal)
        if host is not None:
            frame = np.array([np.linalg.solve(deformation, e @ deformation) for e in host.coordinates.strains])
            where = self.strains[record.crystal]
        reduced = self._reduced(coordinates, frame, self.some, where)
        if host is None:
            farther = self._farther(name, coordinates, frame, where, reduced)
        else:
            # About the crystal's own centres: opposite strains, whose difference counts, must err alike.
            pairs = zip(host.farther, self.sides.get(record.crystal, []), strict=True)
            origins = [(strained(centre.coordinates.origin, deformation), here) for centre, here in pairs]
            farther = [self._centre(origin, coordinates, frame, here, where) for origin, here in origins]
        if cell:
            self.strains[name] = self._strains(reduced, coordinates)
            cells = np.eye(3) + np.tensordot(self.strains[name], coordinates.strains, 1)
            self.scales[name] = np.cbrt(np.linalg.det(cells))[:, None] - 1
        family = None
        if cell and not coordinates.n_displacements and len(coordinates.strains) <= 2:
            self.widths[name] = self._reach(reduced, coordinates)
            family = self._family(atoms, self.widths[name], strains=coordinates.strains)
        if host is not None and host.family is not None and not coordinates.n_displacements:
            base, width = host.family.base, self.widths[record.crystal]
            family = self._family(base, width, strains=host.family.strains, deformation=deformation)
        soft, unstable = None, None
        if record.kind != "strained":
            hessian = self.recorder.hessians.get(name)
            if hessian is not None:
                directions = softest_breaking(hessian, coordinates.displacements, SOFT_MODES)
                if directions.size:
                    soft = second_derivatives(Coordinates(atoms, directions), self.respond)
            else:
                hessian = full_hessian(atoms, self.recorder.calculator)
            unstable = unstable_modes(hessian)
        return Basin(
            coordinates=coordinates,
            reduced=reduced,
            frame=frame,
            start=record.start,
            farther=farther,
            family=family,
            soft=soft,
            unstable_modes=unstable,
        )

    def _reduced(
        self, coordinates: Coordinates, frame: np.ndarray | None, some: np.ndarray, strains: np.ndarray
    ) -> Reduced:
        """Model of a structure, its third derivatives for some members, each in a frame of its own."""
        reduced = Reduced.build(coordinates, self.respond, self.mle, frame)
        return reduced.with_third_derivatives(coordinates, frame, self._force, some, strains)

    def _farther(
        self, name: str, coordinates: Coordinates, frame: np.ndarray | None, where: np.ndarray, reduced: Reduced
    ) -> list[Centre]:
        """Centres to either side of the MLE's structure, along the direction in which members differ most."""
        if not coordinates.n_displacements:  # families do better
            return []
        members = zip(reduced.members(self.some), where, strict=True)
        points = np.array([model.point(model.solve(strain), strain) for model, strain in members])
        lengths = np.linalg.norm(points, axis=1)
        known = np.isfinite(lengths)
        if np.count_nonzero(lengths[known] <= _FAR) >= _NEAR_ENOUGH * len(points) or not known.any():
            return []
        middle, curvature = points[known].mean(axis=0), reduced.members(self.mle[None])[0].hessian
        principal = principal_directions(points[known] - middle, curvature)
        if not principal:  # a single member
            return []
        direction, dual, spread = principal[0]
        along, joint, centres = (points - middle) @ dual / spread, with_frame(coordinates, frame), []
        self.sides[name] = [known & (sign * along > 0.5 * _APART) for sign in (-1, 1)]
        for sign, here in zip((-1, 1), self.sides[name], strict=True):
            z = sign * _APART * spread * direction
            centres.append(self._centre(joint.place(z), coordinates, frame, here, where))
        return centres

    def _centre(
        self,
        origin: Atoms,
        coordinates: Coordinates,
        frame: np.ndarray | None,
        here: np.ndarray,
        where: np.ndarray,
    ) -> Centre:
        """Expansion about another structure than the MLE's; `here` tells which members it is for."""
        there = Coordinates(origin, coordinates.displacements, coordinates.strains)
        moved = where[here]
        if frame is not None:
            before, after = coordinates.origin.cell[:], origin.cell[:]
            moved = moved - strains_between(before, after, frame)
            frame = np.array([np.linalg.solve(np.linalg.solve(before, after), e) for e in frame])
        reduced = self._reduced(there, frame, self.some[here], moved)
        return Centre(coordinates=there, reduced=reduced, frame=frame)

    def _force(self, coordinates: Coordinates, q: np.ndarray) -> np.ndarray:
        """Gradient of the MLE's energy along coordinates."""
        return energy_gradient(evaluate(coordinates.place(q), self.recorder.calculator), coordinates, q)

    def _strains(self, reduced: Reduced, coordinates: Coordinates) -> np.ndarray:
        """Strains of some members' crystals, shape (members, r); those of the MLE where a member has none."""
        q = np.array([model.solve() for model in reduced.members(self.some)])
        return np.nan_to_num(q[:, coordinates.n_displacements :] / coordinates.length)

    def _scales(self, crystal: str) -> np.ndarray:
        """Uniform strains of what lies within a crystal, shape (members, 1)."""
        return self.scales.get(crystal, np.zeros((len(self.some), 1)))

    def _reach(self, reduced: Reduced, coordinates: Coordinates) -> np.ndarray:
        """How far the members' strains reach, by coordinate, as their reduced models have it."""
        # Without third derivatives too: with them, a soft crystal's model may have no minimum.
        both = reduced.members(self.thetas) + replace(reduced, cubic=None).members(self.thetas)
        minima = [model.minimum((), coordinates, np.inf) for model in both]
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
            kind, n_atoms, coordinates = "band", len(model.path[0]), len(model.path)
            nodes = sum(reduced.n_nodes for reduced in model.models)
        elif isinstance(family, Family):
            kind, n_atoms, coordinates = "family", len(family.base), len(family.strains)
            nodes, error = family.energy[..., 0].size, family.errors(thetas).max()
        elif isinstance(model, Basin):
            kind, n_atoms, coordinates = "reduced", len(model.start), model.coordinates.size
            nodes = sum(centre.reduced.n_nodes for centre in (model, *model.farther))
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
    return read_archive(path, Basin, Centre, Family, Cubic, Reduced, BandModel)


def read_structures(path: Path | str) -> dict[str, list[Atoms]]:
    """The MLE's structures in what `write_models` wrote, by name: one each, or the images of a path.

    The models themselves, which are large, are not read.
    """
    found: dict[str, list[Atoms]] = {}
    with np.load(path) as data:
        names = data["names"].tolist()
        for key in data.files:
            # That of a basin, of a family, and of a band; see `popsbounds.archive`.
            match = re.fullmatch(r"((\d+)/(?:coordinates/origin|base|path/\d+))/numbers", key)
            if match:
                place, number = match.groups()
                cell, positions = data[f"{place}/cell"], data[f"{place}/positions"]
                atoms = Atoms(data[key], cell=cell, positions=positions, pbc=True)
                found.setdefault(names[int(number)], []).append(atoms)
    return found
