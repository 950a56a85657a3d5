from popsbounds.calibration import compare, resplit
from popsbounds.descriptors.shards import open_shards
from popsbounds.descriptors.snap import SnapModel
from popsbounds.job import random_generator, start

config = start(snakemake)
split = snakemake.wildcards.split
shards = resplit(
    open_shards(snakemake.input.matrices, snakemake.input.rows), config.calibration.left_out.get(split, [])
)
constants = SnapModel(config.descriptors, config.elements).constants
table = compare(shards, config, constants, random_generator(config, "calibration", split))
table.insert(0, "split", split)
# Times differ from run to run: they stay out of the table.
times = table.pop("seconds").groupby(table["posterior"], sort=False).first()
times.to_csv(snakemake.output.seconds)
table.to_parquet(snakemake.output.table, index=False)
