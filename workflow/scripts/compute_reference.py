from popsbounds.archive import write_archive
from popsbounds.calculators import make_calculator
from popsbounds.job import start
from popsbounds.properties import make_property
from popsbounds.reference import reference_values

config = start(snakemake)
name = snakemake.wildcards.property
calculator = make_calculator(config.reference.calculator, config.elements)
table, structures = reference_values(name, make_property(config, name), calculator, config.propagate.relax)
table.to_parquet(snakemake.output.values, index=False)
write_archive(snakemake.output.structures, structures)
