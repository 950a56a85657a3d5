import logging

from popsbounds.fit import load, save, total
from popsbounds.job import start
from popsbounds.pops import Moments, fit_ridge

config = start(snakemake)
ridge = fit_ridge(total(load(Moments, path) for path in snakemake.input), config.fit.regularisation)
for caveat in ridge.caveats():
    logging.getLogger("popsbounds").warning("%s", caveat)
save(snakemake.output[0], ridge)
