"""Minimum-energy paths against ASE's own nudged elastic band, all images and all directions of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.constraints import FixCom
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ensembles import FORM, VOLUME, eam, ensemble

from popsbounds.band import Band, BandModel, climbing, cold_band
from popsbounds.config import Neb, Propagate, Relax
from popsbounds.descriptors.snap import SnapCalculator, SnapRows
from popsbounds.hessian import full_hessian
from popsbounds.member import Member, evaluate_models
from popsbounds.models import Builder, Recorder, read_models, write_models
from popsbounds.potential import ColdPotential, strained
from popsbounds.propagate import propagate, value_table
from popsbounds.properties import REGISTRY, Settings
from popsbounds.relax import evaluate
from popsbounds.structures import crystal, hop_inversion, vacancy_hop

SETTINGS = Propagate()
RELAX = SETTINGS.relax
REPEATS, IMAGES = 2, 7

pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING")


@cache
def thetas() -> np.ndarray:
    """The MLE's parameters and those of five members, one row each."""
    mle, drawn = ensemble(800, 5)
    return np.vstack([mle, drawn])


@cache
def live(number: int = 0) -> SnapCalculator:
    return SnapCalculator(FORM, thetas()[number])


class Tally:
    """Counts the force calls of a calculator."""

    def __init__(self, calculator: Calculator) -> None:
        self.calculator, self.calls = calculator, 0
        self._calculate = calculator.calculate

    def __enter__(self):
        def calculate(*arguments, **keywords):
            self.calls += 1
            return self._calculate(*arguments, **keywords)

        self.calculator.calculate = calculate
        return self

    def __exit__(self, *_):
        del self.calculator.calculate


def asked(potential, images: int = IMAGES) -> Band:
    """The vacancy's hop at the potential's own lattice constant."""
    bcc = potential.crystal("bcc", crystal("bcc", "W", VOLUME))
    return potential.band("hop", vacancy_hop("W", VOLUME, REPEATS, images), within=bcc)


def reference(images: Sequence[Atoms], calculator: Calculator, k: float = 5.0) -> list[Atoms]:
    """ASE's climbing-image band of all images, no symmetry used; only their centre is held.

    Left to itself it drifts: a rigid translation costs nothing, and springs like it.
    """
    path = [image.copy() for image in images]
    for image in path:
        image.positions -= image.positions.mean(axis=0) - images[0].positions.mean(axis=0)
        image.set_constraint(FixCom())
    given = [image.copy() for image in path]
    for end in (path[0], path[-1]):
        end.calc = calculator
        assert BFGS(end, logfile=None, maxstep=0.05).run(fmax=2e-4, steps=500)
        energy, forces = end.get_potential_energy(), end.get_forces()
        NEB.freeze_results_on_image(end, energy=energy, forces=forces)
    moves = [path[i].positions - given[i].positions for i in (0, -1)]
    for fraction, image in zip(np.linspace(0, 1, len(path))[1:-1], path[1:-1], strict=True):
        image.set_positions(image.positions + (1 - fraction) * moves[0] + fraction * moves[1])
        image.calc = calculator
    for climb, fmax in ((False, 0.05), (True, 0.002)):
        band = NEB(path, k=k, climb=climb, method="improvedtangent", allow_shared_calculator=True)
        assert FIRE(band, logfile=None).run(fmax=fmax, steps=2000)
    return path


def energies(path: Sequence[Atoms], calculator: Calculator) -> np.ndarray:
    values = np.array([evaluate(image, calculator).energy for image in path])
    return values - values[0]


def curve(path: Sequence[Atoms], calculator: Calculator, fractions: np.ndarray) -> np.ndarray:
    found = [evaluate(image, calculator) for image in path]
    return Band(found, "ok", "", 0).along(fractions)


def learnt(recorder: Recorder):
    """Models of what the MLE was asked for."""
    mle, members = thetas()[0], thetas()[1:]
    return Builder(recorder, SnapRows(FORM).respond, FORM.cutoffs, mle, members, SETTINGS.families).build()


@cache
def models(images: int = IMAGES):
    recorder = Recorder(live(), RELAX)
    band = asked(recorder, images)
    built = learnt(recorder)
    return band, built


