import pandas as pd

from popsbounds.job import start

start(snakemake)
pd.concat(map(pd.read_parquet, snakemake.input)).to_parquet(snakemake.output[0], index=False)
