import json
from pathlib import Path

from popsbounds.descriptors.shards import open_shards
from popsbounds.descriptors.snap import SnapModel
from popsbounds.fit import fit_posterior, summarise, write_posterior
from popsbounds.job import start

config = start(snakemake)
shards = open_shards(snakemake.input.matrices, snakemake.input.rows)
model = SnapModel(config.descriptors, config.elements)
ridge, box = fit_posterior(shards, config.fit, model.constants)
write_posterior(snakemake.output.posterior, ridge, box, config.fit.coordinates)
summary = summarise(shards, ridge, box, config.seed)
Path(snakemake.output.summary).write_text(json.dumps(summary, indent=2) + "\n")
