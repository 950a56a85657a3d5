"""Reading, checking, splitting, weighting and storing of frames."""

import bz2
import gzip
import json
import logging
import lzma
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list

from popsbounds import dataset
from popsbounds.config import Config, Keys, Limits, Source, Weights, parse_config
from popsbounds.dataset import Frame
from popsbounds.errors import InputError

DATA = Path(__file__).parents[2] / "shared" / "data"
SZLACHTA = DATA / "w_dft_szlachta2014.extxyz.xz"


def make_config(sources: list[dict] | None = None, elements: tuple[str, ...] = ("W",), **sections) -> Config:
    return parse_config(
        {
            "study": "test",
            "elements": list(elements),
            "dataset": {"sources": sources or [{"path": "unused.extxyz"}], **sections},
            "material": {"element": elements[0]},
            "properties": {"elastic": {}},
        }
    )


def make_frames(count: int = 6, seed: int = 0, groups: tuple[str, ...] = ("bulk",)) -> list[Frame]:
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(count):
        atoms = bulk("W", cubic=True) * (1, 1, 1 + index % 3)
        atoms.rattle(0.05, rng=rng)
        atoms = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        energy = -8.9 * len(atoms) + rng.normal()
        forces = rng.normal(size=(len(atoms), 3))
        frames.append(Frame(atoms, energy, forces, groups[index % len(groups)], "w.extxyz", index))
    return frames


def write_extxyz(path: Path, frames: list[Frame], keys: Keys | None = None, group_key: str = "group") -> Path:
    """Write by the calculator (usual keys) or as info and arrays (others), as users' files have them."""
    keys = keys or Keys()
    images = []
    for frame in frames:
        atoms = frame.atoms.copy()
        atoms.info[group_key] = frame.group
        results = {}
        for store, key, value in (
            (atoms.info, keys.energy, frame.energy),
            (atoms.arrays, keys.forces, frame.forces),
        ):
            if value is not None:
                (results if key in ("energy", "forces") else store)[key] = value
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        images.append(atoms)
    ase.io.write(path, images, format="extxyz", columns=None)
    return path


def write_fitsnap(folder: Path, frame: Frame, name: str, comment: str = "# made by hand\n", **changes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "NumAtoms": len(frame.atoms),
        "AtomTypes": frame.atoms.get_chemical_symbols(),
        "Lattice": frame.atoms.cell.tolist(),
        "Positions": frame.atoms.positions.tolist(),
        "Energy": frame.energy,
        "Forces": frame.forces.tolist(),
        **changes,
    }
    style = {"EnergyStyle": changes.pop("EnergyStyle", "electronvolt")}
    (folder / name).write_text(comment + json.dumps({"Dataset": {"Data": [data], **style}}))


def assert_same(first: Frame, second: Frame, tolerance: float = 0.0) -> None:
    assert (first.atoms.numbers == second.atoms.numbers).all()
    assert (first.atoms.pbc == second.atoms.pbc).all()
    for a, b in (
        (first.atoms.positions, second.atoms.positions),
        (first.atoms.cell.array, second.atoms.cell.array),
        (first.energy, second.energy),
        (first.forces, second.forces),
    ):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def problems_of(frames: list[Frame], **checks) -> list[str]:
    return dataset.find_problems(frames, make_config(checks=checks))


# Reading


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress), (".bz2", bz2.compress)]
)
def test_reads_extxyz_packed_or_not(tmp_path, suffix, pack):
    frames = make_frames(groups=("bulk", "surface"))
    plain = write_extxyz(tmp_path / "w@300K.extxyz", frames)
    path = tmp_path / f"packed@300K.extxyz{suffix}"
    path.write_bytes(pack(plain.read_bytes()))
    read = dataset.read_source(Source(path=path), "group")
    assert len(read) == len(frames)
    for index, (frame, original) in enumerate(zip(read, frames, strict=True)):
        assert_same(frame, original, tolerance=1e-7)  # digits ASE writes
        assert (frame.group, frame.source_file, frame.index) == (original.group, str(path), index)
        assert frame.atoms.calc is None
        assert not frame.atoms.info


def test_reads_other_keys(tmp_path):
    frames = make_frames()
    keys = Keys(energy="REF_energy", forces="REF_forces")
    path = write_extxyz(tmp_path / "w.extxyz", frames, keys, group_key="config_type")
    for frame, original in zip(dataset.read_source(Source(path=path, keys=keys), "config_type"), frames, strict=True):
        assert_same(frame, original, tolerance=1e-7)
        assert frame.group == original.group


