"""The documentation does what it says: its commands are run, its studies read, its Python run, its links followed.

Every fenced block says what it is. A block with ``title=path`` is a file that the reader saves; the others are run in
the order of the page, in a copy of the project. The tutorial is run from its first line to its last, as it stands;
elsewhere, what takes long is run dry (`make -n`, `snakemake -n`), and what cannot run here is listed with the reason. A
command that is none of these fails.
"""

from __future__ import annotations

import copy
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

import popsbounds
from popsbounds.config import Own as OwnOptions
from popsbounds.config import Universal, parse_config
from popsbounds.descriptors.universal import UniversalForm
from popsbounds.preflight import check_inputs
from popsbounds.properties import Settings
from popsbounds.properties.own import OwnProperty

ROOT = Path(__file__).parents[1]
TUTORIAL = "docs/tutorial.md"
PAGES = ["README.md", "CONTRIBUTING.md", "config/README.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
LINKED = [*PAGES, "CHANGELOG.md"]

# Pages whose commands are run as they stand; on the others, make and snakemake are run dry.
REAL = {TUTORIAL, "docs/analysis.md"}
# Other commands that are run as they stand, on any page.
CHEAP = {"cat", "cd", "lmp", "python"}
# What is not run, and why.
NOT_RUN = {
    r"source \.venv/bin/activate$": "the test's environment is active",
    r"docker (build|run) ": "needs a container engine and a registry; test_packaging.py reads the recipe",
    r"apptainer (build|run) ": "needs a container engine and a registry; test_packaging.py reads the recipe",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, what it is, the file it is to be saved as (or nothing), its text."""

    place: str
    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    found: list[Block] = []
    opened = None
    lines: list[str] = []
    for number, line in enumerate((ROOT / page).read_text().split("\n"), start=1):
        if not line.startswith("```"):
            lines.append(line)
        elif opened is None:
            opened, lines = (number, line.removeprefix("```")), []
        else:
            language, _, title = opened[1].partition(" title=")
            found.append(Block(f"{page}:{opened[0]}", language, title, "\n".join(lines) + "\n"))
            opened = None
    assert opened is None, f"{page}: a block is not closed"
    return found


ALL = [block for page in PAGES for block in blocks(page)]


def commands(text: str) -> list[str]:
    """Commands of a shell block without comments; a here-document belongs to its command."""
    found: list[str] = []
    end = None
    for line in text.split("\n"):
        if end is not None:
            found[-1] += "\n" + line
            end = None if line == end else end
        elif stripped := re.sub(r"(^|\s+)# .*", "", line):
            found.append(stripped)
            here = re.search(r"<<'(\w+)'", line)
            end = here[1] if here else None
    return found


def as_run(command: str, page: str) -> str | None:
    """What stands for a command in the test; None if nothing does.

    Raises
    ------
    ValueError
        It is not known how to check it.
    """
    if any(re.match(pattern, command) for pattern in NOT_RUN):
        return None
    *before, last = command.split(" && ")
    last, n_assignments = re.subn(r"^([A-Z]+=\S+ )", r"\1", last)
    word = last.split()[n_assignments]
    if word in ("make", "snakemake"):
        dry = last if page in REAL else re.sub(rf"\b{word}\b", f"{word} -n", last, count=1)
        return " && ".join([*before, dry])
    if word in CHEAP:
        return command
    raise ValueError(f"no rule for checking the command: {command}")


def run(script: str, project: Path, environment: dict[str, str], program: str = "bash -e") -> None:
    done = subprocess.run(
        program.split(), input=script, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


def follow(page: str, project: Path, environment: dict[str, str]) -> None:
    """Do what a page says, from its first block to its last."""
    for block in blocks(page):
        if block.title:
            path = project / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "bash":
            script = [line for command in commands(block.text) if (line := as_run(command, page)) is not None]
            run("\n".join(script) + "\n", project, environment)
        elif block.language == "python":
            run(block.text, project, environment, program="python -")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """That of a user who has activated the project's environment, which make finds ready."""
    venv = tmp_path_factory.mktemp("venv")
    for entry in Path(sys.prefix).iterdir():
        if not entry.name.startswith("."):
            (venv / entry.name).symlink_to(entry)
    (venv / ".ready").touch()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    path = os.pathsep.join([str(venv / "bin"), inherited["PATH"]])
    # Were make to find that something has to be installed, it would fail rather than change that environment.
    return inherited | {"VENV": str(venv), "PATH": path, "PYTHON": "false"}


@pytest.fixture(scope="module")
def project(tmp_path_factory, environment):
    """A copy of the project in which the tutorial has been followed."""
    folder = tmp_path_factory.mktemp("work") / "pops-bounds"
    hidden = shutil.ignore_patterns(".*", "results", "tests", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, folder, symlinks=True, ignore=hidden)
    (folder / "tests").symlink_to(ROOT / "tests")
    follow(TUTORIAL, folder, environment)
    # Where a page looks at the embedded study's results, the tutorial's stand for them.
    (folder / "results" / "demo").symlink_to("copper")
    # The study that `docs/data.md` talks of: its data are generated and labelled.
    study = (ROOT / "config" / "gpaw.yaml").read_text().replace("study: gpaw", "study: my_study")
    (folder / "my_study.yaml").write_text(study)
    return folder


def test_every_block_says_what_it_is():
    languages = {"bash", "python", "yaml", "snakemake", "text", "math"}
    assert [block.place for block in ALL if block.language not in languages] == []


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "bash"], ids=lambda b: b.place)
def test_it_is_known_how_to_check_every_command(block):
    for command in commands(block.text):
        as_run(command, block.place.split(":")[0])


