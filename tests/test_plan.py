"""The plan of a study: it asks what a real potential is asked, and counts what there is to count."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import fakes
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ensembles import eam

from popsbounds.config import Relax, load_config, parse_config, read_yaml
from popsbounds.coordinates import displacement_basis
from popsbounds.descriptors.forms import make_form
from popsbounds.descriptors.universal import Evaluation
from popsbounds.models import Recorder
from popsbounds.plan import Speeds, batch_size, count_jobs, count_rows, describe, expect, listen, measured, probe
from popsbounds.properties import make_property

ROOT = Path(__file__).parents[1]
TINY = Path(__file__).parent / "studies" / "tiny.yaml"
SPEEDS = Speeds(
    force_call=(1e-3, 1e-4), descriptors=(1e-2, 1e-3), energy_row=(1e-2, 1e-3), reference=(1e-3, 1e-5),
    label=(1e-3, 1e-5), flop=1e-11, start=1.0,
)  # fmt: skip


@pytest.mark.parametrize("name", ["formation", "elastic", "sia", "surface", "phonon", "neb", "path"])
def test_a_property_asks_the_plan_what_it_asks_a_potential(name):
    config = load_config(TINY)
    potential = Recorder(eam(), Relax())
    values = list(make_property(config, name).values(potential))
    asked = listen(config, name)
    assert asked.n_values == len(values)
    questions = [q for q in asked.questions if q.kind != "modes"]
    assert [q.kind for q in questions] == [record.kind for record in potential.records.values()]
    assert len(asked.questions) - len(questions) == len(potential.hessians)
    for question, record in zip(questions, potential.records.values(), strict=True):
        assert question.n_atoms == len(record.start)
        if record.kind in ("crystal", "ions", "strained"):
            assert question.n_displacements == displacement_basis(record.start).shape[1]


def test_frames_and_rows_of_the_demo():
    rows = count_rows(load_config(ROOT / "config" / "demo.yaml"))
    assert rows.known
    assert len(rows.n_atoms) == 1540
    assert rows.n_rows == 1540 + 3 * rows.n_atoms.sum()


@pytest.mark.parametrize(("components", "n_rows"), [(0, 3), (4, 3 + 3 * 4), (100, 3 + 3 * 6)])
def test_rows_of_a_universal_potential_hold_forces_only_if_asked_for(tmp_path, components, n_rows):
    atoms = Atoms("O2", [[0, 0, 0], [0, 0, 1.2]], cell=[4, 4, 5], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-9.0, forces=np.zeros((2, 3)))
    write(tmp_path / "train.extxyz", [atoms] * 3)
    raw = {
        "study": "universal",
        "dataset": {"sources": [{"path": str(tmp_path / "train.extxyz")}]},
        "descriptors": {"kind": "universal", "model": "chgnet", "max_force_components": components},
    }
    rows = count_rows(parse_config(raw))
    assert rows.n_rows == n_rows
    assert rows.forces.tolist() == [components > 0] * 3


def test_costs_grow_as_the_work_does():
    raw, jobs = read_yaml(TINY), count_jobs(TINY)

    def cpu(**changes):
        config = parse_config(raw | changes)
        table = expect(config, make_form(config), jobs, count_rows(config), SPEEDS)
        assert table.groupby("rule")["jobs"].sum().to_dict() == jobs
        return (table["cpu_s"] - table["jobs"] * SPEEDS.start).groupby(table["rule"]).sum()

    few, many = cpu(), cpu(ensemble={"members": 50})
    assert many["propagate_members"] == pytest.approx(10 * few["propagate_members"])
    assert many["compute_baseline"] == few["compute_baseline"]
    quadratic = cpu(descriptors=raw["descriptors"] | {"quadratic": True})
    linear, all_of_them = 31, 31 + 30 * 31 / 2
    assert quadratic["accumulate_moments"] == pytest.approx(few["accumulate_moments"] * (all_of_them / linear) ** 2)


def test_advice_on_the_batch_size_does_not_depend_on_the_present_one(tmp_path):
    raw, found = read_yaml(TINY) | {"ensemble": {"members": 40}}, set()
    for size in (1, 40):
        raw["propagate"] = {"batch_size": size}
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(raw))
        config, dear = parse_config(raw), replace(SPEEDS, force_call=(2.0, 0.0))
        table = expect(config, make_form(config), count_jobs(path), count_rows(config), dear)
        found.add(batch_size(config, table, dear))
    (advice,) = found
    assert 1 < advice < 40


def test_each_calculator_is_timed_for_its_own_work():
    raw = read_yaml(TINY)
    other = {"kind": "ase", "name": "fakes.Springs"}
    generate = raw["dataset"]["generate"] | {"calculator": other}
    dft = parse_config(raw | {"dataset": raw["dataset"] | {"generate": generate}})
    speeds = probe(dft, make_form(dft))
    assert speeds.label is None
    assert min(speeds.reference) >= 0
    assert max(speeds.reference) > 0
    jobs = {"label_frames": 2, "compute_reference": 7}
    table = expect(dft, make_form(dft), jobs, count_rows(dft), speeds).groupby("rule")["cpu_s"].sum()
    assert table["label_frames"] == pytest.approx(2 * speeds.start)
    assert table["compute_reference"] > 7 * speeds.start
    turned = parse_config(raw | {"reference": {"calculator": other}})
    assert probe(turned, make_form(turned)).reference is None


class Sum(fakes.Cramped):
    """A universal potential with gradients, which counts how often it is loaded."""

    loaded: ClassVar[list[str]] = []

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.loaded.append(device)

    def evaluate(self, batch, gradients):
        import torch

        if not gradients:
            return super().evaluate(batch, gradients)
        (atoms,) = batch
        strain = torch.zeros((3, 3), dtype=torch.float64, requires_grad=True)
        places = torch.tensor(atoms.positions, requires_grad=True)
        squares = ((places @ (torch.eye(3) + strain)) ** 2).sum(dim=1, keepdim=True)
        return Evaluation([squares.sum()], [squares], places, strain)


@pytest.mark.parametrize("elements", [[], ["O"]])
def test_a_universal_study_without_a_material(tmp_path, monkeypatch, elements):
    pytest.importorskip("torch", reason="PyTorch is optional")
    frames = [Atoms("O2", [[0, 0, 0], [0, 0, 1.2 + k / 100]], cell=[4, 4, 5], pbc=True) for k in range(20)]
    for k, atoms in enumerate(frames):
        atoms.calc = SinglePointCalculator(atoms, energy=-9.0 + k / 50)
    write(tmp_path / "train.extxyz", frames)
    raw = {
        "study": "universal",
        "elements": elements,
        "dataset": {"sources": [{"path": str(tmp_path / "train.extxyz")}], "limits": {"max_force_eV_per_A": 9.0}},
        "descriptors": {"kind": "universal", "model": "test_plan.Sum", "device": "cpu"},
    }
    path = tmp_path / "universal.yaml"
    path.write_text(yaml.safe_dump(raw))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(ROOT)
    Sum.loaded.clear()
    text = describe(parse_config(raw), path, cores=2)
    assert Sum.loaded == ["cpu"]
    assert "compute_descriptors" in text
    assert "dataset.limits" in text
    assert "propagate.batch_size" not in text


def test_what_has_been_run_is_read_from_the_logs(tmp_path):
    logs = {
        "fit_ridge.log": "[fit_ridge] took 1.0 s, 2.0 CPU-seconds, 207 MB\n",
        "propagate_members/members/sia/0.log": "[...] a\n[...] took 3.0 s, 4.5 CPU-seconds, 300 MB\n",
        "propagate_members/auto/sia/1.log": "[...] took 3.0 s, 5.5 CPU-seconds, 310 MB\n",
        "draw_figure/fig01.log": "still running\n",
    }
    for name, text in logs.items():
        path = tmp_path / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    table = measured(tmp_path).set_index(["rule", "property"])
    assert len(table) == 2
    assert table.loc[("propagate_members", "sia"), ["jobs", "cpu_s", "job_s", "memory_MB"]].tolist() == [2, 10, 5, 310]
    assert np.isclose(table.loc[("fit_ridge", ""), "cpu_s"], 2.0)


def test_the_command(tmp_path):
    command = [sys.executable, "-m", "popsbounds.plan", TINY, "--members", "12", "--batch-size", "4", "--cores", "3"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "on 3 cores" in done.stdout
    members = [line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["propagate_members"]]
    assert {line[1]: int(line[2]) for line in members} == {
        "formation": 9, "elastic": 3, "sia": 3, "surface": 3, "phonon": 3, "neb": 6, "path": 3,
    }  # fmt: skip

    bad = tmp_path / "bad.yaml"
    bad.write_text(TINY.read_text().replace("members: 5", "members: none"))
    done = subprocess.run([*map(str, command[:3]), str(bad)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "ensemble.members" in done.stderr
    assert "Traceback" not in done.stderr
