from pathlib import Path

import ase.io
import pandas as pd

from popsbounds.export import write_labelled, write_provenance
from popsbounds.job import start

config = start(snakemake)
frames = [atoms for path in snakemake.input.labelled for atoms in ase.io.iread(path, format="extxyz")]
write_labelled(Path(snakemake.output.frames), frames)
failed = sum(len(pd.read_csv(path)) for path in snakemake.input.failures)
write_provenance(Path(snakemake.output.provenance), config, len(frames), failed)
