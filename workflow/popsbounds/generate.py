"""Diverse training frames made from nothing but an element and its volume: atoms only, no energies.

Five families cover what a potential meets in the properties of this library: strained crystals,
random packings with short bonds, vacancies, interstitials and slabs. Lengths scale with the bond of
the bcc crystal at the material's volume, so that one set of settings serves every element.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray
from scipy.linalg import expm

from popsbounds.config import Generate
from popsbounds.errors import InputError
from popsbounds.structures import at_volume, crystal, slab

__all__ = ["bcc_bond", "generate_frames", "random_packing", "reduce_cell", "shortest_bond"]

# Volumes drawn for a frame, and tries at each, before the settings count as impossible. Many tries at
# the same volume, because few at many volumes would favour dilute frames, which fail less often.
_VOLUMES = 10
_TRIES = 30
# Volumes relative to the material's that count as near equilibrium.
_NEAR = (0.9, 1.1)
# Share of frames, by family, whose volume is drawn from the whole range rather than near equilibrium.
_WIDE_SHARE = {"crystal": 0.5, "packing": 1.0, "vacancy": 0.25, "interstitial": 0.25, "slab": 0.25}
# Strain of defects and slabs relative to that of crystals.
_MILD = 0.4
# Smallest standard deviation of displacements relative to the largest. Small ones carry the harmonic
# response and have little leverage: without them POPS boxes come out too narrow; with still smaller
# ones, whose forces drown in the noise of any real label, far too wide.
_SMALLEST_RATTLE = 0.01
# Longest bond, relative to the material's, to which random atoms are pushed apart.
_LONGEST_PUSH = 0.9
_FACETS = [("bcc", facet) for facet in ("100", "110", "111", "210", "211", "310")] + [
    ("fcc", facet) for facet in ("100", "110", "111")
]
_VACUUM_A = (6.0, 10.0)
# Lattice vectors, in units of the cell's, that can hold the nearest image in a reduced cell.
_SHIFTS = np.array(list(product((-1, 0, 1), repeat=3)))
_ORIGIN = len(_SHIFTS) // 2


@dataclass(frozen=True)
class _Recipe:
    """What the families need to know.

    Parameters
    ----------
    settings
        Section `dataset.generate` of the configuration.
    element
        Chemical symbol.
    bond
        Nearest-neighbour distance of the material (Å).
    """

    settings: Generate
    element: str
    bond: float

    @property
    def shortest(self) -> float:
        """Shortest bond allowed (Å)."""
        return self.settings.min_distance * self.bond


def generate_frames(settings: Generate, element: str, volume: float, rng: np.random.Generator) -> list[Atoms]:
    """Diverse periodic frames, all different, of the families and sizes asked for.

    Parameters
    ----------
    settings
        Section `dataset.generate` of the configuration.
    element
        Chemical symbol of all atoms.
    volume
        Volume per atom of the material (Å³), the unit of `settings.volume_range`.
    rng
        Source of all randomness.

    Returns
    -------
    list of Atoms
        `settings.frames` frames, ordered by family, each with the family's name in ``info['group']``.
        Families are in proportion to `settings.shares`, by largest remainder. Cells are
        Minkowski-reduced and right-handed, and no two atoms, periodic images included, are closer
        than `settings.min_distance` times the bcc bond length at `volume`.

    Raises
    ------
    InputError
        If the settings leave no room for a frame.
    """
    recipe = _Recipe(settings, element, bcc_bond(volume))
    counts = _counts(settings)
    _check(recipe, volume, counts)
    seen: set[bytes] = set()
    frames = []
    for family, count in counts.items():
        for _ in range(count):
            frame = _new_frame(family, recipe, volume, seen, rng)
            frame.info = {"group": family}
            frames.append(frame)
    return frames


def bcc_bond(volume: float) -> float:
    """Nearest-neighbour distance (Å) of bcc with a volume per atom (Å³): half the diagonal of a cube of two."""
    return float(np.sqrt(3) / 2 * (2 * volume) ** (1 / 3))


def _counts(settings: Generate) -> dict[str, int]:
    """Number of frames by family: in proportion to the shares, by largest remainder."""
    shares = np.array(list(settings.shares.values()))
    quotas = shares / shares.sum() * settings.frames
    # Sums of decimal shares round: 0.1 of 4000 must not come out as 399.
    counts = np.floor(quotas + 1e-9).astype(int)
    largest_first = np.argsort(counts - quotas, kind="stable")
    counts[largest_first[: settings.frames - counts.sum()]] += 1
    return dict(zip(settings.shares, counts.tolist(), strict=True))


def _check(recipe: _Recipe, volume: float, counts: dict[str, int]) -> None:
    """Raise on settings that can give no frame whatever is drawn."""
    settings = recipe.settings
    low, high = settings.volume_range
    # No packing of spheres is denser than fcc.
    densest = recipe.shortest**3 / np.sqrt(2) / volume
    problems = []
    if high < densest:
        problems.append(
            f"bonds of dataset.generate.min_distance ({settings.min_distance:g}) or more need a volume of at least "
            f"{densest:.3g}, beyond dataset.generate.volume_range ({low:g} to {high:g}): lower one or raise the other"
        )
    if counts.get("crystal"):
        for name in settings.crystals:
            n_atoms = len(_unit(name, recipe.element))
            if n_atoms > settings.max_atoms:
                problems.append(
                    f"dataset.generate.crystals: {name} has {n_atoms} atoms in its cell; leave it out or raise "
                    f"dataset.generate.max_atoms ({settings.max_atoms})"
                )
    if problems:
        raise InputError("dataset.generate", problems)


def _new_frame(family: str, recipe: _Recipe, volume: float, seen: set[bytes], rng: np.random.Generator) -> Atoms:
    """A frame that respects the shortest bond and is not among those `seen`, to which it is added."""
    settings = recipe.settings
    for _ in range(_VOLUMES):
        drawn = volume * _relative_volume(settings.volume_range, _WIDE_SHARE[family], rng)
        for _ in range(_TRIES):
            frame = _FAMILIES[family](recipe, drawn, rng)
            if len(frame) > settings.max_atoms or shortest_bond(frame) < recipe.shortest:
                continue
            frame.wrap()
            fingerprint = _fingerprint(frame)
            if fingerprint not in seen:
                seen.add(fingerprint)
                return frame
    low, high = settings.volume_range
    raise InputError(
        "dataset.generate",
        [
            f"no new frame of family '{family}' in {_VOLUMES * _TRIES} tries: lower dataset.generate.min_distance "
            f"({settings.min_distance:g}), raise or widen dataset.generate.volume_range ({low:g} to {high:g}), or "
            f"allow more max_strain ({settings.max_strain:g}), max_rattle ({settings.max_rattle:g}) or "
            f"max_atoms ({settings.max_atoms})"
        ],
    )


def _relative_volume(volume_range: tuple[float, float], wide_share: float, rng: np.random.Generator) -> float:
    """A volume relative to the material's, from the whole range or from its part near equilibrium."""
    low, high = volume_range
    near_low, near_high = max(low, _NEAR[0]), min(high, _NEAR[1])
    if rng.random() >= wide_share and near_low <= near_high:
        low, high = near_low, near_high
    return rng.uniform(low, high)


