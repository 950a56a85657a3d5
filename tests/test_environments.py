"""Environments of the training set and of structures: identities, and orders that everybody expects."""

from __future__ import annotations

import zlib
from functools import partial

import numpy as np
import pandas as pd
import pytest
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from scipy.spatial.distance import cdist

from popsbounds import environments
from popsbounds.config import Snap
from popsbounds.descriptors.snap import SnapModel, SnapRows
from popsbounds.entropy import AtomicDescriptors
from popsbounds.environments import (
    ENVIRONMENTS_COLUMNS,
    Bispectrum,
    EnvironmentSet,
    Sample,
    choose_frames,
    compare_sets,
    compare_structures,
    crystal_of,
    easy_sets,
    molecular_dynamics,
    names_outside,
    rattled,
    training_set,
)
from popsbounds.generate import random_packing
from popsbounds.structures import crystal, supercell

SETTINGS = Snap(twojmax=4, quadratic=False)
VOLUME = 15.9  # of tungsten


def random(*purpose):
    return np.random.default_rng([3, *(p if isinstance(p, int) else zlib.crc32(p.encode()) for p in purpose)])


@pytest.fixture(scope="module")
def bispectrum():
    return Bispectrum(SnapModel(SETTINGS, ["W"]), "W")


@pytest.fixture(scope="module")
def packings():
    rng = random("packings")
    return [random_packing("W", 6, VOLUME * rng.uniform(0.8, 1.3), 1.9, rng) for _ in range(150)]


@pytest.fixture(scope="module")
def training(bispectrum, packings):
    return training_set(bispectrum, packings, random("sample"))


def test_bispectrum_is_that_of_the_entropy_and_of_the_fit(bispectrum, packings):
    known = AtomicDescriptors(SETTINGS, "W")
    for atoms in packings[:3]:
        np.testing.assert_allclose(bispectrum(atoms), known(atoms), rtol=0, atol=1e-10)
    # Any number of atoms, and the linear part of a quadratic form.
    many = rattled(supercell("bcc", "W", VOLUME, 4), 0.1, 1, random("many"))[0]
    quadratic = Bispectrum(SnapModel(SETTINGS.model_copy(update={"quadratic": True}), ["W"]), "W")
    rows, _ = SnapRows(SnapModel(SETTINGS, ["W"]))(many)
    for one in (bispectrum, quadratic):
        np.testing.assert_allclose(one(many).mean(axis=0), rows[0, 1:], atol=1e-10)


def test_bispectrum_of_one_element_among_several(packings):
    settings = Snap(twojmax=4, quadratic=False, radii={"W": 0.5, "Be": 0.4}, density_weights={"Be": 0.7})
    form = SnapModel(settings, ["W", "Be"])
    alloy = packings[0].copy()
    alloy.symbols[[1, 4]] = "Be"
    rows, _ = SnapRows(form)(alloy)
    sums = len(alloy) * rows[0].reshape(2, -1)[:, 1:]
    for element, expected, n in zip(form.elements, sums, (4, 2), strict=True):
        found = Bispectrum(form, element)(alloy)
        assert len(found) == n
        np.testing.assert_allclose(found.sum(axis=0), expected, atol=1e-9)


def test_whitening_and_distances_the_plain_way(training, bispectrum):
    whitened = training.whiten(training.descriptors)
    np.testing.assert_allclose(np.cov(whitened.T, bias=True), np.eye(whitened.shape[1]), atol=0.05)
    np.testing.assert_allclose((whitened**2).mean(axis=1), training.leverage(training.descriptors))
    assert training.leverage(training.descriptors).mean() == pytest.approx(1, abs=0.02)
    distances = cdist(whitened, whitened)
    distances[training.frames[:, None] == training.frames] = np.inf
    np.testing.assert_allclose(training.neighbours, distances.min(axis=1))
    assert training.reach == np.quantile(distances.min(axis=1), 0.99)
    other = bispectrum(crystal("A15", "W", VOLUME))
    expected = cdist(training.whiten(other), whitened).min(axis=1) / training.reach
    np.testing.assert_allclose(training.distance(other), expected)
    principal = training.principal(training.descriptors)
    np.testing.assert_allclose(np.cov(principal.T, bias=True), np.eye(2), atol=1e-4)


