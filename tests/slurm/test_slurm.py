"""Studies through a real SLURM, which `cluster` starts on this machine and stops again. Run by `make test-slurm`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import ase.io
import pandas as pd
import pytest
import yaml
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
from test_faults import STUDY, tables  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    started = subprocess.run([HERE / "cluster", "up", folder], capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stderr
    yield folder
    subprocess.run(["scancel", "--full", "--user", "root"], check=False)
    subprocess.run([HERE / "cluster", "down", folder], check=True)


def copied(folder: Path) -> Path:
    """A copy of the project, as users have one."""
    leave = shutil.ignore_patterns(".venv*", "results", ".git", ".snakemake", ".*_cache", "slurm_logs", ".hypothesis")
    copy = Path(shutil.copytree(ROOT, folder / "project", ignore=leave, symlinks=True))
    # This cluster does not mind being asked often.
    profile = copy / "profiles" / "slurm" / "config.yaml"
    often = {"slurm-init-seconds-before-status-checks": 2, "seconds-between-status-checks": 2}
    profile.write_text(yaml.safe_dump(yaml.safe_load(profile.read_text()) | often))
    return copy


@pytest.fixture
def project(tmp_path) -> Path:
    return copied(tmp_path)


def run(
    project: Path, study: dict, *arguments: str, profile: str = "slurm"
) -> tuple[subprocess.CompletedProcess, float]:
    """`snakemake --profile slurm` on a study, and how long it took (s)."""
    (project / "config" / "study.yaml").write_text(yaml.safe_dump(study))
    command = [sys.executable, "-m", "snakemake", "--profile", profile, "--configfile", "config/study.yaml", *arguments]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    began = time.monotonic()
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, env=environment)
    return done, time.monotonic() - began


def jobs() -> pd.DataFrame:
    """Every job that SLURM has seen."""
    lines = subprocess.run(["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, check=True).stdout
    found = [dict(re.findall(r"(\w+)=(\S+)", line)) for line in lines.splitlines() if "JobId=" in line]
    table = pd.DataFrame(
        found, columns=["JobId", "Comment", "Partition", "JobState", "TimeLimit", "TresPerJob", "Restarts"]
    )
    table["rule"] = table["Comment"].str.extract(r"rule_([a-z_]+?)(?:_wildcards.*)?$", expand=False)
    return table.set_index("JobId")


def spent(project: Path, study: str) -> float:
    """CPU-seconds of all scripts, as they say at their ends."""
    logs = (project / f"results/{study}/logs").rglob("*.log")
    return sum(float(n) for log in logs for n in re.findall(r"took [\d.]+ s, ([\d.]+) CPU-seconds", log.read_text()))


def test_a_study_gives_the_same_tables_as_here(project, tmp_path, capsys):
    before = jobs()
    done, seconds = run(project, STUDY)
    assert done.returncode == 0, done.stdout + done.stderr
    through = tables(project)
    mine = jobs().drop(before.index)
    assert set(mine["JobState"]) == {"COMPLETED"}
    assert set(mine["Partition"]) == {"cpu"}
    assert (mine["rule"] == "propagate_members").sum() == 8
    assert not set(mine["rule"]) & {"draw_figure", "write_report", "record_config"}
    assert not [*(project / ".snakemake/slurm_logs").rglob("*.log")]  # those of good jobs are not kept

    compute = spent(project, "small")
    shutil.rmtree(project / "results")
    done, alone = run(project, STUDY, profile="profiles/ci")
    assert done.returncode == 0, done.stdout + done.stderr
    assert tables(project) == through
    local = spent(project, "small")
    cores = min(2, os.cpu_count() or 1)
    with capsys.disabled():
        print(
            f"\n{len(mine)} jobs through SLURM: {seconds:.0f} s, {1 - compute / cores / seconds:.0%} overhead; "
            f"here: {alone:.0f} s, {1 - local / cores / alone:.0%} overhead"
        )


def test_jobs_of_universal_potentials_go_where_the_gpus_are(project):
    pytest.importorskip("torch", reason="PyTorch is optional")
    frames = []
    for k in range(12):
        atoms = bulk("W", a=3.1 + 0.01 * k, cubic=True)
        atoms.calc = SinglePointCalculator(atoms, energy=4.0 + 0.01 * k**2)
        frames.append(atoms)
    ase.io.write(project / "frames.extxyz", frames)
    study = {
        "study": "universal",
        "dataset": {"sources": [{"path": "frames.extxyz"}]},
        "descriptors": {"kind": "universal", "model": "fakes.Cramped", "shards": 2},
        "ensemble": {"members": 4},
    }
    before = jobs()
    done, _ = run(project, study, "--until", "compute_descriptors")
    assert done.returncode == 0, done.stdout + done.stderr
    mine = jobs().drop(before.index)
    on_gpu = mine["rule"] == "compute_descriptors"
    assert on_gpu.sum() == 2
    assert set(mine.loc[on_gpu, "Partition"]) == {"gpu"}
    assert set(mine.loc[~on_gpu, "Partition"]) == {"cpu"}
    assert mine.loc[on_gpu, "TresPerJob"].str.contains("gpu").all()


SLOW = """
import time
from pathlib import Path

