from pathlib import Path

from popsbounds.ensemble import Ensemble
from popsbounds.job import start

start(snakemake)
Ensemble.load(Path(snakemake.input.config).parent).write_lammps(snakemake.output[0])
