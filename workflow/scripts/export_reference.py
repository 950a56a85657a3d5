from pathlib import Path

import pandas as pd

from popsbounds.export import write_reference
from popsbounds.job import start

config = start(snakemake)
values = pd.concat([pd.read_parquet(path) for path in snakemake.input], ignore_index=True)
write_reference(Path(snakemake.output[0]), config, values)
