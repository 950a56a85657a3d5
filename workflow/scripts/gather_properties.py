import pandas as pd

from popsbounds.job import start
from popsbounds.propagate import concatenate

start(snakemake)
files = [*snakemake.input.reference, *snakemake.input.mle, *snakemake.input.members]
concatenate([pd.read_parquet(file) for file in files]).to_parquet(snakemake.output[0], index=False)
