import pandas as pd

from popsbounds.analytic import analytic_bounds, gradients, write_gradients
from popsbounds.fit import read_posterior
from popsbounds.job import start
from popsbounds.models import read_models
from popsbounds.properties import make_property

config = start(snakemake)
posterior = read_posterior(snakemake.input.posterior)
found = gradients(
    make_property(config, snakemake.wildcards.property),
    read_models(snakemake.input.models),
    posterior,
    pd.read_parquet(snakemake.input.values),
    config.propagate.relax,
)
write_gradients(snakemake.output.gradients, *found)
analytic_bounds(*found, posterior, config.ensemble.members).to_parquet(snakemake.output.bounds, index=False)
