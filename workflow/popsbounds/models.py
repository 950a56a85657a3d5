"""What is learnt once from the MLE, so that members cost little: models of every structure it was asked for.

`Recorder` is the MLE; it remembers its structures, and `Builder` computes
their descriptors' derivatives. `Member` answers the same questions for a
member: from a family over strains without any force call, from its own reduced
model and a few force calls, or, where it has left the MLE's neighbourhood, by a
plain relaxation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms

from popsbounds.band import Band, BandModel, MemberBand
from popsbounds.config import Families, Propagate
from popsbounds.coordinates import Coordinates
from popsbounds.family import Family, MemberFamily
from popsbounds.hessian import full_hessian, softest_breaking, unstable_modes
from popsbounds.potential import ColdPotential, strained
from popsbounds.progress import progress
from popsbounds.reduced import MemberReduced, Reduced
from popsbounds.relax import Relaxed, evaluate, failed, other_basin, relax, uniform_scale
from popsbounds.response import Respond, augmented

__all__ = ["Builder", "Member", "Model", "Recorder", "describe", "members", "read_models", "write_models"]

# Symmetry-breaking directions, the MLE's softest, in which a member's stability is looked at.
_SOFT_MODES = 12
_SOFT_STEP = 0.01  # Å
# Scaled coordinates closer than this are the same.
_SAME = 1e-6
# Families reach this much farther than the members are predicted to, and at least so far.
_MARGIN, _LEAST_WIDTH = 1.5, 0.005
# As in popsbounds.hessian.
_UNSTABLE = -0.02


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
    """The MLE: answers as any potential does, and remembers the questions by name."""

    def __init__(self, *arguments, **keywords) -> None:
        super().__init__(*arguments, **keywords)
        self.records: dict[str, Record] = {}
        self.counted: list[str] = []

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
        found = super()._relax(name, start)
        self._remember(name, Record("strained", start, found, crystal=crystal.name, deformation=deformation))
        return found

    def _static(self, name: str, atoms: Atoms, crystal: str, forces: bool) -> Relaxed:
        found = super()._static(name, atoms, crystal, forces)
        self._remember(name, Record("static", atoms, found, crystal=crystal, forces=forces))
        return found

    def _unstable_modes(self, name: str, relaxed: Relaxed) -> int:
        self.counted.append(name)
        return super()._unstable_modes(name, relaxed)

    def _band(self, name: str, images: list[Atoms]) -> Band:
        band = super()._band(name, images)
        self._remember(name, Record("band", images[0], band=band))
        return band


@dataclass(frozen=True)
class Model:
    """What is known of a structure.

    Attributes
    ----------
    start : Atoms
        Where the MLE's relaxation started.
    coordinates : Coordinates or None
        About the MLE's relaxed structure; None where nothing relaxes.
    reduced : Reduced or None
        Derivatives of the descriptors along them.
    family : Family or None
        Descriptors over strains, where there is no other freedom.
    soft : ndarray, shape (s, s, P + 1), or None
        Second derivatives along the softest symmetry-breaking directions.
    shift : ndarray, shape (n, 3), or None
        Of a strained crystal: how far the MLE's atoms moved, in scaled coordinates.
    band : BandModel or None
        Models along a path.
    unstable_modes : int
        Of the MLE's structure; −1 where they were not counted.
    """

    start: Atoms
    coordinates: Coordinates | None = None
    reduced: Reduced | None = None
    family: Family | None = None
    soft: np.ndarray | None = None
    shift: np.ndarray | None = None
    band: BandModel | None = None
    unstable_modes: int = -1


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
            if record.band is not None:
                if record.band.ok:
                    models[name] = Model(record.start, band=BandModel.build(record.band, self.respond))
            elif record.found is not None and record.found.ok:
                models[name] = self._model(name, record, models)
        return models

    def _family(self, base: Atoms, width: np.ndarray, **options) -> Family:
        return Family.build(base, self.respond, self.cutoffs, self.settings, width, **options)

    def _model(self, name: str, record: Record, models: Mapping[str, Model]) -> Model:
        atoms = record.found.atoms.copy()
        atoms.set_constraint(record.start.constraints)
        if record.kind == "static":
            width = self.widths.get(record.crystal, np.zeros(0))
            if len(width) != 1:  # not within a cubic crystal
                width = np.full(1, self.settings.width)
            return Model(record.start, family=self._family(atoms, width, with_forces=record.forces))
        coordinates = Coordinates(atoms, cell=record.kind == "crystal")
        reduced = Reduced.build(coordinates, self.respond)
        family, shift = None, None
        if record.kind == "crystal" and not coordinates.n_displacements and len(coordinates.strains) <= 2:
            self.widths[name] = self._reach(reduced, coordinates)
            family = self._family(atoms, self.widths[name], strains=coordinates.strains)
        if record.kind == "strained":
            shift = atoms.get_scaled_positions(wrap=False) - record.start.get_scaled_positions(wrap=False)
            crystal = models.get(record.crystal)
            if crystal is not None and crystal.family is not None and not coordinates.n_displacements:
                base, strains = crystal.family.base, crystal.family.strains
                width = self.widths[record.crystal]
                family = self._family(base, width, strains=strains, deformation=record.deformation)
        soft, unstable = None, -1
        if record.kind != "strained":
            hessian = full_hessian(atoms, self.recorder.calculator)
            unstable = unstable_modes(hessian)
            if name in self.recorder.counted:
                soft = self._soft(atoms, softest_breaking(hessian, coordinates.displacements, _SOFT_MODES))
        return Model(record.start, coordinates, reduced, family, soft, shift, unstable_modes=unstable)

    def _reach(self, reduced: Reduced, coordinates: Coordinates) -> np.ndarray:
        """How far the members' strains reach, by coordinate, as their reduced models have it."""
        minima = [model.minimum(1.0, coordinates, np.inf) for model in reduced.members(self.thetas, coordinates)]
        strains = np.array([np.abs(q) / coordinates.length for q in minima if q is not None])
        strains = strains[(strains <= self.settings.width).all(axis=1)] if len(strains) else strains
        reach = _MARGIN * strains.max(axis=0) if len(strains) else np.zeros(coordinates.size)
        return np.clip(reach, _LEAST_WIDTH, self.settings.width)

    def _soft(self, atoms: Atoms, directions: np.ndarray) -> np.ndarray:
        """Second derivatives of the descriptors along directions, shape (s, s, P + 1)."""
        breaking = Coordinates(atoms, cell=False, displacements=directions)

        def gradient(q: np.ndarray) -> np.ndarray:
            response = self.respond(breaking.place(q))
            return breaking.gradient(q, response.forces, response.virial)

        steps = _SOFT_STEP * np.eye(breaking.size)
        matrix = np.array([(gradient(step) - gradient(-step)) / (2 * _SOFT_STEP) for step in steps])
        return 0.5 * (matrix + matrix.transpose(1, 0, 2))


