from popsbounds.calibration import compare_over_splits
from popsbounds.descriptors.forms import make_form
from popsbounds.descriptors.shards import open_shards
from popsbounds.job import random_generator, start

config = start(snakemake)
name = snakemake.wildcards.case
shards = open_shards(snakemake.input.matrices, snakemake.input.rows)
constants = make_form(config).constants
table = compare_over_splits(
    shards, config, config.calibration.cases[name], constants, random_generator(config, "calibration", name)
)
table.insert(0, "case", name)
# Times differ from run to run: they stay out of the table.
times = table.pop("seconds").groupby(table["posterior"], sort=False).first()
times.to_csv(snakemake.output.seconds)
table.to_parquet(snakemake.output.table, index=False)
