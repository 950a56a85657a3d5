"""Which atomic environments the training set holds, and whether the properties' structures are among them.

An environment is the vector of an atom's K bispectrum components, the linear descriptors of the study. Only
environments of one element are compared, the material's: with several elements in a study, each has parameters of
its own, learnt from its own atoms.

Beside the training set stand sets that are easier to come by, as many environments of each: crystals rattled at
random, and snapshots of molecular dynamics under the MLE.

Leverage as an extrapolation grade: Podryabinkin & Shapeev, Comput. Mater. Sci. 140, 171 (2017). Entropy: see
`popsbounds.entropy`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed, Calculator
from ase.data import atomic_numbers, reference_states
from ase.md.langevin import Langevin
from scipy.linalg import solve_triangular
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from popsbounds.descriptors.snap import SnapModel
from popsbounds.engine import load_atoms, new_lammps
from popsbounds.entropy import DescriptorEntropy
from popsbounds.structures import crystal, crystal_names, nearest_neighbour_distance

__all__ = [
    "ENVIRONMENTS_COLUMNS",
    "MOST",
    "SAMPLE",
    "Bispectrum",
    "EnvironmentSet",
    "Sample",
    "choose_frames",
    "compare_sets",
    "compare_structures",
    "crystal_of",
    "easy_sets",
    "molecular_dynamics",
    "names_outside",
    "rattled",
    "training_set",
]

_LOG = logging.getLogger(__name__)

MOST = 50_000
"""Training atoms that are looked at; beyond, whole frames are left out at random."""
SAMPLE = 3_000
"""Environments of each set that is compared with the training set, and of the training set then."""

ENVIRONMENTS_COLUMNS = [
    "property", "structure", "n_atoms", "n_environments", "leverage_mean", "leverage_max",
    "leverage_max_over_training", "distance", "inside",
]  # fmt: skip

# Share of the training environments that are as near to the others as counts as near.
_NEAR = 0.99
# Environments of a structure closer than this, in standard deviations of the training set, are the same.
_SAME = 0.01
_ROUNDING = 1e-9
# Distances between environments that are held in memory at once.
_AT_ONCE = 10_000_000

# About as many atoms in the cells of the easy sets.
_ATOMS = 54
# Standard deviations of a rattle, in nearest-neighbour distances.
_AMPLITUDES = (0.02, 0.05, 0.1)
# Temperatures of molecular dynamics over that of melting, and runs at each.
_TEMPERATURES, _RUNS = (0.1, 0.5, 1.0), 2
# Time step of tungsten (fs), that of others in the ratio of the square roots of their masses; Langevin friction times
# the time step; steps before the first snapshot, and from one to the next.
_STEP_FS, _FRICTION, _STEPS_BEFORE, _STEPS_BETWEEN = 5.0, 0.05, 50, 10
_TUNGSTEN = 183.84
# A run whose energy per atom departs from the crystal's by so many k_B T has blown up.
_BLOWN_UP = 10.0
# Melting points (K), CRC Handbook of Chemistry and Physics.
_MELTING = {
    "Li": 454, "Be": 1560, "Na": 371, "Mg": 923, "Al": 933, "Si": 1687, "K": 337, "Ca": 1115, "Sc": 1814, "Ti": 1943,
    "V": 2183, "Cr": 2180, "Fe": 1811, "Co": 1768, "Ni": 1728, "Cu": 1358, "Zn": 693, "Ge": 1211, "Rb": 312,
    "Sr": 1050, "Y": 1795, "Zr": 2127, "Nb": 2750, "Mo": 2895, "Tc": 2430, "Ru": 2606, "Rh": 2236, "Pd": 1828,
    "Ag": 1235, "Cd": 594, "Cs": 302, "Ba": 1000, "Hf": 2506, "Ta": 3290, "W": 3687, "Re": 3458, "Os": 3306,
    "Ir": 2719, "Pt": 2041, "Au": 1337, "Tl": 577, "Pb": 601,
}  # fmt: skip


class Bispectrum:
    """Bispectrum components of the atoms of one element.

    LAMMPS's own per-atom compute: the same numbers as `popsbounds.entropy.AtomicDescriptors` without their derivatives,
    in a tenth of the time, and for any number of atoms.

    Parameters
    ----------
    model
        The functional form; of quadratic ones, the linear part.
    element
        Chemical symbol.
    """

    def __init__(self, model: SnapModel, element: str) -> None:
        self.model, self.element = model, element
        linear = SnapModel(model.settings.model_copy(update={"quadratic": False}), model.elements)
        self._commands = [
            f"pair_style zero {model.cutoff + 0.1:.6f}",
            "pair_coeff * *",
            linear.compute_command("sna/atom"),
            "run 0 post no",
        ]
        self._lmp = new_lammps()

    def __call__(self, atoms: Atoms) -> np.ndarray:
        """Descriptors of a periodic structure's n atoms of the element, shape (n, K)."""
        lmp = self._lmp
        lmp.command("clear")
        load_atoms(lmp, atoms, self.model.elements)
        lmp.commands_list(self._commands)
        found = np.empty((len(atoms), self.model.n_linear))
        order = lmp.numpy.extract_atom("id")[: len(atoms)] - 1
        found[order] = lmp.numpy.extract_compute("rows", 1, 2)[: len(atoms)]
        return found[atoms.symbols == self.element]

    def stack(self, frames: Sequence[Atoms]) -> tuple[np.ndarray, np.ndarray]:
        """Descriptors of several structures, shape (n, K), and the number of the one that each is of, shape (n,)."""
        parts = [np.empty((0, self.model.n_linear)), *map(self, frames)]
        return np.vstack(parts), np.repeat(np.arange(len(parts)) - 1, [len(part) for part in parts])


