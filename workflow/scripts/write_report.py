import json
from pathlib import Path

import pandas as pd

from popsbounds.findings import Study
from popsbounds.job import start
from popsbounds.page import page

config = start(snakemake)
tables = {Path(file).stem: pd.read_parquet(file) for file in snakemake.input.tables}
study = Study(config, json.loads(Path(snakemake.input.fit).read_text()), tables)
figures = {Path(file).stem.split("_", maxsplit=1)[1]: Path(file) for file in snakemake.input.figures}
Path(snakemake.output[0]).write_text(page(study, figures, snakemake.params.captions), encoding="utf-8")
