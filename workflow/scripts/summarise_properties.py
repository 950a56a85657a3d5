import pandas as pd

from popsbounds.job import start
from popsbounds.statistics import bounds, failures, paper_ratios, spearman, std_ratio, truncation

config = start(snakemake)
properties = pd.read_parquet(snakemake.input.properties)
formation = config.properties.formation
zero = None if formation is None else formation.zero
paper = paper_ratios() if config.material.element == ["W"] else None  # of tungsten
analytic = pd.concat(map(pd.read_parquet, snakemake.input.analytic), ignore_index=True)
table = bounds(properties, config.ensemble.members, analytic)
table.to_parquet(snakemake.output.bounds, index=False)
std_ratio(table, zero, paper).to_parquet(snakemake.output.std_ratio, index=False)
spearman(properties).to_parquet(snakemake.output.spearman, index=False)
failures(properties).to_parquet(snakemake.output.failures, index=False)
truncation(properties).to_parquet(snakemake.output.truncation, index=False)
