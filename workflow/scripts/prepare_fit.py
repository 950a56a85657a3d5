import numpy as np
import pandas as pd

from popsbounds.config import Universal
from popsbounds.dataset import read_frames
from popsbounds.descriptors.forms import make_form
from popsbounds.descriptors.shards import open_shards
from popsbounds.descriptors.universal import check_energy_references
from popsbounds.fit import prepare, save
from popsbounds.job import start

config = start(snakemake)
shards = open_shards(snakemake.input.matrices, snakemake.input.rows)
if isinstance(config.descriptors, Universal):
    rows = pd.concat([shard.rows for shard in shards]).query("split == 'train' and kind == 'energy'")
    frames = [frame.atoms for frame in read_frames(snakemake.input.structures, rows["frame"])]
    check_energy_references(np.asarray(rows["truth"] - rows["reference"]), frames, config.descriptors)
save(snakemake.output[0], prepare(shards, make_form(config).constants, config.fit.energy_rows == "total"))
