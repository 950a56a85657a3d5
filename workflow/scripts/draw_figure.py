from pathlib import Path

import pandas as pd

from popsbounds.job import start
from popsbounds.plotting import FIGURES
from popsbounds.plotting.style import save

start(snakemake)
_, name = snakemake.wildcards.figure.split("_", maxsplit=1)
table = pd.read_parquet(snakemake.input[0])
if name.startswith("own_"):
    name, table = "own", table[table["property"] == name.removeprefix("own_")]
save(FIGURES[name](table), Path(snakemake.output.png).with_suffix(""))
