from popsbounds.descriptors.shards import open_shards
from popsbounds.descriptors.snap import SnapModel
from popsbounds.fit import prepare, save
from popsbounds.job import start

config = start(snakemake)
shards = open_shards(snakemake.input.matrices, snakemake.input.rows)
model = SnapModel(config.descriptors, config.elements)
save(snakemake.output[0], prepare(shards, model.constants, config.fit.energy_rows == "total"))
