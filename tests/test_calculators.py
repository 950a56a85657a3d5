"""Calculators from the configuration, their cache and their failures, with calculators that are up to no good."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from fakes import Springs
from test_workflow import snakemake

from popsbounds.calculators import make_calculator
from popsbounds.config import AseCalculator, PairStyle, parse_config
from popsbounds.engine import locate_potential
from popsbounds.errors import InputError
from popsbounds.export import read_labelled
from popsbounds.files import replacing
from popsbounds.label import label_frames


def make(folder, name="fakes.Springs", /, timeout_s=None, small_cells=None, **arguments):
    settings = {"arguments": arguments, "timeout_s": timeout_s, "small_cells": small_cells, "cache": folder / "cache"}
    return make_calculator(AseCalculator(kind="ase", name=name, **settings), ["Cu"])


def frame(n: int = 1, number: int = 0) -> Atoms:
    """With a number of atoms that `fakes.Moody` understands."""
    positions = np.arange(1.0, 3 * n + 1).reshape(n, 3)
    return Atoms(f"Cu{n}", positions=positions, cell=[5, 6, 7 + n], pbc=True, info={"frame": number})


def label(frames: list[Atoms], calculator) -> tuple[list[Atoms], list[tuple[int, str]]]:
    return label_frames(frames, calculator, "dataset.generate.calculator")


def results(atoms: Atoms, calculator) -> tuple[float, np.ndarray, np.ndarray]:
    copy = atoms.copy()
    copy.calc = calculator
    return copy.get_potential_energy(), copy.get_forces(), copy.get_stress()


def kept(folder: Path) -> list[Path]:
    """All files of a cache, temporary ones too."""
    return [path for path in (folder / "cache").rglob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def nothing_computed():
    del Springs.computed[:], Springs.folders[:]


# The cache.


def test_a_structure_is_computed_once_by_whichever_instance(tmp_path):
    first = results(frame(2), make(tmp_path))
    again = results(frame(2), make(tmp_path))
    assert len(Springs.computed) == len(kept(tmp_path)) == 1
    for found, expected, by_hand in zip(again, first, (0.5 * 91, -frame(2).positions, np.ones(6) / 3), strict=True):
        np.testing.assert_array_equal(found, expected)  # to the last digit
        np.testing.assert_allclose(found, by_hand, rtol=1e-15)


def test_a_structure_is_computed_once_by_whichever_process(tmp_path):
    script = "import sys; from test_calculators import *; results(frame(2), make(Path(sys.argv[1])))"
    subprocess.run([sys.executable, "-c", script, tmp_path], cwd=Path(__file__).parent, check=True)
    assert len(kept(tmp_path)) == 1
    results(frame(2), make(tmp_path))
    assert not Springs.computed


def test_cells_of_few_atoms_have_arguments_of_their_own(tmp_path):
    stiff = {"max_atoms": 2, "arguments": {"constant": 3.0}}
    calculator = make(tmp_path, small_cells=stiff)
    assert "stress" in calculator.implemented_properties
    for n, constant in {1: 3.0, 2: 3.0, 4: 1.0}.items():
        found = results(frame(n), calculator)
        np.testing.assert_allclose(found[1], -constant * frame(n).positions, rtol=1e-15)
    # They are kept as results of these arguments, whichever way they were asked for.
    del Springs.computed[:]
    results(frame(4), make(tmp_path))
    results(frame(2), make(tmp_path, constant=3.0))
    assert not Springs.computed
    results(frame(2), make(tmp_path))
    assert len(Springs.computed) == 1
    stiff["arguments"] = {"constant": -1}
    with pytest.raises(InputError, match="refuses its arguments: a constant of -1"):
        make(tmp_path, small_cells=stiff)


def test_what_was_kept_without_stress_is_computed_where_stress_is_wanted(tmp_path):
    calculator = make(tmp_path)
    results(frame(2), calculator)
    (path,) = kept(tmp_path)
    found = json.loads(path.read_text())
    del found["stress"]
    path.write_text(json.dumps(found))
    np.testing.assert_array_equal(results(frame(2), make(tmp_path))[2], results(frame(2), calculator)[2])
    assert len(Springs.computed) == 2


def moved(by: float) -> Atoms:
    atoms = frame(2)
    atoms.positions[0, 0] += by
    return atoms


def changed(**arrays) -> Atoms:
    atoms = frame(2)
    for name, value in arrays.items():
        getattr(atoms, f"set_{name}")(value)
    return atoms


@pytest.mark.parametrize(
    "other",
    [
        moved(1e-6),
        frame(2)[::-1],
        changed(atomic_numbers=[29, 47]),
        changed(cell=[5, 6, 9.001]),
        changed(pbc=[True, True, False]),
        changed(initial_magnetic_moments=[1, -1]),
        changed(initial_charges=[1, -1]),
    ],
    ids=["positions", "order", "elements", "cell", "periodicity", "moments", "charges"],
)
def test_another_structure_is_computed(tmp_path, other):
    results(frame(2), make(tmp_path))
    found = results(other, make(tmp_path))
    assert len(Springs.computed) == 2
    np.testing.assert_array_equal(found[1], -other.positions)


@pytest.mark.parametrize(
    "same",
    [moved(1e-10), changed(constraint=FixAtoms([0])), changed(tags=[1, 2]), changed(pbc=True)],
    ids=["rounding", "constraints", "tags", "periodicity"],
)
def test_what_does_not_change_a_structure_does_not_change_its_file(tmp_path, same):
    # Forces on fixed atoms are kept as they are, whoever comes first.
    results(same, make(tmp_path))
    forces = results(frame(2), make(tmp_path))[1]
    assert len(Springs.computed) == 1
    np.testing.assert_allclose(forces, -frame(2).positions, atol=1e-9)


def test_the_sign_of_zero_does_not_count(tmp_path):
    calculator = make(tmp_path)
    plus, minus = (Atoms("Cu", positions=[[zero, 1, 2]], cell=[5, zero, 5], pbc=True) for zero in (0.0, -0.0))
    tiny = plus.copy()
    tiny.positions[0, 0] = -1e-12  # rounds to −0
    assert calculator.path(plus) == calculator.path(minus) == calculator.path(tiny)


def test_other_arguments_or_another_calculator_are_computed(tmp_path):
    energies = [results(frame(2), make(tmp_path, constant=constant))[0] for constant in (1, 2)]
    assert energies[1] == 2 * energies[0]
    results(frame(2), make(tmp_path, "fakes.Forgetful", constant=2))
    assert len(Springs.computed) == len(kept(tmp_path)) == 3
    # How long it may take is no part of what it is.
    results(frame(2), make(tmp_path, timeout_s=100, constant=2))
    assert len(Springs.computed) == 3


def test_a_file_tells_whose_it_is(tmp_path):
    results(frame(2), make(tmp_path, constant=2))
    (path,) = kept(tmp_path)
    assert json.loads(path.read_text())["calculator"] == {"name": "fakes.Springs", "arguments": {"constant": 2}}


def test_the_energy_is_the_one_that_forces_follow(tmp_path):
    atoms, step = frame(2), 1e-5
    calculator = make(tmp_path)
    energies = [results(moved(sign * step), calculator)[0] for sign in (1, -1)]
    assert results(atoms, calculator)[1][0, 0] == pytest.approx((energies[1] - energies[0]) / (2 * step), rel=1e-8)
    assert results(atoms, calculator)[0] == 0.5 * (atoms.positions**2).sum()  # not 7 more
    # A calculator with one energy has no choice.
    single = frame(2)
    single.calc = make(tmp_path, "fakes.Plain")
    assert single.get_potential_energy() == 0.5 * (atoms.positions**2).sum() + 7


def test_results_do_not_depend_on_what_was_computed_before(tmp_path):
    calculator = make(tmp_path, "fakes.Forgetful")
    assert [results(frame(n), calculator)[0] for n in (1, 2, 3)] == [1, 1, 1]


def test_every_structure_has_a_folder_of_its_own_that_does_not_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n in (1, 2):
        results(frame(n), make(tmp_path))
    assert len(set(Springs.folders)) == 2
    assert not any(folder.exists() for folder in Springs.folders)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_nothing_is_kept_of_a_calculation_that_fails(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError, match="convergence"):
            results(frame(2), make(tmp_path, "fakes.Moody"))
    assert len(Springs.computed) == 2  # tried again
    assert not kept(tmp_path)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "file"
    with replacing(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:  # noqa: PT012 (killed while it writes)
        temporary.write_text("ne")
        assert path.read_text() == "old"
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


# Time and other failures.


def test_what_takes_too_long_is_given_up_and_not_kept(tmp_path):
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(CalculationFailed, match=r"longer than 0\.2 s"):
        results(frame(3), make(tmp_path, "fakes.Moody", timeout_s=0.2))
    assert not kept(tmp_path)
    # No alarm is left to go off later.
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is before
    results(frame(1), make(tmp_path, "fakes.Moody", timeout_s=100))
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_labels_leave_out_what_fails_and_say_why(tmp_path, caplog):
    frames = [frame(n, 10 + k) for k, n in enumerate((1, 2, 1, 3, 4, 6))]
    labelled, failures = label(frames, make(tmp_path, "fakes.Moody", timeout_s=0.2))
    assert [len(atoms) for atoms in labelled] == [1, 1, 6]
    assert failures == [
        (11, "RuntimeError: no convergence"),
        (13, "CalculationFailed: timeout: longer than 0.2 s"),
        (14, "ArithmeticError: its labels are not finite"),
    ]
    assert "frame 13 is left out: CalculationFailed" in caplog.text
    # What is written can be read, as the force-consistent energies that they are.
    ase.io.write(tmp_path / "labelled.extxyz", labelled, format="extxyz")
    for atoms in ase.io.read(tmp_path / "labelled.extxyz", ":"):
        assert atoms.get_potential_energy() == pytest.approx(0.5 * (atoms.positions**2).sum())
        np.testing.assert_allclose(atoms.get_forces(), -atoms.positions, atol=1e-7)
        np.testing.assert_allclose(atoms.get_stress(), 1 / 3, atol=1e-7)


def test_labels_without_stress(tmp_path):
    (labelled,), failures = label([frame(2)], make(tmp_path, "fakes.Plain"))
    assert not failures
    assert set(labelled.calc.results) == {"energy", "forces"}


def test_labels_of_frames_that_all_fail(tmp_path):
    with pytest.raises(
        InputError,
        match=r"generate\.calculator: .*\n.*all 2 frames .*, first with: RuntimeError: no convergence",
    ):
        label([frame(2), frame(4)], make(tmp_path, "fakes.Moody"))


def test_bad_input_is_not_taken_for_a_bad_frame(tmp_path):
    with pytest.raises(InputError, match="a file is missing"):
        label([frame(1), frame(5)], make(tmp_path, "fakes.Moody"))


def test_labels_of_lammps_leave_out_what_fails():
    frames = [bulk("W"), bulk("W"), bulk("Mo"), bulk("W")]
    frames[1].positions[0] = np.nan
    for number, atoms in enumerate(frames):
        atoms.info["frame"] = number
    eam = PairStyle(pair_style="eam/alloy", pair_coeff=["* * W_zhou.eam.alloy W"])
    labelled, failures = label(frames, make_calculator(eam, ["W"]))
    assert [atoms.info["frame"] for atoms in labelled] == [0, 3]
    assert [number for number, _ in failures] == [1, 2]
    assert "holds Mo, not among elements W" in failures[1][1]


def test_lammps_needs_elements():
    eam = PairStyle(pair_style="eam/alloy", pair_coeff=["* * W_zhou.eam.alloy W"])
    with pytest.raises(InputError, match=r"elements: .*\n.*is missing"):
        make_calculator(eam, [])


def test_potential_files_in_folders_with_spaces(tmp_path, monkeypatch):
    folder = tmp_path / "my data"
    folder.mkdir()
    shutil.copy(locate_potential("W_zhou.eam.alloy"), folder / "W.eam")
    (folder / "W").write_text("an element's name is no file's")
    monkeypatch.chdir(folder)
    atoms = bulk("W")
    energies = []
    for name in ("W_zhou.eam.alloy", "W.eam", f"'{folder}/W.eam'"):
        atoms.calc = make_calculator(PairStyle(pair_style="eam/alloy", pair_coeff=[f"* * {name} W"]), ["W"])
        energies.append(atoms.get_potential_energy())
    assert energies[1:] == energies[:1] * 2
    with pytest.raises(InputError, match=r"'Xx\.sw' is neither a file nor shipped"):
        make_calculator(PairStyle(pair_style="sw", pair_coeff=["* * Xx.sw Si"]), ["Si"])


# From the configuration.


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("no_such_package.Thing", {}, r"no_such_package\.Thing: .*\n.*cannot be imported .*is it installed"),
        ("fakes.Spring", {}, r"fakes\.Spring: .*\n.*cannot be imported"),
        ("..Springs", {}, r"\.\.Springs: .*\n.*cannot be imported"),
        ("fakes.Springs", {"constant": -1}, r"fakes\.Springs: .*\n.*refuses its arguments: a constant of -1 is no"),
        ("fakes.Springs", {"stiffness": 1}, r"fakes\.Springs: .*\n.*refuses its arguments: .*stiffness"),
        ("ase.build.bulk", {"name": "Cu"}, r"ase\.build\.bulk: .*\n.*refuses its arguments: .*implemented_properties"),
    ],
)
def test_calculators_that_cannot_be_made_are_named(tmp_path, name, arguments, message):
    with pytest.raises(InputError, match=message):
        make(tmp_path, name, **arguments)


@pytest.mark.parametrize("seconds", [0, -1, "long"])
def test_impossible_timeouts(seconds):
    with pytest.raises(ValueError, match="timeout_s"):
        AseCalculator.model_validate({"kind": "ase", "name": "fakes.Springs", "timeout_s": seconds})


def test_emt_by_its_path_is_emt(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    found = results(atoms, make(tmp_path, "ase.calculators.emt.EMT", asap_cutoff=True))
    for ours, theirs in zip(found, results(atoms, EMT(asap_cutoff=True)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found[0] != results(atoms, EMT())[0]


# The workflow.

STUDY = """
study: fake
elements: [Cu]
material: {element: Cu}
properties: {formation: {structures: [bcc]}}
descriptors: {twojmax: 2, shards: 1}
dataset:
  test_fraction: 0.5
  generate:
    max_atoms: 2
    batches: 2
    entropy: {steps: 2}
    calculator: {kind: ase, name: fakes.OnlyCrowds, timeout_s: 60}
