from popsbounds.ensemble import write_members
from popsbounds.fit import read_posterior
from popsbounds.job import random_generator, start

config = start(snakemake)
posterior = read_posterior(snakemake.input.posterior)
rng = random_generator(config, "members")
members = posterior.draw(config.ensemble.members, config.ensemble.sampling, rng)
write_members(snakemake.output[0], posterior.theta, members)
