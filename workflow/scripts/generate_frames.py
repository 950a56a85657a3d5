import ase.io

from popsbounds.generate import generate_frames
from popsbounds.job import random_generator, start
from popsbounds.structures import material_volume

config = start(snakemake)
material = config.material
frames = generate_frames(
    config.dataset.generate,
    material.element,
    material.volume_A3 or material_volume(material.element),
    random_generator(config, "generate"),
)
ase.io.write(snakemake.output[0], frames, format="extxyz")