class Member(ColdPotential):
    """A member of the ensemble.

    Parameters
    ----------
    number
        Of the member, in the batch that the models were evaluated for.
    models
        By structure, what is known of it; see `members`.
    calculator
        The member's potential.
    settings
        Section `propagate` of the configuration.
    """

    def __init__(self, number: int, models: Mapping[str, _Evaluated], calculator, settings: Propagate) -> None:
        super().__init__(calculator, settings.relax)
        self.number, self.models, self.families = number, models, settings.families

    def _crystal(self, name: str, atoms: Atoms) -> Relaxed:
        known = self.models.get(name)
        if known is None:
            return super()._crystal(name, atoms)
        family = known.family_of(self.number, self.families)
        x = None if family is None else family.minimum()
        if family is not None and x is not None:
            found = _from_family(family, x)
            if not other_basin(known.model.coordinates.origin, found.atoms, self.settings):
                return found
        return self._nearby(name, atoms, known, known.model.coordinates, 1.0)

    def _relax(self, name: str, atoms: Atoms) -> Relaxed:
        known = self.models.get(name)
        if known is None or not _same_places(known.model.start, atoms):
            return super()._relax(name, atoms)
        scale = uniform_scale(known.model.start, atoms)
        if scale is not None:
            return self._nearby(name, atoms, known, known.model.coordinates, scale)
        mle = known.model.coordinates
        origin = mle.origin.copy()
        origin.set_cell(atoms.cell[:], scale_atoms=True)
        return self._nearby(name, atoms, known, Coordinates(origin, False, mle.displacements), None)

    def _strain(self, name: str, crystal: Relaxed, deformation: np.ndarray) -> Relaxed:
        known = self.models.get(name)
        start = strained(crystal.atoms, deformation)
        if known is None:
            return super()._relax(name, start)
        family = known.family_of(self.number, self.families)
        if family is not None and crystal.strains is not None and family.inside(crystal.strains):
            return _from_family(family, crystal.strains)
        origin = start.copy()
        origin.set_scaled_positions(start.get_scaled_positions(wrap=False) + known.model.shift)
        mle = known.model.coordinates
        return self._nearby(name, start, known, Coordinates(origin, False, mle.displacements), None)

    def _static(self, name: str, atoms: Atoms, crystal: str, forces: bool) -> Relaxed:
        known = self.models.get(name)
        family = None if known is None else known.family_of(self.number, self.families)
        if family is not None:
            x = family.family.coordinates_of(atoms)
            if x is not None and family.inside(x):
                return _from_family(family, x, atoms)
        return evaluate(atoms, self.calculator)

    def _unstable_modes(self, name: str, relaxed: Relaxed) -> int:
        known = self.models.get(name)
        if known is None or known.model.soft is None:
            return super()._unstable_modes(name, relaxed)
        return int(np.count_nonzero(np.linalg.eigvalsh(known.soft[self.number]) < _UNSTABLE))

    def _band(self, name: str, images: list[Atoms]) -> Band:
        known = self.models.get(name)
        scale = None if known is None else uniform_scale(known.model.start, images[0])
        if known is None or scale is None:
            return super()._band(name, images)
        band = known.bands[self.number].solve(scale, self.calculator, self.settings)
        if band.ok or band.status == "different_basin":
            return band
        again = super()._band(name, images)
        reason = f"path converged from scratch, after: {band.reason}" if again.ok else again.reason
        return replace(again, reason=reason, evaluations=again.evaluations + band.evaluations)

    def _minimum_or_not(self, found: Relaxed, coordinates: Coordinates, hessian: np.ndarray) -> Relaxed:
        """Refuse a stationary point that is no minimum along the direction in which the member's model has none."""
        values, vectors = np.linalg.eigh(hessian)
        if values[0] > 0:
            return found
        about = Coordinates(found.atoms, False, coordinates.displacements, coordinates.strains)
        slopes = []
        for step in (_SOFT_STEP * vectors[:, 0], -_SOFT_STEP * vectors[:, 0]):
            there = evaluate(about.place(step), self.calculator)
            virial = there.atoms.get_volume() * there.stress
            slopes.append(vectors[:, 0] @ about.gradient(step, there.forces.ravel(), virial))
        found = replace(found, evaluations=found.evaluations + 2)
        if slopes[0] > slopes[1]:
            return found
        return failed(found.atoms, "unstable", "a stationary point that is no minimum", found.evaluations)

    def _nearby(
        self, name: str, start: Atoms, known: _Evaluated, coordinates: Coordinates, scale: float | None
    ) -> Relaxed:
        """Relax from the member's own model, then from scratch; `scale` is None where the model only has curvatures."""
        model = known.reduced[self.number]
        fixed = 1.0 if scale is None else scale
        trust = self.settings.trust_radius_A
        q = np.zeros(coordinates.size) if scale is None else model.minimum(scale, coordinates, trust)
        basin = known.model.coordinates.origin
        stiff = model.stiffened()
        first = relax(coordinates, self.calculator, self.settings, q, stiff, fixed, basin)
        if first.ok and q is None:
            first = self._minimum_or_not(first, coordinates, model.hessian)
        remark = "" if q is not None else "relaxed from the MLE's structure: outside the reduced model's trust radius"
        if first.ok:
            return replace(first, reason=remark)
        again = relax(
            Coordinates(start, cell=bool(len(coordinates.strains))), self.calculator, self.settings, basin=basin
        )
        reason = f"relaxed from scratch, after: {first.reason}" if again.ok else first.reason
        status = again.status if again.ok else first.status
        return replace(again, status=status, reason=reason, evaluations=again.evaluations + first.evaluations)


