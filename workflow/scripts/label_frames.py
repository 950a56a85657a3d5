import ase.io
import pandas as pd

from popsbounds.calculators import make_calculator
from popsbounds.job import start
from popsbounds.label import label_frames

config = start(snakemake)
generate = config.dataset.generate
batch = int(snakemake.wildcards.batch)
frames = ase.io.read(snakemake.input.frames, index=slice(batch, None, generate.batches), format="extxyz")
for number, atoms in enumerate(frames):
    atoms.info["frame"] = batch + number * generate.batches
calculator = make_calculator(generate.calculator, config.elements)
labelled, failures = label_frames(frames, calculator, "dataset.generate.calculator")
ase.io.write(snakemake.output.labelled, labelled, format="extxyz")
pd.DataFrame(failures, columns=["frame", "reason"]).to_csv(snakemake.output.failures, index=False)
