"""A finished study in Python: tables and figures in three lines."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

import popsbounds
from popsbounds.catalogue import catalogue, plain, tables
from popsbounds.config import parse_config
from popsbounds.errors import InputError
from popsbounds.plotting import FIGURES
from popsbounds.statistics import BOUNDS_COLUMNS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    """A study of copper with one table, two phases in it."""
    config = {
        "study": "copper",
        "elements": ["Cu"],
        "dataset": {"sources": [{"path": "train.extxyz"}]},
        "material": {"element": "Cu"},
        "properties": {
            "formation": {"structures": ["fcc", "hcp"], "zero": "fcc"},
            "own": {"fault": {"file": "fault.py"}},
        },
    }
    (tmp_path / "tables").mkdir()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [("formation", name, "formation_energy", "eV/atom", x) for name, x in (("fcc", 0.0), ("hcp", 0.01))]
    lines += [("fault", "111", "energy", "J/m2", 0.05)]
    rows = pd.DataFrame(lines, columns=["property", "structure", "quantity", "unit", "mle"])
    rows = rows.assign(
        method="explicit", level="", coordinate=float("nan"), reference=rows["mle"], mean=rows["mle"], std=0.01,
        low=rows["mle"] - 0.02, high=rows["mle"] + 0.02, n_ok=5, n_failed=0,
    )  # fmt: skip
    rows.reindex(columns=BOUNDS_COLUMNS).to_parquet(tmp_path / "tables" / "bounds.parquet")
    return tmp_path


def test_tables_are_read_when_asked_for_and_once(folder):
    study = popsbounds.load_study(folder)
    assert list(study.tables) == ["bounds"]
    assert study.tables["bounds"] is study.tables["bounds"]
    assert list(study.tables["bounds"].columns) == BOUNDS_COLUMNS
    assert study.config.study == "copper"
    with pytest.raises(KeyError, match=r"no table bound in .*there are: bounds"):
        study.tables["bound"]


def test_what_an_earlier_configuration_left_is_not_of_the_study(folder):
    shutil.copy(folder / "tables" / "bounds.parquet", folder / "tables" / "environments.parquet")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config |= {"descriptors": {"kind": "universal", "model": "chgnet"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    study = popsbounds.load_study(folder)
    assert list(study.tables) == ["bounds"]
    with pytest.raises(KeyError, match="no table environments"):
        study.tables["environments"]


def test_figures_are_drawn_with_or_without_their_number(folder, tmp_path):
    study = popsbounds.load_study(folder)
    assert study.figures == ["formation_energy", "volume", "bulk_modulus", "own_fault"]
    for name in ("formation_energy", "fig02_formation_energy", "own_fault"):
        study.draw(name).savefig(tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 5000
    with pytest.raises(KeyError, match="no figure formation; there are: formation_energy"):
        study.draw("formation")
    with pytest.raises(KeyError, match="no table pointwise"):
        study.draw("pointwise")


def test_other_tables_are_drawn_in_the_place_of_the_studys(folder):
    study = popsbounds.load_study(folder)
    table = study.tables["bounds"]
    labels = study.draw("formation_energy", table[table["structure"] == "hcp"]).axes[1].get_xticklabels()
    assert [label.get_text() for label in labels] == ["hcp"]


def test_a_folder_without_tables_is_no_study(tmp_path):
    with pytest.raises(InputError, match="no tables in"):
        popsbounds.load_study(tmp_path)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, popsbounds; print(*sorted({'pandas', 'numpy', 'matplotlib', 'ase'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
    with pytest.raises(AttributeError, match="no attribute 'load_studies'"):
        popsbounds.load_studies  # noqa: B018


TINY = ROOT / "tests" / "studies" / "tiny.yaml"


@pytest.mark.parametrize(
    ("properties", "ranks", "ways", "analytic"),
    [
        ({"own": {"mine": {"file": "mine.py"}}}, True, False, True),
        ({"elastic": {"method": ["explicit", "implicit"]}}, False, False, True),
        ({"formation": {"structures": ["bcc", "fcc"], "method": ["implicit", "auto"]}}, False, False, True),
        ({"formation": {"method": ["explicit", "auto"]}}, True, True, True),
        ({"phonon": {"method": ["explicit", "implicit"]}}, False, False, False),
    ],
)
def test_figures_have_something_to_show(properties, ranks, ways, analytic):
    figures = catalogue(parse_config(yaml.safe_load(TINY.read_text()) | {"properties": properties, "reference": {}}))
    found = [name in figures for name in ("fig07_spearman", "fig16_implicit", "fig17_sampling")]
    assert found == [ranks, ways, analytic]


def test_figures_are_drawn_from_tables_of_the_study():
    config = parse_config(yaml.safe_load(TINY.read_text()))
    on_demand = {"posteriors"}
    assert {name for names in catalogue(config).values() for name in names} - on_demand <= set(tables(config))


def test_every_function_that_draws_is_in_the_catalogue():
    raw = yaml.safe_load(TINY.read_text())
    raw["properties"]["own"] = {"mine": {"file": "mine.py"}}
    names = {re.sub("^own_.*", "own", plain(name)) for name in catalogue(parse_config(raw))}
    assert names == set(FIGURES)
