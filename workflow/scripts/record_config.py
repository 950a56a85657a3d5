from pathlib import Path

import yaml

from popsbounds.job import start

start(snakemake)
Path(snakemake.output[0]).write_text(yaml.safe_dump(snakemake.params.config, sort_keys=False))