def _fingerprint(frame: Atoms) -> bytes:
    """Cell and positions relative to the first atom, to 1e-6 Å."""
    rounded = np.round(np.vstack([frame.cell, frame.positions - frame.positions[0]]), 6)
    # Adding 0 turns −0 into +0.
    return (rounded + 0.0).tobytes()


# Families. Each makes one candidate at a volume per atom (Å³); it may be too large or have too short bonds.


def _crystal(recipe: _Recipe, volume: float, rng: np.random.Generator) -> Atoms:
    """A strained and rattled supercell of one of the lattices asked for."""
    settings = recipe.settings
    unit = _unit(rng.choice(settings.crystals), recipe.element)
    atoms = at_volume(unit.repeat(_repeats(len(unit), settings.max_atoms, (4, 4, 4), rng)), volume)
    _strain(atoms, settings.max_strain * rng.random(), rng)
    reduce_cell(atoms)
    _rattle(atoms, recipe, rng)
    return atoms


def _packing(recipe: _Recipe, volume: float, rng: np.random.Generator) -> Atoms:
    """Atoms at random in a random cell, pushed apart to a shortest bond that is random too."""
    max_atoms = recipe.settings.max_atoms
    n_atoms = int(rng.integers(min(3, max_atoms), min(10, max_atoms), endpoint=True))
    # Beyond the bond of the simple cubic crystal at this volume, random atoms would jam.
    longest = min(_LONGEST_PUSH * recipe.bond, volume ** (1 / 3))
    return random_packing(recipe.element, n_atoms, volume, recipe.shortest, rng, longest)


