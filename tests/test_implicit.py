"""Implicit expansion against relaxations of its own: orders, derivatives, costs, and what is put together of both."""

from __future__ import annotations

from copy import copy
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ensembles import FORM, RELAX, SETTINGS, VOLUME, learn, make, narrow, wild

from popsbounds import implicit
from popsbounds.band import Band
from popsbounds.config import Families, Formation, Interstitial, Neb, Own, Propagate, Surface
from popsbounds.coordinates import Coordinates
from popsbounds.descriptors.snap import SnapCalculator, SnapRows
from popsbounds.implicit import Automatic, Implicit, propagate_automatically
from popsbounds.member import Member, evaluate_models
from popsbounds.models import Builder, Recorder
from popsbounds.potential import ColdPotential
from popsbounds.propagate import propagate, value_table
from popsbounds.properties import Settings
from popsbounds.properties.base import value
from popsbounds.properties.own import OwnProperty
from popsbounds.reduced import Cubic, with_frame
from popsbounds.relax import Relaxed, evaluate, failed, scaled
from popsbounds.structures import crystal, interstitial, slab, supercell, vacancy_hop

# As tight as finite differences need it.
TIGHT = RELAX.model_copy(update={"fmax_eV_per_A": 1e-7, "smax_GPa": 1e-6, "fmax_band_eV_per_A": 1e-6})
SHEAR = np.eye(3) + np.array([[0.004, 0.006, 0], [0, -0.003, 0], [0, 0.002, 0.0]])
LEVELS = ("first", "second", "reduced")

pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING")


def ask(potential) -> dict[str, Relaxed | Band]:
    """One question of each kind; all but the crystals within another."""
    laves, bcc = (potential.crystal(name, crystal(name, "W", VOLUME)) for name in ("C14", "bcc"))
    moved = supercell("bcc", "W", VOLUME, 2)
    moved.positions[0] += [0.03, 0.02, 0.01]
    found = {
        "C14": laves,
        "strained C14": potential.strain("strained C14", laves, SHEAR),
        "bcc": bcc,
        "strained bcc": potential.strain("strained bcc", bcc, SHEAR),
        "dumbbell": potential.relax("dumbbell", interstitial("110", "W", VOLUME, 2), within=bcc),
        "slab": potential.relax("slab", slab("bcc", "W", VOLUME, "100", 6.0, 8.0), within=bcc),
        "moved": potential.static("moved", moved, within=bcc, forces=True),
        "hop": potential.band("hop", vacancy_hop("W", VOLUME, 2, 5), within=bcc),
    }
    assert all(here.ok for here in found.values()), found
    return found


@cache
def world():
    """The MLE's parameters, members, the MLE's models, and its answers; all as tight as can be."""
    mle, thetas = narrow()
    recorder = Recorder(SnapCalculator(FORM, mle), TIGHT)
    found = ask(recorder)
    models = Builder(recorder, SnapRows(FORM).respond, FORM.cutoffs, mle, thetas, SETTINGS.families).build()
    return mle, thetas, models, found


def parameters(step: float) -> np.ndarray:
    """So far towards a member."""
    mle, thetas, *_ = world()
    return mle + step * (thetas[1] - mle)


@cache
def relaxed(step: float) -> dict[str, np.ndarray]:
    return numbers(ask(ColdPotential(SnapCalculator(FORM, parameters(step)), TIGHT)))


@cache
def expanded(step: float, level: str) -> dict[str, np.ndarray]:
    (mine,) = evaluate_models(world()[2], parameters(step)[None], np.inf, level)
    return numbers(ask(Implicit(mine, TIGHT)))


def numbers(found: dict[str, Relaxed | Band]) -> dict[str, np.ndarray]:
    """All that is told of the structures, but for where their centres are."""
    told = {}
    for name, here in found.items():
        images = (
            [(name, here)] if isinstance(here, Relaxed) else [(f"{name} {i}", r) for i, r in enumerate(here.images)]
        )
        for title, image in images:
            told[f"{title}: energy"] = np.array([image.energy])
            told[f"{title}: volume"] = np.array([image.atoms.get_volume()])
            told[f"{title}: cell"] = image.atoms.cell[:]
            told[f"{title}: positions"] = image.atoms.positions - image.atoms.positions.mean(axis=0)
            told[f"{title}: stress"] = image.stress
            if title in ("moved", "hop 1"):
                told[f"{title}: forces"] = image.forces
    return told


