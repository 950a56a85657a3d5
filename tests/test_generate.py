"""Generated frames against what they promise: proportions, distances, sizes, diversity, clear refusals."""

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from popsbounds.config import Generate
from popsbounds.errors import InputError
from popsbounds.generate import generate_frames

VOLUME = 15.85
FAMILIES = ["crystal", "packing", "vacancy", "interstitial", "slab"]


def settings(**changes) -> Generate:
    calculator = {"kind": "lammps", "pair_style": "zero 5", "pair_coeff": ["* *"]}
    return Generate.model_validate({"frames": 100, "calculator": calculator, **changes})


def generate(seed: int = 0, element: str = "W", volume: float = VOLUME, **changes) -> list[Atoms]:
    return generate_frames(settings(**changes), element, volume, np.random.default_rng(seed))


def bcc_bond(volume: float) -> float:
    return np.sqrt(3) / 2 * (2 * volume) ** (1 / 3)


def shortest_bond(atoms: Atoms, radius: float) -> float:
    """Infinite where it is longer than the radius."""
    return min(neighbor_list("d", atoms, radius), default=np.inf)


def relative_volumes(frames: list[Atoms]) -> np.ndarray:
    return np.array([atoms.get_volume() / len(atoms) for atoms in frames]) / VOLUME


@pytest.fixture(scope="module")
def frames() -> list[Atoms]:
    return generate(frames=400)


@pytest.fixture(scope="module")
def by_family(frames) -> dict[str, list[Atoms]]:
    return {family: [atoms for atoms in frames if atoms.info["group"] == family] for family in FAMILIES}


@pytest.mark.parametrize(
    ("n_frames", "shares", "expected"),
    [
        (4000, None, [1600, 1000, 400, 400, 600]),
        (7, None, [3, 2, 1, 0, 1]),
        (1, {"slab": 1, "crystal": 2}, [1, 0, 0, 0, 0]),
        (5, {"vacancy": 0.2, "packing": 0.8}, [0, 4, 1, 0, 0]),
    ],
)
def test_proportions(n_frames, shares, expected, monkeypatch):
    # Only the counts matter here, so that a cheap frame stands for all.
    monkeypatch.setattr("popsbounds.generate._new_frame", lambda *_: Atoms("W"))
    counts = Counter(
        atoms.info["group"] for atoms in generate(frames=n_frames, batches=1, **({"shares": shares} if shares else {}))
    )
    assert [counts[family] for family in FAMILIES] == expected


def test_same_seed_same_frames():
    first, again, other = generate(seed=1, frames=60), generate(seed=1, frames=60), generate(seed=2, frames=60)
    assert all(a == b and a.info == b.info for a, b in zip(first, again, strict=True))
    assert not any(a == b for a, b in zip(first, other, strict=True))


def test_frames_are_periodic_tidy_and_plain(frames):
    for atoms in frames:
        assert atoms.pbc.all()
        assert set(atoms.info) == {"group"}
        assert set(atoms.arrays) == {"numbers", "positions"}
        assert np.linalg.det(atoms.cell) > 0
        # Within a rounding error, the angles of a reduced cell.
        assert np.all((atoms.cell.angles() > 59.99) & (atoms.cell.angles() < 120.01))
        assert np.all((atoms.get_scaled_positions(wrap=False) > -1e-6) & (atoms.get_scaled_positions(wrap=False) < 1))


def test_no_bond_is_too_short_and_some_are_short(frames, by_family):
    bond = bcc_bond(VOLUME)
    shortest = np.array([shortest_bond(atoms, bond) for atoms in frames]) / bond
    assert shortest.min() >= settings().min_distance
    # The steep part of the repulsion is what keeps a potential from collapsing.
    packings = np.array([shortest_bond(atoms, bond) for atoms in by_family["packing"]]) / bond
    assert np.mean(packings < 0.75) > 0.2
    assert np.mean(packings > 0.8) > 0.2


def test_distances_include_self_images():
    # One atom per cell: its images are its only neighbours.
    bond = bcc_bond(VOLUME)
    singles = [a for a in generate(shares={"crystal": 1}, crystals=["bcc"], min_distance=0.9) if len(a) == 1]
    assert singles
    shortest = min(shortest_bond(atoms, bond) for atoms in singles)
    assert 0.9 * bond <= shortest < bond


def test_no_frame_is_there_twice(frames):
    for i, atoms in enumerate(frames):
        same_size = [other for other in frames[:i] if len(other) == len(atoms)]
        assert not any(np.allclose(atoms.cell, other.cell, atol=1e-6) for other in same_size)


