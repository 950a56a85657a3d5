"""The paper's figures and tables, drawn from studies of one's own, and what becomes of its claims.

``python -m popsbounds.paper results/paper results/standin results/universal``
writes a folder with a page, ``paper.md``, and the figures; the second study,
for the universal potential, may be left out.

Source: Perez, Subramanyam, Maliyov & Swinburne, npj Comput. Mater. 11, 263 (2025).
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from popsbounds.config import Universal
from popsbounds.errors import InputError
from popsbounds.findings import held_out, rank_correlations
from popsbounds.plotting.style import datum_label, save
from popsbounds.statistics import paper_tables, principal
from popsbounds.study import Study, load_study
from popsbounds.text import KINDS, caption, markdown, shown_number

__all__ = ["CLAIMS", "FIGURES", "Claim", "claims_table", "write_paper"]

_REPRODUCED, _IN_PART, _DIFFERS, _NOT_HERE = "reproduced", "in part", "differs", "not testable here"
_WIDTH = 120  # of a line of text


class _Missing(Exception):
    """What a study lacks to judge a claim by."""


@dataclass(frozen=True)
class PaperFigure:
    """One of the paper's figures, and ours that stand for it."""

    number: str
    title: str
    figures: tuple[str, ...]
    universal: bool = False

    @property
    def label(self) -> str:
        """Fig. 1, or Figs. 10 and 11."""
        return f"Fig{'s' if ' ' in self.number else ''}. {self.number}"


FIGURES = [
    PaperFigure("1", "Held-out energies and forces: errors and envelopes", ("pointwise",)),
    PaperFigure("2", "Errors against what the ensemble predicts", ("deviations", "coverage")),
    PaperFigure(
        "3", "Phases: formation energies, volumes, bulk moduli", ("formation_energy", "volume", "bulk_modulus")
    ),
    PaperFigure("4", "Rank correlations", ("spearman",)),
    PaperFigure("5", "Transformation paths", ("transformation_paths",)),
    PaperFigure("6", "Phonons", ("phonons",)),
    PaperFigure("7", "Self-interstitials", ("sia",)),
    PaperFigure("8", "Surfaces", ("surface_energy",)),
    PaperFigure("9", "A vacancy's hop", ("barrier",)),
    PaperFigure("10 and 11", "Implicit against explicit propagation: volumes and barrier", ("implicit",)),
    PaperFigure("12", "A universal potential", ("pointwise", "deviations"), universal=True),
    PaperFigure("13", "Bagging beside POPS", ("posteriors",), universal=True),
    PaperFigure("14 and 15", "Coefficients: distributions and correlations", ("coefficients",)),
]
"""The paper's figures in its order. The numbers of 3, 7 and 8 are known from the paper's tables, others are counted."""

# Title, property and quantity of each of the paper's tables.
TABLES = [
    ("Table 1", "Formation energies of phases relative to bcc", "formation", "formation_energy"),
    ("Table 2", "Volumes of phases relative to bcc's", "formation", "relative_volume"),
    ("Table 3", "Bulk moduli of phases (no values of the paper's to compare with)", "formation", "bulk_modulus"),
    ("Table 4", "Formation energies of self-interstitials", "sia", "formation_energy"),
    ("Table 5", "Surface energies", "surface", "surface_energy"),
]


@dataclass(frozen=True)
class Claim:
    """Something the paper says, and how a study answers.

    Attributes
    ----------
    where, says
        Figure or table of the paper; the claim in our words.
    criterion
        When it counts as reproduced.
    measure
        Finds, in a study, what was measured and what becomes of the claim; `_Missing` where it has no such data.
    why
        What a difference comes from, as far as is known.
    universal
        Whether it is about the universal potential.
    """

    where: str
    says: str
    criterion: str
    measure: Callable[[Study], tuple[str, str]]
    why: str = ""
    universal: bool = False


