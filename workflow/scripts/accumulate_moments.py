from popsbounds.descriptors.shards import open_shards
from popsbounds.fit import Scaling, load, save, training_blocks
from popsbounds.job import start
from popsbounds.pops import accumulate

start(snakemake)
scaling = load(Scaling, snakemake.input.scaling)
shards = open_shards([snakemake.input.matrix], [snakemake.input.rows])
save(snakemake.output[0], accumulate(training_blocks(shards, scaling), scaling.prior_mean))
