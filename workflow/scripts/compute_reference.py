from popsbounds.archive import write_archive
from popsbounds.calculators import make_calculator
from popsbounds.ensemble import read_members
from popsbounds.job import start
from popsbounds.models import read_models
from popsbounds.properties import make_property
from popsbounds.reference import reference_values, warm_starts

config = start(snakemake)
name, reference = snakemake.wildcards.property, config.reference
starts = None
if name in reference.warm_start:
    mle, _ = read_members(snakemake.input.members)
    starts = warm_starts(read_models(snakemake.input.models), mle)
table, structures = reference_values(
    name,
    make_property(config, name),
    make_calculator(reference.calculator, config.elements),
    config.reference_relax,
    starts,
)
table.to_parquet(snakemake.output.values, index=False)
write_archive(snakemake.output.structures, structures)