def _found(study: Study, name: str) -> pd.DataFrame:
    if name not in study.tables:
        raise _Missing(f"no table {name}")
    return study.tables[name]


def _verdict(agrees: object) -> str:
    return _REPRODUCED if agrees else _DIFFERS


def _bracketed(name: str, *quantities: str) -> Callable[[Study], tuple[str, str]]:
    """Are all references of a property within the members' bounds?"""

    def measure(study: Study) -> tuple[str, str]:
        rows = principal(_found(study, "bounds"))
        wanted = (rows["property"] == name) & rows["quantity"].isin(quantities) & rows["bracketed"].notna()
        rows = rows[wanted & (rows["std"] > 0)]  # not the zero of relative quantities
        if rows.empty:
            raise _Missing(f"no references of {name}")
        inside = rows["bracketed"].astype(bool)
        outside = sorted({str(structure) for structure in rows.loc[~inside, "structure"]})
        what = "points of curves" if rows["coordinate"].notna().all() else "references"
        tail = f"; outside: {', '.join(outside)}" if outside else ""
        return f"{inside.sum():,} of {len(rows):,} {what} inside{tail}", _verdict(inside.all())

    return measure


def _ratios(name: str, quantity: str) -> Callable[[Study], tuple[str, str]]:
    """Mean error over standard deviation and over range, within a factor of two of the paper's."""

    def measure(study: Study) -> tuple[str, str]:
        line = _line(principal(_found(study, "std_ratio")), property=name, quantity=quantity)
        names = ("mean_error_over_std", "mean_error_over_range")
        pairs = [(float(line[name]), float(line[f"paper_{name}"])) for name in names]
        if not np.isfinite(pairs).all():
            raise _Missing(f"no ratios of {name}, or none of the paper's")
        text = f"{shown_number(pairs[0][0])} and {shown_number(pairs[1][0])}"
        return text, _verdict(all(0.5 <= ours / theirs <= 2 for ours, theirs in pairs))

    return measure


def _line(table: pd.DataFrame, **wanted: str) -> pd.Series:
    for column, value in wanted.items():
        table = table[table[column] == value]
    if table.empty:
        raise _Missing(f"no {', '.join(wanted.values())}")
    return table.iloc[0]


def _held_out(study: Study) -> pd.DataFrame:
    _found(study, "calibration")
    return held_out(study)


def _outside(study: Study) -> tuple[str, str]:
    rows, fit = _held_out(study), study.config.fit
    text = ", ".join(f"{100 * line.EV:.1f} % of {KINDS[line.kind][0]}" for line in rows.itertuples())
    members = f"{fit.posterior}, {study.config.ensemble.members} members"
    return f"outside: {text} ({members})", _verdict((rows["EV"] <= 0.05).all())


def _error_over_std(study: Study) -> tuple[str, str]:
    rows = _held_out(study)
    text = ", ".join(f"{shown_number(line.error_over_std)} ({line.kind})" for line in rows.itertuples())
    return f"mean error/std {text}", _verdict(rows["error_over_std"].between(0.5, 1.5).all())


def _bulk_modulus_ratio(study: Study) -> tuple[str, str]:
    rows = principal(_found(study, "bounds")).query("property == 'formation' and quantity == 'bulk_modulus'")
    ratio = (rows["mle"] / rows["reference"]).dropna()
    if ratio.empty:
        raise _Missing("no references of bulk moduli")
    return f"MLE over reference {ratio.min():.2f} to {ratio.max():.2f}", _verdict(ratio.between(0.95, 1.05).all())


_RANKED = ["formation_energy", "relative_volume", "surface_energy"]


def _spearman(study: Study) -> tuple[str, str]:
    table = rank_correlations(_found(study, "spearman"))
    table = table[table["quantity"].isin(_RANKED) & table["within_one_std"].notna()]
    if table.empty:
        raise _Missing("no ranks of references")
    parts = [
        f"{datum_label(line.property, line.quantity)} {line.reference_rho:.2f} "
        f"({line.mean_rho:.2f} ± {line.std_rho:.2f})"
        for line in table.itertuples()
    ]
    return "; ".join(parts), _verdict(table["within_one_std"].all())


