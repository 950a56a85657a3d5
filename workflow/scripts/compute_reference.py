from popsbounds.calculators import make_calculator
from popsbounds.job import start
from popsbounds.propagate import write_baseline
from popsbounds.properties import make_property
from popsbounds.reference import reference_values

config = start(snakemake)
name = snakemake.wildcards.property
reference = config.reference
calculator = make_calculator(reference.calculator, config.elements) if reference.calculator is not None else None
table, structures = reference_values(name, make_property(config, name), calculator, reference.table)
table.to_parquet(snakemake.output.values, index=False)
write_baseline(snakemake.output.structures, structures)
