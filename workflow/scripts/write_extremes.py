from pathlib import Path

from popsbounds.analytic import extreme_parameters, single_numbers
from popsbounds.descriptors.forms import make_form
from popsbounds.ensemble import write_potentials
from popsbounds.fit import read_posterior
from popsbounds.job import start

config = start(snakemake)
posterior = read_posterior(snakemake.input.posterior)
form = make_form(config)
for file in snakemake.input.gradients:
    found = extreme_parameters(*single_numbers([file]), posterior, config.ensemble.members)
    write_potentials(Path(snakemake.output[0]) / Path(file).stem, form, found)
