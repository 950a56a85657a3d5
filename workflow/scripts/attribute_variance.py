import numpy as np

from popsbounds.analytic import single_numbers
from popsbounds.descriptors.shards import open_shards
from popsbounds.drivers import training_rows, variance_shares
from popsbounds.fit import Scaling, load, make_recipe, read_posterior, training_blocks
from popsbounds.job import start
from popsbounds.pops import Ridge

config = start(snakemake)
shards = open_shards(snakemake.input.matrices, snakemake.input.rows)
blocks = training_blocks(shards, load(Scaling, snakemake.input.scaling))
recipe = make_recipe(config.fit, config.ensemble.members, config.seed)
with np.load(snakemake.input.corrections) as corrections:
    rows = training_rows(shards).assign(**corrections)
variance_shares(
    *single_numbers(snakemake.input.gradients),
    read_posterior(snakemake.input.posterior),
    load(Ridge, snakemake.input.ridge),
    blocks,
    rows,
    recipe.power,
    recipe.weight_power,
).to_parquet(snakemake.output[0], index=False)
