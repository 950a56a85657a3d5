from pathlib import Path

import pandas as pd

from popsbounds.job import start
from popsbounds.plotting import FIGURES
from popsbounds.plotting.style import save

start(snakemake)
_, name = snakemake.wildcards.figure.split("_", maxsplit=1)
tables = [pd.read_parquet(file) for file in snakemake.input]
if name.startswith("own_"):
    tables = [table[table["property"] == name.removeprefix("own_")] for table in tables]
    name = "own"
save(FIGURES[name](*tables), Path(snakemake.output.png).with_suffix(""))