def test_little_memory_changes_nothing(training, monkeypatch):
    monkeypatch.setattr(environments, "_AT_ONCE", 5_000)
    again = EnvironmentSet(training.descriptors, training.frames)
    np.testing.assert_allclose(again.neighbours, training.neighbours)


def test_what_is_learnt_from_is_inside_and_a_compressed_crystal_outside(training, bispectrum, packings):
    named = {("mine", f"packing {k} of them"): [packings[k]] for k in (0, 17)}
    named |= {("formation", f"at {x}"): [crystal("bcc", "W", x * VOLUME)] for x in (1.0, 0.4)}
    named |= {("neb", "hop"): packings[2:4], ("formation", "A15"): [crystal("A15", "W", VOLUME)]}
    structures = {name: bispectrum.stack(images)[0] for name, images in named.items()}
    table, points = compare_structures(training, structures)
    assert list(table.columns) == ENVIRONMENTS_COLUMNS
    assert list(map(tuple, table[["property", "structure"]].to_numpy())) == list(named)
    rows = table.set_index("structure")
    assert rows.loc[["packing 0 of them", "packing 17 of them", "hop"], "inside"].all()
    assert rows.loc[["packing 0 of them", "hop"], "distance"].max() < 1e-5
    assert not rows.loc["at 0.4", "inside"]
    assert rows.loc["at 0.4", "distance"] > 2
    assert rows.loc["at 0.4", "leverage_max_over_training"] > 1
    assert rows["n_atoms"].to_dict() | {"hop": 12, "A15": 8, "at 1.0": 1} == rows["n_atoms"].to_dict()
    assert rows["n_environments"].to_dict() | {"hop": 12, "A15": 2, "at 1.0": 1} == rows["n_environments"].to_dict()
    for (prop, name), here in points.groupby(["property", "structure"], sort=False):
        assert rows.loc[name, "property"] == prop
        assert rows.loc[name, "leverage_max"] == here["leverage"].max()
        assert rows.loc[name, "distance"] == here["distance"].max()
    empty, nothing = compare_structures(training, {})
    assert list(empty.columns) == ENVIRONMENTS_COLUMNS
    assert list(nothing.columns) == list(points.columns)


def test_units_and_origins_of_descriptors_do_not_matter(training, bispectrum):
    rng = random("units")
    factors, shifts = np.exp(rng.normal(size=(2, training.descriptors.shape[1])))
    other = EnvironmentSet(training.descriptors * factors + shifts, training.frames)
    structures = {("formation", name): bispectrum(crystal(name, "W", VOLUME)) for name in ("A15", "C14")}
    expected, _ = compare_structures(training, structures)
    found, _ = compare_structures(other, {name: x * factors + shifts for name, x in structures.items()})
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)
    a15 = structures["formation", "A15"]
    assert other.entropy_of(a15 * factors + shifts) == pytest.approx(training.entropy_of(a15))


def test_names_of_what_is_outside():
    names = ["bcc", "C14", "compressed C14", "expanded hcp", "tetragonal 0.800000", "tetragonal 0.840000", "bcc 111"]
    inside = [True, False, False, False, False, False, True]
    table = pd.DataFrame({"property": ["formation"] * 4 + ["path"] * 2 + ["mine"], "structure": names})
    found = names_outside(table.assign(inside=inside))
    assert found == {"formation": ["C14", "expanded hcp"], "path": ["tetragonal"]}
    assert names_outside(table.assign(inside=True)) == {}


def test_frames_are_chosen_up_to_a_number_of_atoms(monkeypatch):
    sizes = np.full(40, 3)
    np.testing.assert_array_equal(choose_frames(sizes, random("frames")), np.arange(40))
    monkeypatch.setattr(environments, "MOST", 31)
    chosen = choose_frames(sizes, random("frames"))
    assert len(chosen) == 10
    np.testing.assert_array_equal(chosen, choose_frames(sizes, random("frames")))
    assert (np.diff(chosen) > 0).all()
    assert (chosen != choose_frames(sizes, random("others"))).any()


