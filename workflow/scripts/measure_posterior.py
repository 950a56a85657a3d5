import numpy as np

from popsbounds.descriptors.shards import open_shards
from popsbounds.fit import Scaling, load, make_recipe, training_blocks
from popsbounds.job import start
from popsbounds.pops import Corrections

config = start(snakemake)
shards = open_shards([snakemake.input.matrix], [snakemake.input.rows])
blocks = training_blocks(shards, load(Scaling, snakemake.input.scaling))
recipe = make_recipe(config.fit, config.ensemble.members, config.seed)
part = load(Corrections, snakemake.input.corrections)
with np.load(snakemake.input.prepared) as prepared:
    first_row = prepared["first_rows"][int(snakemake.wildcards.shard)]
    np.savez(snakemake.output[0], **recipe.measure(blocks, first_row, part, dict(prepared)))