from popsbounds.structures import supercell


def quantities(potential, element, volume):
    first = Path("first")
    if not first.exists():
        first.touch()
        time.sleep(600)
    yield "bcc", "volume", "A3", potential.crystal("bcc", supercell("bcc", element, volume, 1)).volume
"""
# The first job of its property never ends.
SLOW_STUDY = STUDY | {"properties": {"own": {"slow": {"file": "slow.py"}}}, "ensemble": {"members": 2}}


AGAIN = ["--forcerun", "compute_baseline"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A project in which that study is done."""
    project = copied(tmp_path_factory.mktemp("finished"))
    (project / "slow.py").write_text(SLOW)
    (project / "first").touch()
    done, _ = run(project, SLOW_STUDY, profile="profiles/ci")
    assert done.returncode == 0, done.stdout + done.stderr
    return project


@pytest.fixture
def slow(finished, tmp_path) -> Path:
    """The same, but the first job is to come."""
    project = Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))
    (project / "first").unlink()
    return project


@pytest.mark.slow
def test_a_job_past_its_time_limit_is_tried_again_with_more(slow):
    before, undisturbed = jobs(), tables(slow)
    done, _ = run(slow, SLOW_STUDY, *AGAIN, "--set-resources", "compute_baseline:runtime=attempt")
    assert done.returncode == 0, done.stdout + done.stderr
    mine = jobs().drop(before.index)
    tries = mine[mine["rule"] == "compute_baseline"]
    assert tries["JobState"].tolist() == ["TIMEOUT", "COMPLETED"]
    assert tries["TimeLimit"].tolist() == ["00:01:00", "00:02:00"]
    assert tables(slow) == undisturbed


@pytest.mark.slow
def test_a_node_that_is_drained_and_goes_down_in_mid_run(slow):
    node = subprocess.run(["sinfo", "-h", "-o", "%n"], capture_output=True, text=True, check=True).stdout.split()[0]

    def set_state(state: str) -> None:
        subprocess.run(["scontrol", "update", f"nodename={node}", f"state={state}", "reason=test"], check=True)

    def lose_the_node() -> None:
        while not (slow / "first").exists():
            time.sleep(0.5)
        set_state("drain")
        set_state("down")
        time.sleep(3)
        waiting.extend(jobs().drop(before.index)["JobState"])
        set_state("resume")

    before, undisturbed, waiting = jobs(), tables(slow), []
    saboteur = threading.Thread(target=lose_the_node, daemon=True)
    saboteur.start()
    done, _ = run(slow, SLOW_STUDY, *AGAIN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert waiting == ["PENDING"]  # SLURM puts it into the queue again
    lost = jobs().drop(before.index).query("rule == 'compute_baseline'")
    assert lost["JobState"].tolist() == ["COMPLETED"]
    assert lost["Restarts"].tolist() == ["1"]
    assert tables(slow) == undisturbed


def test_a_machine_with_a_slurm_of_its_own_is_left_alone(tmp_path):
    """This one, to whoever asks for another cluster."""
    config = Path("/etc/slurm/slurm.conf")
    before = config.read_text()
    refused = subprocess.run([HERE / "cluster", "up", tmp_path], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "is not to be touched" in refused.stderr
    subprocess.run([HERE / "cluster", "down", tmp_path], check=True)
    assert config.read_text() == before
