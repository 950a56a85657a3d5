import pandas as pd

from popsbounds.archive import read_archive
from popsbounds.job import start
from popsbounds.propagate import concatenate
from popsbounds.reference import mark_other_basins, with_table

config = start(snakemake)
files = snakemake.input
references = concatenate(
    mark_other_basins(pd.read_parquet(values), read_archive(reference), read_archive(mle), config.reference_relax)
    for values, reference, mle in zip(files.reference, files.structures, files.baseline, strict=True)
)
mle = concatenate(pd.read_parquet(file) for file in files.mle)
if config.reference.table is not None:
    references = with_table(references, config.reference.table, mle)
members = [pd.read_parquet(file) for file in files.members]
concatenate([references, mle, *members]).to_parquet(snakemake.output[0], index=False)