def _barrier_error(study: Study) -> tuple[str, str]:
    line = _line(principal(_found(study, "bounds")), property="neb", quantity="barrier")
    if pd.isna(line["bracketed"]):
        raise _Missing("no reference of the barrier")
    error, inside = float(line["mle_error"]), bool(line["bracketed"])
    text = f"error {error:+.2f} eV, {'bracketed' if inside else 'outside'}"
    return text, _verdict(inside and 0.25 <= error <= 0.75)


def _implicit(study: Study) -> tuple[str, str]:
    table = _found(study, "truncation")
    first = table[(table["method"] == "implicit") & (table["level"] == "first")]
    wanted = first["quantity"].isin(["volume", "barrier"]) & first["median_relative_error"].notna()
    worst = first[wanted].groupby("quantity")["median_relative_error"].max()
    if worst.empty:
        raise _Missing("neither volumes nor barriers both ways")
    numbers = worst.reindex(["volume", "barrier"])
    text = ", ".join(f"{name} {'unknown' if pd.isna(x) else f'{100 * x:.2g} %'}" for name, x in numbers.items())
    near = bool((worst <= 0.04).all())
    return f"first order: {text}", _IN_PART if near and numbers.isna().any() else _verdict(near)


def _universal_bounds(study: Study) -> tuple[str, str]:
    line = _rival(study, study.config.fit.posterior)
    text = f"{100 * line['EV']:.1f}{_spread(line)} % outside, {1000 * line['mean_width']:.0f} meV/atom wide"
    return f"{_data(study)}: {text}", _verdict(line["EV"] <= 0.02)


def _bagging(study: Study) -> tuple[str, str]:
    rows = [_rival(study, name) for name in ("bagging", "bagging, rescaled", study.config.fit.posterior)]
    raw, rescaled, ours = (line["EV"] for line in rows)
    text = [f"{100 * line['EV']:.0f}{_spread(line)} %" for line in rows]
    found = f"raw {text[0]}, rescaled {text[1]} outside; by POPS {text[2]}"
    return found, _verdict(raw > 0.5 and rescaled > 2 * ours)


_RIVALS = {"gaussian": "Gaussian", "hypercube": "hypercube", "ensemble": "POPS ensemble, all rows"}


def _rival(study: Study, name: str) -> pd.Series:
    table = _found(study, "posteriors")
    # As they are, in the study's first case.
    rows = table[(table["draw"] == "") & ~table["conformal"] & (table["case"] == table["case"].iloc[0])]
    return _line(rows, kind="energy", posterior=_RIVALS.get(name, name))


def _spread(line: pd.Series) -> str:
    return f" ± {100 * line['EV_std']:.1f}" if line["n_splits"] > 1 else ""


def _data(study: Study) -> str:
    fit, model = study.fit, study.config.descriptors
    name = model.model if isinstance(model, Universal) else "SNAP"
    return f"{name}, {fit['N']:,} rows, {fit['P']:,} parameters"


_STAND_IN = "another potential, other data: what the form cannot match is not the paper's"
_BCC_AGAIN = "where a path is bcc again every potential has 0, and a reference what its k-points leave"

_ALL, _POINTS = "all are inside", "all points are inside"
_TWICE = "both are from half to twice the paper's"

