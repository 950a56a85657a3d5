from pathlib import Path

from popsbounds.catalogue import plain
from popsbounds.job import start
from popsbounds.page import page
from popsbounds.study import load_study

start(snakemake)
study = load_study(Path(snakemake.input.config).parent)
figures = {plain(Path(file).stem): Path(file) for file in snakemake.input.figures}
Path(snakemake.output[0]).write_text(page(study, figures), encoding="utf-8")
