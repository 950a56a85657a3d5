"""Whatever is written into a file, a reader takes it or says in one message what is wrong with it."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_config import GOOD
from test_dataset import make_config, make_frames, write_extxyz, write_fitsnap

from popsbounds import dataset
from popsbounds.config import Config, Source, parse_config
from popsbounds.dataset import Frame
from popsbounds.errors import InputError
from popsbounds.properties import make_property
from popsbounds.reference import check_reference_table, read_reference_table

pytestmark = pytest.mark.filterwarnings("ignore")  # of readers, about what they are given
often = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(plain, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3))


def leaves(section: dict, path: tuple = ()) -> list[tuple]:
    """Paths of all keys in nested mappings."""
    found = []
    for key, value in section.items():
        found += [(*path, key), *(leaves(value, (*path, key)) if isinstance(value, dict) else [])]
    return found


FULL = json.loads(parse_config(GOOD).model_dump_json())


@often
@given(st.sampled_from(leaves(FULL)), anything)
def test_any_value_of_any_key(path, value):
    raw = copy.deepcopy(FULL)
    section = raw
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    try:
        config = parse_config(raw)
    except InputError:
        return
    # What is taken is written down and read again.
    assert Config.model_validate_json(config.model_dump_json()) == config


def spoilt(text: str) -> st.SearchStrategy[str]:
    """The text with a piece of it replaced by another."""
    places = st.integers(0, len(text))
    piece = st.text(max_size=6) | st.sampled_from(
        ["nan", "inf", "1e999", "\n", '"', "=", " ", "0", "-", "\x00", "W", "Xx"]
    )
    return st.builds(lambda a, b, new: text[: min(a, b)] + new + text[max(a, b) :], places, places, piece)


def read(path: Path) -> None:
    """As a study would."""
    try:
        frames = dataset.read_source(Source(path=path), "group")
    except InputError:
        return
    if dataset.find_problems(frames, make_config()):
        return
    for frame in frames:
        assert np.isfinite(frame.energy)
        assert frame.forces is None or np.isfinite(frame.forces).all()


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("good")
    write_fitsnap(folder, make_frames(1)[0], "w.json")
    return {
        "extxyz": write_extxyz(folder / "w.extxyz", make_frames(3)).read_text(),
        "json": (folder / "w.json").read_text(),
    }


@often
@given(st.data())
def test_any_change_of_extended_xyz(texts, tmp_path, data):
    path = tmp_path / "w.extxyz"
    path.write_text(data.draw(spoilt(texts["extxyz"])))
    read(path)


@often
@given(st.data())
def test_any_change_of_fitsnaps_json(texts, tmp_path, data):
    (tmp_path / "w.json").write_text(data.draw(spoilt(texts["json"])))
    read(tmp_path)


@often
@given(
    st.binary(max_size=200), st.sampled_from([".extxyz", ".xyz", ".xz", ".extxyz.gz", ".bz2", ".json", ".traj", ".pkl"])
)
def test_any_bytes(tmp_path, content, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    read(path)


TABLE = """property,structure,quantity,unit,value,citation
formation,fcc,formation_energy,eV/atom,0.49,here
surface,110,surface_energy,J/m2,3.2,there
"""


@often
@given(spoilt(TABLE))
def test_any_change_of_a_reference_table(tmp_path, text):
    path = tmp_path / "reference.csv"
    path.write_text(text)
    config = parse_config(GOOD)
    with suppress(InputError):
        check_reference_table(path, {name: make_property(config, name) for name in config.properties.names()})
        for name in config.properties.names():
            read_reference_table(path, name)


numbers = st.floats(-1e3, 1e3)


@often
@given(
    st.lists(
        st.tuples(arrays(float, (2, 3), elements=numbers), numbers, arrays(float, (2, 3), elements=numbers)),
        min_size=1,
        max_size=4,
    )
)
def test_any_numbers_come_back_from_storage_to_the_last_digit(tmp_path, drawn):
    frames = [
        Frame(Atoms("W2", positions=x, cell=4 * np.eye(3), pbc=True), e, f, "a", "w.extxyz", i)
        for i, (x, e, f) in enumerate(drawn)
    ]
    path = tmp_path / "structures.parquet"
    dataset.write_frames(path, frames)
    for before, after in zip(frames, dataset.read_frames(path, range(len(frames))), strict=True):
        np.testing.assert_array_equal(after.atoms.positions, before.atoms.positions)
        np.testing.assert_array_equal(after.forces, before.forces)
        assert after.energy == before.energy


def test_pickles_among_the_data_are_not_opened(tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    for name in ("w.pkl", "w.npy", "w.npz", "w.pckl"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        read(tmp_path / name)
    assert not (tmp_path / "sprung").exists()