class EnvironmentSet(DescriptorEntropy):
    """A set of environments, such as the training set's, and where others lie relative to it.

    Parameters
    ----------
    descriptors
        Of n environments, shape (n, K). Their standard deviations are the unit of each descriptor.
    frames
        Number of the frame that each belongs to, shape (n,). The atoms of a frame do not count as neighbours of one
        another: in crystals they are equal.
    sample
        Numbers of those that stand for all, shape (m,); None for all.

    Attributes
    ----------
    descriptors, frames, sample
        As above.
    neighbours : ndarray, shape (m,)
        Whitened distances from the sample to the nearest environment of another frame.
    reach : float
        Of these, the 99th percentile: what counts as near.
    largest_leverage : float
        Of all environments.
    """

    def __init__(self, descriptors: np.ndarray, frames: np.ndarray, sample: np.ndarray | None = None) -> None:
        super().__init__(descriptors)
        self.add(descriptors)
        self.descriptors, self.frames = descriptors, frames
        _, self._mean, self._covariance = self._moments()
        self._root = np.linalg.cholesky(self._covariance)
        self._whitened = self.whiten(descriptors)
        self.sample = np.arange(len(descriptors)) if sample is None else sample
        self.neighbours = _nearest(self._whitened[self.sample], self._whitened, (frames[self.sample], frames))
        self.reach = float(np.quantile(self.neighbours, _NEAR))
        self.largest_leverage = float(self.leverage(descriptors).max())

    def whiten(self, descriptors: np.ndarray) -> np.ndarray:
        """Coordinates, shape (n, K), in which the set has zero mean and unit covariance."""
        return solve_triangular(self._root, (self._scaled(descriptors) - self._mean).T, lower=True).T

    def distance(self, descriptors: np.ndarray) -> np.ndarray:
        """Whitened distances from descriptors, shape (n, K), to the set's nearest environment, over `reach`."""
        return _nearest(self.whiten(descriptors), self._whitened) / self.reach

    def inside(self, descriptors: np.ndarray) -> np.ndarray:
        """Whether descriptors, shape (n, K), are as it holds."""
        return self.holds(self.leverage(descriptors), self.distance(descriptors))

    def holds(self, leverage: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Whether there is no larger leverage than all in the set, and a neighbour within reach, shape (n,)."""
        return (leverage <= self.largest_leverage * (1 + _ROUNDING)) & (distance <= 1)

    def principal(self, descriptors: np.ndarray) -> np.ndarray:
        """Coordinates along the set's two principal axes, in its standard deviations along them, shape (n, 2)."""
        variances, axes = np.linalg.eigh(self._covariance)
        axes = axes[:, :-3:-1]
        signs = np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
        return (self._scaled(descriptors) - self._mean) @ (axes * signs / np.sqrt(variances[:-3:-1]))

    def entropy_of(self, descriptors: np.ndarray) -> float:
        """Entropy of other descriptors, shape (n, K), in the unit of the set's."""
        other = DescriptorEntropy(self.descriptors)
        other.add(descriptors)
        return other.value()

    def points(self, descriptors: np.ndarray, **names: str) -> pd.DataFrame:
        """Where descriptors, shape (n, K), lie: set, property, structure, axis_1, axis_2, leverage, distance."""
        axis_1, axis_2 = self.principal(descriptors).T
        numbers = {"leverage": self.leverage(descriptors), "distance": self.distance(descriptors)}
        known = {"set": "", "property": "", "structure": ""} | names
        return pd.DataFrame({**known, "axis_1": axis_1, "axis_2": axis_2, **numbers})


def _nearest(points: np.ndarray, others: np.ndarray, groups: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
    """Distances from points, shape (n, K), to the nearest of others, shape (m, K), that is of another group."""
    found = np.empty(len(points))
    squares = np.einsum("ik,ik->i", others, others)
    step = max(1, _AT_ONCE // len(others))
    for start in range(0, len(points), step):
        some = slice(start, start + step)
        square = np.einsum("ik,ik->i", points[some], points[some])[:, None] + squares - 2 * points[some] @ others.T
        if groups is not None:
            square[groups[0][some, None] == groups[1]] = np.inf
        found[some] = np.sqrt(square.min(axis=1).clip(0))
    return found


def choose_frames(n_atoms: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of randomly chosen frames, of sizes of shape (n,), with `MOST` atoms in all; in order."""
    order = rng.permutation(len(n_atoms))
    return np.sort(order[np.cumsum(n_atoms[order]) <= MOST])


def training_set(bispectrum: Bispectrum, frames: Sequence[Atoms], rng: np.random.Generator) -> EnvironmentSet:
    """The environments of training frames, a random sample of `SAMPLE` standing for all.

    Parameters
    ----------
    bispectrum
        Descriptors.
    frames
        Some or all of the training frames.
    rng
        Source of the sample.
    """
    descriptors, numbers = bispectrum.stack(frames)
    return EnvironmentSet(descriptors, numbers, np.sort(rng.permutation(len(descriptors))[:SAMPLE]))


# ---------------------------------------------------------------------------------------------------------------------
# The properties' structures
# ---------------------------------------------------------------------------------------------------------------------


Structures = Mapping[tuple[str, str], np.ndarray]
"""Descriptors of structures, shape (n, K), by property and name; of a path, those of all its images."""


def compare_structures(training: EnvironmentSet, structures: Structures) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Whether structures lie inside the training set.

    Parameters
    ----------
    training
        The set.
    structures
        Their descriptors.

    Returns
    -------
    table : DataFrame
        property, structure, n_atoms, n_environments (distinct ones), leverage_mean, leverage_max,
        leverage_max_over_training (over the largest of the training set), distance (the largest of its
        environments' distances to the nearest training environment, over that which 99 % of the training
        environments keep to one of another frame), inside (the last two numbers are no larger than one).
    points : DataFrame
        Its environments, as of `EnvironmentSet.points`.
    """
    lines, points = [], [training.points(training.descriptors[:0])]
    for (prop, name), descriptors in structures.items():
        here = training.points(descriptors, property=prop, structure=name)
        points.append(here)
        whitened = training.whiten(descriptors)
        n_environments, _ = connected_components(cdist(whitened, whitened) < _SAME)
        highest = here["leverage"].max()
        numbers = [here["leverage"].mean(), highest, highest / training.largest_leverage, here["distance"].max()]
        inside = training.holds(here["leverage"], here["distance"]).all()
        lines.append((prop, name, len(descriptors), n_environments, *numbers, inside))
    table = pd.DataFrame(lines, columns=ENVIRONMENTS_COLUMNS).astype({"inside": bool})
    outside = len(table) - table["inside"].sum()
    _LOG.info("%d training environments; %d of %d structures outside", len(training.frames), outside, len(table))
    return table, pd.concat(points, ignore_index=True)


def names_outside(table: pd.DataFrame) -> dict[str, list[str]]:
    """Names of the structures outside the training set, by property, from the table of `compare_structures`.

    Points of a path count as the path, and a strained crystal as the crystal if that is outside, too.
    """
    found = {}
    for prop, rows in table[~table["inside"]].groupby("property", sort=False):
        names = dict.fromkeys(re.sub(r" -?[\d.]+$", "", name) for name in rows["structure"])
        found[str(prop)] = [name for name in names if not any(word in names for word in name.split() if word != name)]
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Other sets
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """A set of frames to compare the training set with.

    Attributes
    ----------
    kind, name : str
        ``rattled`` or ``MD``, and which.
    frames : list of Atoms
        Its frames.
    n_failed : int
        Runs that blew up and are left out.
    """

    kind: str
    name: str
    frames: list[Atoms]
    n_failed: int = 0


def crystal_of(element: str, volume: float) -> Atoms:
    """A cell of about 54 atoms of an element's own crystal at a volume per atom (Å³); bcc if none is tabulated."""
    name = (reference_states[atomic_numbers[element]] or {}).get("symmetry")
    unit = crystal(name if name in crystal_names() else "bcc", element, volume, primitive=False)
    return unit.repeat(round((_ATOMS / len(unit)) ** (1 / 3)))


def rattled(atoms: Atoms, deviation: float, n_frames: int, rng: np.random.Generator) -> list[Atoms]:
    """Copies of a structure, all atoms displaced by Gaussian noise.

    Parameters
    ----------
    atoms
        The structure.
    deviation
        Standard deviation along each axis (Å).
    n_frames
        How many copies.
    rng
        Source of the noise.
    """
    frames = [atoms.copy() for _ in range(n_frames)]
    for frame in frames:
        frame.positions += rng.normal(scale=deviation, size=frame.positions.shape)
    return frames


def molecular_dynamics(
    atoms: Atoms, calculator: Calculator, temperature: float, n_frames: int, rng: np.random.Generator
) -> list[Atoms] | None:
    """Snapshots of Langevin dynamics from a crystal, at constant volume.

    Parameters
    ----------
    atoms
        The crystal.
    calculator
        The potential.
    temperature
        Of the thermostat (K).
    n_frames
        How many snapshots.
    rng
        Source of the momenta and of the thermostat's noise.

    Returns
    -------
    list of Atoms, or None
        None where the run blew up: the potential failed, or the energy per atom departed by more than 10 k_B T from
        the crystal's.
    """
    moving = atoms.copy()
    moving.calc = calculator
    heat = units.kB * temperature
    masses = moving.get_masses()
    step = _STEP_FS * np.sqrt(masses.min() / _TUNGSTEN) * units.fs
    # Half of the crystal's kinetic energy turns into potential energy.
    moving.set_momenta(rng.standard_normal((len(moving), 3)) * np.sqrt(2 * heat * masses)[:, None])
    dynamics = Langevin(moving, step, temperature_K=temperature, friction=_FRICTION / step, fixcm=False, rng=rng)
    frames = []
    try:
        bottom = moving.get_potential_energy()
        dynamics.run(_STEPS_BEFORE - _STEPS_BETWEEN)
        for _ in range(n_frames):
            dynamics.run(_STEPS_BETWEEN)
            if not abs(moving.get_potential_energy() - bottom) <= _BLOWN_UP * heat * len(moving):
                return None
            frames.append(Atoms(moving.numbers, cell=moving.cell, positions=moving.positions, pbc=True))
    except CalculationFailed:
        return None
    return frames


def easy_sets(
    element: str, volume: float, n: int, calculator: Calculator, random: Callable[..., np.random.Generator]
) -> list[Sample]:
    """Rattled crystals of several amplitudes, molecular dynamics up to the melting point, and mixtures of either.

    Parameters
    ----------
    element, volume
        Of the crystal; volume per atom (Å³).
    n
        Atoms wanted in each set; whole frames give as many or somewhat more.
    calculator
        Potential of the dynamics, which are left out for elements whose melting point is not known here.
    random
        Random numbers of a purpose and its numbers.

    Returns
    -------
    list of Sample
        Each rattle, all of them mixed, each temperature, all of them mixed.
    """
    atoms = crystal_of(element, volume)
    n_frames = -(-n // len(atoms))
    bond = nearest_neighbour_distance(atoms)
    rattles, dynamics = [], []
    for k, amplitude in enumerate(_AMPLITUDES):
        frames = rattled(atoms, amplitude * bond, n_frames, random("rattled", k))
        rattles.append(Sample("rattled", f"rattled by {100 * amplitude:g} %", frames))
    for k, share in enumerate(_TEMPERATURES if element in _MELTING else []):
        temperature, each = share * _MELTING[element], -(-n_frames // _RUNS)
        runs = [molecular_dynamics(atoms, calculator, temperature, each, random("MD", k, run)) for run in range(_RUNS)]
        frames = [frame for run in runs if run is not None for frame in run]
        _LOG.info("molecular dynamics at %.0f K: %d of %d runs blew up", temperature, runs.count(None), _RUNS)
        dynamics.append(Sample("MD", f"MD at {temperature:.0f} K", frames, runs.count(None)))
    return [*rattles, *_mixed(rattles), *dynamics, *_mixed(dynamics)]


def _mixed(samples: Sequence[Sample]) -> list[Sample]:
    """One sample of equal parts of those of a kind."""
    frames = [frame for k, sample in enumerate(samples) for frame in sample.frames[k :: len(samples)]]
    n_failed = sum(sample.n_failed for sample in samples)
    return [Sample(kind, kind, frames, n_failed) for kind in {sample.kind for sample in samples}]


def compare_sets(
    training: EnvironmentSet, samples: Sequence[Sample], bispectrum: Bispectrum, structures: Structures
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Entropy and coverage of the training set and of others, as many environments of each.

    Parameters
    ----------
    training
        The set; its sample stands for it.
    samples
        The others.
    bispectrum
        Descriptors.
    structures
        Of the properties.

    Returns
    -------
    table : DataFrame
        set, kind, n_environments, n_failed, entropy (S = ½ ln det of the covariance, in nats, in the unit of the
        training set), entropy_over_training (S minus the training set's), covered (share of its environments that
        are inside the training set), covers_training (share of the training environments that are inside it),
        covers_structures (share of the properties' structures that are inside it). Missing of an empty set.
    points : DataFrame
        Environments of the training set and of each kind, as of `EnvironmentSet.points`; the training set's distances
        are those between its frames.
    """
    known, numbers = training.descriptors[training.sample], training.frames[training.sample]
    sets = [("training", "training", known, numbers, 0)]
    for sample in samples:
        descriptors, numbers = bispectrum.stack(sample.frames)
        sets.append((sample.name, sample.kind, descriptors[: len(known)], numbers[: len(known)], sample.n_failed))
    wanted = np.vstack([known[:0], *structures.values()])
    owner = np.repeat(np.arange(len(structures)), [len(descriptors) for descriptors in structures.values()])
    lines: list[dict[str, Any]] = []
    points = []
    for name, kind, descriptors, numbers, n_failed in sets:
        line: dict[str, Any] = {"set": name, "kind": kind, "n_environments": len(descriptors), "n_failed": n_failed}
        lines.append(line)
        if not len(descriptors):
            continue
        one = EnvironmentSet(descriptors, numbers)
        line["entropy"] = training.entropy_of(descriptors)
        line["entropy_over_training"] = line["entropy"] - lines[0]["entropy"]
        here = training.points(descriptors, set=name)
        line["covered"] = training.holds(here["leverage"], here["distance"]).mean()
        line["covers_training"] = one.inside(known).mean()
        line["covers_structures"] = 1 - len(np.unique(owner[~one.inside(wanted)])) / max(len(structures), 1)
        if name == kind:
            points.append(here)
    points[0]["distance"] = training.neighbours / training.reach
    return pd.DataFrame(lines), pd.concat(points, ignore_index=True)
