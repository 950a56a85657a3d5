from pathlib import Path

import pandas as pd

from popsbounds.job import start
from popsbounds.report import html_table

start(snakemake)
Path(snakemake.output[0]).write_text(html_table(pd.read_parquet(snakemake.input[0]), snakemake.wildcards.table))