# First order.


@pytest.mark.parametrize("level", LEVELS)
def test_first_derivatives_are_those_of_relaxed_structures(level):
    """Of everything, at every level: the higher ones add to it."""
    h, small = 0.01, 1e-3
    truth = {key: (relaxed(h)[key] - relaxed(-h)[key]) / (2 * h) for key in relaxed(h)}
    slopes = {key: (expanded(small, level)[key] - expanded(-small, level)[key]) / (2 * small) for key in truth}
    largest = 0.0
    for key, slope in truth.items():
        # Relaxed crystals have no stress, and symmetric sites no choice: their derivatives are zero.
        size = max(np.linalg.norm(slope), 2e-3)
        assert np.linalg.norm(slopes[key] - slope) < 1e-4 * size, key
        largest = max(largest, np.linalg.norm(slope))
    assert largest > 1


# Higher orders.

# What has few coordinates, and descriptors that are smooth over the members' range.
SMOOTH = ["C14: energy", "C14: volume", "C14: positions", "strained C14: energy", "bcc: energy", "bcc: volume"]
SMOOTH += ["dumbbell: energy", "dumbbell: positions", "hop 0: energy", "hop 2: energy", "hop 2: positions"]


def order(level: str, key: str) -> float:
    """Power of the step that the error grows with."""
    errors = [np.abs(expanded(step, level)[key] - relaxed(step)[key]).max() for step in (0.4, 0.2)]
    return float(np.log2(errors[0] / errors[1]))


@pytest.mark.parametrize(("level", "power"), [("first", 2), ("second", 3)])
def test_error_is_of_the_next_order(level, power):
    found = {key: order(level, key) for key in SMOOTH}
    assert found == pytest.approx(dict.fromkeys(SMOOTH, power), abs=0.4), found


def test_energies_of_the_reduced_model_are_of_a_higher_order_still():
    """Its own curvatures, and the MLE's third derivatives: what is missing is how those differ."""
    for key in ("dumbbell: energy", "hop 0: energy", "hop 2: energy"):
        assert order("reduced", key) > 3.6, key
    for key in SMOOTH:
        errors = [np.abs(expanded(0.4, level)[key] - relaxed(0.4)[key]).max() for level in LEVELS]
        assert errors[0] > errors[1] > 0.999 * errors[2], (key, errors)


def test_what_has_no_internal_freedom_is_exact():
    """From its family, which holds all orders; what is strained or displaced within it too."""
    for key in relaxed(0.4):
        if key.startswith(("bcc", "strained bcc", "moved")):
            np.testing.assert_allclose(expanded(0.4, "reduced")[key], relaxed(0.4)[key], atol=1e-7, err_msg=key)


def random_cubic(r: int, k: int) -> Cubic:
    """Of an energy that is a symmetric third-order form along r directions."""
    rng = np.random.default_rng(3)
    dual, form = rng.normal(size=(r, k)), rng.normal(size=(r, r, r))
    form = sum(form.transpose(order) for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)))
    return Cubic(dual, form @ dual)


@pytest.mark.parametrize(("r", "k"), [(1, 1), (3, 5), (4, 4)])
def test_cubic_is_one_function(r, k):
    """Its gradient is its energy's derivative, its Hessian its gradient's."""
    cubic, h = random_cubic(r, k), 1e-5
    z = np.random.default_rng(4).normal(size=k)
    energies = [[cubic.energy(z + s * e) for e in h * np.eye(k)] for s in (1, -1)]
    np.testing.assert_allclose(cubic.gradient(z), np.subtract(*energies) / (2 * h), rtol=1e-6, atol=1e-6)
    gradients = [np.array([cubic.gradient(z + s * e) for e in h * np.eye(k)]) for s in (1, -1)]
    np.testing.assert_allclose(cubic.hessian(z), (gradients[0] - gradients[1]) / (2 * h), rtol=1e-6, atol=1e-6)
    assert cubic.energy(2 * z) == pytest.approx(8 * cubic.energy(z))


