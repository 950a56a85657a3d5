"""What a study will take, before it runs: jobs, CPU time, memory, disk.

``python -m popsbounds.plan config/demo.yaml`` asks every property which
structures it needs, times a few force calls and matrix products on this
machine, and adds up. Beside it stands what the jobs took that have been run.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import threadpoolctl
import yaml
from ase import Atoms
from ase.calculators.calculator import Calculator

from popsbounds.band import Band
from popsbounds.calculators import make_calculator
from popsbounds.config import AseCalculator, Config, Families, Limits, PairStyle, parse_config, read_yaml
from popsbounds.coordinates import displacement_basis, strain_basis
from popsbounds.dataset import read_source
from popsbounds.descriptors.forms import Form, make_form
from popsbounds.engine import configure_engine
from popsbounds.errors import InputError
from popsbounds.export import read_labelled
from popsbounds.family import CHECKS
from popsbounds.models import SOFT_MODES
from popsbounds.potential import Potential
from popsbounds.properties import make_property
from popsbounds.reduced import DIRECTIONS
from popsbounds.relax import Relaxed, strained
from popsbounds.structures import crystal

__all__ = [
    "Asked",
    "Listener",
    "Question",
    "Rows",
    "Speeds",
    "batch_size",
    "count_jobs",
    "count_rows",
    "describe",
    "expect",
    "listen",
    "measured",
    "probe",
]

Kind = Literal["crystal", "ions", "strained", "static", "band", "modes"]

# Rules that have jobs for each property.
_BY_PROPERTY = ("compute_baseline", "propagate_members", "differentiate", "compute_reference")
# Force calls of a relaxation from scratch, and of a member's that starts from its model: medians of real studies.
_COLD = {"crystal": 10, "ions": 30, "strained": 3, "band": 240}
_WARM = {"crystal": 8, "ions": 2.5, "strained": 3, "band": 14}
# Ranges of volumes in a family.
_PANELS = 2
# Models of a structure with internal freedom: the MLE's own and, of half of them, two to either side.
_CENTRES = 2
# CPU-seconds of an answer to one question, and of a value; share of force calls that `auto` needs of `explicit`.
_ANSWER, _VALUE, _CHECKED = 1e-3, 1e-4, 0.7
# Directions in which parameters matter to a structure.
_DIRECTIONS = 6
# Molecular dynamics beside which training sets are judged: force calls, of so many atoms.
_DYNAMICS, _DYNAMICS_ATOMS = 2000, 54
# Memory of a script that does nothing (MB), and how long a job should be.
_MEMORY_MB, _JOB_S = 250, 600
# Of a LAMMPS that is kept alive with all its structures (MB).
_LIVE_MB = 200
# Overhead of a job: CPU-seconds where Snakemake runs, and seconds through SLURM.
_LOCAL_S, _SLURM_S = 0.4, 7


@dataclass(frozen=True)
class Question:
    """What a potential is asked for.

    Attributes
    ----------
    kind : str
        A crystal, ions in a fixed cell, a strained crystal, a structure as it is, a path, or a Hessian.
    n_atoms : int
        Atoms of the structure, or of one image.
    n_displacements, n_strains : int
        Coordinates of its model: those that relax, and strains, imposed or not.
    images : int
        Of a path, up to its middle.
    """

    kind: Kind
    n_atoms: int
    n_displacements: int
    n_strains: int
    images: int = 1

    @property
    def family(self) -> bool:
        """Whether members are interpolated over strains."""
        return self.kind == "static" or (self.kind in ("crystal", "strained") and self._rigid)

    @property
    def _rigid(self) -> bool:
        return not self.n_displacements and self.n_strains <= 2

    @property
    def size(self) -> int:
        """Coordinates of its model."""
        return self.n_displacements + self.n_strains


class Listener(Potential):
    """A potential that computes nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self._strains: dict[str, int] = {}

    def _still(self, atoms: Atoms) -> Relaxed:
        return Relaxed(atoms, 0.0, "ok", "", 0, np.zeros((3, 3)), np.zeros((len(atoms), 3)))

    def _noted(self, kind: Kind, atoms: Atoms, n_strains: int) -> Relaxed:
        free = 0 if kind == "static" else displacement_basis(atoms).shape[1]
        self.asked.append(Question(kind, len(atoms), free, n_strains))
        return self._still(atoms)

    def _crystal(self, name: str, atoms: Atoms) -> Relaxed:
        self._strains[name] = len(strain_basis(atoms))
        return self._noted("crystal", atoms, self._strains[name])

    def _relax(self, name: str, atoms: Atoms, crystal: str) -> Relaxed:
        return self._noted("ions", atoms, 1)

    def _strain(self, name: str, crystal: Relaxed, deformation: np.ndarray) -> Relaxed:
        return self._noted("strained", strained(crystal.atoms, deformation), self._strains[crystal.name])

    def _static(self, name: str, atoms: Atoms, crystal: str, forces: bool) -> Relaxed:
        return self._noted("static", atoms, 1)

    def unstable_modes(self, name: str, relaxed: Relaxed) -> int:
        self.asked.append(Question("modes", len(relaxed.atoms), SOFT_MODES, 0))
        return 0

    def _band(self, name: str, images: list[Atoms], crystal: str) -> Band:
        half = images[: len(images) // 2 + 1]
        free = max(displacement_basis(image).shape[1] for image in half)
        self.asked.append(Question("band", len(half[0]), free, 1, len(half)))
        return Band([self._still(image) for image in images], "ok", "", 0)


@dataclass(frozen=True)
class Asked:
    """What one property asks of one potential, and how many values come of it."""

    questions: list[Question]
    n_values: int


def listen(config: Config, name: str) -> Asked:
    """Ask a property of a study what it needs.

    Raises
    ------
    InputError
        One of its structures cannot be built.
    """
    listener = Listener()
    with np.errstate(all="ignore"):
        values = list(make_property(config, name).values(listener))
    return Asked(listener.asked, len(values))


@dataclass(frozen=True)
class Speeds:
    """What this machine takes for the work that all else is made of, in CPU-seconds.

    Attributes
    ----------
    force_call, descriptors, energy_row : tuple of float
        Of one structure: a constant, and a part for each atom. A row of the energy alone is a universal potential's;
        SNAP computes those of the forces with it.
    reference, label : tuple of float, or None
        A force call of the calculator of the references, and of that of generated frames; None where that is no LAMMPS
        pair style.
    flop : float
        Of each multiplication or addition in a product of matrices.
    start : float
        Of a script that does nothing.
    """

    force_call: tuple[float, float]
    descriptors: tuple[float, float]
    energy_row: tuple[float, float]
    reference: tuple[float, float] | None
    label: tuple[float, float] | None
    flop: float
    start: float


def probe(config: Config, form: Form) -> Speeds:
    """Measure what this machine takes for a study's potential; some seconds.

    Parameters
    ----------
    config, form
        The study, and the functional form of its potential.

    Raises
    ------
    InputError
        There is no potential, no universal model, or no data to try it on.
    """
    small, large = _samples(config)

    def line(call: Callable[[Atoms], object]) -> tuple[float, float]:
        few, many = (_seconds(lambda atoms=atoms: call(atoms)) for atoms in (small, large))  # type: ignore[misc]
        slope = max(many - few, 0.0) / (len(large) - len(small))
        return max(few - slope * len(small), 0.0), slope

    def force_call(calculator: Calculator) -> tuple[float, float]:
        def call(atoms: Atoms) -> object:
            calculator.reset()
            return calculator.get_forces(atoms)

        return line(call)

    def pair_style(settings: PairStyle | AseCalculator | None) -> tuple[float, float] | None:
        if not isinstance(settings, PairStyle):
            return None
        return force_call(make_calculator(settings, config.elements))

    generate, rows, square = config.dataset.generate, form.rows(), np.ones((1000, 1000))
    with threadpoolctl.threadpool_limits(limits=1):
        return Speeds(
            force_call=force_call(form.calculator(np.zeros(form.n_parameters))),
            descriptors=line(rows.respond),
            energy_row=line(lambda atoms: list(rows.stream([atoms]))),
            reference=pair_style(config.reference.calculator),
            label=pair_style(None if generate is None else generate.calculator),
            flop=_seconds(lambda: square @ square) / (2 * 1000**3),
            start=_start(),
        )


def _samples(config: Config) -> tuple[Atoms, Atoms]:
    """A small structure and a larger one: crystals of the study's material or, without one, of its own frames."""
    material = config.material
    if material is not None:
        unit = crystal("fcc" if isinstance(material.species, str) else "rocksalt", material.species, material.volume)
        return unit.repeat(2), unit.repeat(4)
    # Frames are generated of a material only, so there is a source.
    frames = read_source(config.dataset.sources[0], config.dataset.group_key)
    middle = sorted((frame.atoms for frame in frames), key=len)[len(frames) // 2]
    return middle, middle.repeat((2, 1, 1))


def _seconds(call: Callable[[], object]) -> float:
    """CPU time of a call, the least of some."""
    found: list[float] = []
    until = time.process_time() + 0.5
    while len(found) < 3 or time.process_time() < until:
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return min(found)


def _start() -> float:
    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    before = used()
    subprocess.run([sys.executable, "-c", "import popsbounds.job, popsbounds.propagate"], check=True)
    return used() - before


def _cost(line: tuple[float, float], n_atoms: Any) -> Any:
    """CPU-seconds of one structure, or of an array of them."""
    return line[0] + line[1] * n_atoms


def _baseline_seconds(questions: list[Question], families: Families, speeds: Speeds) -> float:
    """CPU-seconds of the MLE's structures and of their models."""
    seconds = 0.0
    for q in questions:
        third = min(q.size, DIRECTIONS)
        calls, rows = _COLD.get(q.kind, 0), 0
        if q.family:
            several = q.n_strains == 2
            rows += families.nodes_2d**2 if several else _PANELS * families.nodes
            rows += len(CHECKS) ** (2 if several else 1)
        elif q.kind == "modes":
            rows += 2 * q.size
        if q.kind in ("crystal", "ions", "strained", "band"):
            centres = q.images * (_CENTRES if q.n_displacements else 1)
            calls += centres * (1 + third + third**2)
            rows += centres * (2 * q.size + 1)
        if q.kind in ("crystal", "ions"):  # the whole Hessian
            calls += 6 * q.n_atoms
        seconds += calls * _cost(speeds.force_call, q.n_atoms) + rows * _cost(speeds.descriptors, q.n_atoms)
    return seconds


def _member_seconds(asked: Asked, method: str, levels: int, n_parameters: int, speeds: Speeds) -> float:
    """CPU-seconds of one member, by a way of propagation."""
    numbers = sum(q.images * (q.size + 1) * (q.size + 2) / 2 for q in asked.questions)
    seconds = len(asked.questions) * _ANSWER + asked.n_values * _VALUE + 2 * numbers * n_parameters * speeds.flop
    if method == "implicit":
        return levels * seconds
    calls = [(0 if q.family else _WARM.get(q.kind, 0)) * _cost(speeds.force_call, q.n_atoms) for q in asked.questions]
    return seconds + sum(calls) * (_CHECKED if method == "auto" else 1)


@dataclass(frozen=True)
class Rows:
    """Training and test data of a study.

    Attributes
    ----------
    n_atoms : ndarray, shape (frames,)
        Atoms of each frame.
    forces : ndarray of bool, shape (frames,)
        Whether its forces are fitted.
    n_rows : int
        Rows of the design matrix.
    known : bool
        Whether they were counted; otherwise they are to be generated, and are guessed.
    """

    n_atoms: np.ndarray
    forces: np.ndarray
    n_rows: int
    known: bool


def count_rows(config: Config) -> Rows:
    """Count the data of a study, before `dataset.limits` and the search for duplicates leave any out.

    Raises
    ------
    InputError
        A source, or a file of known frames, cannot be read.
    """
    dataset, n_atoms, forces = config.dataset, [], []
    for source in dataset.sources:
        for frame in read_source(source, dataset.group_key):
            n_atoms.append(len(frame.atoms))
            forces.append(frame.forces is not None)
    known = True
    if dataset.generate is not None:
        generate = dataset.generate
        given = [] if generate.known is None else [len(atoms) for atoms in read_labelled(generate.known)]
        new = generate.frames - len(given)
        known = new <= 0
        n_atoms += [*given[: generate.frames], *[(1 + generate.max_atoms) // 2] * max(new, 0)]
        forces += [True] * generate.frames
    most = config.descriptors.max_force_components
    atoms, fitted = np.array(n_atoms), np.array(forces) & (most != 0)
    components = 3 * atoms * fitted
    if most is not None:
        components = np.minimum(components, most)
    return Rows(atoms, fitted, int(len(atoms) + components.sum()), known)


def expect(config: Config, form: Form, jobs: Mapping[str, int], rows: Rows, speeds: Speeds) -> pd.DataFrame:
    """What each rule of a study will take.

    Parameters
    ----------
    config, form
        The study, and the functional form of its potential.
    jobs
        Number of jobs of each rule; see `count_jobs`.
    rows
        Its data; see `count_rows`.
    speeds
        Of this machine; see `probe`.

    Returns
    -------
    DataFrame
        Columns rule, property (of those that are spread over properties), jobs, cpu_s (CPU-seconds of all jobs), job_s
        (of one job, on average), memory_MB (of one job) and disk_MB (what is kept).
    """
    members, p = config.ensemble.members, form.n_parameters
    fitted = min(p, config.fit.components or p)
    test = config.dataset.test_fraction
    square, matrix = 8e-6 * fitted**2, 8e-6 * rows.n_rows * p
    passes = 2 * rows.n_rows * (1 - test) * fitted**2 * speeds.flop
    shards = config.descriptors.shards
    described = np.where(rows.forces, _cost(speeds.descriptors, rows.n_atoms), _cost(speeds.energy_row, rows.n_atoms))
    label = 0.0 if speeds.label is None else float(_cost(speeds.label, rows.n_atoms).sum())
    asked = {name: listen(config, name) for name in config.properties.names()}
    n_values = sum(part.n_values for part in asked.values())
    ways = {name: len(config.properties.settings(name).method) for name in asked}
    lines = members * sum(part.n_values * ways[name] for name, part in asked.items())

    # CPU-seconds beyond the start of the scripts, memory of a job beyond that of a script, and disk.
    found: dict[tuple[str, str], tuple[float, float, float]] = {
        ("label_frames", ""): (label, 0, 0),
        ("compute_descriptors", ""): (float(described.sum()), 2 * matrix / shards, matrix),
        ("accumulate_moments", ""): (passes, 2 * square, 0),
        ("fit_ridge", ""): (30 * fitted**3 * speeds.flop, 6 * square, 2 * square),
        ("accumulate_corrections", ""): (2 * passes, 4 * square, 0),
        ("measure_posterior", ""): (2 * passes, 4 * square, 0),
        ("prepare_fit", ""): (0, 0.4 * matrix, 0),
        ("fit_posterior", ""): (30 * fitted**3 * speeds.flop, 6 * square + 0.8 * matrix, 2 * square),
        ("predict_test", ""): (3 * 2 * rows.n_rows * test * p * members * speeds.flop, matrix / shards, 0),
        ("draw_members", ""): (0, 16e-6 * members * p, 8e-6 * members * p),
        ("attribute_variance", ""): (2 * passes, 4 * square, 0),
        ("compare_environments", ""): (_DYNAMICS * _cost(speeds.force_call, _DYNAMICS_ATOMS), 250, 0),
        ("gather_properties", ""): (1e-6 * lines, 3e-4 * lines, 1e-5 * lines),
        ("summarise_properties", ""): (1e-5 * lines, 5e-4 * lines, 1e-4 * n_values),
        ("draw_figure", ""): (2.0 * jobs.get("draw_figure", 0), 100, 0.1 * jobs.get("draw_figure", 0)),
    }
    for name, part in asked.items():
        settings = config.properties.settings(name)
        numbers = sum(q.images * (q.size + 1) * (q.size + 12) / 2 for q in part.questions)
        models = 8e-6 * p * numbers
        found["compute_baseline", name] = (
            _baseline_seconds(part.questions, config.propagate.families, speeds),
            models,
            models,
        )
        each = sum(_member_seconds(part, m, len(settings.levels), p, speeds) for m in settings.method)
        kept = 1e-5 * members * part.n_values * ways[name]
        found["propagate_members", name] = (members * each, _LIVE_MB + 4 * models, kept)
        implicit = _member_seconds(part, "implicit", 1, p, speeds)
        directions = min(p, _DIRECTIONS * len(part.questions))
        found["differentiate", name] = (2 * directions * implicit, 4 * models, 8e-6 * p * part.n_values)
        if speeds.reference is not None:
            calls = sum(
                (_COLD.get(q.kind, 1) + 6 * q.n_atoms) * _cost(speeds.reference, q.n_atoms) for q in part.questions
            )
            found["compute_reference", name] = (calls, 0, 0)
    table = []
    for rule, n in jobs.items():
        mine = {key: value for key, value in found.items() if key[0] == rule} or {(rule, ""): (0.0, 0.0, 0.0)}
        for (_, name), (seconds, memory, disk) in mine.items():
            share = ways[name] / sum(ways.values()) if rule == "propagate_members" else 1 / len(mine)
            of_it = round(n * share)
            total = seconds + of_it * speeds.start
            table.append((rule, name, of_it, total, total / of_it, _MEMORY_MB + memory, disk))
    return pd.DataFrame(table, columns=["rule", "property", "jobs", "cpu_s", "job_s", "memory_MB", "disk_MB"])


def count_jobs(path: Path) -> dict[str, int]:
    """Jobs of each rule that a study has from its beginning to its end, as Snakemake counts them.

    Raises
    ------
    InputError
        Snakemake refuses the study.
    """
    command = [sys.executable, "-m", "snakemake", "-n", "--forceall", "--quiet", "rules", "--configfile", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(str(path), [done.stderr.strip()])
    stats = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, flags=re.MULTILINE)
    return {rule: int(n) for rule, n in stats if rule not in ("all", "total")}


def measured(study: Path) -> pd.DataFrame:
    """What the jobs of a study that were run have taken, from their logs.

    Returns
    -------
    DataFrame
        Columns rule, property, jobs, cpu_s, job_s and memory_MB (the largest), as in `expect`.
    """
    found = []
    for log in sorted((study / "logs").rglob("*.log")):
        took = re.search(r"took [\d.]+ s, ([\d.]+) CPU-seconds, (\d+) MB", log.read_text())
        if took is None:
            continue
        rule, *rest = log.relative_to(study / "logs").with_suffix("").parts
        if rule not in _BY_PROPERTY:
            name = ""
        else:
            name = rest[1] if rule == "propagate_members" else rest[0]
        found.append((rule, name, float(took[1]), int(took[2])))
    table = pd.DataFrame(found, columns=["rule", "property", "cpu_s", "memory_MB"])
    groups = table.groupby(["rule", "property"], sort=False)
    summary = groups.agg(jobs=("cpu_s", "size"), cpu_s=("cpu_s", "sum"), memory_MB=("memory_MB", "max")).reset_index()
    return summary.assign(job_s=summary["cpu_s"] / summary["jobs"])


def batch_size(config: Config, table: pd.DataFrame, speeds: Speeds) -> int:
    """Members in one job such that the dearest property's jobs take about ten minutes.

    Parameters
    ----------
    config
        The study.
    table
        What `expect` says of it.
    speeds
        With which it says so.

    Returns
    -------
    int
        From one to all members; the same whatever the study's present number is.
    """
    members = table[table["rule"] == "propagate_members"]
    ways = [len(config.properties.settings(name).method) for name in members["property"]]
    work = members["cpu_s"] - members["jobs"] * speeds.start
    each = (work / config.ensemble.members / ways).max()
    return int(np.clip(_JOB_S / each, 1, config.ensemble.members))


def describe(config: Config, path: Path, cores: int) -> str:
    """The plan of a study in words and a table.

    Parameters
    ----------
    config, path
        The study, and its file.
    cores
        On how many cores it is to run.

    Raises
    ------
    InputError
        The study's data or potential cannot be had, or Snakemake refuses it.
    """
    form, jobs, rows = make_form(config), count_jobs(path), count_rows(config)
    speeds = probe(config, form)
    table = expect(config, form, jobs, rows, speeds)
    taken = measured(Path("results") / config.study)
    both = table.merge(taken, on=["rule", "property"], how="left", suffixes=("", "_taken"))
    done = both[both["jobs_taken"] == both["jobs"]]
    shown = both.assign(
        cpu_h=both["cpu_s"] / 3600,
        job_min=both["job_s"] / 60,
        measured_cpu_h=(both["cpu_s_taken"] / 3600).where(both["jobs_taken"] == both["jobs"]),
    )
    columns = ["rule", "property", "jobs", "cpu_h", "job_min", "memory_MB", "disk_MB"]
    columns += ["measured_cpu_h"] if len(done) else []
    heads = {"cpu_h": "CPU-hours", "job_min": "min a job", "memory_MB": "MB a job", "disk_MB": "MB on disk"}
    heads |= {"measured_cpu_h": "measured CPU-hours"}
    text = shown[columns].rename(columns=heads).to_string(index=False, na_rep="", float_format=lambda x: f"{x:.2g}")

    n_jobs, seconds = sum(jobs.values()), table["cpu_s"].sum()
    # One job of each rule after another, the longest of its properties.
    chain = table.groupby("rule")["job_s"].max().sum()
    elapsed = max(seconds / cores, chain)
    lines = [
        text,
        "",
        f"{n_jobs:,} jobs, {seconds / 3600:.2g} CPU-hours: {elapsed / 60:.2g} min on {cores} cores; one job of each "
        f"kind after another, {chain / 60:.2g} min; up to {table['memory_MB'].max():.0f} MB a job; "
        f"{table['disk_MB'].sum():.2g} MB on disk.",
        f"Snakemake's own work comes on top: {_LOCAL_S:g} CPU-seconds a job here, {_SLURM_S:g} s through SLURM.",
    ]
    if config.properties.names():
        advice = batch_size(config, table, speeds)
        lines.append(f"propagate.batch_size: up to {advice} keep the jobs of members within {_JOB_S // 60} minutes.")
    if len(done):
        ratio = done["cpu_s"].sum() / done["cpu_s_taken"].sum()
        lines.append(f"Of what has been run, the plan says {ratio:.2f} times the CPU time that was measured.")
    if not rows.known:
        lines.append("Frames that are still to be generated are taken to have half the largest number of atoms.")
    if config.dataset.limits != Limits() or config.dataset.checks.duplicates == "drop":
        lines.append("Frames that dataset.limits or dataset.checks.duplicates will leave out are counted.")
    lines += [f"Not counted: {what}." for what in _not_counted(config, speeds)]
    return "\n".join(lines)


def _not_counted(config: Config, speeds: Speeds) -> Iterator[str]:
    generate = config.dataset.generate
    if generate is not None and speeds.label is None:
        yield f"labels of frames by {_name(generate.calculator)}"
    if generate is not None and generate.entropy is not None:
        yield "the search for frames of the largest entropy"
    if config.reference.calculator is not None and speeds.reference is None:
        yield f"reference values by {_name(config.reference.calculator)}"


def _name(calculator: PairStyle | AseCalculator) -> str:
    return calculator.name if isinstance(calculator, AseCalculator) else calculator.pair_style


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m popsbounds.plan", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("config", type=Path, help="a study, such as config/demo.yaml")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="cores of the machine or the cluster")
    parser.add_argument("--members", type=int, help="instead of ensemble.members")
    parser.add_argument("--batch-size", type=int, help="instead of propagate.batch_size")
    given = parser.parse_args()
    raw = dict(read_yaml(given.config))
    for section, key, number in (("ensemble", "members", given.members), ("propagate", "batch_size", given.batch_size)):
        if number is not None:
            raw[section] = {**(raw.get(section) or {}), key: number}
    config = parse_config(raw, origin=str(given.config))
    configure_engine(config.engine)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / given.config.name
        path.write_text(yaml.safe_dump(raw))
        print(describe(config, path, given.cores))


if __name__ == "__main__":
    try:
        _main()
    except InputError as error:
        sys.exit(str(error))
