"""Training frames that maximise the information entropy of their descriptors: no expert chooses a structure.

Each new frame minimises the energy of a core repulsion minus K times the entropy that its atoms add to
the set so far, over its positions and the shape of its cell.

References: Karabin & Perez, J. Chem. Phys. 153, 094110 (2020); Montes de Oca Zapiain et al., npj Comput.
Mater. 8, 189 (2022); Subramanyam & Perez, npj Comput. Mater. 11, 218 (2025).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.stress import full_3x3_to_voigt_6_stress

from popsbounds.config import MOST_ATOMS, Generate, ReferencePotential, Snap
from popsbounds.descriptors.snap import SnapModel, SnapRows
from popsbounds.errors import InputError
from popsbounds.files import replacing
from popsbounds.generate import bcc_bond, random_packing, reduce_cell, shortest_bond
from popsbounds.live import EvaluatedCalculator
from popsbounds.progress import progress
from popsbounds.response import Response, augmented

__all__ = [
    "AtomicDescriptors",
    "DescriptorEntropy",
    "EntropyCalculator",
    "generate_entropy",
    "maximise",
    "partial_file",
]

_LOG = logging.getLogger(__name__)

# Variance, relative to that of the scale, below which a direction of descriptor space counts as noise.
_NOISE = 1e-6
# The core repulsion is a Lennard-Jones potential cut at its minimum, so that bonds of the shortest length
# allowed cost 6.5 times its depth of 1 eV.
_CORE_EV, _CORE_BEYOND_SHORTEST = 1.0, 1.1
# Longest step of an atom (Å).
_LARGEST_STEP = 0.1
# Random packings that the unit of each descriptor is taken from.
_POOL = 50
# Draws of a frame before the settings count as impossible.
_TRIES = 100
# Frames between two writes of what there is so far.
_KEEP_EVERY = 20
# Decimals of positions (Å) in a file of frames.
_DECIMALS = 8


class AtomicDescriptors:
    """Descriptors of every atom of a frame, with their derivatives.

    LAMMPS sums descriptors over the atoms of a type, and their derivatives with it: with a type of its own,
    each atom's come out, for positions and cell alike.

    Parameters
    ----------
    settings
        Section `descriptors` of the configuration; the bispectrum components alone are used.
    element
        Chemical symbol of all atoms.
    shortest
        Shortest bond allowed (Å), for the core repulsion that rides along; None for no repulsion.
    """

    def __init__(self, settings: Snap, element: str, shortest: float | None = None) -> None:
        self.settings, self.element = settings, element
        self._core = None
        if shortest is not None:
            sigma = _CORE_BEYOND_SHORTEST * shortest
            self._core = ReferencePotential(
                pair_style=f"lj/smooth/linear {2 ** (1 / 6) * sigma!r}", pair_coeff=[f"* * {_CORE_EV!r} {sigma!r}"]
            )
        self._rows: dict[int, SnapRows] = {}

    def respond(self, atoms: Atoms) -> tuple[np.ndarray, Response]:
        """Descriptors, shape (n, K), and the response to coefficients of the atoms' own, constants included."""
        n = len(atoms)
        if n not in self._rows:
            names = chemical_symbols[1 : n + 1]
            changes = {
                "quadratic": False,
                "radii": dict.fromkeys(names, self.settings.radius(self.element)),
                "density_weights": dict.fromkeys(names, self.settings.density_weight(self.element)),
                "reference": self._core,
            }
            self._rows[n] = SnapRows(SnapModel(self.settings.model_copy(update=changes), names))
        # Elements only name types here.
        typed = Atoms(np.arange(1, n + 1), cell=atoms.cell, positions=atoms.positions, pbc=True)
        response = self._rows[n].respond(typed)
        return response.energy[:-1].reshape(n, -1)[:, 1:].copy(), response

    def __call__(self, atoms: Atoms) -> np.ndarray:
        """Descriptors, shape (n, K)."""
        return self.respond(atoms)[0]