def test_third_derivatives_are_those_of_the_hessian():
    """Of an interstitial, its crystal's size included: along each pair of directions."""
    mle, thetas, models, _ = world()
    basin, calculator = models["dumbbell"], SnapCalculator(FORM, mle)
    joint = with_frame(basin.coordinates, basin.frame)

    def slope(coordinates: Coordinates, z: np.ndarray) -> np.ndarray:
        there = evaluate(coordinates.place(z), calculator)
        return coordinates.gradient(z, there.forces.ravel(), there.atoms.get_volume() * there.stress)

    # Members so near that the steps are short.
    near, strains = mle + 1e-4 * (thetas - mle), np.zeros((len(thetas), 1))
    reduced = basin.reduced.with_third_derivatives(basin.coordinates, basin.frame, slope, near, strains)
    cubic, basis = reduced.cubic, np.eye(joint.size)
    r, k = cubic.dual.shape
    assert (k, cubic.tensor.shape) == (joint.size, (r, r, k))
    assert r > 1
    np.testing.assert_allclose(cubic.tensor, cubic.tensor.transpose(1, 0, 2), atol=1e-9)

    def hessian(z: np.ndarray) -> np.ndarray:
        return np.array([(slope(joint, z + 1e-3 * e) - slope(joint, z - 1e-3 * e)) / 2e-3 for e in basis])

    exact = np.array([(hessian(5e-3 * e) - hessian(-5e-3 * e)) / 1e-2 for e in basis])
    # Directions are orthogonal in the metric of the curvatures.
    directions = np.linalg.solve(reduced.members(mle[None])[0].hessian, cubic.dual.T)
    directions /= np.linalg.norm(directions, axis=0)
    np.testing.assert_allclose(cubic.dual @ directions, np.eye(r), atol=1e-9)
    wanted = np.einsum("ai,bj,abk->ijk", directions, directions, exact)
    np.testing.assert_allclose(cubic.tensor, wanted, atol=1e-3 * np.abs(wanted).max())


# Properties of members.


class Nested:
    """A crystal with internal freedom, a hole in it, and the same squeezed."""

    def __init__(self) -> None:
        self.hole = crystal("C14", "W", VOLUME)
        self.hole.rattle(0.02, seed=1)
        del self.hole[0]

    def values(self, potential):
        host = potential.crystal("C14", crystal("C14", "W", VOLUME))
        hole = potential.relax("hole", self.hole, within=host)
        squeezed = potential.strain("squeezed", host, 0.99 * np.eye(3))
        yield value("C14", "energy", "eV", {"C14": host}, lambda: host.energy)
        yield value("hole", "energy", "eV", {"hole": hole}, lambda: hole.energy)
        yield value("squeezed", "energy", "eV", {"squeezed": squeezed}, lambda: squeezed.energy)


CASES = {
    "formation": partial(make, "formation", Formation(structures=["bcc", "C14"])),
    "sia": partial(make, "sia", Interstitial(repeats=2, structures=["110", "OS"])),
    "surface": partial(make, "surface", Surface(facets=["100"], min_thickness_A=6, vacuum_A=8)),
    "neb": partial(make, "neb", Neb(repeats=2, images=5, points=5)),
    "nested": Nested,
}
ENERGIES = ["eV/atom", "eV", "J/m2"]
TOLERANCE = {"eV/atom": 1e-3, "eV": 0.01, "J/m2": 0.005, "A3/atom": 0.02, "GPa": 1.0}
TINY, HUGE = (dict.fromkeys(TOLERANCE, size) for size in (1e-9, 1e9))


