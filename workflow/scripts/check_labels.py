import ase.io
import numpy as np

from popsbounds.calculators import make_calculator
from popsbounds.job import start
from popsbounds.label import compare_labels

config = start(snakemake)
check = config.dataset.generate.check
frames = [atoms for path in snakemake.input for atoms in ase.io.iread(path, format="extxyz")]
frames.sort(key=lambda atoms: atoms.info["frame"])
chosen = np.unique(np.linspace(0, len(frames) - 1, check.frames).round().astype(int))
calculator = make_calculator(check.calculator, config.elements)
table = compare_labels([frames[i] for i in chosen], calculator, "dataset.generate.check.calculator")
table.to_csv(snakemake.output[0], index=False)