def same_path(band: Band, images: Sequence[Atoms], calculator: Calculator, tolerance: float = 1e-3) -> int:
    """Compare with ASE's path; returns ASE's force calls."""
    with Tally(calculator) as tally:
        truth = reference(images, calculator)
    assert band.ok, band.reason
    middle = len(images) // 2
    if mirrored(images) and band.energies[middle] < band.barrier - 1e-3:
        # Two humps: ASE climbs one, or finds the dip between them stationary. It gets them one by one.
        calls = tally.calls
        truth = reference([*images[:middle], fitted(band.images[middle].atoms, images[0])], calculator)
        band = Band(band.images[: middle + 1], "ok", "", band.evaluations)
    else:
        calls = tally.calls
    highest = energies(truth, calculator).max()
    assert band.barrier == pytest.approx(highest, abs=tolerance)
    assert band.energies[-1] == pytest.approx(energies(truth, calculator)[-1], abs=tolerance)
    # Where the images stand differs with the one that climbs: compare the curves.
    fractions = np.linspace(0, 1, 25)
    gap = np.abs(band.along(fractions) - curve(truth, calculator, fractions)).max()
    assert gap < 0.02 * highest + 2 * tolerance
    return calls


def fitted(atoms: Atoms, like: Atoms) -> Atoms:
    """In a cell that is the same to the last bit."""
    copy = like.copy()
    copy.set_scaled_positions(atoms.get_scaled_positions(wrap=False))
    return copy


def hop(number: int) -> list[Atoms]:
    bcc = ColdPotential(live(number), RELAX).crystal("bcc", crystal("bcc", "W", VOLUME))
    return vacancy_hop("W", bcc.volume, REPEATS, IMAGES)


def test_cold_band_is_ases():
    band, _ = models()
    same_path(band, hop(0), live())


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_member_band_is_ases_at_a_tenth_of_the_calls(number):
    member = Member(evaluate_models(models()[1], thetas()[1:], 1e-5)[number - 1], live(number), RELAX)
    member.crystal("bcc", crystal("bcc", "W", VOLUME))
    with Tally(live(number)) as tally:
        band = asked(member)
    calls = same_path(band, hop(number), live(number))
    assert "from scratch" not in band.reason
    assert tally.calls <= band.evaluations <= calls / 10


def test_member_band_is_the_cold_one():
    evaluated = evaluate_models(models()[1], thetas()[1:], SETTINGS.families.tolerance_eV_per_atom)
    for number in range(1, 6):
        quick = asked(Member(evaluated[number - 1], live(number), RELAX))
        slow = asked(ColdPotential(live(number), RELAX))
        assert quick.ok == slow.ok
        assert quick.barrier == pytest.approx(slow.barrier, abs=1e-3), number
        fractions = np.linspace(0, 1, 25)
        np.testing.assert_allclose(quick.along(fractions), slow.along(fractions), atol=0.03 * slow.barrier)
        np.testing.assert_allclose(quick.images[0].atoms.cell[:], slow.images[0].atoms.cell[:], atol=1e-4)


def test_second_half_is_the_first_mirrored():
    """And every image's energy and forces are the potential's own there."""
    evaluated = evaluate_models(models()[1], thetas()[1:], SETTINGS.families.tolerance_eV_per_atom)
    for band, calculator in ((models()[0], live()), (asked(Member(evaluated[1], live(2), RELAX)), live(2))):
        assert len(band.images) == IMAGES
        np.testing.assert_allclose(band.energies, band.energies[::-1], atol=1e-9)
        for image in band.images:
            truth = evaluate(image.atoms, calculator)
            assert image.energy == pytest.approx(truth.energy, abs=1e-6)
            np.testing.assert_allclose(image.forces, truth.forces, atol=1e-5)
        inversion = hop_inversion([image.atoms for image in band.images])
        for image, other in zip(band.images, band.images[::-1], strict=True):
            gap = inversion.mirror(image.atoms.positions) - other.atoms.positions
            np.testing.assert_allclose(gap, 0, atol=1e-6)


def test_images_are_across_the_path_and_even():
    evaluated = evaluate_models(models()[1], thetas()[1:], SETTINGS.families.tolerance_eV_per_atom)
    band = asked(Member(evaluated[0], live(1), RELAX))
    half = len(band.images) // 2
    climber = climbing(band.images[: half + 1])
    steps = np.diff(band.fractions)
    for part in (steps[:climber], steps[climber:half]) if climber is not None else (steps[:half],):
        assert np.ptp(part) < 1e-3
    path = [image.atoms.copy() for image in band.images]
    for image in path:
        image.calc = live(1)
    # Without springs, ASE leaves the force across the path.
    across = NEB(path, k=1e-9, method="improvedtangent", allow_shared_calculator=True).get_forces()
    across = np.linalg.norm(across.reshape(IMAGES - 2, -1, 3), axis=2).max(axis=1)
    for index in {*range(1, half)} - {climber}:
        assert across[index - 1] < 1.5 * RELAX.fmax_band_eV_per_A
    if climber is not None:
        assert np.abs(band.images[climber].forces).max() < 1.5 * RELAX.fmax_band_eV_per_A