class Study:
    """A property of the members, in all ways."""

    def __init__(self, name: str, members=narrow) -> None:
        self.name, self.prop, self.settings = name, CASES[name](), SETTINGS
        self.mle, self.thetas = members()
        self.expected, self.models = learn(self.prop, name, self.mle, self.thetas)
        self.calculator = SnapCalculator(FORM, self.mle)
        self.explicit, self.explicit_calls = self.lines()

    def with_settings(self, settings: Propagate) -> Study:
        """The same, propagated otherwise."""
        other = copy(self)
        other.settings = settings
        other.explicit, other.explicit_calls = other.lines()
        return other

    def lines(self, thetas=None, **options) -> tuple[pd.DataFrame, int]:
        """Lines of the members, and the force calls that they took."""
        before, thetas = self.calculator.calls, self.thetas if thetas is None else thetas
        members = dict(enumerate(thetas))
        arguments = (self.name, self.prop, self.models, members, self.calculator, self.settings, self.expected)
        table = propagate(*arguments, **options)
        return table, self.calculator.calls - before

    def implicit(self, level: str) -> pd.DataFrame:
        return self.lines(method="implicit", levels=[level])[0]

    def automatic(self, tolerance: dict[str, float]) -> tuple[pd.DataFrame, int]:
        return self.lines(method="auto", tolerance=tolerance)


@cache
def study(name: str, members=narrow) -> Study:
    return Study(name, members)


def spent(table: pd.DataFrame) -> int:
    """Force calls that a table tells of, where each structure has lines of its own."""
    return int(table.groupby(["member", "structure"])["evaluations"].max().sum())


def wild_four():
    return wild(4)


@pytest.mark.parametrize("name", list(CASES))
def test_each_level_is_closer_than_the_one_before(name):
    """To what relaxations find, in the median over members; and none takes a force call."""
    here = study(name)
    energies = here.explicit["unit"].isin(ENERGIES) & (here.explicit["value"].abs() > 1e-9)
    table, calls = here.lines(method="implicit", levels=LEVELS)
    assert calls == 0
    assert set(table["source"]) == set(table["method"]) == {"implicit"}
    assert set(table["status"]) == {"ok"}
    assert (table["evaluations"] == 0).all()
    assert table["level"].tolist() == np.repeat(LEVELS, len(here.explicit)).tolist()
    errors = []
    for level in LEVELS:
        lines = table[table["level"] == level].reset_index(drop=True)
        keys = ["structure", "quantity", "unit", "coordinate", "member"]
        assert lines[keys].equals(here.explicit[keys])
        errors.append((lines["value"] - here.explicit["value"])[energies].abs())
        if level == "reduced":
            rigid = lines["structure"] == "bcc"  # in a family
            assert (lines["value"] == here.explicit["value"])[rigid].all()
    medians = [error[error > 0].median() for error in errors]
    assert medians[0] > 2 * medians[1], medians
    assert medians[1] > 1.5 * medians[2], medians


def test_a_member_that_has_no_prediction_has_a_status():
    """Not a number; upside down, which only its own curvatures tell; or farther than is trusted."""
    here = study("sia")
    nothing = np.full_like(here.mle, np.nan)
    for thetas, levels in (([nothing], LEVELS), ([-here.thetas[0]], ["reduced"])):
        table, calls = here.lines(thetas, method="implicit", levels=levels)
        assert calls == 0
        assert (table["status"] != "ok").all()
        assert (table["reason"] != "").all()
        assert table["value"].isna().all()
    cautious = RELAX.model_copy(update={"trust_radius_A": 1e-7})
    for level in LEVELS:
        (mine,) = evaluate_models(here.models, here.thetas[:1], 1e-5, level)
        for found in here.prop.values(Implicit(mine, cautious)):
            if found.quantity == "formation_energy":
                assert found.status == "not_converged"
                assert found.reason.endswith("no minimum of its model within the trust radius")