def random_packing(
    element: str, n_atoms: int, volume: float, shortest: float, rng: np.random.Generator, longest: float = 0.0
) -> Atoms:
    """Atoms at random in a random, reduced cell, pushed apart to a random shortest bond.

    Parameters
    ----------
    element
        Chemical symbol.
    n_atoms
        Number of atoms.
    volume
        Volume per atom (Å³).
    shortest, longest
        Between which the shortest bond is drawn (Å); where the atoms jam, bonds come out shorter.
    rng
        Random numbers.
    """
    cell = np.diag(np.exp(rng.uniform(-0.3, 0.3, 3))) + rng.uniform(-0.3, 0.3, (3, 3))
    atoms = Atoms([element] * n_atoms, cell=cell, scaled_positions=rng.random((n_atoms, 3)), pbc=True)
    atoms = at_volume(atoms, volume)
    reduce_cell(atoms)
    _push_apart(atoms, _between(shortest, longest, rng))
    return atoms


def _vacancy(recipe: _Recipe, volume: float, rng: np.random.Generator) -> Atoms:
    """A strained and rattled bcc supercell without one of its atoms."""
    settings = recipe.settings
    atoms = at_volume(_bcc_host(recipe.element, settings.max_atoms + 1), volume)
    del atoms[0]
    _strain(atoms, _MILD * settings.max_strain * rng.random(), rng)
    reduce_cell(atoms)
    _rattle(atoms, recipe, rng)
    return atoms


def _interstitial(recipe: _Recipe, volume: float, rng: np.random.Generator) -> Atoms:
    """A strained and rattled bcc supercell with one atom more, at random or in a dumbbell, pushed apart.

    The cell grows with the extra atom: an interstitial dilates its crystal by about the volume of an atom.
    """
    settings = recipe.settings
    host = _bcc_host(recipe.element, settings.max_atoms - 1)
    atoms = at_volume(host, volume * (len(host) + 1) / len(host))
    if rng.random() < 0.5:
        direction = rng.permutation([[1, 1, 1], [1, 1, 0], [1, 0, 0]][rng.integers(3)])
        half = 0.4 * recipe.bond * direction / np.linalg.norm(direction)
        added = atoms.positions[0] + half
        atoms.positions[0] -= half
    else:
        added = rng.random(3) @ atoms.cell
    atoms += Atoms(recipe.element, positions=[added])
    _strain(atoms, _MILD * settings.max_strain * rng.random(), rng)
    reduce_cell(atoms)
    _rattle(atoms, recipe, rng)
    _push_apart(atoms, _between(recipe.shortest, _LONGEST_PUSH * recipe.bond, rng))
    return atoms


def _slab(recipe: _Recipe, volume: float, rng: np.random.Generator) -> Atoms:
    """A rattled slab of a few layers, strained in its plane."""
    settings = recipe.settings
    bulk, facet = _FACETS[rng.integers(len(_FACETS))]
    thickness = rng.uniform(0.5, 3.0) * recipe.bond
    atoms = slab(bulk, recipe.element, volume, facet, thickness, _VACUUM_A[0])
    atoms = atoms.repeat(_repeats(len(atoms), settings.max_atoms, (2, 2, 1), rng))
    _strain(atoms, _MILD * settings.max_strain * rng.random(), rng, in_plane=True)
    _rattle(atoms, recipe, rng)
    # After the rattle, which would eat into the vacuum.
    atoms.center(vacuum=rng.uniform(*_VACUUM_A) / 2, axis=2)
    reduce_cell(atoms)
    return atoms


_FAMILIES: dict[str, Callable[[_Recipe, float, np.random.Generator], Atoms]] = {
    "crystal": _crystal,
    "packing": _packing,
    "vacancy": _vacancy,
    "interstitial": _interstitial,
    "slab": _slab,
}


# Steps that the families share.