def _same_places(before: Atoms, after: Atoms) -> bool:
    """Whether two structures are one in scaled coordinates."""
    if len(before) != len(after):
        return False
    places = [atoms.get_scaled_positions(wrap=False) for atoms in (before, after)]
    return bool(np.abs(places[0] - places[1]).max() < _SAME)


def _from_family(family: MemberFamily, x: np.ndarray, atoms: Atoms | None = None) -> Relaxed:
    atoms = family.family.place(x) if atoms is None else atoms
    stress = family.virial(x) / atoms.get_volume()
    return Relaxed(atoms, family.energy(x), "ok", "", 0, stress, family.forces(x), strains=x)


@dataclass(frozen=True)
class _Evaluated:
    """A model with the numbers of a batch of members."""

    model: Model
    families: list[MemberFamily] | None
    reduced: list[MemberReduced]
    soft: np.ndarray | None
    bands: list[MemberBand]

    def family_of(self, number: int, settings: Families) -> MemberFamily | None:
        """A member's family, if there is one and it is accurate enough."""
        if self.families is None or self.families[number].error > settings.tolerance_eV:
            return None
        return self.families[number]


def members(models: Mapping[str, Model], thetas: np.ndarray) -> dict[str, _Evaluated]:
    """Evaluate all models for a batch of members, whose parameters have shape (M, P)."""
    full = augmented(thetas)
    return {
        name: _Evaluated(
            model,
            None if model.family is None else model.family.members(thetas),
            [] if model.reduced is None else model.reduced.members(thetas, model.coordinates),
            None if model.soft is None else np.einsum("ijp,mp->mij", model.soft, full),
            [] if model.band is None else model.band.members(thetas),
        )
        for name, model in models.items()
    }


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
        evaluations behind it), interpolation_error_eV (largest over members and check points, per atom; null for
        what is not interpolated) and unstable_modes of the MLE's structure (null where not counted).
    """
    rows = []
    for structure, model in models.items():
        error = np.nan
        if model.family is not None:
            error = model.family.errors(thetas).max()
            kind, coordinates, nodes = "family", len(model.family.strains), model.family.nodes[..., 0].size
        elif model.band is not None:
            sizes = [c.size for c in model.band.coordinates]
            kind, coordinates, nodes = "band", len(model.band.path), sum(2 * size + 3 for size in sizes)
        else:
            kind, coordinates, nodes = "reduced", model.coordinates.size, 2 * model.coordinates.size + 3
        unstable = pd.NA if model.unstable_modes < 0 else model.unstable_modes
        rows.append((name, structure, kind, len(model.start), coordinates, nodes, error, unstable))
    columns = [
        "property",
        "structure",
        "kind",
        "n_atoms",
        "n_coordinates",
        "n_nodes",
        "interpolation_error_eV",
        "unstable_modes",
    ]
    integers = {name: "Int32" for name in columns if name.startswith(("n_", "unstable"))}
    return pd.DataFrame(rows, columns=columns).astype(integers)


# Models on disk: plain arrays, so that reading them executes nothing.

_CLASSES = {cls.__name__: cls for cls in (Model, Family, Reduced, BandModel)}


def write_models(path: Path, models: Mapping[str, Model]) -> None:
    """Write models as an .npz file of plain arrays, `<number>/<attribute>/…`, and the structures' names."""
    arrays: dict[str, np.ndarray] = {"names": np.array(list(models), dtype=str)}
    for number, model in enumerate(models.values()):
        _pack(str(number), model, arrays)
    np.savez(path, **arrays)