def test_energies_about_another_zero(tmp_path):
    frames = make_frames(2)
    frames[1].atoms.numbers[0] = 6
    path = write_extxyz(tmp_path / "w.extxyz", frames)
    found = dataset.read_source(Source(path=path, element_shifts_eV={"W": 1.5, "C": -0.25}), "group")
    n = [len(frame.atoms) for frame in frames]
    assert found[0].energy == pytest.approx(frames[0].energy + 1.5 * n[0])
    assert found[1].energy == pytest.approx(frames[1].energy + 1.5 * (n[1] - 1) - 0.25)


def test_group_from_source_file_name_or_key(tmp_path, caplog):
    path = write_extxyz(tmp_path / "tungsten.extxyz", make_frames(2), group_key="config_type")
    assert {f.group for f in dataset.read_source(Source(path=path, group="mine"), "group")} == {"mine"}
    with caplog.at_level(logging.INFO):
        assert {f.group for f in dataset.read_source(Source(path=path), "group")} == {"tungsten"}
    assert "all form the group 'tungsten'" in caplog.text


def test_missing_forces_are_fine_but_said(tmp_path, caplog):
    frames = [Frame(f.atoms, f.energy, None, f.group, f.source_file, f.index) for f in make_frames()]
    path = write_extxyz(tmp_path / "w.extxyz", frames)
    with caplog.at_level(logging.WARNING):
        read = dataset.read_source(Source(path=path), "group")
    assert all(frame.forces is None for frame in read)
    assert "no frame has the forces key 'forces'" in caplog.text
    assert not dataset.find_problems(read, make_config())


def test_reads_fitsnap_folder(tmp_path):
    frames = make_frames(3)
    for k, (group, comment) in enumerate([("bcc", ""), ("bcc", "# one\n# two\n"), ("liquid/hot", "#\n")]):
        write_fitsnap(tmp_path / "JSON" / group, frames[k], f"{k}.json", comment)
    read = dataset.read_source(Source(path=tmp_path / "JSON"), "group")
    assert [frame.group for frame in read] == ["bcc", "bcc", "hot"]
    for frame, original in zip(read, frames, strict=True):
        assert_same(frame, original)  # JSON keeps all digits
    assert {f.group for f in dataset.read_source(Source(path=tmp_path / "JSON", group="mine"), "group")} == {"mine"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"NumAtoms": 7}, "NumAtoms is 7"),
        ({"AtomTypes": ["W", "Qq"]}, "Qq"),
        ({"Positions": [[0, 0, 0]]}, "ValueError"),
        ({"EnergyStyle": "rydberg"}, "EnergyStyle is 'rydberg'"),
    ],
)
def test_bad_fitsnap_file(tmp_path, changes, said):
    write_fitsnap(tmp_path, make_frames(1)[0], "good.json")
    write_fitsnap(tmp_path, make_frames(1)[0], "bad.json", **changes)
    with pytest.raises(InputError) as caught:
        dataset.read_source(Source(path=tmp_path), "group")
    (problem,) = caught.value.problems
    assert "bad.json" in problem
    assert said in problem


def _missing(folder):
    (folder / "tungsten.extxyz").write_text("")
    return Source(path=folder / "tungstem.extxyz")


def _empty(folder):
    (folder / "w.extxyz").touch()
    return Source(path=folder / "w.extxyz")


def _empty_packed(folder):
    (folder / "w.extxyz.xz").write_bytes(lzma.compress(b""))
    return Source(path=folder / "w.extxyz.xz")


def _broken_archive(folder):
    (folder / "w.extxyz.xz").write_bytes(lzma.compress(b"a" * 10000)[:-20])
    return Source(path=folder / "w.extxyz.xz")


def _broken_gzip(folder):
    (folder / "w.extxyz.gz").write_bytes(b"no gzip at all")
    return Source(path=folder / "w.extxyz.gz")


def _unknown_format(folder):
    (folder / "w.dat").write_text("one two three\n")
    return Source(path=folder / "w.dat")


def _truncated(folder):
    path = write_extxyz(folder / "w.extxyz", make_frames(3))
    path.write_text("\n".join(path.read_text().splitlines()[:-2]))
    return Source(path=path)


