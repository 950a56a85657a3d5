"""What is found wrong with a study before any work starts."""

from __future__ import annotations

import pytest

from popsbounds.config import parse_config
from popsbounds.errors import InputError
from popsbounds.preflight import check_inputs

OWN = "def quantities(potential, element, volume):\n    yield 'a', 'b', 'eV', 0.0\n"


def problems(folder, **reference) -> list[str]:
    """Of a study with a property of the user's own."""
    (folder / "data.xyz").touch()
    raw = {
        "study": "checked",
        "elements": ["W"],
        "dataset": {"sources": [{"path": str(folder / "data.xyz")}]},
        "material": {"element": "W"},
        "properties": {"own": {"mine": {"file": str(folder / "mine.py")}}},
        "reference": reference,
    }
    try:
        check_inputs(parse_config(raw))
    except InputError as error:
        return error.problems
    return []


def test_each_problem_is_told_once(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("property,structure,quantity,unit,value,citation\nmine,a,c,eV,1.0,here\n")
    calculator = {"kind": "lammps", "pair_style": "eam/alloy", "pair_coeff": ["* * nowhere.eam W"]}
    found = problems(tmp_path, table=str(table), calculator=calculator)
    assert len(found) == 2
    assert found[0].startswith("reference.calculator: ")
    assert found[1].startswith("properties.mine: ")
    # Once the property is there, so is what is wrong with the table.
    (tmp_path / "mine.py").write_text(OWN)
    (found,) = problems(tmp_path, table=str(tmp_path / "none.csv"))
    assert found.startswith("reference.table: ")
    assert problems(tmp_path) == []


def test_data_that_are_missing_are_named_before_any_work(tmp_path):
    (tmp_path / "train.extxyz").touch()
    raw = {
        "study": "checked",
        "elements": ["W"],
        "dataset": {"sources": [{"path": str(tmp_path / name)} for name in ("train.extxyz", "trian.extxyz")]},
        "material": {"element": "W"},
        "properties": {"elastic": {}},
    }
    with pytest.raises(InputError) as caught:
        check_inputs(parse_config(raw))
    (problem,) = caught.value.problems
    assert problem.startswith("dataset.sources[1].path: ")
    assert "did you mean 'train.extxyz'?" in problem


def test_what_may_be_elsewhere_only_is_left_to_the_jobs(tmp_path):
    raw = {
        "study": "checked",
        "dataset": {"sources": [{"path": str(tmp_path)}]},
        "descriptors": {"kind": "universal", "model": "no_such_package.Model"},
        "engine": {"switches": ["-k", "on"]},
    }
    check_inputs(parse_config(raw), elsewhere=True)
    with pytest.raises(InputError, match=r"engine\.switches"):
        check_inputs(parse_config(raw))
    del raw["engine"]
    with pytest.raises(InputError, match="no_such_package"):
        check_inputs(parse_config(raw))