def test_what_is_not_known_has_a_status():
    """Other structures than the MLE was asked for, other kinds, other cells."""
    _, thetas, models, _ = world()
    for level in LEVELS:
        (mine,) = evaluate_models(models, thetas[:1], 1e-5, level)
        potential = Implicit(mine, RELAX)
        bcc = potential.crystal("bcc", crystal("bcc", "W", VOLUME))
        defect, hop = interstitial("110", "W", VOLUME, 2), vacancy_hop("W", VOLUME, 2, 5)
        moved = defect.copy()
        moved.positions[0] += 0.01
        static = supercell("bcc", "W", VOLUME, 2)
        static.positions[0] += [0.03, 0.02, 0.01]
        sheared = [image.copy() for image in hop]
        for image in sheared:
            image.set_cell(image.cell[:] @ SHEAR, scale_atoms=True)
        oblong = defect.copy()
        oblong.set_cell(defect.cell[:] * [1, 1, 1.01], scale_atoms=True)
        unknown = {
            "no such crystal": potential.crystal("fcc", crystal("fcc", "W", VOLUME)),
            "no such defect": potential.relax("other", defect, within=bcc),
            "no such strain": potential.strain("other", bcc, SHEAR),
            "no such path": potential.band("other", hop, within=bcc),
            "no crystal, but a slab": potential.static("slab", static, within=bcc),
            "a crystal, but a path": potential.crystal("hop", crystal("bcc", "W", VOLUME)),
            "another start": potential.relax("dumbbell", moved, within=bcc),
            "another number of atoms": potential.relax("dumbbell", defect[1:], within=bcc),
            "another shape": potential.relax("dumbbell", oblong, within=bcc),
            "another place": potential.static("moved", moved[:-1], within=bcc),
            "too large": potential.static("moved", scaled(static, 1.1), within=bcc),
            "another deformation": potential.strain("strained C14", bcc, SHEAR),
            "a sheared path": potential.band("hop", sheared, within=bcc),
        }
        for what, found in unknown.items():
            assert not found.ok, (level, what)
            assert found.reason, (level, what)
            assert found.evaluations == 0
        known = potential.relax("dumbbell", defect, within=bcc)
        assert known.ok
        lost = potential.relax("dumbbell", defect, within=unknown["no such crystal"])
        assert (lost.status, lost.reason) == (unknown["no such crystal"].status, unknown["no such crystal"].reason)


class Wandering:
    """Its structure depends on the potential, against the rules."""

    def values(self, potential):
        bcc = potential.crystal("bcc", crystal("bcc", "W", VOLUME))
        atoms = supercell("bcc", "W", VOLUME, 2)
        atoms.positions[0] += 0.1 * (bcc.scale - 0.9)
        found = potential.relax("wandering", atoms, within=bcc)
        yield value("bcc", "energy", "eV", {"bcc": bcc}, lambda: bcc.energy)
        yield value("wandering", "energy", "eV", {"wandering": found}, lambda: found.energy)


def test_a_structure_that_is_another_for_each_member():
    """A line with a status where it must be predicted; relaxed where it may be."""
    mle, thetas = narrow()
    prop, calculator = Wandering(), SnapCalculator(FORM, mle)
    expected, models = learn(prop, "own", mle, thetas)
    arguments = ("own", prop, models, {4: thetas[0]}, calculator, SETTINGS, expected)
    explicit = propagate(*arguments)
    implicit = propagate(*arguments, method="implicit", levels=LEVELS)
    assert implicit["status"].tolist() == ["ok", "not_converged"] * 3
    assert implicit.loc[implicit["status"] != "ok", "reason"].str.endswith("reach of what is known of the MLE").all()
    automatic = propagate(*arguments, method="auto", tolerance=HUGE)
    assert automatic["status"].tolist() == explicit["status"].tolist() == ["ok", "ok"]
    assert automatic["source"].tolist() == ["implicit", "member"]
    np.testing.assert_allclose(automatic["value"], explicit["value"], atol=1e-9)