def _wrong_energy_key(folder):
    path = write_extxyz(folder / "w.extxyz", make_frames(), Keys(energy="REF_energy"))
    return Source(path=path)


def _wrong_forces_key(folder):
    return Source(path=write_extxyz(folder / "w.extxyz", make_frames()), keys=Keys(forces="force"))


def _energy_in_words(folder):
    keys = Keys(energy="REF_energy")
    path = write_extxyz(folder / "w.extxyz", make_frames(2), keys)
    lines = path.read_text().split("REF_energy=")
    path.write_text(
        "REF_energy=".join([*lines[:-1], "failed" + lines[-1].partition(" ")[1] + lines[-1].partition(" ")[2]])
    )
    return Source(path=path, keys=keys)


def _no_json(folder):
    (folder / "JSON").mkdir()
    return Source(path=folder / "JSON")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_missing, "tungstem.extxyz: does not exist (did you mean 'tungsten.extxyz'?)"),
        (_empty, "w.extxyz: is empty"),
        (_empty_packed, "w.extxyz.xz: is empty"),
        (_broken_archive, "w.extxyz.xz: cannot be decompressed"),
        (_broken_gzip, "w.extxyz.gz: cannot be decompressed"),
        (_unknown_format, "w.dat: ASE cannot read it"),
        (_truncated, "w.extxyz, frame 2: ASE cannot read it"),
        (_wrong_energy_key, "no frame has the energy key 'energy' (did you mean 'REF_energy'?); there are: REF_energy"),
        (_wrong_forces_key, "no frame has the forces key 'force' (did you mean 'forces'?)"),
        (_energy_in_words, "frame 1: REF_energy is not made of numbers (failed)"),
        (_no_json, "JSON: is a folder without .json files"),
    ],
)
def test_unreadable_source(tmp_path, make, said):
    source = make(tmp_path)
    with pytest.raises(InputError) as caught:
        dataset.read_source(source, "group")
    assert any(said in problem for problem in caught.value.problems), caught.value.problems
    assert len(caught.value.problems) == 1


def test_wrong_group_key(tmp_path):
    path = write_extxyz(tmp_path / "w.extxyz", make_frames(), group_key="config_type")
    with pytest.raises(InputError, match=r"group key 'configtype' \(did you mean 'config_type'\?\)"):
        dataset.read_source(Source(path=path), "configtype")


# Checking


def _spoil(frame, **changes):
    """The frame with other labels, or with atoms changed by a function."""
    atoms = frame.atoms.copy()
    if "atoms" in changes:
        changed = changes["atoms"](atoms)
        atoms = atoms if changed is None else changed
    values = {"energy": frame.energy, "forces": frame.forces} | {k: v for k, v in changes.items() if k != "atoms"}
    if changes.get("atoms") and len(atoms) != len(frame.atoms) and "forces" not in changes:
        values["forces"] = None
    return Frame(atoms, values["energy"], values["forces"], frame.group, frame.source_file, frame.index)


def _set(array, index, value):
    array = array.copy()
    array[index] = value
    return array


