"""Faults: after each, what was finished is kept, and the tables are those of an undisturbed run."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from popsbounds.ensemble import read_members, write_members

ROOT = Path(__file__).parents[1]
TRIALS = int(os.environ.get("POPSBOUNDS_TRIALS", "6"))  # kills at random moments
TABLES = ["properties", "bounds", "failures", "calibration"]
STUDY = {
    "study": "small",
    "seed": 3,
    "elements": ["W"],
    "dataset": {
        "generate": {
            "frames": 80,
            "max_atoms": 8,
            "batches": 3,
            "calculator": {
                "kind": "lammps",
                "pair_style": "eam/alloy",
                "pair_coeff": ["* * W_zhou.eam.alloy W"],
            },
        },
        "limits": {"max_energy_above_min_eV": 3.0},
    },
    "descriptors": {"twojmax": 6, "quadratic": False, "shards": 2},
    "fit": {"posterior": "hypercube"},
    "ensemble": {"members": 8},
    "material": {"element": "W"},
    "properties": {"formation": {"structures": ["bcc", "A15"]}, "elastic": {}},
    "propagate": {"batch_size": 2},
}


def command(folder: Path, *arguments, **changes) -> list[str]:
    """Snakemake in a folder of its own, with the study changed."""
    config = folder / "small.yaml"
    config.write_text(yaml.safe_dump(STUDY | changes))
    targets = [] if "--unlock" in arguments else [f"results/small/tables/{table}.parquet" for table in TABLES]
    options = ["--snakefile", ROOT / "Snakefile", "--directory", folder, "--configfile", config, "--cores", 2]
    return [*map(str, [sys.executable, "-m", "snakemake", *options, *arguments, "--", *targets])]


def run(folder: Path, *arguments, **changes) -> subprocess.CompletedProcess:
    return subprocess.run(command(folder, *arguments, **changes), capture_output=True, text=True, check=False)


def succeeds(folder: Path, *arguments, **changes) -> None:
    done = run(folder, *arguments, **changes)
    assert done.returncode == 0, done.stdout + done.stderr


def fails(folder: Path, *culprits: str, **changes) -> None:
    """With one message that names the culprit, and no traceback of ours."""
    done = run(folder, **changes)
    assert done.returncode != 0
    assert "unexpected error" not in done.stderr
    for culprit in culprits:
        assert culprit in done.stderr, done.stderr


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / f"results/small/tables/{name}.parquet").read_bytes() for name in TABLES}


def finished(folder: Path) -> dict[Path, int]:
    """When the batches that Snakemake knows to be finished were written."""
    marks = folder / ".snakemake" / "incomplete"
    unfinished = {base64.b64decode(mark.name).decode() for mark in marks.rglob("*") if mark.is_file()}
    files = [
        *(folder / "results/small/members").rglob("*.parquet"),
        *(folder / "results/small/generate").rglob("*.extxyz"),
    ]
    return {file: file.stat().st_mtime_ns for file in files if str(file.relative_to(folder)) not in unfinished}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    succeeds(folder)
    return folder


@pytest.fixture
def copy(undisturbed, tmp_path) -> Path:
    """A finished run to spoil; times of files are kept."""
    return Path(shutil.copytree(undisturbed, tmp_path / "copy"))


def jobs(process: subprocess.Popen) -> list[psutil.Process]:
    """Processes that run a script of the workflow."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any("/scripts/" in word and word.endswith(".py") for word in child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            pass
    return found


