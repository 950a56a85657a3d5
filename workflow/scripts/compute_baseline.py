import numpy as np

from popsbounds.descriptors.snap import SnapCalculator, SnapModel
from popsbounds.job import start
from popsbounds.propagate import baseline, value_table, write_baseline
from popsbounds.properties import make_property

config = start(snakemake)
name = snakemake.wildcards.property
with np.load(snakemake.input.members) as data:
    calculator = SnapCalculator(SnapModel(config.descriptors, config.elements), data["mle"])
prop = make_property(config, name)
relaxed, starts = baseline(prop, calculator, config.propagate.relax)
write_baseline(snakemake.output.starts, starts)
values = prop.values(calculator, relaxed)
value_table(name, values, "mle").to_parquet(snakemake.output.values, index=False)
