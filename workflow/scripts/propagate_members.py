import pandas as pd

from popsbounds.descriptors.forms import make_form
from popsbounds.ensemble import read_members
from popsbounds.job import start
from popsbounds.models import read_models
from popsbounds.propagate import propagate
from popsbounds.properties import make_property

config = start(snakemake)
name = snakemake.wildcards.property
mle, members = read_members(snakemake.input.members)
calculator = make_form(config).calculator(mle)
how = config.properties.settings(name)
propagate(
    name,
    make_property(config, name),
    read_models(snakemake.input.models),
    {member: members[member] for member in config.batch_members(int(snakemake.wildcards.batch))},
    calculator,
    config.propagate,
    pd.read_parquet(snakemake.input.values),
    snakemake.params.method,
    how.levels,
    how.tolerance,
).to_parquet(snakemake.output[0], index=False)
