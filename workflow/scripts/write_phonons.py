from pathlib import Path

from popsbounds.calculators import make_calculator
from popsbounds.descriptors.forms import make_form
from popsbounds.ensemble import read_members
from popsbounds.job import start
from popsbounds.potential import ColdPotential
from popsbounds.properties import make_property

config = start(snakemake)
if snakemake.wildcards.source == "reference":
    calculator = make_calculator(config.reference.calculator, config.elements)
    relax = config.reference_relax
else:
    calculator = make_form(config).calculator(read_members(snakemake.input.members)[0])
    relax = config.propagate.relax
potential = ColdPotential(calculator, relax)
make_property(config, "phonon").write_files(potential, Path(snakemake.output[0]).parent)
