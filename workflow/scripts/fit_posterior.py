import json
import logging
from pathlib import Path

import numpy as np

from popsbounds.descriptors.shards import open_shards
from popsbounds.errors import InputError
from popsbounds.fit import (
    Scaling,
    coefficient_table,
    load,
    make_recipe,
    predict,
    summarise,
    total,
    training_blocks,
    widening,
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
    # The members that will be drawn: they stretch with the posterior.
    members = posterior.draw(config.ensemble.members, config.ensemble.sampling, random_generator(config, "members"))
    factors = widening(predict(shards, ridge.theta, members, split="calibration"), config.fit.conformal)
    few = [kind for kind, factor in factors.items() if not np.isfinite(factor)]
    if few:
        problem = f"too few calibration data to promise {config.fit.conformal}: raise dataset.calibration_fraction"
        raise InputError("fit.conformal", [f"{kind}: {problem}" for kind in few])
    logging.getLogger("popsbounds").info("conformal factors: %s; the largest is used", factors)
    posterior = posterior.scaled(max(factors.values()))
    summary["conformal_factor"] = factors

some = EnsembleRecipe(N_SHOWN, config.seed)
chosen = some.prepare(ridge, corrections)
blocks = training_blocks(shards, load(Scaling, snakemake.input.scaling))
optima = some.finish(ridge, chosen, [some.measure(blocks, 0, corrections, chosen)])
coefficient_table(ridge, optima).to_parquet(snakemake.output.coefficients, index=False)

np.savez(snakemake.output.rows, residual=corrections.residual, leverage=corrections.leverage, kept=corrections.kept)
write_posterior(snakemake.output.posterior, posterior)
Path(snakemake.output.summary).write_text(json.dumps(summary, indent=2) + "\n")