def test_sizes_of_defects(by_family):
    assert {len(atoms) for atoms in by_family["vacancy"]} == {15}
    assert {len(atoms) for atoms in by_family["interstitial"]} == {17}


@pytest.mark.parametrize("max_atoms", [2, 3, 5, 9, 30])
def test_max_atoms(max_atoms):
    sizes = {len(atoms) for atoms in generate(max_atoms=max_atoms, crystals=["bcc", "hcp"], frames=60)}
    assert max(sizes) <= max_atoms


def test_volumes_cover_the_range_and_equilibrium(by_family):
    for family in ("crystal", "packing"):
        volumes = relative_volumes(by_family[family])
        assert 0.65 <= volumes.min() < 0.72
        assert 1.28 < volumes.max() <= 1.35
    assert np.mean(np.abs(relative_volumes(by_family["crystal"]) - 1) < 0.1) > 0.5
    assert np.mean(np.abs(relative_volumes(by_family["interstitial"]) - 1) < 0.15) > 0.5


def test_crystals_are_strained_and_rattled(by_family):
    """All sizes of supercells and, for one atom a cell, shapes beyond those of perfect crystals."""
    assert len({len(atoms) for atoms in by_family["crystal"]}) >= 8
    angles = np.array([atoms.cell.angles() for atoms in by_family["crystal"]])
    assert np.ptp(angles) > 30


def test_without_strain_and_rattle_crystals_are_perfect():
    frames = generate(shares={"crystal": 1}, crystals=["sc"], max_strain=0, max_rattle=0, frames=50)
    for atoms in frames:
        edge = (atoms.get_volume() / len(atoms)) ** (1 / 3)
        assert shortest_bond(atoms, 1.2 * edge) == pytest.approx(edge)


@pytest.mark.parametrize("largest", [0.0, 0.05, 0.4])
def test_strain_is_bounded(largest):
    for atoms in generate(
        shares={"crystal": 1}, crystals=["sc"], max_atoms=2, max_strain=largest, max_rattle=0, min_distance=0.4
    ):
        # Stretches of a symmetric tensor with components up to e lie within exp(±3e), whatever its directions.
        edge = (atoms.get_volume() / len(atoms)) ** (1 / 3)
        assert shortest_bond(atoms, edge) >= edge * np.exp(-3 * largest) - 1e-9


def test_slabs_have_vacuum(by_family):
    for atoms in by_family["slab"]:
        normal = np.argmax(np.abs(atoms.cell[:, 2]))
        # The two other axes lie in the surface, whichever place reduction gave the normal.
        assert np.allclose(np.delete(atoms.cell[:, 2], normal), 0, atol=1e-9)
        height = abs(atoms.cell[normal, 2])
        z = np.sort(atoms.positions[:, 2] % height)
        assert np.diff(z, append=z[0] + height).max() >= 6 - 1e-9


@pytest.mark.parametrize(("element", "volume"), [("Li", 20.2), ("Be", 8.1), ("Cs", 117.0)])
def test_other_elements(element, volume):
    bond = bcc_bond(volume)
    for atoms in generate(element=element, volume=volume, frames=60):
        assert set(atoms.symbols) == {element}
        assert shortest_bond(atoms, bond) >= settings().min_distance * bond


@pytest.mark.parametrize("family", FAMILIES)
def test_impossible_volume(family):
    with pytest.raises(InputError, match="min_distance") as caught:
        generate(shares={family: 1}, volume_range=(0.1, 0.2))
    assert "volume_range" in str(caught.value)


@pytest.mark.parametrize("family", ["crystal", "packing"])
def test_volume_that_leaves_no_room_in_practice(family):
    with pytest.raises(InputError, match=f"'{family}'") as caught:
        generate(shares={family: 1}, crystals=["bcc"], volume_range=(0.3, 0.3))
    assert "dataset.generate.min_distance" in str(caught.value)
    assert "dataset.generate.volume_range" in str(caught.value)


def test_nothing_to_tell_frames_apart():
    with pytest.raises(InputError, match="max_strain"):
        generate(shares={"crystal": 1}, crystals=["bcc"], max_atoms=2, volume_range=(1, 1), max_strain=0, max_rattle=0)


def test_upside_down_volume_range():
    with pytest.raises(ValueError, match=r"`volume_range` \[1.2, 0.8\] is not in ascending order"):
        settings(volume_range=(1.2, 0.8))


def test_crystal_larger_than_a_frame():
    with pytest.raises(InputError, match="sigma has 30 atoms") as caught:
        generate(crystals=["bcc", "sigma"])
    assert "max_atoms" in str(caught.value)
