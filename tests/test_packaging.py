"""Files that others install or cite the project by: they name what exists, and agree with one another."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import popsbounds
from popsbounds.config import MODELS

ROOT = Path(__file__).parents[1]
ENVS = ROOT / "envs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RECIPES = ["Dockerfile", "apptainer.def"]


def normal(requirement: str) -> str:
    """Name of a requirement as package indices compare it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def pinned() -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in (ENVS / "constraints.txt").read_text().split("\n"))
    return {normal(line): line.split("==")[1] for line in lines if line}


def python_version() -> str:
    """Of the conda environments."""
    return re.search(r"python =(\d+\.\d+)", (ENVS / "popsbounds.yaml").read_text())[1]


def test_every_dependency_is_pinned_once():
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    wanted = [requirement for group in groups for requirement in group]
    # Of e3nn, MACE pins another version than SevenNet's extra does.
    assert {normal(name) for name in wanted if "==" not in name} - set(pinned()) == set()
    lines = [line for line in (ENVS / "constraints.txt").read_text().split("\n") if "==" in line]
    assert len(lines) == len(pinned())


@pytest.mark.parametrize("name", ["popsbounds", *MODELS])
def test_conda_environments_install_the_same_from_the_constraints(name):
    environment = yaml.safe_load((ENVS / f"{name}.yaml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert environment["dependencies"] == [f"python ={python_version()}", "pip"]
    extra = "" if name == "popsbounds" else f"[{name}]"
    command = f'--constraint envs/constraints.txt --editable "{"." + extra}"' if extra else "--editable ."
    script = (ENVS / f"{name}.post-deploy.sh").read_text()
    assert command in script
    assert "--constraint envs/constraints.txt" in script
    assert name == "popsbounds" or name in PROJECT["optional-dependencies"]


def copied(recipe: str) -> set[str]:
    """Paths of the project that a recipe copies into the image."""
    text = (ENVS / recipe).read_text()
    if recipe == "Dockerfile":
        lines = re.findall(r"^COPY (.*) \S+$", text, flags=re.MULTILINE)
        return {path for line in lines for path in line.split()}
    lines = re.findall(r"^    (\S+) /opt/pops-bounds/(\S+)$", text, flags=re.MULTILINE)
    assert all(source == target for source, target in lines)
    return {source for source, _ in lines}


@pytest.mark.parametrize("recipe", RECIPES)
def test_containers_hold_what_the_project_needs_to_be_installed_and_run(recipe):
    text = (ENVS / recipe).read_text()
    assert re.findall(r"(?mi)^from:? (.*)$", text) == [f"python:{python_version()}-slim"]
    assert "python -m pip install --no-cache-dir --constraint envs/constraints.txt --editable ." in text
    paths = copied(recipe)
    assert all((ROOT / path).exists() for path in paths)
    # What `pip install` and a run from the project's root read.
    needed = {"pyproject.toml", "Snakefile", "config", "envs", "profiles", "resources", "workflow"}
    assert needed | {PROJECT["readme"], *PROJECT["license-files"]} == paths


def test_both_recipes_do_the_same():
    assert copied("Dockerfile") == copied("apptainer.def")
    install = {re.search(r"python -m pip install.*", (ENVS / recipe).read_text())[0] for recipe in RECIPES}
    assert len(install) == 1


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    releases = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert releases[0] == "Unreleased"
    assert PROJECT["version"] == popsbounds.__version__ == citation["version"] == releases[1]
    assert PROJECT["license"] == citation["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_the_changelog_has_its_form():
    text = (ROOT / "CHANGELOG.md").read_text()
    for heading in re.findall(r"^## (.*)$", text, flags=re.MULTILINE)[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", heading)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE)) <= kinds


def test_the_catalogue_finds_what_it_asks_for():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"}
    # What the catalogue deploys is no clone, which the environments are installed from.
    assert usage["software-stack-deployment"] == {"conda": False}
    assert "pip install --constraint envs/constraints.txt ." in usage["mandatory-flags"]["desc"]
    assert (ROOT / "workflow" / "Snakefile").exists()
    assert (ROOT / "config" / "README.md").exists()
    assert "\n## Usage\n" in (ROOT / "README.md").read_text()


MODULE = """
module popsbounds:
    snakefile:
        {snakefile}
    config:
        config


use rule * from popsbounds
"""


def dry_run(folder: Path, snakefile: str, *arguments: str) -> str:
    """Plan of the tiny study by a workflow in another folder that has the project's rules as a module."""
    study = (ROOT / "tests" / "studies" / "tiny.yaml").read_text()
    (folder / "config").mkdir()
    (folder / "config" / "config.yaml").write_text(study)
    (folder / "workflow").mkdir()
    text = 'configfile: "config/config.yaml"\n' + MODULE.format(snakefile=snakefile)
    (folder / "workflow" / "Snakefile").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_rules_are_a_module_as_snakedeploy_writes_it(tmp_path):
    plan = dry_run(tmp_path, f'"{ROOT}/workflow/Snakefile"')
    assert re.search(r"^all +1$", plan, flags=re.MULTILINE)
    assert re.search(r"^propagate_members +\d+$", plan, flags=re.MULTILINE)


def test_the_module_may_come_from_a_repository(tmp_path):
    """Without a checkout, files beside the rules are found through Snakemake's cache alone."""
    done = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("the project is no git repository here")
    commit = done.stdout.strip()
    # Whether scripts have changed cannot be asked of a local repository: Snakemake's own join of paths fails there.
    plan = dry_run(
        tmp_path, f'gitfile("{ROOT}", "workflow/Snakefile", commit="{commit}")', "--rerun-triggers", "mtime", "params"
    )
    assert re.search(r"^draw_figure +\d+$", plan, flags=re.MULTILINE)
