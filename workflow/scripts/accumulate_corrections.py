from popsbounds.descriptors.shards import open_shards
from popsbounds.fit import Scaling, load, make_recipe, save, training_blocks
from popsbounds.job import start
from popsbounds.pops import Ridge, second_pass

config = start(snakemake)
shards = open_shards([snakemake.input.matrix], [snakemake.input.rows])
blocks = training_blocks(shards, load(Scaling, snakemake.input.scaling))
recipe = make_recipe(config.fit, config.ensemble.members, config.seed)
save(snakemake.output[0], second_pass(blocks, load(Ridge, snakemake.input.ridge), recipe))