class DescriptorEntropy:
    """Entropy of a growing set of environments, S = ½ ln det of their covariance.

    That of a Gaussian with their covariance, but for a constant, and so an upper bound of the true one.

    Parameters
    ----------
    scale
        Descriptors, shape (n, K), whose standard deviations are the unit of each.
    """

    def __init__(self, scale: np.ndarray) -> None:
        self.origin, self.unit = scale.mean(axis=0), scale.std(axis=0)
        self.n = 0
        self._sum = np.zeros(scale.shape[1])
        self._products = np.zeros((scale.shape[1],) * 2)

    def _scaled(self, descriptors: np.ndarray) -> np.ndarray:
        return (descriptors - self.origin) / self.unit

    def _moments(self, more: np.ndarray | None = None) -> tuple[int, np.ndarray, np.ndarray]:
        """Number, mean and covariance of the set, with scaled descriptors more."""
        n, total, products = self.n, self._sum, self._products
        if more is not None:
            n, total, products = n + len(more), total + more.sum(axis=0), products + more.T @ more
        mean = total / n if n else total
        covariance = (products / n - np.outer(mean, mean)) if n else products
        return n, mean, covariance + _NOISE * np.eye(len(mean))

    def value(self) -> float:
        """S of the set."""
        return 0.5 * float(np.linalg.slogdet(self._moments()[2])[1])

    def add(self, descriptors: np.ndarray) -> None:
        """Take descriptors, shape (n, K), into the set."""
        scaled = self._scaled(descriptors)
        self.n += len(scaled)
        self._sum += scaled.sum(axis=0)
        self._products += scaled.T @ scaled

    def gain(self, descriptors: np.ndarray) -> tuple[float, np.ndarray]:
        """What descriptors, shape (n, K), would add, times the number N of atoms then, and its derivatives.

        Returns
        -------
        float
            N (S_with − S_without): it does not fade as the set grows.
        ndarray, shape (n, K)
        """
        scaled = self._scaled(descriptors)
        n, mean, covariance = self._moments(scaled)
        entropy = 0.5 * float(np.linalg.slogdet(covariance)[1])
        return n * (entropy - self.value()), np.linalg.solve(covariance, (scaled - mean).T).T / self.unit

    def leverage(self, descriptors: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distances of descriptors, shape (n, K), from the set's mean, over K."""
        scaled = self._scaled(descriptors)
        _, mean, covariance = self._moments()
        centred = scaled - mean
        return np.einsum("ik,ik->i", centred, np.linalg.solve(covariance, centred.T).T) / len(mean)


class EntropyCalculator(EvaluatedCalculator):
    """ASE calculator of the core repulsion minus K times the entropy that a frame would add to a set.

    Parameters
    ----------
    describe
        Descriptors of atoms, with a core repulsion.
    entropy
        The set so far.
    strength_eV
        K.
    """

    def __init__(self, describe: AtomicDescriptors, entropy: DescriptorEntropy, strength_eV: float) -> None:
        super().__init__()
        self.describe, self.entropy, self.strength = describe, entropy, strength_eV

    def _evaluate(self, atoms: Atoms) -> dict[str, Any]:
        descriptors, response = self.describe.respond(atoms)
        gain, slope = self.entropy.gain(descriptors)
        # To first order, the entropy is a linear potential with coefficients of each atom's own.
        coefficients = augmented(np.pad(-self.strength * slope, ((0, 0), (1, 0))).ravel())
        return {
            "energy": float(response.energy[-1] - self.strength * gain),
            "forces": (response.forces @ coefficients).reshape(-1, 3),
            "stress": full_3x3_to_voigt_6_stress(response.virial @ coefficients / atoms.get_volume()),
        }


def maximise(atoms: Atoms, calculator: Calculator, steps: int) -> Atoms:
    """Minimise a frame's energy over positions and shape of the cell, at constant volume, for some steps."""
    moved = atoms.copy()
    moved.calc = calculator
    target: Any = FrechetCellFilter(moved, constant_volume=True)
    BFGS(target, logfile=None, maxstep=_LARGEST_STEP).run(fmax=0.01, steps=steps)
    moved.calc = None
    return moved


def partial_file(folder: Path, settings: Mapping[str, Any], known: Path | None) -> Path:
    """Where frames are kept while there are not all of them: a file of its own for all that they depend on.

    Parameters
    ----------
    folder
        Holds it.
    settings
        What the frames depend on, as JSON has it, section `dataset.generate` under the key ``generate``. How many
        frames are wanted does not count: more of them start from what there is.
    known
        File of the first frames, whose content counts in the place of its name; None for none.
    """
    content = None if known is None else hashlib.sha256(known.read_bytes()).hexdigest()
    section = {key: value for key, value in settings["generate"].items() if key != "frames"} | {"known": content}
    text = json.dumps(dict(settings) | {"generate": section}, sort_keys=True)
    return folder / f"so_far_{hashlib.sha256(text.encode()).hexdigest()[:16]}.extxyz"


def generate_entropy(
    settings: Generate,
    descriptors: Snap,
    element: str,
    volume: float,
    random: Callable[[str, int], np.random.Generator],
    partial: Path,
    known: Sequence[Atoms] = (),
) -> list[Atoms]:
    """Frames that maximise the entropy of the set of their environments, one after another.

    Parameters
    ----------
    settings
        Section `dataset.generate` of the configuration, with `entropy`.
    descriptors
        Section `descriptors`.
    element
        Chemical symbol of all atoms.
    volume
        Volume per atom of the material (Å³), the unit of `settings.volume_range`.
    random
        Random numbers of a purpose and a number: each frame has its own, so that it depends on those before it
        through the entropy alone.
    partial
        Frames so far are kept there, and what it holds is not made again. It is not checked against the other
        arguments: whoever calls sees to a file of its own for each choice of them, as `partial_file` does.
    known
        The first frames, if there are some already.

    Returns
    -------
    list of Atoms
        `settings.frames` frames of 1 to `settings.max_atoms` atoms, all sizes alike. Those of a smaller
        `settings.frames` are the first of them.

    Raises
    ------
    InputError
        The settings leave no room for a frame, or a known frame has more than `MOST_ATOMS` atoms.
    """
    describe = AtomicDescriptors(descriptors, element)
    entropy = _entropy_of_packings(settings, describe, volume, random("pool", 0))
    frames = list(known[: settings.frames])
    large = [(number, len(atoms)) for number, atoms in enumerate(frames) if len(atoms) > MOST_ATOMS]
    if large:
        problems = [f"frame {number} has {n} atoms, and may have {MOST_ATOMS} at most" for number, n in large]
        raise InputError(f"dataset.generate.known {settings.known}", problems)
    if partial.exists():
        so_far = list(ase.io.iread(partial, index=slice(0, settings.frames), format="extxyz"))
        frames = max(so_far, frames, key=len)
    for atoms in frames:
        entropy.add(describe(atoms))
    if frames:
        _LOG.info("%d of %d frames were there", len(frames), settings.frames)
    for number in progress(range(len(frames), settings.frames), "frame", settings.frames - len(frames)):
        atoms = _next_frame(settings, describe, entropy, volume, random("frame", number))
        entropy.add(describe(atoms))
        frames.append(atoms)
        if len(frames) % _KEEP_EVERY == 0 or len(frames) == settings.frames:
            with replacing(partial) as path:
                ase.io.write(path, frames, format="extxyz")
    _LOG.info("entropy of %d environments: %.2f", entropy.n, entropy.value())
    return frames


def _entropy_of_packings(
    settings: Generate, describe: AtomicDescriptors, volume: float, rng: np.random.Generator
) -> DescriptorEntropy:
    """An empty set whose unit of each descriptor is its deviation over random packings."""
    sizes = rng.integers(1, settings.max_atoms, size=_POOL, endpoint=True)
    pool = [_packing(settings, describe.element, int(size), volume, rng) for size in sizes]
    return DescriptorEntropy(np.vstack([describe(atoms) for atoms in pool]))


def _packing(settings: Generate, element: str, n_atoms: int, volume: float, rng: np.random.Generator) -> Atoms:
    """Random atoms in a random cell of a random volume."""
    shortest = settings.min_distance * bcc_bond(volume)
    for _ in range(_TRIES):
        drawn = volume * rng.uniform(*settings.volume_range)
        atoms = random_packing(element, n_atoms, drawn, shortest, rng)
        if shortest_bond(atoms) >= shortest:
            return atoms
    raise InputError(
        "dataset.generate",
        [
            f"no packing of {n_atoms} atoms in {_TRIES} tries: lower dataset.generate.min_distance "
            f"({settings.min_distance:g}) or raise dataset.generate.volume_range "
            f"({settings.volume_range[0]:g} to {settings.volume_range[1]:g})"
        ],
    )


def _next_frame(
    settings: Generate,
    describe: AtomicDescriptors,
    entropy: DescriptorEntropy,
    volume: float,
    rng: np.random.Generator,
) -> Atoms:
    """A frame that adds entropy to the set."""
    assert settings.entropy is not None
    low, high = settings.entropy.strength_eV
    shortest = settings.min_distance * bcc_bond(volume)
    n_atoms = int(rng.integers(1, settings.max_atoms, endpoint=True))
    for _ in range(_TRIES):
        start = _packing(settings, describe.element, n_atoms, volume, rng)
        strength = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        # Large cores order the atoms, small ones let them gather.
        core = rng.uniform(shortest, bcc_bond(start.get_volume() / len(start)))
        repulsive = AtomicDescriptors(describe.settings, describe.element, core)
        atoms = maximise(start, EntropyCalculator(repulsive, entropy, strength), settings.entropy.steps)
        reduce_cell(atoms)
        atoms.wrap()
        # As it will be read back from a file.
        atoms.positions = atoms.positions.round(_DECIMALS)
        if shortest_bond(atoms) >= shortest:
            atoms.info = {"group": f"atoms_{len(atoms)}"}
            return atoms
    raise InputError(
        "dataset.generate",
        [
            f"no frame with bonds of dataset.generate.min_distance ({settings.min_distance:g}) in {_TRIES} tries: "
            f"lower dataset.generate.entropy.strength_eV ({low:g} to {high:g})"
        ],
    )