def test_a_command_that_nobody_thought_of_fails():
    with pytest.raises(ValueError, match="the command: sbatch job"):
        as_run("sbatch job.sh", "README.md")
    assert as_run("cd x && VENV=y make run", "README.md") == "cd x && VENV=y make -n run"
    assert as_run("make run", TUTORIAL) == "make run"


def test_the_tutorial_from_start_to_end(project):
    """What its last block shows is what comes out, as far as another machine draws the same members."""
    shown = [block.text for block in ALL if block.place.startswith(TUTORIAL) and block.language == "text"][-1]
    expected = pd.read_csv(io.StringIO(shown), sep=r"\s+", dtype={"structure": str}).set_index("structure")
    table = popsbounds.load_study(project / "results" / "copper").tables["bounds"].set_index("structure")
    found = table.query("method == 'explicit' and quantity == 'surface_energy'")[list(expected.columns)]
    width = (expected["high"] - expected["low"]).max()
    for column in ("reference", "mle", "low", "high"):
        assert found[column].to_dict() == pytest.approx(expected[column].to_dict(), abs=width / 2), column
    assert (found["high"] - found["low"]).max() < 2 * width
    assert found["bracketed"].all()
    assert (project / "results" / "copper" / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL])
def test_pages_can_be_followed(page, project, environment):
    follow(page, project, environment)


NAMED = {c for page in PAGES for c in re.findall(r"`(make [^`…]*)`", (ROOT / page).read_text())}
LAMMPS_OWN = {"make install-python"}


def test_targets_named_in_the_text_exist(project, environment):
    assert len(NAMED) > 10
    named = [" ".join(command.split()) for command in sorted(NAMED - LAMMPS_OWN)]
    run("\n".join(re.sub("^make", "make -n", command) for command in named), project, environment)


BASE: dict[str, Any] = {
    "study": "docs",
    "elements": ["W"],
    "dataset": {"sources": [{"path": "train.extxyz"}]},
    "material": {"element": "W"},
    "properties": {"formation": {}},
}


def merged(base: dict, over: dict) -> dict:
    both = copy.deepcopy(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = merged(both[key], value) if nested else value
    return both


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "yaml"], ids=lambda b: b.place)
def test_studies_and_sections_are_valid(block):
    content = yaml.safe_load(block.text)
    content = content.get("popsbounds", content)
    parse_config(content if "study" in content else merged(BASE, content))


def heading_anchors(page: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED)
def test_links_within_the_project_resolve(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in heading_anchors(str(file.resolve().relative_to(ROOT.resolve()))), f"{page}: {target}"


def test_every_page_is_linked_from_the_front_page():
    text = (ROOT / "README.md").read_text()
    assert [page for page in PAGES[1:] if f"({page})" not in text] == []


@pytest.mark.parametrize("page", LINKED)
def test_lines_fit_a_screen(page):
    """Tables and links apart, which cannot be broken."""
    long = [line for line in (ROOT / page).read_text().split("\n") if len(line) > 120]
    assert [line for line in long if not line.startswith(("|", "![", "- `", "    - "))] == []


def test_columns_are_those_of_the_tables(project):
    """Each table that the tutorial makes: its columns in the documentation, and no others."""
    text = (ROOT / "docs" / "tables.md").read_text()
    for file in sorted((project / "results" / "copper" / "tables").glob("*.parquet")):
        section = text.split(f"## `{file.name}`\n")[1].split("\n## ")[0]
        named = [c for row in re.findall(r"^\| (`.*?) \|", section, re.M) for c in re.findall(r"`(\w+)`", row)]
        assert sorted(named) == sorted(pd.read_parquet(file).columns), file.name


def saved(title: str) -> str:
    return next(block.text for block in ALL if block.title == title)


def test_the_property_of_ones_own_is_accepted(tmp_path):
    file = tmp_path / "vacancy.py"
    file.write_text(saved("config/vacancy.py"))
    OwnProperty(Settings(OwnOptions(file=file, arguments={"repeats": 3}), "W", 16.0))


def test_the_descriptor_and_the_model_of_ones_own(tmp_path, monkeypatch):
    """Forces and stress of what they define, against finite differences; a study that names them is ready to run."""
    pytest.importorskip("torch")
    for title in ("my_descriptors.py", "my_models.py"):
        (tmp_path / title).write_text(saved(title))
    monkeypatch.syspath_prepend(tmp_path)
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    for model, offset in (("my_descriptors.Radial", 0.0), ("my_models.SecondMoment", None)):
        form = UniversalForm(Universal(kind="universal", model=model))
        theta = np.random.default_rng(0).normal(size=form.n_parameters)
        atoms.calc = form.calculator(theta)
        numerical = calculate_numerical_forces(atoms, eps=1e-4)
        assert atoms.get_forces() == pytest.approx(numerical, abs=1e-6)
        numerical = calculate_numerical_stress(atoms, eps=1e-5, force_consistent=False)
        assert atoms.get_stress() == pytest.approx(numerical, abs=1e-6)
        rows, base = next(form.rows().stream([atoms]))
        assert (rows @ theta + base)[0] * len(atoms) == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        assert offset is None or base[0] == offset
        own = {"descriptors": {"kind": "universal", "model": model}, "dataset": {"sources": [{"path": str(tmp_path)}]}}
        check_inputs(parse_config(merged(BASE, own)))