def test_double_hump_of_the_eam():
    """Zhou's tungsten: the middle of the hop is a shallow minimum, and the image beside it climbs."""
    calculator = eam()
    images = vacancy_hop("W", VOLUME, REPEATS, 9)
    band = cold_band(images, calculator, RELAX)
    assert band.ok
    highest = int(np.argmax(band.energies))
    assert highest not in (0, 4, 8)
    assert band.energies[4] < band.barrier - 1e-3
    assert np.abs(band.images[highest].forces).max() < 3 * RELAX.fmax_band_eV_per_A
    saddle = full_hessian(band.images[highest].atoms, calculator)
    assert np.linalg.eigvalsh(saddle)[0] < -1
    same_path(band, images, calculator)


@pytest.mark.parametrize("images", [13, 17])
def test_images_do_not_drift(images):
    """However many there are: rigid translations are no part of a path."""
    start = vacancy_hop("W", VOLUME, REPEATS, images)
    band, coarse = cold_band(start, eam(), RELAX), cold_band(vacancy_hop("W", VOLUME, REPEATS, 9), eam(), RELAX)
    assert band.ok, band.reason
    centres = np.array([image.atoms.positions.mean(axis=0) for image in band.images])
    straight = np.linspace(centres[0], centres[-1], images)
    assert np.abs(centres - straight).max() < 0.02
    steps = np.diff([image.atoms.positions.ravel() for image in band.images], axis=0)
    assert np.linalg.norm(steps, axis=1).sum() < 1.2 * np.linalg.norm(start[-1].positions - start[0].positions)
    assert band.barrier == pytest.approx(coarse.barrier, abs=5e-3)
    rising = band.energies[: int(np.argmax(band.energies[: images // 2 + 1])) + 1]
    assert (np.diff(rising) > 0.01).all()


def test_path_between_unlike_ends():
    """Two vacancies part: the path has no mirror symmetry, and its ends differ in energy."""
    images = two_vacancies(3)
    assert not mirrored(images)
    band = cold_band(images, eam(), RELAX)
    assert abs(band.energies[-1]) > 0.01
    same_path(band, images, eam())


def two_vacancies(repeats: int) -> list[Atoms]:
    images = vacancy_hop("W", VOLUME, repeats, IMAGES)
    moved = np.linalg.norm(images[-1].positions - images[0].positions, axis=1)
    # Another first neighbour of where the vacancy ends, so that it is not one of where it starts.
    gap = images[0].positions - images[0].positions[moved.argmax()]
    gap -= images[0].cell[0, 0] * np.round(gap / images[0].cell[0, 0])
    distance = np.where(moved > 0.1, np.inf, np.linalg.norm(gap, axis=1))
    gone = int(distance.argmin())
    for image in images:
        del image[gone]
    return images


def mirrored(images: Sequence[Atoms]) -> bool:
    try:
        hop_inversion(images)
    except Exception:
        return False
    return True


def test_member_on_a_path_between_unlike_ends():
    images = two_vacancies(2)
    recorder = Recorder(live(), RELAX)

    def ask(potential):
        return potential.band("pair", images, within=potential.crystal("bcc", crystal("bcc", "W", VOLUME)))

    assert ask(recorder).ok
    built = learnt(recorder)
    assert len(built["pair"].coordinates) == IMAGES
    evaluated = evaluate_models(built, thetas()[1:], SETTINGS.families.tolerance_eV_per_atom)
    for number in (3,):
        quick = ask(Member(evaluated[number - 1], live(number), RELAX))
        slow = ask(ColdPotential(live(number), RELAX))
        assert quick.status == slow.status, (quick.reason, slow.reason)
        assert quick.barrier == pytest.approx(slow.barrier, abs=1e-3), (number, quick.reason)
        assert quick.energies[-1] == pytest.approx(slow.energies[-1], abs=1e-4)


def test_hop_in_a_sheared_cell():
    """Inversion survives the strain; all else is broken."""
    shear = np.eye(3) + np.array([[0.01, 0.02, 0.0], [0.0, -0.02, 0.03], [0.0, 0.0, 0.01]])
    images = [strained(image, shear) for image in vacancy_hop("W", VOLUME, REPEATS, IMAGES)]
    same_path(cold_band(images, eam(), RELAX), images, eam(), 2e-3)


@pytest.mark.parametrize("everywhere", [False, True])
def test_start_that_is_not_mirrored_between_mirrored_ends(everywhere):
    """A detour in the middle of the starting path must not be taken for a point that symmetry keeps there."""
    images = vacancy_hop("W", VOLUME, REPEATS, IMAGES)
    truth = cold_band(images, live(), RELAX)
    rng = np.random.default_rng(3)
    for index, image in enumerate(images[1:-1], 1):
        if everywhere or index == IMAGES // 2:
            image.positions += rng.normal(0, 0.05, image.positions.shape)
    band = cold_band(images, live(), RELAX)
    assert band.ok, band.reason
    assert band.barrier == pytest.approx(truth.barrier, abs=2e-3)
    assert (np.diff(band.fractions) > 0.01).all()


def test_path_that_only_climbs_has_no_climbing_image():
    images = vacancy_hop("W", VOLUME, REPEATS, IMAGES)
    half = cold_band(images, live(), RELAX).images[: IMAGES // 2 + 1]
    if climbing(half) is None:
        assert max(range(4), key=lambda i: half[i].energy) == 3
    else:
        assert 0 < climbing(half) < 3
    assert climbing(half[:2]) is None


@pytest.mark.parametrize("images", [3, 5])
def test_few_images(images):
    """Barriers do not depend on how many there are, where the middle one is the top."""
    band, built = models(images)
    many, _ = models()
    assert band.ok
    if climbing(many.images[: IMAGES // 2 + 1]) is None:
        assert band.barrier == pytest.approx(many.barrier, abs=1e-3)
    evaluated = evaluate_models(built, thetas()[1:], SETTINGS.families.tolerance_eV_per_atom)
    quick = asked(Member(evaluated[2], live(3), RELAX), images)
    slow = asked(ColdPotential(live(3), RELAX), images)
    assert quick.barrier == pytest.approx(slow.barrier, abs=1e-3)


@pytest.mark.parametrize("images", [3, IMAGES])
def test_models_of_a_path_survive_the_disk(tmp_path, images):
    """Whether or not one of its images climbs."""
    _, built = models(images)
    write_models(tmp_path / "models.npz", built)
    again = read_models(tmp_path / "models.npz")["hop"]
    model = built["hop"]
    assert isinstance(again, BandModel)
    assert again.climber == model.climber
    assert len(again.path) == len(model.path) == images
    for one, other in zip(again.path, model.path, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    for one, other in zip(again.models, model.models, strict=True):
        np.testing.assert_array_equal(one.hessian, other.hessian)
    assert (again.mirror is None) == (model.mirror is None)
    first, second = (m.members(thetas()[2:3])[0].solve(1.0, live(2), RELAX).energies for m in (model, again))
    np.testing.assert_allclose(first, second, atol=1e-9)


def test_lost_paths_have_a_status_and_a_reason():
    images = vacancy_hop("W", VOLUME, REPEATS, 5)
    for settings, status, reason in (
        (Relax(max_steps=1), "not_converged", "first image"),
        (Relax(max_steps_band=2), "not_converged", "2 steps did not converge the path"),
        (Relax(max_force_eV_per_A=1e-3), "unstable", "first image"),
    ):
        band = cold_band(images, eam(), settings)
        assert (band.status, reason in band.reason) == (status, True), band.reason
        assert len(band.images) == 5
        assert not any(image.ok for image in band.images)
        assert band.evaluations > 0


def test_a_path_of_no_length_is_lost_not_raised():
    """Both ends fall into one minimum."""
    images = [vacancy_hop("W", VOLUME, REPEATS, 5)[0]] * 5
    band = cold_band(images, eam(), RELAX)
    assert not band.ok
    assert band.reason


def test_absurd_members_become_a_status():
    name = "neb"
    prop = REGISTRY[name](Settings(Neb(repeats=REPEATS, images=5), "W", VOLUME))
    recorder = Recorder(live(), RELAX)
    expected = value_table(name, list(prop.values(recorder)), "mle")
    assert (expected.status == "ok").all()
    built = learnt(recorder)
    mle = thetas()[0]
    wild = {0: thetas()[1], 1: -thetas()[2], 2: 1e3 * mle, 3: 3 * thetas()[1] - 2 * mle}
    table = propagate(name, prop, built, wild, SnapCalculator(FORM, mle), SETTINGS, expected)
    keys = ["structure", "quantity", "coordinate"]
    for number in wild:
        mine = table[table.member == number]
        assert len(mine) == len(expected)
        lines = [them[keys].sort_values(keys).to_numpy().tolist() for them in (mine, expected)]
        assert str(lines[0]) == str(lines[1])
        assert (mine.value.notna() == (mine.status == "ok")).all()
        assert (mine.reason[mine.status != "ok"] != "").all()
    assert (table.status[table.member == 0] == "ok").all()
    assert (table.status[table.member.isin([1])] != "ok").all()
