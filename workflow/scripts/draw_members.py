import numpy as np

from popsbounds.fit import read_posterior
from popsbounds.job import random_generator, start

config = start(snakemake)
posterior = read_posterior(snakemake.input.posterior)
rng = random_generator(config, "members")
theta = posterior.draw(config.ensemble.members, config.ensemble.sampling, rng)
np.savez(snakemake.output[0], mle=posterior.theta, theta=theta)
