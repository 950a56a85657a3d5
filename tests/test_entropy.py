"""Frames of maximum entropy: descriptors against LAMMPS, derivatives against differences, sets against rivals."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.neighborlist import neighbor_list
from scipy.spatial.transform import Rotation

from popsbounds import entropy
from popsbounds.config import Generate, ReferencePotential, Snap
from popsbounds.descriptors.snap import SnapModel, SnapRows
from popsbounds.engine import load_atoms, new_lammps
from popsbounds.entropy import (
    AtomicDescriptors,
    DescriptorEntropy,
    EntropyCalculator,
    generate_entropy,
    maximise,
    partial_file,
)
from popsbounds.errors import InputError
from popsbounds.generate import bcc_bond, generate_frames, random_packing, shortest_bond
from popsbounds.structures import material_volume

VOLUME = 15.85
SNAP = Snap(twojmax=4)


def settings(**changes) -> Generate:
    calculator = {"kind": "lammps", "pair_style": "zero 5", "pair_coeff": ["* *"]}
    steps = {"steps": 4} | changes.pop("entropy", {})
    raw = {"frames": 6, "max_atoms": 3, "batches": 1, "entropy": steps, "calculator": calculator, **changes}
    return Generate.model_validate(raw)


def generate(partial: Path, seed=0, element="W", volume=VOLUME, **changes) -> list[Atoms]:
    def random(purpose, number):
        return np.random.default_rng([seed, zlib.crc32(purpose.encode()), number])

    return generate_entropy(settings(**changes), SNAP, element, volume, random, partial)


def packing(n: int, seed: int = 0) -> Atoms:
    """Without symmetry, and with bonds that a core of 2.5 Å repels."""
    return random_packing("W", n, VOLUME, 0.85 * bcc_bond(VOLUME), np.random.default_rng([n, seed]))


def filled(describe: AtomicDescriptors) -> DescriptorEntropy:
    """A set that holds some packings."""
    held = np.vstack([describe(packing(3, seed)) for seed in range(12)])
    found = DescriptorEntropy(held)
    found.add(held)
    return found


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, list[Atoms]]:
    """Of a strength that the cores outweigh, of one that outweighs them, and the packings that these started from."""
    folder = tmp_path_factory.mktemp("sets")
    found = {}
    for name, strength in {"weak": (0.002, 0.02), "strong": (1, 10), "starts": (1, 10)}.items():
        with pytest.MonkeyPatch.context() as patch:
            if name == "starts":
                patch.setattr(entropy, "maximise", lambda atoms, *_: atoms)
            of_entropy = {"strength_eV": strength, "steps": 15}
            found[name] = generate(folder / name, frames=25, max_atoms=4, entropy=of_entropy)
    return found


# Descriptors.


def lammps_own(atoms: Atoms, snap: Snap) -> np.ndarray:
    """Descriptors of each atom by the compute that LAMMPS has for them, which knows no cell derivatives."""
    lmp = new_lammps()
    load_atoms(lmp, atoms, ["W"])
    radius, weight = snap.radii.get("W", 0.5), snap.density_weights.get("W", 1.0)
    lmp.commands_string(
        f"""
        pair_style zero {2 * radius * snap.rcutfac + 0.1}
        pair_coeff * *
        compute b all sna/atom {snap.rcutfac} {snap.rfac0} {snap.twojmax} {radius} {weight} rmin0 {snap.rmin0} &
            bzeroflag {int(snap.bzero)}
        thermo_style custom step pe
        run 0
        """
    )
    found = lmp.numpy.extract_compute("b", 1, 2)[: len(atoms)]
    ordered = np.empty_like(found)
    ordered[lmp.numpy.extract_atom("id")[: len(atoms)] - 1] = found
    lmp.close()
    return ordered


@pytest.mark.parametrize("n", [1, 3, 7])
@pytest.mark.parametrize(
    "snap",
    [
        SNAP,
        Snap(twojmax=5, rcutfac=4.1, rmin0=0.3, bzero=False, radii={"W": 0.53}, density_weights={"W": 0.8}),
        # Neither products nor a reference potential are part of an environment.
        Snap(
            twojmax=4, quadratic=False, reference=ReferencePotential(pair_style="zbl 4 4.8", pair_coeff=["1 1 74 74"])
        ),
    ],
)
def test_descriptors_are_those_of_each_atom(snap, n):
    atoms = packing(n)
    found = AtomicDescriptors(snap, "W")(atoms)
    expected = lammps_own(atoms, snap)
    assert np.ptp(expected, axis=0).max() > 1 or n == 1
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("n", [1, 4])
def test_atoms_of_types_of_their_own_sum_to_the_element(n):
    """Descriptors and, which LAMMPS's compute of single atoms lacks, their derivatives."""
    atoms = packing(n)
    descriptors, response = AtomicDescriptors(SNAP, "W").respond(atoms)
    plain = SnapRows(SnapModel(SNAP.model_copy(update={"quadratic": False}), ["W"])).respond(atoms)
    np.testing.assert_allclose(descriptors.sum(axis=0), plain.energy[1:-1], rtol=1e-10, atol=1e-9)
    k = len(plain.energy) - 2
    for found, expected in ((response.forces, plain.forces), (response.virial, plain.virial)):
        summed = found[..., :-1].reshape(*found.shape[:-1], n, k + 1).sum(axis=-2)
        np.testing.assert_allclose(summed, expected[..., :-1], rtol=1e-10, atol=1e-9)


