from popsbounds.descriptors.snap import SnapCalculator, SnapModel
from popsbounds.fit import read_posterior
from popsbounds.job import start
from popsbounds.propagate import baseline, value_table, write_baseline
from popsbounds.properties import make_property

config = start(snakemake)
name = snakemake.wildcards.property
model = SnapModel(config.descriptors, config.elements)
calculator = SnapCalculator(model, read_posterior(snakemake.input.posterior).theta)
prop = make_property(config, name)
relaxed, starts = baseline(prop, calculator, config.propagate.relax)
write_baseline(snakemake.output.starts, starts)
values = prop.values(calculator, relaxed)
value_table(name, values, "mle").to_parquet(snakemake.output.values, index=False)
