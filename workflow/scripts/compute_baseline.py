import logging

from popsbounds.archive import write_archive
from popsbounds.descriptors.forms import make_form
from popsbounds.ensemble import read_members
from popsbounds.job import start
from popsbounds.models import Builder, Recorder, describe, write_models
from popsbounds.propagate import value_table
from popsbounds.properties import make_property

config = start(snakemake)
name = snakemake.wildcards.property
mle, members = read_members(snakemake.input.members)
form = make_form(config)
recorder = Recorder(form.calculator(mle), config.propagate.relax)
values = list(make_property(config, name).values(recorder))
value_table(name, values, "mle").to_parquet(snakemake.output.values, index=False)
write_archive(snakemake.output.structures, recorder.structures())
rows = form.rows()
models = Builder(recorder, rows.respond, form.cutoffs, mle, members, config.propagate.families).build()
spent = recorder.calculator.calls, rows.calls
logging.getLogger("popsbounds").info("%d force calls of the MLE, %d descriptor evaluations", *spent)
describe(name, models, members).to_parquet(snakemake.output.description, index=False)
write_models(snakemake.output.models, models)