def test_a_property_of_ones_own_costs_nothing():
    example = Path(__file__).parents[1] / "config" / "stacking_fault.py"
    prop = OwnProperty(Settings(Own(file=example, arguments={"layers": 6, "points": 5}), "W", VOLUME))
    mle, thetas = narrow()
    expected, models = learn(prop, "fault", mle, thetas)
    calculator = SnapCalculator(FORM, mle)
    arguments = ("fault", prop, models, dict(enumerate(thetas)), calculator, SETTINGS, expected)
    explicit = propagate(*arguments)
    calls = calculator.calls
    implicit = propagate(*arguments, method="implicit", levels=LEVELS)
    assert calculator.calls == calls
    assert set(implicit["status"]) == {"ok"}
    errors = [
        np.median(np.abs(implicit.loc[implicit["level"] == level, "value"].to_numpy() - explicit["value"].to_numpy()))
        for level in LEVELS
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3
    automatic = propagate(*arguments, method="auto", tolerance={"J/m2": 0.005})
    assert np.abs(automatic["value"] - explicit["value"]).max() < 0.005
    assert calculator.calls - calls < calls


# Both together.


def parallel(found: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """Errors of lines that are the same but for their values."""
    keys = ["structure", "quantity", "unit", "coordinate", "member", "status"]
    assert found[keys].equals(truth[keys])
    return (found["value"] - truth["value"]).abs()


@pytest.mark.parametrize("members", [narrow, wild_four])
@pytest.mark.parametrize("name", ["formation", "sia", "neb", "nested"])
def test_automatic_values_are_within_the_tolerance(name, members):
    """Of what relaxations find; and have the status that those have."""
    here = study(name, members)
    table, calls = here.automatic(TOLERANCE)
    error = parallel(table, here.explicit)
    for unit, tolerance in TOLERANCE.items():
        assert not (error[table["unit"] == unit] > tolerance).any(), unit
    assert set(table["method"]) == {"auto"}
    assert calls > 0
    assert (table["evaluations"] >= 0).all()
    # What rests on nothing that was computed costs nothing.
    assert (table.loc[table["structure"] == "bcc", "evaluations"] == 0).all()
    assert (table.loc[table["structure"] == "bcc", "source"] == "implicit").all()


@pytest.mark.parametrize("name", ["sia", "surface", "nested"])
def test_with_no_tolerance_everything_is_relaxed(name):
    """And found where relaxations find it, to the last digit."""
    here = study(name)
    table, calls = here.automatic(TINY)
    assert parallel(table, here.explicit).max() < 1e-9
    assert (table.loc[table["unit"].isin(ENERGIES), "source"] == "member").all()
    assert calls >= here.explicit_calls


@pytest.mark.parametrize("name", ["sia", "neb", "nested"])
def test_with_any_tolerance_nothing_is_computed(name):
    here = study(name)
    table, calls = here.automatic(HUGE)
    assert calls == 0
    assert (table["evaluations"] == 0).all()
    assert set(table["source"]) == {"implicit"}
    assert parallel(table, here.implicit("reduced")).max() == 0


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("sia", narrow),
        ("nested", narrow),
        ("nested", wild_four),
    ],
)
@pytest.mark.parametrize("tolerance", [TOLERANCE, TINY], ids=["some", "none"])
def test_force_calls_are_few_and_all_accounted_for(name, members, tolerance):
    """One a structure that is checked; what is relaxed may start with that same one."""
    here = study(name, members)
    table, calls = here.automatic(tolerance)
    structures = table[table["unit"].isin(ENERGIES)]
    assert calls <= here.explicit_calls + len(structures)
    assert calls <= spent(table) <= calls + np.count_nonzero(structures["source"] == "member")


def test_without_a_tolerance_nothing_would_be_checked():
    here = study("surface")
    for tolerance in (None, {}):
        with pytest.raises(ValueError, match="method 'auto' needs a tolerance"):
            here.lines(method="auto", tolerance=tolerance)


def test_lost_members_are_relaxed():
    """Farther than is trusted: as relaxations find them, at their cost."""
    cautious = SETTINGS.model_copy(update={"relax": RELAX.model_copy(update={"trust_radius_A": 1e-7})})
    here = study("sia").with_settings(cautious)
    table, calls = here.automatic(HUGE)
    assert (table.loc[table["quantity"] == "formation_energy", "source"] == "member").all()
    assert parallel(table, here.explicit).max() < 1e-9
    assert calls == here.explicit_calls == spent(table) == spent(here.explicit)