def read_models(path: Path) -> dict[str, Model]:
    """Read what `write_models` wrote."""
    tree: dict = {}
    with np.load(path) as data:
        names = data["names"].tolist()
        for key in data.files:
            *folders, last = key.split("/")
            branch = tree
            for folder in folders:
                branch = branch.setdefault(folder, {})
            branch[last] = data[key]
    return {name: _unpack(tree[str(number)]) for number, name in enumerate(names)}


def _pack(key: str, value: object, arrays: dict[str, np.ndarray]) -> None:
    if value is None:
        return
    if isinstance(value, Atoms):
        parts = {"numbers": value.numbers, "cell": value.cell[:], "positions": value.positions}
        kind = "Atoms"
    elif isinstance(value, Coordinates):
        parts = {"origin": value.origin, "displacements": value.displacements, "strains": value.strains}
        kind = "Coordinates"
    elif isinstance(value, list):
        parts, kind = {str(i): item for i, item in enumerate(value)}, "list"
    elif type(value).__name__ in _CLASSES:
        parts, kind = vars(value), type(value).__name__
        parts = {name: parts[name] for name in type(value).__dataclass_fields__}
    else:
        arrays[key] = np.asarray(value)
        return
    arrays[f"{key}/kind"] = np.array(kind)
    for name, part in parts.items():
        _pack(f"{key}/{name}", part, arrays)


def _unpack(value):
    if not isinstance(value, dict):
        return value if value.ndim else value.item()
    parts = {name: _unpack(part) for name, part in value.items() if name != "kind"}
    kind = str(value["kind"])
    if kind == "Atoms":
        return Atoms(parts["numbers"], cell=parts["cell"], positions=parts["positions"], pbc=True)
    if kind == "Coordinates":
        # Whether the cell relaxes is told by the strains.
        return Coordinates(parts["origin"], False, parts["displacements"], parts["strains"])
    if kind == "list":
        return [parts[str(i)] for i in range(len(parts))]
    return _CLASSES[kind](**parts)
