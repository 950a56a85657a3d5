import numpy as np

from popsbounds.fit import load, make_recipe, total
from popsbounds.job import start
from popsbounds.pops import Corrections, Ridge

config = start(snakemake)
recipe = make_recipe(config.fit, config.ensemble.members, config.seed)
parts = [load(Corrections, path) for path in snakemake.input.corrections]
first_rows = np.cumsum([0, *(len(part.kept) for part in parts[:-1])])
prepared = recipe.prepare(load(Ridge, snakemake.input.ridge), total(parts))
np.savez(snakemake.output[0], first_rows=first_rows, **prepared)
