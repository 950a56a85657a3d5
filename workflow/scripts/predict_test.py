import logging

import pandas as pd

from popsbounds.descriptors.shards import open_shards
from popsbounds.ensemble import read_members
from popsbounds.fit import coverage_caveats, deviations, predict, read_posterior, whole_posterior
from popsbounds.job import start
from popsbounds.pops import Gaussian
from popsbounds.statistics import calibration

config = start(snakemake)
shards = open_shards(snakemake.input.matrices, snakemake.input.rows)
posterior = read_posterior(snakemake.input.posterior)
mle, members = read_members(snakemake.input.members)
pointwise = predict(shards, mle, members, posterior=posterior)
histogram, coverage = deviations(shards, mle, members, pointwise)
pointwise.to_parquet(snakemake.output.pointwise, index=False)
table = calibration(pointwise, config.fit.posterior, config.ensemble.members)
for caveat in coverage_caveats(table, config.fit):
    logging.getLogger("popsbounds").warning("%s", caveat)
# Of the three, only a Gaussian's bounds depend on the number of members in closed form too.
reach = config.ensemble.members if isinstance(posterior, Gaussian) else None
whole = calibration(whole_posterior(pointwise), f"{config.fit.posterior}, whole", reach)
histogram.to_parquet(snakemake.output.deviations, index=False)
coverage.to_parquet(snakemake.output.coverage, index=False)
pd.concat([table, whole], ignore_index=True).to_parquet(snakemake.output.calibration, index=False)
