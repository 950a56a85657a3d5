"""The frames labelled by density-functional theory that are shipped: what they hold, and where they came from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from popsbounds.config import load_config
from popsbounds.export import read_labelled
from popsbounds.generate import bcc_bond, shortest_bond
from popsbounds.structures import material_volume

ROOT = Path(__file__).parents[1]
FRAMES = ROOT / "resources" / "tungsten_gpaw.extxyz.xz"


@pytest.fixture(scope="module")
def frames():
    return read_labelled(FRAMES)


def test_they_span_several_electronvolts_and_compressed_bonds(frames):
    energies = np.array([atoms.get_potential_energy() / len(atoms) for atoms in frames])
    assert np.quantile(energies, 0.99) - energies.min() > 4
    assert {len(atoms) for atoms in frames} == set(range(1, 9))
    shortest = np.array([shortest_bond(atoms) for atoms in frames]) / bcc_bond(material_volume("W"))
    assert shortest.min() >= 0.72 - 1e-6
    assert (shortest < 0.85).mean() > 0.05
    assert len({atoms.positions.tobytes() + atoms.cell.tobytes() for atoms in frames}) == len(frames)
    for atoms in frames:
        assert atoms.get_forces().sum(axis=0) == pytest.approx(0, abs=0.15)


def test_their_provenance_is_that_of_the_study_that_goes_on_from_them(frames):
    facts = json.loads(FRAMES.with_name("tungsten_gpaw.json").read_text())
    assert facts["frames"] == len(frames) == sum(part["frames"] for part in facts["parts"])
    assert [atoms.info["frame"] for atoms in frames] == list(range(len(frames)))
    study = load_config(ROOT / "config" / "gpaw.yaml")
    assert ROOT / study.dataset.generate.known == FRAMES
    made = facts["settings"]["dataset"]["generate"]
    now = study.dataset.generate.model_dump(mode="json")
    for key in ("name", "arguments", "small_cells"):
        assert made["calculator"][key] == now["calculator"][key]
    assert [made[key] for key in ("max_atoms", "min_distance", "volume_range", "entropy")] == [
        now[key] for key in ("max_atoms", "min_distance", "volume_range", "entropy")
    ]
