"""What is found wrong with a study before any work starts."""

from __future__ import annotations

from popsbounds.config import parse_config
from popsbounds.errors import InputError
from popsbounds.preflight import check_inputs

OWN = "def quantities(potential, element, volume):\n    yield 'a', 'b', 'eV', 0.0\n"


def problems(folder, **reference) -> list[str]:
    """Of a study with a property of the user's own."""
    raw = {
        "study": "checked",
        "elements": ["W"],
        "dataset": {"sources": [{"path": "data.xyz"}]},
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
