from pathlib import Path

import pandas as pd

from popsbounds.catalogue import plain
from popsbounds.job import start
from popsbounds.plotting import draw
from popsbounds.plotting.style import save

start(snakemake)
figure = draw(plain(snakemake.wildcards.figure), *map(pd.read_parquet, snakemake.input))
save(figure, Path(snakemake.output.png).with_suffix(""))
