"""A small ensemble of real potentials, and what tests do with it.

Quadratic SNAPs for tungsten fitted to labels of an EAM potential.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from popsbounds.calculators import make_calculator
from popsbounds.config import Generate, PairStyle, Propagate, Snap
from popsbounds.coordinates import Coordinates, strain_basis
from popsbounds.descriptors.snap import SnapCalculator, SnapModel, SnapRows
from popsbounds.generate import generate_frames
from popsbounds.label import label_frames
from popsbounds.models import Builder, Recorder
from popsbounds.pops import Gaussian, GaussianRecipe, accumulate, fit_posterior, fit_ridge
from popsbounds.propagate import propagate, value_table
from popsbounds.properties import REGISTRY, Settings

EAM = PairStyle(pair_style="eam/alloy", pair_coeff=["* * W_zhou.eam.alloy W"])
VOLUME = 15.85
FORM = SnapModel(Snap(twojmax=6), ["W"])
SETTINGS = Propagate()
RELAX = SETTINGS.relax


def eam():
    """The teacher."""
    return make_calculator(EAM, ["W"])


@cache
def posterior(frames: int = 400) -> Gaussian:
    """What the parameters are, fitted to so many frames."""
    settings = Generate(frames=frames, max_atoms=12, volume_range=(0.75, 1.25), calculator=EAM)
    labelled, _ = label_frames(generate_frames(settings, "W", VOLUME, np.random.default_rng(3)), eam(), "")
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
    return fit_posterior(lambda: iter([block]), ridge, GaussianRecipe())


def ensemble(frames: int = 400, members: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """The loss-minimising parameters, shape (P,), and members, shape (M, P)."""
    fitted = posterior(frames)
    return fitted.theta, fitted.draw(members, "uniform", np.random.default_rng(5))


def make(name, options, volume=VOLUME):
    return REGISTRY[name](Settings(options, "W", volume))


def learn(prop, name, mle, thetas, relax=RELAX):
    """The MLE's values, and the models of what they rest on."""
    recorder = Recorder(SnapCalculator(FORM, mle), relax)
    expected = value_table(name, list(prop.values(recorder)), "mle")
    builder = Builder(recorder, SnapRows(FORM).respond, FORM.cutoffs, mle, thetas, SETTINGS.families)
    return expected, builder.build()


def with_cell(atoms):
    """Coordinates of a structure whose cell relaxes, too."""
    return Coordinates(atoms, strains=strain_basis(atoms))


def as_members(name, options, mle, thetas):
    """Lines of the members, computed the quick way."""
    prop = make(name, options)
    expected, models = learn(prop, name, mle, thetas)
    table = propagate(name, prop, models, dict(enumerate(thetas)), SnapCalculator(FORM, mle), SETTINGS, expected)
    assert (table["status"] == "ok").all(), table[table["status"] != "ok"].to_string()
    return table


def wild(count):
    """Potentials, far apart, that have little in common but their form."""
    mle, thetas = ensemble()
    return mle, thetas[:count]


def narrow():
    """Members half as far from the MLE, as an ensemble fitted to more data has them."""
    mle, thetas = ensemble()
    return mle, mle + 0.5 * (thetas - mle)


def fire(atoms, calculator, cell=False, fmax=1e-4):
    """Relax in all Cartesian coordinates, symmetry unheeded."""
    atoms = atoms.copy()
    atoms.calc = calculator
    assert FIRE(FrechetCellFilter(atoms) if cell else atoms, logfile=None).run(fmax=fmax, steps=3000)
    return atoms
