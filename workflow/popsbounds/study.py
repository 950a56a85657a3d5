"""A finished study in Python: its tables as data frames, and its figures drawn anew.

Three lines are an analysis::

    study = popsbounds.load_study("results/demo")
    study.tables["bounds"]
    study.draw("formation_energy").savefig("formation_energy.png")
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from popsbounds.catalogue import catalogue, plain, tables
from popsbounds.config import Config, load_config
from popsbounds.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Study", "Tables", "load_study"]


class Tables(Mapping[str, pd.DataFrame]):
    """Tables of a study by name, each read when it is first asked for.

    Parameters
    ----------
    folder
        Holds `<name>.parquet`.
    names
        Those that the study may have: other files are of an earlier configuration, and are not looked at.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self.folder = folder
        self.names = set(names)
        self._read: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._read:
            file = self.folder / f"{name}.parquet"
            if name not in self.names or not file.exists():
                raise KeyError(f"no table {name} in {self.folder}; there are: {', '.join(self)}")
            self._read[name] = pd.read_parquet(file)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.names & {file.stem for file in self.folder.glob("*.parquet")}))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Tables({', '.join(self)})"


class Study:
    """What a study found.

    Parameters
    ----------
    folder
        Such as ``results/demo``.

    Attributes
    ----------
    folder : Path
        As above.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @cached_property
    def config(self) -> Config:
        """The configuration it was run with, defaults included."""
        return load_config(self.folder / "config.yaml")

    @cached_property
    def tables(self) -> Tables:
        """Tables of this configuration by name, those made on demand among them; see `docs/tables.md`."""
        drawn_from = {name for names in catalogue(self.config).values() for name in names}
        return Tables(self.folder / "tables", drawn_from.union(tables(self.config)))

    @cached_property
    def fit(self) -> dict[str, Any]:
        """Numbers of the fit; see `popsbounds.fit.summarise`."""
        return json.loads((self.folder / "fit" / "summary.json").read_text())

    @property
    def figures(self) -> list[str]:
        """Names of the figures whose tables are there."""
        found = set(self.tables)
        return [plain(name) for name, needed in catalogue(self.config).items() if found.issuperset(needed)]

    def draw(self, figure: str, *tables: pd.DataFrame) -> Figure:
        """Draw one of its figures.

        Parameters
        ----------
        figure
            Its name, with or without the number: ``fig02_formation_energy`` or ``formation_energy``.
        tables
            To draw instead of the study's own, such as some of their rows; in the order of `popsbounds.catalogue`.

        Returns
        -------
        matplotlib.figure.Figure
            To be saved or changed further.

        Raises
        ------
        KeyError
            There is no such figure, or a table that it needs is missing.
        """
        from popsbounds.plotting import draw

        known = catalogue(self.config)
        number = next((name for name in known if figure in (name, plain(name))), None)
        if number is None:
            raise KeyError(f"no figure {figure}; there are: {', '.join(self.figures)}")
        return draw(plain(number), *(tables or [self.tables[name] for name in known[number]]))

    def __repr__(self) -> str:
        return f"Study({str(self.folder)!r})"


def load_study(folder: str | Path) -> Study:
    """A study from its folder, such as ``results/demo``.

    Raises
    ------
    InputError
        There is no configuration or there are no tables in the folder.
    """
    study = Study(folder)
    if not (study.folder / "config.yaml").exists() or not study.tables:
        here = study.folder / "tables"
        raise InputError(str(folder), [f"no tables in {here}: is this the folder of a finished study?"])
    return study
