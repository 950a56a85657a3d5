"""Properties of the user's own: the worked example against ASE, and what users do wrong."""

from pathlib import Path

import ensembles
import numpy as np
import pytest
from ase import units
from ase.constraints import FixedLine
from ase.optimize import FIRE

from popsbounds.band import Band
from popsbounds.config import Own as Options
from popsbounds.config import Propagate, Relax
from popsbounds.descriptors.snap import SnapCalculator, SnapRows
from popsbounds.errors import InputError
from popsbounds.member import Member, evaluate_models
from popsbounds.models import Builder, Recorder
from popsbounds.potential import ColdPotential
from popsbounds.propagate import propagate, value_table
from popsbounds.properties import PropertyError, Settings
from popsbounds.properties.own import OwnProperty
from popsbounds.relax import Relaxed, failed
from popsbounds.structures import crystal

# spglib announces a change of its error handling, which these tests do not meet.
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING")

EXAMPLE = Path(__file__).parents[1] / "config" / "stacking_fault.py"
LAYERS, POINTS = 8, 9
SETTINGS = Propagate()
START = "import numpy as np\nfrom popsbounds.structures import crystal\ndef quantities(potential, element, volume):\n"
ASK = "    bulk = potential.crystal('bcc', crystal('bcc', element, volume))\n"


def own(file: Path, **arguments) -> OwnProperty:
    return OwnProperty(Settings(Options(file=file, arguments=arguments), "W", ensembles.VOLUME))


def example(layers: int = LAYERS, points: int = POINTS) -> OwnProperty:
    return own(EXAMPLE, layers=layers, points=points)


@pytest.fixture
def written(tmp_path):
    """A property whose file holds a text."""

    def write(text: str, **arguments) -> OwnProperty:
        file = tmp_path / "mine.py"
        file.write_text(text)
        return own(file, **arguments)

    return write


def numbers(values) -> tuple[np.ndarray, float]:
    """The line, shape (points, 2), and its maximum."""
    *line, top = values
    assert {v.status for v in values} == {"ok"}
    assert {v.quantity for v in line} == {"fault_energy"}
    assert top.quantity == "unstable_fault_energy"
    assert np.isnan(top.coordinate)
    return np.array([(v.coordinate, v.value) for v in line]), top.value


@pytest.fixture(scope="module")
def cold():
    """What the example yields under the teacher."""
    return numbers(list(example().values(ColdPotential(ensembles.eam(), SETTINGS.relax))))


def fire(atoms, relaxed: bool = True) -> float:
    """Energy (eV) by ASE alone, atoms on lines along the glide plane's normal."""
    atoms.calc = ensembles.eam()
    atoms.set_constraint(FixedLine(range(len(atoms)), [1, -1, 0]))
    if relaxed:
        assert FIRE(atoms, logfile=None).run(fmax=1e-3, steps=500)
    return atoms.get_potential_energy()


def perfect_and_fault(fraction: float):
    """The perfect crystal and the fault at the teacher's own volume, and the area of a cell (Å²)."""
    bulk = ColdPotential(ensembles.eam(), SETTINGS.relax).crystal("bcc", crystal("bcc", "W", ensembles.VOLUME))
    build = example()._function.__globals__["fault"]
    perfect, slipped = (build("W", bulk.volume, LAYERS, x) for x in (0.0, fraction))
    return perfect, slipped, perfect.get_volume() / (LAYERS * (2 * bulk.volume) ** (1 / 3) / np.sqrt(2))


