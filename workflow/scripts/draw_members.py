import numpy as np

from popsbounds.fit import read_box
from popsbounds.job import random_generator, start
from popsbounds.pops import draw_members

config = start(snakemake)
box = read_box(snakemake.input.posterior)
rng = random_generator(config, "members")
theta = draw_members(box, config.ensemble.members, config.ensemble.sampling, rng)
np.savez(snakemake.output[0], mle=box.theta, theta=theta)