CLAIMS = [
    Claim(
        "Fig. 1",
        "The envelope holds nearly all held-out energies and forces.",
        "at most 5 % of either are outside",
        _outside,
    ),
    Claim(
        "Fig. 2",
        "The ensemble's spread says how large errors are.",
        "mean error/std is from 0.5 to 1.5 for either",
        _error_over_std,
    ),
    Claim("Fig. 3", "All formation energies are bracketed.", _ALL, _bracketed("formation", "formation_energy")),
    Claim(
        "Table 1", "Mean error/std 1.21, error/range 0.19.", _TWICE, _ratios("formation", "formation_energy"), _STAND_IN
    ),
    Claim("Fig. 3", "All volumes are bracketed.", _ALL, _bracketed("formation", "relative_volume")),
    Claim(
        "Table 2", "Mean error/std 0.52, error/range 0.085.", _TWICE, _ratios("formation", "relative_volume"), _STAND_IN
    ),
    Claim("Fig. 3", "All bulk moduli are bracketed.", _ALL, _bracketed("formation", "bulk_modulus")),
    Claim(
        "text",
        "Bulk moduli are right to within a few per cent.",
        "all are within 5 % of the reference",
        _bulk_modulus_ratio,
        _STAND_IN,
    ),
    Claim(
        "Fig. 4",
        "MLE and reference rank structures alike within one standard deviation of what members do.",
        "each reference's ρ is within one std of the members' mean",
        _spearman,
        "few structures: one pair in another order can move ρ by more than a standard deviation",
    ),
    Claim("Fig. 5", "Transformation paths are bracketed.", _POINTS, _bracketed("path", "path_energy"), _BCC_AGAIN),
    Claim("Fig. 6", "Phonons are bracketed.", _POINTS, _bracketed("phonon", "branch_1", "branch_2", "branch_3")),
    Claim("Fig. 7", "All interstitials are bracketed.", _ALL, _bracketed("sia", "formation_energy")),
    Claim("Table 4", "Mean error/std 0.99, error/range 0.16.", _TWICE, _ratios("sia", "formation_energy"), _STAND_IN),
    Claim("Fig. 8", "All surfaces are bracketed.", _ALL, _bracketed("surface", "surface_energy")),
    Claim(
        "Table 5", "Mean error/std 0.24, error/range 0.045.", _TWICE, _ratios("surface", "surface_energy"), _STAND_IN
    ),
    Claim(
        "Fig. 9",
        "The barrier is 0.5 eV too high, and bracketed.",
        "it is 0.25 to 0.75 eV too high, and inside",
        _barrier_error,
        _STAND_IN,
    ),
    Claim(
        "Figs. 10, 11",
        "Implicit volumes and barriers are within 4 % of explicit ones.",
        "of both, the median over members is within 4 % in the worst structure",
        _implicit,
    ),
    Claim(
        "Fig. 12",
        "MACE-MPA-0 over the Materials Project: 1 % of energies outside.",
        "at most 2 % are outside, whichever the model",
        _universal_bounds,
        "fewer data: the violation falls as data are added",
        universal=True,
    ),
    Claim(
        "Fig. 13",
        "Five bagged correctors: 80 % outside, rescaled 14 %.",
        "more than half are outside and, rescaled, still more than twice as many as by POPS; not the numbers",
        _bagging,
        universal=True,
    ),
]
"""What the paper says, in its order."""


def claims_table(study: Study, universal: Study | None) -> list[list[str]]:
    """Each claim, when it counts as reproduced, what was measured, and the verdict; the first row is the head."""
    rows = [["paper", "claim", "counts as reproduced when", "measured here", "verdict"]]
    for claim in CLAIMS:
        asked = universal if claim.universal else study
        try:
            if asked is None:
                raise _Missing("no universal potential")
            found, verdict = claim.measure(asked)
        except _Missing as missing:
            found, verdict = str(missing), _NOT_HERE
        if claim.why and verdict in (_IN_PART, _DIFFERS):
            verdict = f"{verdict} ({claim.why})"
        rows.append([claim.where, claim.says, claim.criterion, found, verdict])
    return rows


