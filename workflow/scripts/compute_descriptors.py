import pandas as pd

from popsbounds.dataset import read_frames
from popsbounds.descriptors.forms import make_form
from popsbounds.descriptors.shards import select_components, write_shard
from popsbounds.job import random_generator, start

config = start(snakemake)
table = pd.read_parquet(snakemake.input.table)
table = table[table["shard"] == int(snakemake.wildcards.shard)]
form = make_form(config)


def components(frame, n_atoms):
    limit = config.descriptors.max_force_components
    return select_components(n_atoms, limit, random_generator(config, "components", int(frame)))


write_shard(
    snakemake.output.matrix,
    snakemake.output.rows,
    read_frames(snakemake.input.structures, table["frame"]),
    table,
    form.rows(),
    form.n_parameters,
    components,
    config.dataset.weights,
)
