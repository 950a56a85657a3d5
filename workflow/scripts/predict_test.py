import numpy as np

from popsbounds.descriptors.shards import open_shards
from popsbounds.fit import predict
from popsbounds.job import start
from popsbounds.statistics import calibration

config = start(snakemake)
shards = open_shards(snakemake.input.matrices, snakemake.input.rows)
with np.load(snakemake.input.members) as data:
    pointwise = predict(shards, data["mle"], data["theta"])
pointwise.to_parquet(snakemake.output.pointwise, index=False)
table = calibration(pointwise, config.fit.posterior, config.ensemble.members)
table.to_parquet(snakemake.output.calibration, index=False)