def test_what_is_made_from_a_lost_structure_is_relaxed(tmp_path):
    """Of a function of the user's own, which under a relaxed member does not raise."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from popsbounds.structures import crystal\n"
        "def quantities(potential, element, volume):\n"
        "    host = potential.crystal('C14', crystal('C14', element, volume))\n"
        "    yield 'C14', 'energy', 'eV', host.energy\n"
        "    yield 'again', 'energy', 'eV', potential.relax('again', host.atoms).energy\n"
    )
    prop = OwnProperty(Settings(Own(file=file, arguments={}), "W", VOLUME))
    mle, thetas = narrow()
    expected, models = learn(prop, "mine", mle, thetas)
    cautious = SETTINGS.model_copy(update={"relax": RELAX.model_copy(update={"trust_radius_A": 1e-7})})
    arguments = ("mine", prop, models, {0: thetas[0]}, SnapCalculator(FORM, mle), cautious, expected)
    explicit, automatic = propagate(*arguments), propagate(*arguments, method="auto", tolerance=HUGE)
    assert set(explicit["status"]) == {"ok"}
    assert parallel(automatic, explicit).max() < 1e-9


def test_hopeless_members_are_as_hopeless_as_relaxed():
    """Upside down, or not a number."""
    here = study("sia")
    thetas = [-here.thetas[0], np.full_like(here.mle, np.nan)]
    explicit, _ = here.lines(thetas)
    table, _ = here.lines(thetas, method="auto", tolerance=TOLERANCE)
    parallel(table, explicit)
    assert (table["status"] != "ok").all()
    assert (table["reason"] != "").all()


def test_what_lies_within_a_relaxed_crystal_has_its_size():
    """Predicted there: the crystal may be relaxed, and what it holds not."""
    here = study("nested", wild_four)
    known = [evaluate_models(here.models, here.thetas, 1e-5, level) for level in ("reduced", "second")]
    moved = 0
    for number, (mine, coarse) in enumerate(zip(*known, strict=True)):
        here.calculator.set_theta(here.thetas[number])
        potential = Automatic(Member(mine, here.calculator, RELAX), coarse)
        sizes = {}
        for way in ("predicted", "relaxed"):
            potential.plan = {"C14": way}
            host = potential.crystal("C14", crystal("C14", "W", VOLUME))
            hole = potential.relax("hole", here.prop.hole, within=host)
            squeezed = potential.strain("squeezed", host, 0.99 * np.eye(3))
            assert host.ok
            for found, size in ((hole, 1), (squeezed, 0.99**3)):
                assert found.atoms.get_volume() == pytest.approx(size * host.atoms.get_volume(), rel=1e-9)
            assert hole.evaluations == squeezed.evaluations == 0
            sizes[way] = host.scale
        assert sizes["relaxed"] == pytest.approx(sizes["predicted"], rel=0.02)
        moved += abs(sizes["relaxed"] - sizes["predicted"]) > 1e-5
    assert moved


class Sized:
    """What a stub knows of a structure: the size its crystal has, and at which of them it has a prediction."""

    def __init__(self, size: float, coarse: float = 1.0) -> None:
        self.size, self.coarse = size, coarse

    def quadratic(self) -> Sized:
        return Sized(self.coarse)


class Stub(Implicit):
    """A crystal of a size, and a hole that is known in the crystal of size one alone."""

    def _crystal(self, name: str, atoms: Atoms) -> Relaxed:
        self.expanded[name] = None
        size = self.models["host"].size if self.models else 1.0
        return Relaxed(scaled(atoms, size), -1.0, "ok", "", 0, np.zeros((3, 3)), np.zeros((len(atoms), 3)))

    def _relax(self, name: str, atoms: Atoms, crystal: str) -> Relaxed:
        if abs(atoms.get_volume() / VOLUME - 1) > 1e-9:
            return failed(atoms, "not_converged", "too far")
        return Relaxed(atoms, -2.0, "ok", "", 0, np.zeros((3, 3)), np.zeros((len(atoms), 3)))


class Unrelaxed(Stub):
    """A member of which nothing may be computed."""

    calculator = None

    def _relax(self, name: str, atoms: Atoms, crystal: str) -> Relaxed:
        raise AssertionError(f"{name} is relaxed")


class Hollow:
    """A crystal that is judged, and a hole in it that is not."""

    def values(self, potential):
        host = potential.crystal("host", crystal("bcc", "W", VOLUME))
        hole = potential.relax("hole", crystal("bcc", "W", VOLUME), within=host)
        yield value("host", "energy", "eV", {"host": host}, lambda: host.energy)
        yield value("hole", "volume", "A3", {"hole": hole}, lambda: hole.volume)


def test_what_a_trial_loses_is_not_lost(monkeypatch):
    """The hole has a prediction at the crystal's size, and none at that of a trial which changes nothing judged."""
    monkeypatch.setattr(implicit, "Implicit", Stub)
    member = Unrelaxed({"host": Sized(1.0, coarse=1.1)}, RELAX)
    potential = Automatic(member, {"host": Sized(1.2)})
    found = propagate_automatically(Hollow(), potential, {"eV": 1e-3})
    assert potential.plan == {}
    assert [(line.status, relaxed) for line, relaxed in found] == [("ok", False)] * 2


