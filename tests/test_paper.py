"""The paper's claims against tables that agree with them, and tables that do not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from popsbounds.config import load_config
from popsbounds.paper import CLAIMS, claims_table
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
    tables = {"bounds": found, "std_ratio": std_ratio(found, paper=paper_ratios()), "spearman": spearman(properties)}
    return SimpleNamespace(tables=tables, config=CONFIG)


def verdicts(study, universal=None) -> dict[tuple[str, str], str]:
    return {(where, says): verdict for where, says, _, verdict in claims_table(study, universal)[1:]}


@pytest.mark.parametrize(("name", "number"), [("formation energies", 12), ("volumes", 12), ("surfaces", 11)])
def test_the_papers_own_bounds_bracket(name, number):
    says = f"All {name} are bracketed."
    measured = {line[1]: line[2:] for line in claims_table(from_the_paper(), None)[1:]}
    assert measured[says] == [f"{number} of {number} references inside", "reproduced"]
    measured = {line[1]: line[2:] for line in claims_table(from_the_paper(shift=2.0), None)[1:]}
    assert measured[says][0].startswith(f"0 of {number} references inside; outside: ")
    assert measured[says][1].startswith("differs")


def test_error_over_range_of_the_papers_tables():
    found = {line[0]: line[2] for line in claims_table(from_the_paper(), None)[1:]}
    for where, theirs in (("Table 1", 0.19), ("Table 2", 0.085), ("Table 4", 0.16), ("Table 5", 0.045)):
        assert float(found[where].split(" and ")[1]) == pytest.approx(theirs, rel=0.06)


def test_what_has_no_table_is_not_testable():
    assert {
        verdict for (where, _), verdict in verdicts(from_the_paper()).items() if "12" in where or "13" in where
    } == {"not testable here"}
    assert set(verdicts(SimpleNamespace(tables={}, config=CONFIG)).values()) == {"not testable here"}
    assert len(verdicts(from_the_paper())) == len(CLAIMS)
