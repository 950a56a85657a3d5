"""POPS: pointwise optimal parameter sets for misspecified linear regression.

Pure linear algebra on blocks of rows; knows nothing of atoms or files, and is
usable alone. The design matrix is only ever seen block by block, three times:
for the sums of the ridge regression, for the corrections' second moment, and
for the posterior's extent. Memory is O(P² + block), and three numbers a row;
time is linear in the number of rows. Sums of separate sets of rows add, so that passes can be spread
over jobs. Blocks may be arrays of any library that follows the array API, such
as PyTorch tensors on a GPU.

Source: Perez, Subramanyam, Maliyov & Swinburne, npj Comput. Mater. 11, 263
(2025); Swinburne & Perez, Mach. Learn.: Sci. Technol. 6, 015008 (2025).
"""

from popsbounds.pops.corrections import (
    LEVERAGE_FLOOR,
    Corrections,
    accumulate_corrections,
    accumulate_extremes,
    accumulate_ratio,
    pick_rows,
    row_stretch,
    with_rows,
)
from popsbounds.pops.estimator import POPSRegression
from popsbounds.pops.posteriors import (
    EnsembleRecipe,
    Gaussian,
    GaussianRecipe,
    Hypercube,
    HypercubeRecipe,
    PopsEnsemble,
    Posterior,
    Recipe,
    axes_of,
    expected_reach,
    factor_of,
    fit_posterior,
    second_pass,
)
from popsbounds.pops.ridge import BLOCK_ROWS, Block, Blocks, Moments, Ridge, accumulate, fit_ridge, whiten

__all__ = [
    "BLOCK_ROWS",
    "LEVERAGE_FLOOR",
    "Block",
    "Blocks",
    "Corrections",
    "EnsembleRecipe",
    "Gaussian",
    "GaussianRecipe",
    "Hypercube",
    "HypercubeRecipe",
    "Moments",
    "POPSRegression",
    "PopsEnsemble",
    "Posterior",
    "Recipe",
    "Ridge",
    "accumulate",
    "accumulate_corrections",
    "accumulate_extremes",
    "accumulate_ratio",
    "axes_of",
    "expected_reach",
    "factor_of",
    "fit_posterior",
    "fit_ridge",
    "pick_rows",
    "row_stretch",
    "second_pass",
    "whiten",
    "with_rows",
]