class Choosy:
    """Rows for what is ok alone, as a function of the user's own may yield them."""

    def values(self, potential):
        host = potential.crystal("host", crystal("bcc", "W", VOLUME))
        hole = potential.relax("hole", crystal("bcc", "W", VOLUME), within=host)
        if hole.ok:
            yield value("hole", "energy", "eV", {"hole": hole}, lambda: 0.0)
        yield value("host", "energy", "eV", {"host": host}, lambda: 0.0)


def test_values_are_compared_with_those_of_the_same_name(monkeypatch):
    """The crystal's trials lose the hole: what is left looks the same at the same place, and is not."""
    monkeypatch.setattr(implicit, "Implicit", Stub)
    monkeypatch.setattr(Automatic, "_checked", lambda self, name, atoms: (self.member._crystal(name, atoms),) * 2)
    potential = Automatic(Unrelaxed({"host": Sized(1.0, coarse=1.1)}, RELAX), {"host": Sized(1.2)})
    found = propagate_automatically(Choosy(), potential, {"eV": 1e-3})
    assert potential.plan == {"host": "corrected"}
    assert [line.structure for line, _ in found] == ["hole", "host"]


def test_what_its_family_does_not_reach_is_checked():
    """As what has no family."""
    settings = SETTINGS.model_copy(update={"families": Families(width=0.001)})
    mle, thetas = narrow()
    prop, calculator = make("formation", Formation(structures=["bcc"])), SnapCalculator(FORM, mle)
    recorder = Recorder(calculator, RELAX)
    expected = value_table("formation", list(prop.values(recorder)), "mle")
    models = Builder(recorder, SnapRows(FORM).respond, FORM.cutoffs, mle, thetas, settings.families).build()
    arguments = ("formation", prop, models, dict(enumerate(thetas)), calculator, settings, expected)
    explicit, automatic = propagate(*arguments), propagate(*arguments, method="auto", tolerance=TINY)
    assert explicit["evaluations"].max() > 0
    assert parallel(automatic, explicit).max() < 1e-4


@pytest.mark.parametrize("members", [narrow, wild_four])
def test_stresses_are_within_the_tolerance(members):
    """Bulk moduli, differences of stresses in cells that are imposed."""
    here = study("formation", members)
    for tolerance in (20.0, 5.0, 1.0):
        table, _ = here.automatic({"GPa": tolerance})
        modulus = table["quantity"] == "bulk_modulus"
        assert parallel(table, here.explicit)[modulus].max() < tolerance