"""


def test_frames_that_fail_are_listed_and_nothing_is_computed_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where the calculator is
    out = tmp_path / "results" / "fake"

    def run(frames: int) -> list[Atoms]:
        raw = yaml.safe_load(STUDY)
        raw["dataset"]["generate"]["frames"] = frames
        (tmp_path / "fake.yaml").write_text(yaml.safe_dump(raw))
        snakemake(tmp_path, "--cores", 1, "results/fake/dataset/frames.parquet", config=tmp_path / "fake.yaml")
        return ase.io.read(out / "generate" / "frames.extxyz", ":")

    def cache() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "results" / "cache").rglob("*.json")}

    frames = run(14)
    alone = [number for number, atoms in enumerate(frames) if len(atoms) == 1]
    assert 0 < len(alone) < 14
    unlabelled = pd.read_csv(out / "dataset" / "unlabelled.csv")
    assert unlabelled["frame"].to_list() == alone
    assert set(unlabelled["reason"]) == {"RuntimeError: lonely"}
    assert len(pd.read_parquet(out / "dataset" / "frames.parquet")) == 14 - len(alone)
    files = cache()
    assert len(files) == 14 - len(alone)

    # One frame more costs one frame and, if it is not alone, one label.
    more = run(15)
    assert more[:14] == frames
    assert "14 of 15 frames were there" in (out / "logs" / "generate_frames.log").read_text()
    now = cache()
    assert files.items() <= now.items()
    assert len(now) - len(files) == (len(more[14]) > 1)


def test_a_set_goes_on_from_exported_frames(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def run(folder: Path, frames: int, known: str | None = None) -> list[Atoms]:
        raw = yaml.safe_load(STUDY)
        raw["dataset"]["generate"] |= {"frames": frames, "known": known}
        folder.mkdir()
        (folder / "fake.yaml").write_text(yaml.safe_dump(raw))
        export = "results/fake/export/labelled.extxyz.xz"
        snakemake(folder, "--cores", 1, export, config=folder / "fake.yaml")
        assert json.loads((folder / export).with_name("labelled.json").read_text())["frames"] > 0
        return read_labelled(folder / export)

    first = run(tmp_path / "first", 8)
    more = run(tmp_path / "more", len(first) + 4, "../first/results/fake/export/labelled.extxyz.xz")
    assert [atoms.info["frame"] for atoms in more[: len(first)]] == list(range(len(first)))
    for ours, known in zip(more, first, strict=False):
        np.testing.assert_array_equal(ours.positions, known.positions)
        np.testing.assert_array_equal(ours.cell, known.cell)
        assert ours.get_potential_energy() == known.get_potential_energy()
    # Known frames are not computed again.
    computed = list((tmp_path / "more" / "results" / "cache").rglob("*.json"))
    assert len(computed) == len(more) - len(first) > 0
    # Families have nothing to go on from.
    raw = yaml.safe_load(STUDY)
    raw["dataset"]["generate"] |= {"frames": 8, "known": "x.xz", "entropy": None}
    with pytest.raises(InputError, match="`known` frames need `entropy`"):
        parse_config(raw)
