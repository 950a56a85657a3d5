import logging

from popsbounds.descriptors.forms import make_form
from popsbounds.fit import load, save, total
from popsbounds.job import start
from popsbounds.pops import Moments, fit_ridge

config = start(snakemake)
moments = total(load(Moments, path) for path in snakemake.input)
ridge = fit_ridge(moments, config.fit.regularisation, config.fit.components, make_form(config).constants)
for caveat in ridge.caveats():
    logging.getLogger("popsbounds").warning("%s", caveat)
save(snakemake.output[0], ridge)
