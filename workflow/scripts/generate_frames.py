from functools import partial
from pathlib import Path

import ase.io

from popsbounds.entropy import generate_entropy, partial_file
from popsbounds.export import read_labelled
from popsbounds.generate import generate_frames
from popsbounds.job import random_generator, start

config = start(snakemake)
generate, element = config.dataset.generate, config.material.species
volume = config.material.volume
random = partial(random_generator, config, "generate")
if generate.entropy is None:
    frames = generate_frames(generate, element, volume, random())
else:
    known = [] if generate.known is None else read_labelled(generate.known)
    # Not an output: Snakemake leaves it when the job is killed, and more frames of the same settings start from it.
    so_far = partial_file(Path(snakemake.params.folder), snakemake.params.settings, generate.known)
    frames = generate_entropy(generate, config.descriptors, element, volume, random, so_far, known)
ase.io.write(snakemake.output[0], frames, format="extxyz")
