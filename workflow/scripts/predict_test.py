import logging

import numpy as np

from popsbounds.descriptors.shards import open_shards
from popsbounds.fit import coverage_caveats, deviations, predict
from popsbounds.job import start
from popsbounds.statistics import calibration

config = start(snakemake)
shards = open_shards(snakemake.input.matrices, snakemake.input.rows)
with np.load(snakemake.input.members) as data:
    pointwise = predict(shards, data["mle"], data["theta"])
    histogram, coverage = deviations(shards, data["mle"], data["theta"], pointwise)
pointwise.to_parquet(snakemake.output.pointwise, index=False)
table = calibration(pointwise, config.fit.posterior, config.ensemble.members)
for caveat in coverage_caveats(table, config.fit):
    logging.getLogger("popsbounds").warning("%s", caveat)
histogram.to_parquet(snakemake.output.deviations, index=False)
coverage.to_parquet(snakemake.output.coverage, index=False)
table.to_parquet(snakemake.output.calibration, index=False)