def test_line_ends_at_zero_and_is_symmetric(cold):
    line, top = cold
    assert line[:, 0] == pytest.approx(np.linspace(0, 1, POINTS))
    assert line[[0, -1], 1] == pytest.approx(0)
    assert (line[1:-1, 1] > 0).all()
    assert top == line[:, 1].max() == line[POINTS // 2, 1]


@pytest.mark.parametrize("fraction", [0.25, 0.75, 1.0])
def test_symmetry_and_period_are_the_crystals(cold, fraction):
    perfect, slipped, area = perfect_and_fault(fraction)
    energy = (fire(slipped) - fire(perfect)) / area * units.m**2 / units.J
    assert energy == pytest.approx(np.interp(fraction, *cold[0].T), abs=1e-4)


def test_unstable_energy_in_a_doubled_cell(cold):
    perfect, slipped, area = perfect_and_fault(0.5)
    rng = np.random.default_rng(0)
    slipped = slipped.repeat((2, 1, 1))
    # Where it started does not matter, nor does symmetry.
    slipped.positions += 0.02 * rng.normal(size=(len(slipped), 1)) * np.array([1, -1, 0])
    energy = (fire(slipped) - 2 * fire(perfect)) / (2 * area) * units.m**2 / units.J
    assert cold[1] == pytest.approx(energy, abs=1e-4)


def test_relaxation_lowers_the_line(cold):
    for fraction in (0.25, 0.5):
        perfect, slipped, area = perfect_and_fault(fraction)
        energy = (fire(slipped, relaxed=False) - fire(perfect, relaxed=False)) / area * units.m**2 / units.J
        assert energy > np.interp(fraction, *cold[0].T) + 0.02


def test_layers_are_enough(cold):
    _, top = numbers(list(example(2 * LAYERS, 3).values(ColdPotential(ensembles.eam(), SETTINGS.relax))))
    assert top == pytest.approx(cold[1], rel=0.01)


def test_an_even_number_of_points():
    line, _ = numbers(list(example(points=6).values(ColdPotential(ensembles.eam(), SETTINGS.relax))))
    assert line[:, 0] == pytest.approx(np.linspace(0, 1, 6))
    assert line[:, 1] == pytest.approx(line[::-1, 1])


@pytest.fixture(scope="module")
def propagated():
    """The example under members: its property, their table, their parameters, and the models."""
    mle, thetas = ensembles.ensemble()
    prop, calculator = example(), SnapCalculator(ensembles.FORM, mle)
    recorder = Recorder(calculator, SETTINGS.relax)
    baseline = value_table("mine", list(prop.values(recorder)), "mle")
    rows = SnapRows(ensembles.FORM)
    models = Builder(recorder, rows.respond, ensembles.FORM.cutoffs, mle, thetas, SETTINGS.families).build()
    table = propagate("mine", prop, models, dict(enumerate(thetas)), calculator, SETTINGS, baseline)
    return prop, table, thetas, models, calculator, baseline


def test_members_are_relaxed_as_from_scratch(propagated):
    prop, table, thetas, _, calculator, _ = propagated
    assert set(table["status"]) == {"ok"}
    area = 3.17**2 / np.sqrt(2) * units.J / units.m**2  # eV/(J/m²)
    for member, theta in enumerate(thetas[:4]):
        calculator.set_theta(theta)
        alone = numbers(list(prop.values(ColdPotential(calculator, SETTINGS.relax))))
        own_table = table[table["member"] == member]
        # Within 1 meV a fault.
        assert own_table["value"].to_numpy()[:-1] == pytest.approx(alone[0][:, 1], abs=1e-3 / area)
        assert own_table["value"].to_numpy()[-1] == pytest.approx(alone[1], abs=1e-3 / area)


def test_members_take_few_force_calls(propagated):
    prop, table, thetas, models, calculator, _ = propagated
    evaluated = evaluate_models(models, thetas, SETTINGS.families.tolerance_eV_per_atom)
    calls = []
    for number, theta in enumerate(thetas):
        calculator.set_theta(theta)
        potential = _Noted(Member(evaluated[number], calculator, SETTINGS.relax))
        list(prop.values(potential))
        calls += potential.calls
    assert np.median(calls) <= 3
    assert sum(calls) == table["evaluations"].sum()


class _Noted:
    """A potential that notes the force calls of every relaxation in a cell."""

    def __init__(self, potential) -> None:
        self.potential, self.calls = potential, []

    def __getattr__(self, name):
        return getattr(self.potential, name)

    def relax(self, *arguments, **keywords):
        found = self.potential.relax(*arguments, **keywords)
        self.calls.append(found.evaluations)
        return found


# What is wrong before anything runs.


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"mine\.py: 1 problem\n  - there is no such file"):
        own(tmp_path / "mine.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def quantities(potential:\n", r"raises SyntaxError: .*mine\.py, line 1"),
        ("import numpy\n\nopen('/nowhere/at/all')\n", "line 3 raises FileNotFoundError: .*/nowhere/at/all"),
        ("def quantity(potential): ...\n", "defines no function `quantities"),
        ("quantities = 3\n", "defines no function `quantities"),
        (
            "def quantities(potential, element, volume, layers): ...\n",
            "called with potential, element, volume: missi",
        ),
        ("def quantities(potential): ...\n", "cannot be called with potential, element, volume: too many"),
    ],
)
def test_bad_file(written, text, message):
    with pytest.raises(InputError, match=message) as raised:
        written(text)
    assert raised.value.origin.endswith("mine.py")


def test_unknown_argument(written):
    with pytest.raises(InputError, match="called with potential, element, volume, layer: got an unexpected keyword"):
        written(START + "    yield 'a', 'b', 'eV', 1.0\n", layer=3)