def test_killed_at_random_moments(undisturbed, tmp_path):
    random = np.random.default_rng(11)
    killed = {"snakemake": 0, "job": 0}
    attempt = 0
    while sum(killed.values()) < TRIALS:
        folder = tmp_path / str(attempt)
        folder.mkdir(exist_ok=True)
        whom = "snakemake" if killed["snakemake"] <= killed["job"] else "job"
        before = finished(folder)
        with subprocess.Popen(
            command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            time.sleep(random.uniform(3, 9))
            victims = jobs(process)
            if process.poll() is None and whom == "snakemake":
                process.kill()
                process.wait()
                killed[whom] += 1
                if random.random() < 0.5:  # the node goes down; otherwise jobs go on without their master
                    os.killpg(process.pid, signal.SIGKILL)
                succeeds(folder, "--unlock")
            elif process.poll() is None and victims:
                victims[random.integers(len(victims))].kill()
                process.wait()
                assert process.returncode != 0
                killed[whom] += 1
            else:
                process.wait()
            done = process.returncode == 0
        # Nothing that was finished before is computed again, and nothing is half-written.
        assert before.items() <= finished(folder).items()
        for file in finished(folder):
            if file.suffix == ".parquet":
                pd.read_parquet(file)
        if done:
            assert tables(folder) == tables(undisturbed)
            attempt += 1
    folder = tmp_path / str(attempt)
    folder.mkdir(exist_ok=True)
    succeeds(folder)
    assert tables(folder) == tables(undisturbed)
    assert killed["snakemake"] >= TRIALS // 2 - 1
    assert not [*folder.rglob(".staged-*")]


@pytest.mark.parametrize(
    "file",
    [
        "members/elastic/1.parquet",
        "baseline/formation.npz",
        "descriptors/1.npy",
        "generate/labelled/2.extxyz",
    ],
)
def test_a_file_that_was_cut_off(copy, undisturbed, file):
    path = copy / "results/small" / file
    before = finished(copy)
    os.truncate(path, path.stat().st_size // 2)
    fails(copy, f"results/small/{file}: 1 problem", "cannot be read (", "delete it and run again")
    path.unlink()
    succeeds(copy)
    assert tables(copy) == tables(undisturbed)
    if file.startswith("members"):
        kept = {other: when for other, when in before.items() if other != path}
        assert kept.items() <= finished(copy).items()


@pytest.fixture
def small_disk(tmp_path):
    """A folder whose results are on a file system of 600 kilobytes."""
    disk = tmp_path / "results"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small file system")
    yield tmp_path
    subprocess.run(["umount", "--lazy", disk], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder / "results"], check=True)


def test_a_full_disk_and_one_that_cannot_be_written(small_disk, undisturbed):
    fails(small_disk, "No space left on device")
    before = finished(small_disk)
    remount(small_disk, "size=100m")
    succeeds(small_disk)
    assert before.items() <= finished(small_disk).items()
    assert tables(small_disk) == tables(undisturbed)

    before = finished(small_disk)
    (small_disk / "results/small/tables/bounds.parquet").unlink()
    remount(small_disk, "ro")
    done = run(small_disk)
    assert done.returncode != 0
    assert "Write-protected output files" in done.stderr
    assert "results/small/tables/bounds.parquet" in done.stderr
    remount(small_disk, "rw")
    succeeds(small_disk)
    assert finished(small_disk) == before
    assert tables(small_disk) == tables(undisturbed)


def test_two_runs_at_once(tmp_path, undisturbed):
    with subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while not [*(tmp_path / ".snakemake/locks").glob("*.lock")]:
            assert first.poll() is None
            time.sleep(0.1)
        second = run(tmp_path)
        assert second.returncode != 0
        assert "lock" in second.stderr
        assert first.wait() == 0
    assert tables(tmp_path) == tables(undisturbed)


def test_a_configuration_that_changes_between_runs(copy, undisturbed):
    other = {"ensemble": {"members": 5}}
    with subprocess.Popen(command(copy, **other), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not jobs(process) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.wait()
    succeeds(copy, **other)
    assert set(pd.read_parquet(copy / "results/small/tables/bounds.parquet")["n_ok"].dropna()) <= set(range(6))
    assert tables(copy) != tables(undisturbed)
    succeeds(copy)
    assert tables(copy) == tables(undisturbed)


@pytest.mark.parametrize("factor", [1e12, np.nan], ids=["huge", "not a number"])
def test_a_member_that_breaks_the_engine(copy, undisturbed, factor):
    file = copy / "results/small/ensemble/members.npz"
    mle, members = read_members(file)
    members[3] *= factor
    write_members(file, mle, members)
    succeeds(copy)
    broken, whole = (pd.read_parquet(f / "results/small/tables/properties.parquet") for f in (copy, undisturbed))
    assert len(broken) == len(whole)
    of_it = (broken["source"] == "member") & (broken["member"] == 3)
    assert (broken.loc[of_it, "status"] != "ok").all()
    assert (broken.loc[of_it, "reason"] != "").all()
    explicit = (broken["source"] == "member") & ~of_it
    pd.testing.assert_frame_equal(broken[explicit], whole[explicit])
