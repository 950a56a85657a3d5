import pandas as pd

from popsbounds.job import start

start(snakemake)
tables = [pd.read_parquet(file) for file in snakemake.input]
pd.concat(tables, ignore_index=True).to_parquet(snakemake.output[0], index=False)