def write_paper(folder: str | Path, study: Study, universal: Study | None = None) -> Path:
    """Write the page and its figures.

    Parameters
    ----------
    folder
        Is made.
    study
        With properties.
    universal
        Of a universal potential, with its rivals compared; None for none.

    Returns
    -------
    Path
        The page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "paper.md"
    page.write_text("\n\n".join(_page(folder, study, universal)) + "\n")
    return page


def _page(folder: Path, study: Study, universal: Study | None) -> Iterator[str]:
    yield "# The paper, regenerated"
    also = f"; the universal potential from {_about(universal)}" if universal else ""
    yield _wrapped(
        "Figures and tables of Perez, Subramanyam, Maliyov & Swinburne, *npj Comput. Mater.* **11**, 263 (2025), in "
        f"their order, from {_about(study)}{also}."
    )
    yield "## Verdicts"
    yield markdown(claims_table(study, universal))
    yield "## Tables"
    for number, title, name, quantity in TABLES:
        rows = _table(study, name, quantity)
        if len(rows) > 1:
            yield _wrapped(f"**{number}. {title}.** MLE error / std / low error / high error; {_about(study)}.")
            yield markdown(rows)
    yield "## Figures"
    for figure in FIGURES:
        source = universal if figure.universal else study
        drawn = [name for name in figure.figures if source is not None and name in source.figures]
        if source is None or not drawn:
            yield _wrapped(f"**{figure.label}. {figure.title}.** Not in these studies.")
            continue
        for name in drawn:
            stem = f"fig{figure.number.replace(' and ', '_')}_{name}"
            save(source.draw(name), folder / stem)
            yield f"![{figure.title}: {name.replace('_', ' ')}]({stem}.png)"
        said = " ".join(map(caption, drawn))
        yield _wrapped(f"**{figure.label}. {figure.title}.** {said} From {_about(source)}.")


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _WIDTH, break_long_words=False, break_on_hyphens=False)


def _about(study: Study) -> str:
    """Study, data, N, P, members: what every caption says."""
    config, fit, generate = study.config, study.fit, study.config.dataset.generate
    data = ", ".join(source.path.name for source in config.dataset.sources)
    if generate is not None:
        data = f"{generate.frames:,} generated frames"
    return (
        f"study `{config.study}`: {data}; N = {fit['N']:,} rows, P = {fit['P']:,} parameters, "
        f"{config.ensemble.members:,} members, {config.fit.posterior}"
    )


def _table(study: Study, name: str, quantity: str) -> list[list[str]]:
    """Ours and the paper's numbers, structure by structure; the first row is the head."""
    numbers = ["mle_error", "std", "low_error", "high_error"]
    bounds = principal(study.tables["bounds"])
    ours = bounds[(bounds["property"] == name) & (bounds["quantity"] == quantity) & bounds["mle_error"].notna()]
    ours = ours[ours["std"] > 0]
    paper = paper_tables().set_index(["property", "structure", "quantity"])[numbers]
    unit = ours["unit"].iloc[0] if len(ours) else ""
    rows = [[f"structure{'' if unit in ('', '1') else f' ({unit})'}", "ours", "paper", "bracketed"]]
    for line in ours.to_dict("records"):
        key = (name, line["structure"], quantity)
        theirs = " / ".join(map(shown_number, paper.loc[key])) if key in paper.index else ""
        inside = "yes" if line["bracketed"] else "no"
        rows.append([line["structure"], " / ".join(shown_number(line[n]) for n in numbers), theirs, inside])
    return rows


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m popsbounds.paper", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="where the page and its figures go, such as results/paper")
    parser.add_argument("study", type=Path, help="folder of a finished study, such as results/standin")
    parser.add_argument("universal", type=Path, nargs="?", help="of a universal potential, such as results/universal")
    given = parser.parse_args()
    universal = None if given.universal is None else load_study(given.universal)
    print(write_paper(given.folder, load_study(given.study), universal))


if __name__ == "__main__":
    try:
        _main()
    except InputError as error:
        sys.exit(str(error))
