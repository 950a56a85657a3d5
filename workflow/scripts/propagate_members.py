import numpy as np

from popsbounds.descriptors.snap import SnapCalculator, SnapModel
from popsbounds.job import start
from popsbounds.progress import progress
from popsbounds.propagate import compute_values, concatenate, read_baseline, value_table
from popsbounds.properties import make_property

config = start(snakemake)
name = snakemake.wildcards.property
with np.load(snakemake.input.members) as data:
    mle, theta = data["mle"], data["theta"]
calculator = SnapCalculator(SnapModel(config.descriptors, config.elements), mle)
prop = make_property(config, name)
starts = read_baseline(snakemake.input.starts)
members = config.batch_members(int(snakemake.wildcards.batch))
tables = []
for member in progress(members, "member", len(members)):
    calculator.set_theta(theta[member])
    tables.append(value_table(name, compute_values(prop, calculator, starts), "member", member))
concatenate(tables).to_parquet(snakemake.output[0], index=False)
