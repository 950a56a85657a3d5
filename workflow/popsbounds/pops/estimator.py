"""POPS for any linear regression, with the interface of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from popsbounds.pops.corrections import LEVERAGE_FLOOR
from popsbounds.pops.posteriors import (
    EnsembleRecipe,
    GaussianRecipe,
    HypercubeRecipe,
    PopsEnsemble,
    Posterior,
    Recipe,
    fit_posterior,
)
from popsbounds.pops.ridge import BLOCK_ROWS, Block, accumulate, fit_ridge

__all__ = ["POPSRegression"]


class POPSRegression(RegressorMixin, BaseEstimator):
    """Linear regression with error bars that own up to misspecification.

    Predictions are those of a weighted ridge regression. Their error bars come
    from the pointwise optimal parameter sets: for each training datum, the
    parameters that match it exactly at the least loss over all others.

    Parameters
    ----------
    posterior : {"hypercube", "gaussian", "ensemble"}
        The paper's box, a Gaussian with the corrections' tempered and weighted
        second moment, or the corrections themselves.
    coordinates : {"raw", "standardised", "whitened"}
        Where the box's axes are found.
    power, weight_power
        Of the Gaussian, see `GaussianRecipe`.
    regularisation : float or "evidence"
        ρ > 0 of `Ridge`, relative to the features' mean squares. A number leaves
        the fit the same whether a row counts twice or is there twice; the
        evidence counts rows, so it does not.
    components : int or None
        Number of principal components of the features that are fitted, see `fit_ridge`; None: all features.
    leverage_floor : float
        Rows whose leverage, times their weight, is below this share of the mean
        have no correction.
    n_members : int
        Members that bounds are taken over (an ensemble has no more than rows).
    sampling : {"uniform", "sobol", "latin_hypercube"}
        How they are drawn.
    fit_intercept : bool
        Whether to fit a constant.
    random_state : int, RandomState or None
        Seed of the members.

    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
    intercept_ : float
    ridge_ : Ridge
        The fit, constant last.
    posterior_ : Posterior
    members_ : ndarray, shape (n_members, n_features + 1)
        Parameters of each member, constant last (if there is one).

    References
    ----------
    Perez, Subramanyam, Maliyov & Swinburne, npj Comput. Mater. 11, 263 (2025);
    Swinburne & Perez, Mach. Learn.: Sci. Technol. 6, 015008 (2025).
    """

    def __init__(
        self,
        *,
        posterior: Literal["hypercube", "gaussian", "ensemble"] = "hypercube",
        coordinates: Literal["raw", "standardised", "whitened"] = "raw",
        power: float = 1.75,
        weight_power: float = 0.5,
        regularisation: float | Literal["evidence"] = 1e-8,
        components: int | None = None,
        leverage_floor: float = LEVERAGE_FLOOR,
        n_members: int = 500,
        sampling: Literal["uniform", "sobol", "latin_hypercube"] = "uniform",
        fit_intercept: bool = True,
        random_state: Any = None,
    ) -> None:
        self.posterior = posterior
        self.coordinates = coordinates
        self.power = power
        self.weight_power = weight_power
        self.regularisation = regularisation
        self.components = components
        self.leverage_floor = leverage_floor
        self.n_members = n_members
        self.sampling = sampling
        self.fit_intercept = fit_intercept
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> POPSRegression:
        """Fit the parameters, their posterior, and draw the members.

        Parameters
        ----------
        X
            Features, shape (n, n_features).
        y
            Targets, shape (n,).
        sample_weight
            Weights, shape (n,); rows of weight zero are left out.

        Raises
        ------
        ValueError
            Features, targets or weights are none, not finite or of different lengths; a weight is negative; a parameter
            of the estimator is none of its choices or out of its range; or no row has a POPS correction.
        """
        features, target = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        weight = _check_sample_weight(sample_weight, features, dtype=np.float64, ensure_non_negative=True)
        use = weight > 0
        rows, labels, weight = self._rows(features[use]), target[use].astype(float), weight[use]

        def blocks() -> Iterable[Block]:
            for i in range(0, len(labels), BLOCK_ROWS):
                part = slice(i, i + BLOCK_ROWS)
                yield rows[part], labels[part], weight[part]

        prior_mean = np.zeros(rows.shape[1])
        if self.fit_intercept:
            # The prior must not pull at the constant, which carries the arbitrary zero.
            prior_mean[-1] = np.average(labels, weights=weight)
        constants = [rows.shape[1] - 1] if self.fit_intercept else []
        self.ridge_ = fit_ridge(accumulate(blocks, prior_mean), self.regularisation, self.components, constants)
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31, size=4))
        recipes: dict[str, Callable[[], Recipe]] = {
            "hypercube": lambda: HypercubeRecipe(self.coordinates, self.leverage_floor),
            "gaussian": lambda: GaussianRecipe(self.power, self.weight_power, leverage_floor=self.leverage_floor),
            "ensemble": lambda: EnsembleRecipe(self.n_members, int(rng.integers(2**31)), self.leverage_floor),
        }
        if self.posterior not in recipes:
            raise ValueError(f"unknown posterior '{self.posterior}'; known: {', '.join(recipes)}")
        self.posterior_: Posterior = fit_posterior(blocks, self.ridge_, recipes[self.posterior]())
        n_members = self.n_members
        if isinstance(self.posterior_, PopsEnsemble):  # no more than there are rows
            n_members = min(n_members, len(self.posterior_.corrections))
        self.members_ = self.posterior_.draw(n_members, self.sampling, rng)
        theta = self.ridge_.theta
        self.coef_, self.intercept_ = (theta[:-1], float(theta[-1])) if self.fit_intercept else (theta, 0.0)
        return self

    def predict(
        self,
        X: ArrayLike,
        return_std: bool = False,
        return_bounds: bool = False,
        return_epistemic_std: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, ...]:
        """Predict, with error bars where asked for.

        Parameters
        ----------
        X
            Features, shape (n, n_features).
        return_std
            Also the posterior's standard deviation, in closed form.
        return_bounds
            Also the lowest and the highest prediction of the members.
        return_epistemic_std
            Also the standard deviation of Bayesian ridge regression, which
            vanishes with more data and knows nothing of misspecification.

        Returns
        -------
        ndarray, shape (n,), or a tuple of them
            Prediction, then std, low, high, epistemic std, those asked for, in this order.
        """
        check_is_fitted(self)
        rows = self._rows(validate_data(self, X, dtype=np.float64, reset=False))
        found = [rows @ self.ridge_.theta]
        if return_std:
            found.append(self.posterior_.moments(rows)[1])
        if return_bounds:
            members = rows @ self.members_.T
            found += [members.min(axis=1), members.max(axis=1)]
        if return_epistemic_std:
            found.append(np.linalg.norm(rows @ self.ridge_.epistemic_factor, axis=1))
        return found[0] if len(found) == 1 else tuple(found)

    def _rows(self, features: np.ndarray) -> np.ndarray:
        return np.column_stack([features, np.ones(len(features))]) if self.fit_intercept else features
