"""The paper's claims against tables that agree with them, and tables that do not."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from popsbounds.config import load_config
from popsbounds.paper import CLAIMS, claims_table, write_paper
from popsbounds.statistics import bounds, paper_ratios, paper_tables, spearman, std_ratio

CONFIG = load_config("config/standin.yaml")


def from_the_paper(shift: float = 0.0) -> SimpleNamespace:
    """A study of two members at the ends of what the paper's tables say, references moved by so many ranges."""
    rows = []
    for line in paper_tables().itertuples():
        reference = 1.0 + shift * (line.high_error - line.low_error)
        numbers = {"mle": 1.0 + line.mle_error, "reference": reference}
        members = [1.0 + line.low_error, 1.0 + line.high_error]
        head = {"property": line.property, "structure": line.structure, "quantity": line.quantity, "unit": line.unit}
        head |= {"method": "explicit", "level": "", "status": "ok", "reason": "", "coordinate": np.nan}
        rows += [head | {"source": source, "value": value, "member": None} for source, value in numbers.items()]
        rows += [head | {"source": "member", "value": value, "member": m} for m, value in enumerate(members)]
    properties = pd.DataFrame(rows).astype({"member": "Int32"}).assign(evaluations=0)
    found = bounds(properties)
    tables = {
        "bounds": found,
        "std_ratio": std_ratio(found, "bcc", paper=paper_ratios()),
        "spearman": spearman(properties),
    }
    return SimpleNamespace(tables=tables, config=CONFIG)


def verdicts(study, universal=None) -> dict[tuple[str, str], str]:
    return {(where, says): verdict for where, says, *_, verdict in claims_table(study, universal)[1:]}


@pytest.mark.parametrize(("name", "number"), [("formation energies", 12), ("volumes", 12), ("surfaces", 11)])
def test_the_papers_own_bounds_bracket(name, number):
    says = f"All {name} are bracketed."
    measured = {line[1]: line[3:] for line in claims_table(from_the_paper(), None)[1:]}
    assert measured[says] == [f"{number} of {number} references inside", "reproduced"]
    measured = {line[1]: line[3:] for line in claims_table(from_the_paper(shift=2.0), None)[1:]}
    assert measured[says][0].startswith(f"0 of {number} references inside; outside: ")
    assert measured[says][1].startswith("differs")


def test_error_over_range_of_the_papers_tables():
    found = {line[0]: line[3] for line in claims_table(from_the_paper(), None)[1:]}
    for where, theirs in (("Table 1", 0.19), ("Table 2", 0.085), ("Table 4", 0.16), ("Table 5", 0.045)):
        assert float(found[where].split(" and ")[1]) == pytest.approx(theirs, rel=0.06)


def test_what_has_no_table_is_not_testable():
    assert {
        verdict for (where, _), verdict in verdicts(from_the_paper()).items() if "12" in where or "13" in where
    } == {"not testable here"}
    assert set(verdicts(SimpleNamespace(tables={}, config=CONFIG)).values()) == {"not testable here"}
    assert len(verdicts(from_the_paper())) == len(CLAIMS)


def judged(says: str, **tables: pd.DataFrame) -> tuple[str, str]:
    """What was measured of a claim, and the verdict."""
    (claim,) = [claim for claim in CLAIMS if says in claim.says]
    return claim.measure(SimpleNamespace(tables=tables, config=CONFIG))


def test_each_claim_says_when_it_counts():
    head, *lines = claims_table(from_the_paper(), None)
    assert head[2] == "counts as reproduced when"
    assert all(len(line) == len(head) and line[2] for line in lines)


@pytest.mark.parametrize(("ratio", "verdict"), [(1.04, "reproduced"), (0.88, "differs"), (1.14, "differs")])
def test_bulk_moduli_within_a_few_per_cent(ratio, verdict):
    rows = pd.DataFrame({"property": "formation", "quantity": "bulk_modulus", "mle": [300, 300 * ratio]})
    rows = rows.assign(reference=300.0, method="explicit", level="")
    assert judged("Bulk moduli are right", bounds=rows)[1] == verdict


@pytest.mark.parametrize(
    ("error", "inside", "verdict"),
    [(0.3, True, "reproduced"), (0.1, True, "differs"), (0.9, True, "differs"), (0.5, False, "differs")],
)
def test_the_barrier_is_as_much_too_high(error, inside, verdict):
    row = {"property": "neb", "quantity": "barrier", "method": "explicit", "level": "", "mle_error": error}
    assert judged("The barrier", bounds=pd.DataFrame([row | {"bracketed": inside}]))[1] == verdict


@pytest.mark.parametrize(
    ("errors", "text", "verdict"),
    [
        ({"volume": 0.01, "barrier": 0.03}, "volume 1 %, barrier 3 %", "reproduced"),
        ({"volume": 0.01}, "volume 1 %, barrier unknown", "in part"),
        ({"volume": 0.01, "barrier": 0.05}, "volume 1 %, barrier 5 %", "differs"),
    ],
)
def test_volumes_and_barriers_are_both_needed(errors, text, verdict):
    rows = pd.DataFrame({"quantity": list(errors), "median_relative_error": list(errors.values())})
    found = judged("Implicit volumes", truncation=rows.assign(method="implicit", level="first"))
    assert found == (f"first order: {text}", verdict)


def test_a_table_that_cannot_be_read_is_no_missing_one():
    with pytest.raises(KeyError):
        judged("All formation energies", bounds=pd.DataFrame({"property": ["formation"]}))


def test_text_fits_a_screen(tmp_path):
    study = from_the_paper()
    study.fit, study.figures = {"N": 10_000, "P": 1596}, []
    text = write_paper(tmp_path, study).read_text()
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 120


def test_the_command_says_what_is_wrong(tmp_path):
    for module, *arguments in (["paper", tmp_path / "out", tmp_path], ["report", tmp_path], ["report", tmp_path, "x"]):
        command = [sys.executable, "-m", f"popsbounds.{module}", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "finished study" in done.stderr or "invalid choice" in done.stderr
