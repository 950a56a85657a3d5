from functools import partial

import pandas as pd

from popsbounds.dataset import read_frames
from popsbounds.descriptors.snap import SnapCalculator, SnapModel
from popsbounds.ensemble import read_members
from popsbounds.environments import (
    Bispectrum,
    choose_frames,
    compare_sets,
    compare_structures,
    easy_sets,
    training_set,
)
from popsbounds.job import random_generator, start
from popsbounds.models import read_structures

config = start(snakemake)
files, element = snakemake.input, config.material.species
volume = config.material.volume
random = partial(random_generator, config, "environments")
form = SnapModel(config.descriptors, config.elements)
bispectrum = Bispectrum(form, element)

table = pd.read_parquet(files.table).query("split == 'train'")
chosen = table["frame"].iloc[choose_frames(table["n_atoms"].to_numpy(), random("frames"))]
training = training_set(bispectrum, [frame.atoms for frame in read_frames(files.frames, chosen)], random("sample"))
structures = {
    (name, structure): bispectrum.stack(images)[0]
    for name, file in zip(config.properties.names(), files.models, strict=True)
    for structure, images in read_structures(file).items()
    if any(element in atoms.symbols for atoms in images)
}
calculator = SnapCalculator(form, read_members(files.members)[0])
samples = easy_sets(element, volume, len(training.sample), calculator, random)
environments, points = compare_structures(training, structures)
sets, clouds = compare_sets(training, samples, bispectrum, structures)
environments.to_parquet(snakemake.output.environments, index=False)
sets.to_parquet(snakemake.output.entropy, index=False)
pd.concat([clouds, points], ignore_index=True).to_parquet(snakemake.output.descriptor_space, index=False)
