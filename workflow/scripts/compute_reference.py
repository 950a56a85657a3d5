from popsbounds.calculators import make_calculator
from popsbounds.job import start
from popsbounds.propagate import write_structures
from popsbounds.properties import make_property
from popsbounds.reference import reference_values

config = start(snakemake)
name = snakemake.wildcards.property
reference = config.reference
calculator = make_calculator(reference.calculator, config.elements) if reference.calculator is not None else None
prop = make_property(config, name)
table, structures = reference_values(name, prop, calculator, reference.table, config.propagate.relax)
table.to_parquet(snakemake.output.values, index=False)
write_structures(snakemake.output.structures, structures)
