from pathlib import Path

import pandas as pd

from popsbounds.job import start
from popsbounds.plotting import FIGURES
from popsbounds.plotting.style import save

start(snakemake)
_, name = snakemake.wildcards.figure.split("_", maxsplit=1)
figure = FIGURES[name](pd.read_parquet(snakemake.input[0]))
save(figure, Path(snakemake.output.png).with_suffix(""))
