import ase.io

from popsbounds.calculators import make_calculator
from popsbounds.job import start
from popsbounds.label import label_frames

config = start(snakemake)
generate = config.dataset.generate
frames = ase.io.read(snakemake.input.frames, index=slice(int(snakemake.wildcards.batch), None, generate.batches))
calculator = make_calculator(generate.calculator, config.elements)
ase.io.write(snakemake.output[0], label_frames(frames, calculator), format="extxyz")