# What shows when the function runs.

BAD = {
    "returns nothing": ("    return None\n", "returns None instead of yielding rows"),
    "yields nothing": ("    yield from ()\n", "yields nothing"),
    "raises": ("    yield 'a', 'b', 'eV', 1 / 0\n", "line 4 raises ZeroDivisionError: division by zero"),
    "too short": ("    yield 'a', 'b', 1.0\n", r"yields \('a', 'b', 1.0\), which is not \(structure"),
    "too long": ("    yield 'a', 'b', 'eV', 1.0, 2.0, 3.0\n", "which is not"),
    "no tuple": ("    yield 1.0\n", "yields 1.0, which is not"),
    "text": ("    yield 'abcd'\n", "yields 'abcd', which is not"),
    "unnamed": ("    yield '', 'b', 'eV', 1.0\n", "not all text"),
    "name": ("    yield 110, 'b', 'eV', 1.0\n", "not all text"),
    "value is text": ("    yield 'a', 'b', 'eV', '1.0'\n", "not all numbers"),
    "value is none": ("    yield 'a', 'b', 'eV', None\n", "not all numbers"),
    "value is an array": ("    yield 'a', 'b', 'eV', np.ones(2)\n", "not all numbers"),
    "coordinate": ("    yield 'a', 'b', 'eV', 1.0, 'x'\n", "not all numbers"),
    "infinite coordinate": ("    yield 'a', 'b', 'eV', 1.0, np.nan\n", "coordinate is not finite"),
    "twice": ("    for _ in range(2):\n        yield 'a', 'b', 'eV', 1.0\n", "yields 'a', 'b' twice"),
    "twice on a curve": ("    for x in (0, 0.25, 0.25):\n        yield 'a', 'b', 'eV', 1, x\n", "'b' at 0.25 twice"),
    "two units": ("    yield 'a', 'b', 'eV', 1\n    yield 'c', 'b', 'meV', 1\n", "'b' in two units"),
    "curve and number": ("    yield 'a', 'b', 'eV', 1\n    yield 'a', 'b', 'eV', 1, 0.5\n", "number and as a curve"),
    "name twice": (
        ASK + ASK + "    yield 'a', 'b', 'eV', 1\n",
        "ValueError: two structures are called 'bcc'",
    ),
    "no such question": ("    potential.melt('bcc')\n    yield 'a', 'b', 'eV', 1\n", "no attribute 'melt'"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_bad_function(written, text, message):
    prop = written(START + text)
    with pytest.raises(InputError, match=message) as raised:
        list(prop.values(Recorder(ensembles.eam(), Relax())))
    assert raised.value.origin.endswith("mine.py")


@pytest.fixture
def member(propagated):
    _, _, thetas, _, calculator, _ = propagated
    calculator.set_theta(thetas[0])
    return Member({}, calculator, SETTINGS.relax)


@pytest.mark.parametrize("case", ["raises", "value is none", "twice", "yields nothing"])
def test_bad_function_under_a_member(written, member, case):
    text, message = BAD[case]
    with pytest.raises(PropertyError, match=rf"mine\.py .*{message}"):
        list(written(START + text).values(member))


def test_a_member_that_lacks_rows_has_them_with_a_status(written, propagated):
    _, _, thetas, _, calculator, _ = propagated
    text = (
        ASK + "    for number in range(3):\n        if bulk.evaluations == 0 and number == 1:\n            {}\n"
        "        yield str(number), 'energy', 'eV', number\n"
    )
    for what, reason in (("continue", "the member yields no such value"), ("raise OSError('no')", "line 7 raises OSE")):
        prop = written(START + text.format(what))
        mle, _ = ensembles.ensemble()
        recorder = Recorder(SnapCalculator(ensembles.FORM, mle), SETTINGS.relax)
        baseline = value_table("mine", list(prop.values(recorder)), "mle")
        rows = SnapRows(ensembles.FORM)
        models = Builder(recorder, rows.respond, ensembles.FORM.cutoffs, mle, thetas, SETTINGS.families).build()
        table = propagate("mine", prop, models, {7: thetas[0]}, calculator, SETTINGS, baseline)
        assert sorted(table["structure"]) == ["0", "1", "2"]
        lost = table.set_index("structure").loc["1"]
        assert lost["status"] == "failed"
        assert reason in lost["reason"]


# Structures that fail.


class _Broken(ColdPotential):
    """The teacher, under which structures of some names fail."""

    def __init__(self, *names: str) -> None:
        super().__init__(ensembles.eam(), SETTINGS.relax)
        self.names = names

    def crystal(self, name, atoms) -> Relaxed:
        return failed(atoms, "unstable", "it melts", 3) if name in self.names else super().crystal(name, atoms)

    def relax(self, name, atoms, within=None) -> Relaxed:
        return failed(atoms, "not_converged", "no end", 4) if name in self.names else super().relax(name, atoms, within)


def test_failed_crystal():
    values = list(example().values(_Broken("bcc")))
    assert len(values) == POINTS + 1
    assert np.isnan([v.value for v in values]).all()
    assert {v.status for v in values} == {"unstable"}
    assert all(v.reason.startswith("bcc: it melts") for v in values)


def test_failed_point():
    values = list(example().values(_Broken("slip_1")))
    lost = [(v.coordinate, v.status, v.reason) for v in values if v.status != "ok"]
    assert [x for x, _, _ in lost] == pytest.approx([1 / 8, 7 / 8, np.nan], nan_ok=True)
    assert {(status, reason) for _, status, reason in lost} == {("not_converged", "slip_1: no end")}
    assert sum(v.evaluations for v in values) > 4


def test_each_row_has_the_status_of_its_structure(written):
    text = (
        "    for name in ('first', 'second', 'third'):\n"
        "        yield name, 'energy', 'eV', potential.relax(name, crystal('bcc', element, volume)).energy\n"
        "    yield 'all', 'ratio', '', np.inf\n"
    )
    values = list(written(START + text).values(_Broken("first", "third")))
    assert [v.status for v in values] == ["not_converged", "ok", "not_converged", "not_converged"]
    assert [v.reason for v in values] == ["first: no end", "", "third: no end", "first: no end (and 1 more)"]
    assert [v.evaluations for v in values] == [4, values[1].evaluations, 4, 0]


def test_value_that_is_not_finite_by_itself(written):
    (value,) = written(START + "    yield 'a', 'b', '', np.inf\n").values(_Broken())
    assert (value.status, value.reason) == ("unstable", "the value is not finite")
    assert np.isnan(value.value)


@pytest.mark.parametrize(
    "what", ["volume", "energy", "energy_per_atom", "scale", "atoms.cell[0, 0]", "stress[0, 0]", "atoms.get_volume()"]
)
def test_nothing_of_a_failed_crystal_is_a_number(written, what):
    (value,) = written(START + ASK + f"    yield 'bcc', 'b', '', bulk.{what}\n").values(_Broken("bcc"))
    assert (value.status, value.reason, value.evaluations) == ("unstable", "bcc: it melts", 3)


def test_modes_of_a_failed_structure(written):
    (value,) = written(START + ASK + "    yield 'a', 'b', '', potential.unstable_modes('bcc', bulk)\n").values(
        _Broken("bcc")
    )
    assert value.status == "unstable"


def test_structure_made_from_a_failed_one(written):
    prop = written(START + ASK + "    yield 'a', 'b', 'eV', potential.relax('next', bulk.atoms).energy\n")
    with pytest.raises(InputError, match="'next' is made from one that failed, after bcc: it melts"):
        list(prop.values(_Broken("bcc")))


def test_path_within_a_failed_crystal(written):
    text = ASK + "    path = potential.band('hop', [crystal('bcc', element, volume)] * 3, bulk)\n"
    rows = "    yield 'hop', 'barrier', 'eV', path.barrier\n    yield 'hop', 'top', '', path.fractions[1]\n"
    rows += "    yield 'hop', 'quarter', 'eV', path.along([0.25])[0]\n"
    values = list(written(START + text + rows).values(_Broken("bcc")))
    assert {(v.status, v.reason) for v in values} == {("unstable", "hop: it melts")}
    assert np.isnan([v.value for v in values]).all()


def test_what_is_remembered_is_safe_from_the_user(written):
    text = (
        "    atoms = crystal('bcc', element, volume)\n"
        "    bulk = potential.crystal('bcc', atoms)\n"
        "    atoms.set_cell(2 * atoms.cell[:])\n"
        "    atoms *= (2, 1, 1)\n"
        "    bulk.atoms.set_cell(2 * bulk.atoms.cell[:])\n"
        "    bulk.forces[:] = 7\n"
        "    yield 'bcc', 'volume', 'Å3', bulk.volume\n"
    )
    recorder = Recorder(ensembles.eam(), SETTINGS.relax)
    list(written(START + text).values(recorder))
    record = recorder.records["bcc"]
    assert record.start.get_volume() == pytest.approx(ensembles.VOLUME)
    assert record.found.volume == pytest.approx(15.85, abs=0.3)
    assert record.found.forces == pytest.approx(0, abs=1e-6)
    assert not isinstance(record.found, Band)