BAD = {
    "nan energy": (lambda f: _spoil(f, energy=np.nan), "energy is nan"),
    "infinite energy": (lambda f: _spoil(f, energy=-np.inf), "energy is -inf"),
    "no energy": (lambda f: _spoil(f, energy=None), "has no energy"),
    "absurd energy": (lambda f: _spoil(f, energy=1e6), "eV/atom from the median of its composition"),
    "nan force": (lambda f: _spoil(f, forces=_set(f.forces, (1, 2), np.nan)), "force on atom 1 is ["),
    "infinite force": (lambda f: _spoil(f, forces=_set(f.forces, (1, 2), np.inf)), "force on atom 1 is ["),
    "large force": (lambda f: _spoil(f, forces=_set(f.forces, (1, 2), -1234.5)), "component of 1234.5 eV/Å"),
    "shape of forces": (lambda f: _spoil(f, forces=f.forces[:-1]), "forces have shape"),
    "flat forces": (lambda f: _spoil(f, forces=f.forces.ravel()), "forces have shape"),
    "nan position": (
        lambda f: _spoil(f, atoms=lambda a: a.positions.__setitem__((1, 0), np.nan)),
        "position of atom 1 is [",
    ),
    "nan cell": (lambda f: _spoil(f, atoms=lambda a: a.set_cell(_set(a.cell.array, (0, 1), np.nan))), "cell is [["),
    "element": (lambda f: _spoil(f, atoms=lambda a: a.numbers.__setitem__(0, 26)), "holds Fe, not among elements"),
    "no cell": (lambda f: _spoil(f, atoms=lambda a: a.set_cell(np.zeros((3, 3)))), "volume is 0 Å³"),
    "flat cell": (lambda f: _spoil(f, atoms=lambda a: a.set_cell(a.cell.array * [[1], [1], [0]])), "volume is 0 Å³"),
    "tiny cell": (
        lambda f: _spoil(f, atoms=lambda a: a.set_cell(a.cell.array * 0.4, scale_atoms=True)),
        "Å³ per atom; mend",
    ),
    "not periodic": (lambda f: _spoil(f, atoms=lambda a: a.set_pbc(False)), "is not periodic (pbc F F F)"),
    "periodic in two": (lambda f: _spoil(f, atoms=lambda a: a.set_pbc([1, 1, 0])), "is not periodic (pbc T T F)"),
    "close atoms": (
        lambda f: _spoil(f, atoms=lambda a: a.positions.__setitem__(1, a.positions[0] + [0, 0, 0.5])),
        "atoms 0 and 1 are 0.5 Å apart",
    ),
    "same place": (
        lambda f: _spoil(f, atoms=lambda a: a.positions.__setitem__(1, a.positions[0])),
        "atoms 0 and 1 are 0 Å apart",
    ),
    "close images": (
        # Across a corner of the cell, and several cells away from it.
        lambda f: _spoil(f, atoms=lambda a: a.positions.__setitem__(1, a.positions[0] + [3, -2, 1] @ a.cell + 0.1)),
        "are 0.1732 Å apart",
    ),
    "own image": (
        lambda f: _spoil(f, atoms=lambda a: Atoms("W", cell=[0.9, 9, 9], pbc=True)),
        "atom 0 and its periodic image are 0.9 Å apart",
    ),
    "own image, skewed": (
        lambda f: _spoil(f, atoms=lambda a: Atoms("W", cell=[[9, 0, 0], [8.5, 0.5, 0], [0, 0, 9]], pbc=True)),
        "atom 0 and its periodic image are 0.7071 Å apart",
    ),
    "no atoms": (lambda f: _spoil(f, atoms=lambda a: Atoms(cell=a.cell, pbc=True)), "has no atoms"),
    "duplicate": (
        lambda f: _spoil(make_frames()[2], atoms=lambda a: a.translate(1e-9)),
        "is the same structure as frame 2",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_frame_is_named(kind):
    spoil, said = BAD[kind]
    frames = make_frames()
    assert not dataset.find_problems(frames, make_config())
    bad = spoil(frames[4])
    frames[4] = Frame(bad.atoms, bad.energy, bad.forces, "bulk", "w.extxyz", 4)
    (problem,) = problems_of(frames)
    assert problem.startswith("w.extxyz, frame 4: ")
    assert said in problem


def test_all_problems_at_once():
    frames = make_frames(len(BAD) + 3)
    spoiled = list(BAD)[: len(BAD) - 1]  # the duplicate needs its place
    for k, kind in enumerate(spoiled):
        bad = BAD[kind][0](frames[k])
        frames[k] = Frame(bad.atoms, bad.energy, bad.forces, "bulk", "w.extxyz", k)
    text = "\n".join(problems_of(frames))
    for k, kind in enumerate(spoiled):
        assert f"w.extxyz, frame {k}: " in text, kind


def test_many_problems_are_counted():
    frames = [_spoil(frame, energy=np.nan) for frame in make_frames(100)]
    problems = problems_of(frames)
    assert len(problems) == 21
    assert problems[-1] == "… and 80 more of this kind (energy)"


def test_duplicates_can_be_dropped(tmp_path):
    frames = make_frames(10)
    path = write_extxyz(tmp_path / "twice.extxyz", frames + frames)
    config = make_config([{"path": path}], checks={"duplicates": "drop"})
    kept, _ = dataset.build_dataset(config, [], np.random.default_rng(0))
    assert [frame.index for frame in kept] == list(range(10))


def test_energy_outlier_among_compositions():
    # Mixed compositions with atomic energies far apart: no plain median could find a deviation of 60 eV/atom.
    rng = np.random.default_rng(0)
    frames = []
    for index in range(40):
        atoms = bulk("W", cubic=True) * (2, 2, 2)
        atoms.numbers[: rng.integers(0, 16)] = 29
        atoms.rattle(0.05, rng=rng)
        energy = 1000.0 * (atoms.numbers == 29).sum() - 9.0 * len(atoms) + rng.normal()
        frames.append(Frame(atoms, energy + (60 * 16 if index == 7 else 0), None, "alloy", "wcu.extxyz", index))
    (problem,) = dataset.find_problems(frames, make_config(elements=("W", "Cu")))
    assert problem.startswith("wcu.extxyz, frame 7: energy")


def test_close_atoms_agree_with_ase():
    rng = np.random.default_rng(3)
    frames = []
    for index in range(60):
        cell = rng.normal(size=(3, 3)) * rng.choice([1.5, 3, 6]) + 3 * np.eye(3)
        if abs(np.linalg.det(cell)) < 8:
            continue  # nearly flat: ASE's search takes seconds
        atoms = Atoms(f"W{rng.integers(1, 6)}", cell=cell, pbc=True)
        atoms.positions = rng.normal(scale=8, size=(len(atoms), 3))
        frames.append(Frame(atoms, 0.0, None, "", "w", index))
    cutoff = 1.7
    found = {frame.index: distance for frame, _, _, distance in dataset._close_atoms(frames, cutoff)}
    expected = {}
    for frame in frames:
        distances = neighbor_list("d", frame.atoms, cutoff)
        if len(distances):
            expected[frame.index] = distances.min()
    thin = sum(dataset._heights(frame.atoms.cell.array).min() < cutoff for frame in frames)
    assert thin > 5
    assert 5 < len(expected) < len(frames) - 5
    assert found == pytest.approx(expected, rel=1e-9)


# Limiting, splitting, weighting


def test_limits_leave_out_and_log(caplog):
    frames = make_frames()
    frames[1] = _spoil(frames[1], energy=frames[1].energy + 100)
    frames[2] = _spoil(frames[2], forces=frames[2].forces * 100)
    frames[3] = _spoil(frames[3], forces=None)
    with caplog.at_level(logging.INFO):
        kept = dataset.apply_limits(frames, Limits(max_energy_above_min_eV=10, max_force_eV_per_A=50))
    assert [frame.index for frame in kept] == [0, 3, 4, 5]
    assert "2 of 6 frames (1 beyond max_energy_above_min_eV, 1 beyond max_force_eV_per_A)" in caplog.text
    assert len(dataset.apply_limits(frames, Limits())) == 6
    with pytest.raises(InputError, match="all 5 frames are left out"):
        dataset.apply_limits([f for f in frames if f.forces is not None], Limits(max_force_eV_per_A=1e-9))


def test_limits_of_energy_are_above_the_lowest_of_a_composition():
    frames = make_frames()
    for frame in frames[::2]:
        frame.atoms.numbers[:] = 29  # energies of copper are far from those of tungsten
    frames[::2] = [_spoil(frame, energy=frame.energy + 5 * len(frame.atoms)) for frame in frames[::2]]
    assert len(dataset.apply_limits(frames, Limits(max_energy_above_min_eV=3))) == 6


def test_split_is_stratified_and_deterministic():
    groups = ["a"] * 100 + ["b"] * 10 + ["c"] * 2 + ["d", "e", "f"]
    parts = dataset.split(groups, 0.3, np.random.default_rng(1))
    held_out = {name: (parts[np.array(groups) == name] == "test").sum() for name in "abc"}
    assert held_out == {"a": 30, "b": 3, "c": 1}
    assert (parts[-3:] == "test").sum() == 1  # lone frames share
    assert (parts == dataset.split(groups, 0.3, np.random.default_rng(1))).all()
    assert not (parts == dataset.split(groups, 0.3, np.random.default_rng(2))).all()


def test_whole_groups_stay_together():
    groups = np.repeat([f"trajectory {i}" for i in range(40)], np.arange(1, 41))
    parts = dataset.split(groups, 0.25, np.random.default_rng(1), 0.1, whole_groups=True)
    of_group = {name: set(parts[groups == name]) for name in np.unique(groups)}
    assert all(len(found) == 1 for found in of_group.values())
    counts = {part: sum(part in found for found in of_group.values()) for part in ("train", "test", "calibration")}
    assert counts == {"train": 26, "test": 10, "calibration": 4}


def test_frames_can_be_grouped_by_their_reduced_formula(tmp_path):
    frames = [Atoms("MgO", cell=[3] * 3, positions=[[0, 0, 0], [2, 0, 0]], pbc=True)]
    frames += [frames[0].repeat((2, 1, 1)), Atoms("Mg", cell=[3] * 3, pbc=True)]
    for atoms in frames:
        atoms.info["energy"] = -1.0 * len(atoms)
    ase.io.write(tmp_path / "a.extxyz", frames)
    found = dataset.read_source(Source(path=tmp_path / "a.extxyz"), "formula")
    assert [frame.group for frame in found] == ["MgO", "MgO", "Mg"]


def test_energies_weigh_by_what_lies_above_the_lowest_of_the_same_composition():
    atoms = [Atoms("W2", cell=[3] * 3), Atoms("W", cell=[3] * 3), Atoms("Mo", cell=[3] * 3), Atoms("Ta", cell=[3] * 3)]
    energies = [-20.0, -9.0, -5.0, -7.0]
    frames = [Frame(a, e, None, "", "", i) for i, (a, e) in enumerate(zip(atoms, energies, strict=True))]
    table = dataset.frame_table(frames, ["train", "train", "train", "test"], Weights(), 1)
    np.testing.assert_allclose(table["weight_energy"], np.exp([0, -0.5, 0, 0]))


@pytest.mark.parametrize("fraction", [1e-6, 1 - 1e-6])
def test_split_leaves_no_side_of_a_group_empty(fraction):
    groups = np.repeat(["a", "b"], 5)
    parts = dataset.split(groups, fraction, np.random.default_rng(0))
    for name in "ab":
        assert set(parts[groups == name]) == {"train", "test"}


def test_split_of_one_frame_is_refused():
    with pytest.raises(InputError, match="no frame is left for the test split"):
        dataset.split(["a"], 0.5, np.random.default_rng(0))


def test_weights():
    np.testing.assert_allclose(dataset.exponential_weights([0, 2, 4], 2.0), np.exp([0, -1, -2]))
    rng = np.random.default_rng(0)
    energy, force = rng.random(10), rng.random(300)
    scales = dataset.weight_scales(energy, force)
    assert scales[0] * energy.sum() == pytest.approx(155)
    assert scales[1] * force.sum() == pytest.approx(155)


def test_weights_without_forces():
    assert dataset.weight_scales([0.5, 0.25, 0.25], []) == (3, 0)


def test_vanishing_weights_are_refused():
    with pytest.raises(InputError, match="force_scale_eV_per_A is so small"):
        dataset.weight_scales([1.0], dataset.exponential_weights([10.0, 20.0], 1e-3))


def test_frame_table():
    frames = make_frames(7)
    frames[3] = _spoil(frames[3], forces=None)
    parts = ["test", "train", "train", "test", "train", "train", "train"]
    table = dataset.frame_table(frames, parts, Weights(energy_scale_eV=0.5), 3)
    assert table["frame"].tolist() == list(range(7))
    assert table["frame"].dtype == np.int64
    assert table["split"].tolist() == parts
    assert table["has_forces"].tolist() == [k != 3 for k in range(7)]
    assert np.isnan(table["max_force_eV_per_A"][3])
    assert table["max_force_eV_per_A"][0] == np.sqrt((frames[0].forces ** 2).sum(axis=1)).max()
    np.testing.assert_allclose(table["energy_per_atom_eV"], table["energy_eV"] / table["n_atoms"])
    training = table[table["split"] == "train"]
    assert training["weight_energy"].max() == 1
    above = table["energy_per_atom_eV"] - training["energy_per_atom_eV"].min()
    np.testing.assert_allclose(table["weight_energy"], np.exp(-above / 0.5))


@pytest.mark.parametrize("sizes", [[1] * 10, [100, 1, 1, 1], [1, 1, 1, 100], [5, 1, 30, 2, 2, 2, 50, 1, 1, 1], [1, 1]])
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_shards_are_consecutive_and_not_empty(sizes, shards):
    shard = dataset._shards(np.array(sizes), shards)
    assert (np.diff(shard) >= 0).all()
    assert len(set(shard)) == min(shards, len(sizes))
    assert shard.min() >= 0
    assert shard.max() < shards


def test_shards_are_balanced():
    sizes = np.random.default_rng(0).integers(1, 130, size=5000)
    loads = np.bincount(dataset._shards(sizes, 7), weights=sizes)
    assert np.ptp(loads) < 2 * 130


# Storing


def test_storage_is_exact_and_reproducible(tmp_path):
    frames = make_frames(600, groups=("bulk", "Σ5 boundary"))  # several row groups
    frames[1] = _spoil(frames[1], forces=None)
    dataset.write_frames(tmp_path / "a.parquet", frames)
    read = dataset.read_frames(tmp_path / "a.parquet")
    for frame, original in zip(read, frames, strict=True):
        assert_same(frame, original)
        for name in ("group", "source_file", "index"):
            assert getattr(frame, name) == getattr(original, name)
    read[0].forces[0] = 1.0  # writable
    dataset.write_frames(tmp_path / "b.parquet", dataset.read_frames(tmp_path / "a.parquet"))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize("select", [[0], [599, 3, 3, 256], range(250, 300), []])
def test_storage_reads_a_selection(tmp_path, select):
    frames = make_frames(600)
    dataset.write_frames(tmp_path / "a.parquet", frames)
    read = dataset.read_frames(tmp_path / "a.parquet", select)
    assert [frame.index for frame in read] == list(select)
    for frame in read:
        assert_same(frame, frames[frame.index])


def test_storage_refuses_frames_it_does_not_hold(tmp_path):
    dataset.write_frames(tmp_path / "a.parquet", make_frames(3))
    with pytest.raises(IndexError, match="frames 0 to 2"):
        dataset.read_frames(tmp_path / "a.parquet", [3])


# All together


def test_build_dataset(tmp_path):
    keys = Keys(energy="E", forces="F")
    mine = write_extxyz(tmp_path / "mine.extxyz", make_frames(20, seed=1), keys, group_key="config_type")
    generated = write_extxyz(tmp_path / "generated.extxyz", make_frames(10, seed=2, groups=("slab",)))
    config = make_config(
        [{"path": mine, "keys": {"energy": "E", "forces": "F"}}],
        group_key="config_type",
        limits={"max_force_eV_per_A": 3},
    )
    frames, table = dataset.build_dataset(config, [generated], np.random.default_rng(0))
    assert len(frames) == len(table) < 30
    assert set(table["group"]) == {"bulk", "slab"}
    assert table["max_force_eV_per_A"].max() <= 3
    assert set(table["shard"]) == set(range(config.descriptors.shards))
    again = dataset.build_dataset(config, [generated], np.random.default_rng(0))[1]
    assert table.equals(again)


def test_build_dataset_names_the_problems_of_all_sources(tmp_path):
    frames = make_frames()
    frames[2] = _spoil(frames[2], energy=np.nan)
    one = write_extxyz(tmp_path / "one.extxyz", frames)
    two = write_extxyz(tmp_path / "two.extxyz", make_frames(seed=5), Keys(energy="E_tot"))
    config = make_config([{"path": one}, {"path": two}, {"path": tmp_path / "three.extxyz"}])
    with pytest.raises(InputError) as caught:
        dataset.build_dataset(config, [], np.random.default_rng(0))
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "one.extxyz, frame 2: energy is nan" in text
    assert "two.extxyz: no frame has the energy key 'energy'" in text
    assert "three.extxyz: does not exist" in text


@pytest.mark.skipif(not SZLACHTA.exists(), reason="the DFT data set lies beside the repository, and is not there")
def test_real_data(tmp_path):
    config = make_config([{"path": SZLACHTA}], checks={"duplicates": "drop"})
    frames, table = dataset.build_dataset(config, [], np.random.default_rng(0))
    assert len(frames) == 8722 - 188  # primitive cells that it holds twice
    assert table["n_atoms"].sum() == 142407 - 188
    assert table["has_forces"].all()
    assert table["group"].nunique() == 7
    assert table["energy_per_atom_eV"].between(-8.92, -7.57).all()
    dataset.write_frames(tmp_path / "frames.parquet", frames)
    shard = table.loc[table["shard"] == 2, "frame"]
    for frame, number in zip(dataset.read_frames(tmp_path / "frames.parquet", shard), shard, strict=True):
        assert_same(frame, frames[number])


def test_more_shards_than_frames_are_refused(tmp_path):
    path = write_extxyz(tmp_path / "few.extxyz", make_frames(3))
    with pytest.raises(InputError, match="4 shards for 3 frames"):
        dataset.build_dataset(make_config([{"path": path}]), [], np.random.default_rng(0))
