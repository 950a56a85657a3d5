"""A small ensemble of real potentials: quadratic SNAPs for tungsten fitted to labels of an EAM potential."""

from __future__ import annotations

from functools import cache

import numpy as np

from popsbounds.calculators import make_calculator
from popsbounds.config import Generate, LammpsCalculator, Snap
from popsbounds.descriptors.snap import SnapModel, SnapRows
from popsbounds.generate import generate_frames
from popsbounds.label import label_frames
from popsbounds.pops import GaussianRecipe, accumulate, fit_posterior, fit_ridge

EAM = LammpsCalculator(pair_style="eam/alloy", pair_coeff=["* * W_zhou.eam.alloy W"])
VOLUME = 15.85
FORM = SnapModel(Snap(twojmax=6), ["W"])


def eam():
    """The teacher."""
    return make_calculator(EAM, ["W"])


@cache
def ensemble(frames: int = 400, members: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """The loss-minimising parameters, shape (P,), and members, shape (M, P)."""
    settings = Generate(frames=frames, max_atoms=12, volume_range=(0.75, 1.25), calculator=EAM)
    labelled = label_frames(generate_frames(settings, "W", VOLUME, np.random.default_rng(3)), eam())
    rows = SnapRows(FORM)
    lowest = min(frame.get_potential_energy() / len(frame) for frame in labelled)
    x, y, weights = [], [], []
    for frame in labelled:
        here, _ = rows(frame)
        n = len(frame)
        here[0] *= n
        x.append(here)
        y.append(np.append(frame.get_potential_energy(), frame.get_forces().ravel()))
        above = frame.get_potential_energy() / n - lowest
        weights.append(np.append(10 * np.exp(-above / 2), np.exp(-np.abs(y[-1][1:]) / 50)))
    block = (np.vstack(x), np.concatenate(y), np.concatenate(weights))
    prior = np.zeros(FORM.n_parameters)
    prior[0] = lowest
    ridge = fit_ridge(accumulate(lambda: iter([block]), prior))
    posterior = fit_posterior(lambda: iter([block]), ridge, GaussianRecipe())
    return ridge.theta, posterior.draw(members, "uniform", np.random.default_rng(5))
