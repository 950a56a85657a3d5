"""The plan of a study: it asks what a real potential is asked, and counts what there is to count."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ensembles import eam

from popsbounds.config import Relax, load_config, parse_config, read_yaml
from popsbounds.coordinates import displacement_basis
from popsbounds.models import Recorder
from popsbounds.plan import Speeds, count_jobs, count_rows, expect, listen, measured
from popsbounds.properties import make_property

ROOT = Path(__file__).parents[1]
TINY = Path(__file__).parent / "studies" / "tiny.yaml"
SPEEDS = Speeds((1e-3, 1e-4), (1e-2, 1e-3), (1e-3, 1e-5), 1e-11, 1.0)


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


def test_costs_grow_as_the_work_does():
    raw, jobs = read_yaml(TINY), count_jobs(TINY)

    def cpu(**changes):
        config = parse_config(raw | changes)
        table = expect(config, jobs, count_rows(config), SPEEDS)
        assert table.groupby("rule")["jobs"].sum().to_dict() == jobs
        return (table["cpu_s"] - table["jobs"] * SPEEDS.start).groupby(table["rule"]).sum()

    few, many = cpu(), cpu(ensemble={"members": 50})
    assert many["propagate_members"] == pytest.approx(10 * few["propagate_members"])
    assert many["compute_baseline"] == few["compute_baseline"]
    quadratic = cpu(descriptors=raw["descriptors"] | {"quadratic": True})
    linear, all_of_them = 31, 31 + 30 * 31 / 2
    assert quadratic["accumulate_moments"] == pytest.approx(few["accumulate_moments"] * (all_of_them / linear) ** 2)


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
