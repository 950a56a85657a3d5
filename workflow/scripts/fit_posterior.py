import json
from pathlib import Path

import numpy as np

from popsbounds.descriptors.shards import open_shards
from popsbounds.fit import (
    Scaling,
    coefficient_table,
    conformal,
    load,
    make_recipe,
    summarise,
    total,
    training_blocks,
    write_posterior,
)
from popsbounds.job import random_generator, start
from popsbounds.pops import Corrections, EnsembleRecipe, Ridge

N_SHOWN = 5000  # pointwise optima whose coefficients are shown

config = start(snakemake)
shards = open_shards(snakemake.input.matrices, snakemake.input.rows)
ridge = load(Ridge, snakemake.input.ridge)
corrections = total(load(Corrections, path) for path in snakemake.input.corrections)
recipe = make_recipe(config.fit, config.ensemble.members, config.seed)
with np.load(snakemake.input.prepared) as prepared:
    posterior = recipe.finish(ridge, dict(prepared), [dict(np.load(path)) for path in snakemake.input.measured])
summary = summarise(shards, ridge, corrections, config.seed)

if config.fit.conformal is not None:
    drawn = random_generator(config, "members")
    posterior, factors = conformal(posterior, shards, config.fit.conformal, config.ensemble, drawn)
    summary["conformal_factor"] = factors

some = EnsembleRecipe(N_SHOWN, config.seed)
chosen = some.prepare(ridge, corrections)
blocks = training_blocks(shards, load(Scaling, snakemake.input.scaling))
optima = some.finish(ridge, chosen, [some.measure(blocks, 0, corrections, chosen)])
coefficient_table(ridge, optima).to_parquet(snakemake.output.coefficients, index=False)

np.savez(snakemake.output.rows, residual=corrections.residual, leverage=corrections.leverage, kept=corrections.kept)
write_posterior(snakemake.output.posterior, posterior)
Path(snakemake.output.summary).write_text(json.dumps(summary, indent=2) + "\n")