@cache
def _unit(name: str, element: str, primitive: bool = True) -> Atoms:
    """Crystal at unit volume per atom, to be copied before any change."""
    return crystal(name, element, volume=1.0, primitive=primitive)


def _bcc_host(element: str, max_atoms: int) -> Atoms:
    """The largest bcc supercell of at most 2 × 2 × 2 cubes and at most `max_atoms` atoms, at unit volume per atom."""
    for repeats in ((2, 2, 2), (2, 2, 1), (2, 1, 1), (1, 1, 1)):
        if 2 * np.prod(repeats) <= max_atoms:
            return _unit("bcc", element, primitive=False).repeat(repeats)
    return _unit("bcc", element).copy()


def _repeats(n_atoms: int, max_atoms: int, largest: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
    """Random repeats of a cell of `n_atoms`, up to `largest`, that keep within `max_atoms`; one each if none does."""
    fitting = [r for r in product(*(range(1, n + 1) for n in largest)) if n_atoms * np.prod(r) <= max_atoms]
    return fitting[rng.integers(len(fitting))] if fitting else (1, 1, 1)


def _strain(atoms: Atoms, largest: float, rng: np.random.Generator, in_plane: bool = False) -> None:
    """Strain by a random symmetric tensor at constant volume, whose largest component is given.

    The components are those of the logarithmic strain, so that the cell stays right-handed however
    large they are. `in_plane` strains x and y only, at constant area.
    """
    n = 2 if in_plane else 3
    tensor = rng.uniform(-1, 1, (n, n))
    tensor += tensor.T
    tensor -= np.trace(tensor) / n * np.eye(n)
    deformation = np.eye(3)
    deformation[:n, :n] = expm(largest / np.abs(tensor).max() * tensor)
    atoms.set_cell(atoms.cell @ deformation, scale_atoms=True)


def _rattle(atoms: Atoms, recipe: _Recipe, rng: np.random.Generator) -> None:
    """Displace all atoms by Gaussian noise of a random standard deviation, log-uniform below the largest."""
    deviation = recipe.settings.max_rattle * recipe.bond * _SMALLEST_RATTLE ** rng.random()
    atoms.positions += rng.normal(scale=deviation, size=atoms.positions.shape)


def reduce_cell(atoms: Atoms) -> None:
    """Describe the same lattice by its least skewed, right-handed cell."""
    reduced, _ = minkowski_reduce(atoms.cell)
    atoms.set_cell(reduced if np.linalg.det(reduced) > 0 else -reduced)


def _bonds(atoms: Atoms) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vectors and distances from every atom to every atom and its images nearby, in a reduced cell.

    Returns
    -------
    vectors
        From atom i to image s of atom j (Å), shape [N, N, 27, 3].
    distances
        Their lengths (Å), shape [N, N, 27]; infinite from an atom to itself.
    """
    cell = atoms.cell[:]
    nearest = atoms.positions[None] - atoms.positions[:, None]
    nearest -= np.round(nearest @ np.linalg.inv(cell)) @ cell
    vectors = nearest[:, :, None] + _SHIFTS @ cell
    distances = np.sqrt(np.einsum("ijsx,ijsx->ijs", vectors, vectors))
    itself = np.arange(len(atoms))
    distances[itself, itself, _ORIGIN] = np.inf
    return vectors, distances


def shortest_bond(atoms: Atoms) -> float:
    """Shortest distance (Å) between atoms, images included, in a reduced cell."""
    return float(_bonds(atoms)[1].min())


def _between(low: float, high: float, rng: np.random.Generator) -> float:
    """A uniform random number; `low` where the range is empty."""
    return rng.uniform(low, max(low, high))


def _push_apart(atoms: Atoms, shortest: float, max_steps: int = 100) -> None:
    """Move atoms apart, by a soft repulsion, until no bond is shorter than `shortest` (Å).

    It may fail, where the atoms jam or the cell itself is too short.
    """
    for _ in range(max_steps):
        vectors, distances = _bonds(atoms)
        if distances.min() >= shortest:
            return
        # Aiming a little beyond the goal reaches it in a finite number of steps.
        overlaps = np.clip(1.02 * shortest - distances, 0, None)
        atoms.positions -= 0.5 * np.einsum("ijs,ijsx->ix", overlaps / distances, vectors)