@pytest.mark.parametrize(("element", "n"), [("W", 54), ("Cu", 32), ("Mg", 54), ("Si", 64), ("U", 54)])
def test_crystals_are_the_elements_own(element, n):
    atoms = crystal_of(element, 20.0)
    assert len(atoms) == n
    assert atoms.get_volume() / n == pytest.approx(20)


def test_dynamics_are_seeded_and_of_the_temperature():
    atoms, calculator = crystal_of("Cu", 11.8), EMT()
    run = partial(molecular_dynamics, atoms, calculator, 300, 12)
    first, again, other = run(random("MD", 0)), run(random("MD", 0)), run(random("MD", 1))
    np.testing.assert_array_equal(first[-1].positions, again[-1].positions)
    assert np.abs(first[-1].positions - other[-1].positions).max() > 0.01
    # Atoms of a crystal move by a few hundredths of a bond at room temperature.
    moves = np.sqrt(np.mean([(frame.positions - atoms.positions) ** 2 for frame in first]))
    assert 0.03 < moves < 0.15


def test_a_run_that_blows_up_is_left_out():
    class Failing(EMT):
        def calculate(self, atoms=None, *arguments):
            if np.abs(atoms.positions - start.positions).max() > 0.1:
                raise CalculationFailed("lost atoms")
            super().calculate(atoms, *arguments)

    class Hollow(EMT):
        def calculate(self, atoms=None, *arguments):
            super().calculate(atoms, *arguments)
            self.results["energy"] -= 100 * np.abs(atoms.positions - start.positions).max() ** 2 * len(atoms)

    start = crystal_of("Cu", 11.8)
    for calculator in (Failing(), Hollow()):
        assert molecular_dynamics(start, calculator, 300, 3, random("MD")) is None
    samples = easy_sets("Cu", 11.8, 50, Failing(), random)
    assert [sample.n_failed for sample in samples] == [0, 0, 0, 0, 2, 2, 2, 6]
    assert not any(sample.frames for sample in samples[4:])


def test_entropy_is_in_the_order_of_disorder(training, bispectrum):
    rattles = easy_sets("U", VOLUME, len(training.sample), EMT(), random)
    assert [sample.name for sample in rattles] == [*(f"rattled by {x} %" for x in (2, 5, 10)), "rattled"]
    for sample in rattles:
        for atoms in sample.frames:
            atoms.symbols[:] = "W"
    samples = [*rattles, Sample("MD", "MD at 300 K", [], 2), Sample("MD", "MD", [], 2)]
    structures = {("formation", name): bispectrum(crystal(name, "W", VOLUME)) for name in ("bcc", "C14")}
    table, points = compare_sets(training, samples, bispectrum, structures)
    known = table.set_index("set")
    assert (known["n_environments"] == [900] * 5 + [0] * 2).all()
    order = ["rattled by 2 %", "rattled by 5 %", "rattled by 10 %", "training"]
    assert known.loc[order, "entropy"].is_monotonic_increasing
    assert known.loc["rattled by 2 %", "entropy"] < known.loc["rattled", "entropy"] < known.loc["training", "entropy"]
    assert known.loc["training", ["entropy_over_training", "covered", "covers_training"]].tolist() == [0, 1, 1]
    assert known.loc["rattled by 2 %", "covers_training"] < 0.1
    assert known.loc["rattled by 2 %", "covers_structures"] == 0.5
    assert known.loc[["MD", "MD at 300 K"], ["entropy", "covered", "covers_structures"]].isna().all(axis=None)
    assert (known["n_failed"] == [0] * 5 + [2] * 2).all()
    assert points.groupby("set").size().to_dict() == {"training": 900, "rattled": 900}
    distances = points.loc[points["set"] == "training", "distance"]
    np.testing.assert_allclose(distances, training.neighbours / training.reach)
    again, _ = compare_sets(training, samples, bispectrum, structures)
    pd.testing.assert_frame_equal(again, table, check_exact=True)
