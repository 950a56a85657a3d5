import logging

import numpy as np

from popsbounds.archive import write_archive
from popsbounds.descriptors.forms import make_form
from popsbounds.job import start
from popsbounds.models import Builder, Recorder, describe, write_models
from popsbounds.propagate import value_table
from popsbounds.properties import make_property

config = start(snakemake)
name = snakemake.wildcards.property
with np.load(snakemake.input.members) as data:
    theta, thetas = data["mle"], data["theta"]
form = make_form(config)
mle = Recorder(form.calculator(theta), config.propagate.relax)
values = list(make_property(config, name).values(mle))
value_table(name, values, "mle").to_parquet(snakemake.output.values, index=False)
write_archive(snakemake.output.structures, mle.structures())
rows = form.rows()
models = Builder(mle, rows.respond, form.cutoffs, theta, thetas, config.propagate.families).build()
spent = mle.calculator.calls, rows.calls
logging.getLogger("popsbounds").info("%d force calls of the MLE, %d descriptor evaluations", *spent)
describe(name, models, thetas).to_parquet(snakemake.output.description, index=False)
write_models(snakemake.output.models, models)