def test_descriptors_follow_their_atom_and_see_no_frame_of_reference():
    describe, atoms = AtomicDescriptors(SNAP, "W"), packing(5)
    expected = describe(atoms)
    order = np.array([3, 0, 4, 2, 1])
    np.testing.assert_allclose(describe(atoms[order]), expected[order], rtol=1e-10, atol=1e-9)
    moved = atoms.copy()
    moved.set_cell(atoms.cell @ Rotation.random(random_state=1).as_matrix(), scale_atoms=True)
    moved.positions += [1.3, -20.0, 7.7]
    np.testing.assert_allclose(describe(moved), expected, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(describe(atoms * (2, 1, 1)), np.tile(expected, (2, 1)), rtol=1e-10, atol=1e-9)


# Entropy of a set.


def test_entropy_is_that_of_a_gaussian_with_the_covariance():
    rng = np.random.default_rng(0)
    scale, held = rng.normal(3, [1, 5, 0.1], (50, 3)), rng.normal(2, [1, 9, 0.2], (40, 3))
    held[:, 0] += 0.1 * held[:, 1]
    found = DescriptorEntropy(scale)
    for some in np.split(held, [1, 7, 30]):  # one batch after another
        found.add(some)
    covariance = np.cov((held / scale.std(axis=0)).T, bias=True)
    assert found.value() == pytest.approx(0.5 * np.log(np.linalg.det(covariance)), abs=1e-4)
    # Squared distances, in a metric of which the covariance is the unit, are K on average.
    centred = held - held.mean(axis=0)
    distances = np.einsum("ik,ik->i", centred @ np.linalg.inv(np.cov(held.T, bias=True)), centred) / 3
    np.testing.assert_allclose(found.leverage(held), distances, rtol=1e-4)
    assert found.leverage(held).mean() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("n_held", [0, 2, 40])
@pytest.mark.parametrize("n_more", [1, 8])
def test_gain_is_what_adding_adds_and_so_are_its_derivatives(n_held, n_more):
    rng = np.random.default_rng(1)
    scale = rng.normal(1, [1, 4, 0.1], (50, 3))
    held, more = rng.normal(1, [1, 4, 0.1], (n_held, 3)), rng.normal(1, [1, 4, 0.1], (n_more, 3))

    def filled() -> DescriptorEntropy:
        found = DescriptorEntropy(scale)
        found.add(held)
        return found

    before, after = filled(), filled()
    gain, slope = before.gain(more)
    after.add(more)
    assert gain == pytest.approx((n_held + n_more) * (after.value() - before.value()), rel=1e-12)
    assert before.n == n_held  # nothing but asked for
    if n_held + n_more == 1:
        np.testing.assert_allclose(slope, 0, atol=1e-6)  # one environment has no covariance, whatever it is
        return
    for i, k in np.ndindex(more.shape):
        step = np.zeros_like(more)
        step[i, k] = 1e-5 * scale[:, k].std()
        difference = (before.gain(more + step)[0] - before.gain(more - step)[0]) / (2 * step[i, k])
        assert slope[i, k] == pytest.approx(difference, rel=1e-3, abs=1e-4 * np.abs(slope[:, k]).max())


def test_the_same_again_gains_nothing_and_another_kind_does():
    describe = AtomicDescriptors(SNAP, "W")
    held = np.vstack([describe(packing(3, seed)) for seed in range(12)])
    found = filled(describe)
    assert found.gain(held)[0] == pytest.approx(0, abs=1e-8)
    assert found.gain(describe(bulk("W", "sc", a=VOLUME ** (1 / 3))))[0] > 1


# The calculator.


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("core", [None, 2.5])
@pytest.mark.parametrize("empty", [False, True])
def test_forces_and_stress_are_derivatives_of_the_energy(n, core, empty):
    describe = AtomicDescriptors(SNAP, "W", core)
    held = filled(describe)
    if empty:
        held = DescriptorEntropy(np.vstack([describe(packing(3, seed)) for seed in range(12)]))
    atoms = packing(n)
    atoms.calc = EntropyCalculator(describe, held, strength_eV=0.3)
    forces, stress = atoms.get_forces(), atoms.get_stress()
    if n > 1:
        assert np.abs(forces).max() > 0.3
        numerical = calculate_numerical_forces(atoms, eps=1e-4, force_consistent=False)
        np.testing.assert_allclose(forces, numerical, atol=1e-5 * np.abs(forces).max())
    if core is not None or not empty or n > 1:  # one environment alone has no entropy
        assert np.abs(stress).max() > 1e-3
    numerical = calculate_numerical_stress(atoms, eps=1e-5, force_consistent=False)
    np.testing.assert_allclose(stress, numerical, atol=1e-5 * np.abs(stress).max() + 1e-8)


def test_energy_is_a_repulsion_that_ends_minus_the_gain():
    atoms = packing(4)
    with_core, without = AtomicDescriptors(SNAP, "W", 2.5), AtomicDescriptors(SNAP, "W")
    held = filled(without)

    def energy(describe, strength):
        copy = atoms.copy()
        copy.calc = EntropyCalculator(describe, held, strength)
        return copy.get_potential_energy()

    assert energy(without, 0.7) == pytest.approx(-0.7 * held.gain(without(atoms))[0], rel=1e-10)
    assert energy(without, 0.0) == 0
    assert energy(with_core, 0.7) - energy(with_core, 0.0) == pytest.approx(energy(without, 0.7), rel=1e-8)
    assert energy(with_core, 0.0) > 1
    # A bond of the shortest length, by hand: Lennard-Jones with σ 1.1 times that, raised by its depth of 1 eV.
    for bond, expected in ((2.5, 4 * (1.1**12 - 1.1**6) + 1), (2.5 * 1.1 * 2 ** (1 / 6) + 0.01, 0)):
        pair = Atoms("W2", positions=[[0, 0, 0], [bond, 0, 0]], cell=[9, 9, 9], pbc=True)
        pair.calc = EntropyCalculator(with_core, held, 0.0)
        assert pair.get_potential_energy() == pytest.approx(expected, abs=1e-6)


def test_maximise_raises_the_gain_at_constant_volume():
    describe = AtomicDescriptors(SNAP, "W")
    held, start = filled(describe), packing(3, seed=20)
    before = start.copy()
    moved = maximise(start, EntropyCalculator(describe, held, 1.0), steps=10)
    assert held.gain(describe(moved))[0] > held.gain(describe(start))[0] + 5
    assert moved.get_volume() == pytest.approx(start.get_volume(), rel=1e-8)
    assert start == before
    assert not np.allclose(moved.cell, start.cell, atol=0.01)  # its shape takes part


def test_without_entropy_large_cores_order_the_atoms():
    """Known limit: where only repulsion counts, a lattice of one atom becomes fcc, the densest of all."""
    describe = AtomicDescriptors(SNAP, "W", bcc_bond(VOLUME))
    moved = maximise(packing(1), EntropyCalculator(describe, filled(describe), 1e-9), steps=200)
    assert shortest_bond(moved) == pytest.approx((np.sqrt(2) * VOLUME) ** (1 / 3), rel=2e-3)


# Frames.


def test_frames_are_what_they_promise(sets):
    bond = bcc_bond(VOLUME)
    low, high = settings().volume_range
    for atoms in sets["weak"] + sets["strong"]:
        assert atoms.pbc.all()
        assert atoms.info == {"group": f"atoms_{len(atoms)}"}
        assert set(atoms.arrays) == {"numbers", "positions"}
        assert np.linalg.det(atoms.cell) > 0
        # Within a rounding error, the angles of a reduced cell.
        assert np.all((atoms.cell.angles() > 59.99) & (atoms.cell.angles() < 120.01))
        inside = atoms.get_scaled_positions(wrap=False)
        assert np.all((inside > -1e-6) & (inside < 1 + 1e-6))
        distances = neighbor_list("d", atoms, bond)
        assert min(distances, default=np.inf) >= settings().min_distance * bond
        assert low <= atoms.get_volume() / len(atoms) / VOLUME <= high


def test_all_sizes_are_alike(tmp_path, monkeypatch):
    # Only the sizes matter here: a start stands for its frame.
    monkeypatch.setattr(entropy, "maximise", lambda atoms, *_: atoms)
    sizes = Counter(len(atoms) for atoms in generate(tmp_path / "partial", frames=200, max_atoms=5))
    assert set(sizes) == {1, 2, 3, 4, 5}
    # Each is binomial: 40 ± 5.7.
    assert all(20 < count < 60 for count in sizes.values())


def test_the_set_beats_as_many_atoms_of_its_starts_and_of_rattled_crystals(sets):
    lattices = settings(frames=80, max_atoms=4, shares={"crystal": 1}, crystals=["bcc", "fcc", "hcp", "sc"])
    rng = np.random.default_rng(5)
    crystals = generate_frames(lattices, "W", VOLUME, rng)
    rng.shuffle(crystals)
    describe = AtomicDescriptors(SNAP, "W")
    rivals = {
        name: np.vstack([describe(atoms) for atoms in frames])
        for name, frames in {**sets, "crystals": crystals}.items()
    }
    n = min(map(len, rivals.values()))
    value = {}
    for name, rival in rivals.items():
        found = DescriptorEntropy(np.vstack(list(rivals.values())))  # a unit that is nobody's own
        found.add(rival[:n])
        value[name] = found.value()
    # A nat is a factor of e in the volume that the environments fill. Other seeds give 4 to 6, and 10 to 13.
    assert value["strong"] > value["starts"] + 2
    assert value["weak"] > value["crystals"] + 5


def test_same_seed_same_frames_and_fewer_are_the_first(tmp_path):
    first, again = generate(tmp_path / "a"), generate(tmp_path / "b")
    assert first == again
    assert [atoms.info for atoms in first] == [atoms.info for atoms in again]
    assert generate(tmp_path / "c", frames=3) == first[:3]
    assert not any(a == b for a, b in zip(first, generate(tmp_path / "d", seed=1), strict=True))


def test_what_was_made_before_a_kill_is_not_made_again_and_nothing_differs(tmp_path, monkeypatch):
    monkeypatch.setattr(entropy, "_KEEP_EVERY", 2)
    whole = generate(tmp_path / "whole" / "so_far")
    made = []

    def killed(*arguments):
        made.append(arguments)
        if len(made) == 4:
            raise KeyboardInterrupt
        return maximise(*arguments)

    monkeypatch.setattr(entropy, "maximise", killed)
    partial = tmp_path / "cut" / "so_far"
    with pytest.raises(KeyboardInterrupt):
        generate(partial)
    assert len(ase.io.read(partial, ":", format="extxyz")) == 2
    assert [path.name for path in partial.parent.iterdir()] == ["so_far"]  # nothing half-written

    resumed = generate(partial)
    assert len(made) == 4 + 4
    assert partial.read_bytes() == (tmp_path / "whole" / "so_far").read_bytes()
    for name, frames in {"whole": whole, "resumed": resumed}.items():
        ase.io.write(tmp_path / f"{name}.extxyz", frames)
    assert (tmp_path / "resumed.extxyz").read_bytes() == (tmp_path / "whole.extxyz").read_bytes()

    # Fewer of them need no work at all, and cost none of what there is.
    assert generate(partial, frames=4) == whole[:4]
    assert len(made) == 4 + 4
    assert len(ase.io.read(partial, ":", format="extxyz")) == 6


def test_partial_frames_are_those_of_the_settings_and_of_what_the_known_file_holds(tmp_path):
    def named(known=None, **changes) -> Path:
        section = settings(known=known, **changes).model_dump(mode="json")
        return partial_file(tmp_path, {"seed": 1, "generate": section}, known)

    assert named() == named(frames=9)  # more of the same
    assert named() != named(max_atoms=4)
    known, moved = tmp_path / "known.extxyz", tmp_path / "moved.extxyz"
    for file in (known, moved):
        file.write_text("one")
    before = named(known)
    assert named(moved) == before != named()
    known.write_text("two")
    assert named(known) != before


@pytest.mark.parametrize("element", ["Cu", "Si", "Cs"])
def test_lengths_are_those_of_the_element(tmp_path, element):
    volume = material_volume(element)
    found = generate(tmp_path / "partial", element=element, volume=volume, frames=4, min_distance=0.75)
    for atoms in found:
        assert set(atoms.symbols) == {element}
        assert shortest_bond(atoms) >= 0.75 * bcc_bond(volume)
        assert 0.65 <= atoms.get_volume() / len(atoms) / volume <= 1.35


def test_volume_that_leaves_no_room(tmp_path):
    with pytest.raises(InputError, match=r"lower dataset\.generate\.min_distance") as caught:
        generate(tmp_path / "partial", volume_range=(0.1, 0.2))
    assert "dataset.generate.volume_range (0.1 to 0.2)" in str(caught.value)


def test_entropy_that_is_worth_any_short_bond(tmp_path, monkeypatch):
    monkeypatch.setattr(entropy, "_TRIES", 3)
    strong = {"strength_eV": (1e6, 1e7), "steps": 40}
    with pytest.raises(InputError, match=r"lower dataset\.generate\.entropy\.strength_eV \(1e\+06 to 1e\+07\)"):
        generate(tmp_path / "partial", max_atoms=2, volume_range=(1.3, 1.4), entropy=strong)


def test_known_frame_of_too_many_atoms(tmp_path):
    known = [packing(2), bulk("W").repeat((101, 1, 1))]
    random = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"known labelled\.extxyz.*\n.*frame 1 has 101 atoms, .* 100"):
        generate_entropy(
            settings(known="labelled.extxyz"), SNAP, "W", VOLUME, lambda *_: random, tmp_path / "partial", known
        )


def test_upside_down_strength():
    with pytest.raises(ValueError, match="is not in ascending order"):
        settings(entropy={"strength_eV": (0.2, 0.1)})
