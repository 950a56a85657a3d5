"""Force calls and time of the propagation, as ratios to cold relaxations in the same run: make benchmark.

The members are relaxed by the workflow's own code, and from scratch by ASE's L-BFGS and FIRE in all Cartesian
coordinates; every method in turn, member after member, so that a busy machine slows all.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.linalg  # noqa: F401 (brings its own BLAS, whose threads are to be limited too)
import threadpoolctl
from ase.filters import FrechetCellFilter
from ase.mep import NEB
from ase.optimize import FIRE, LBFGS

sys.path.insert(0, str(Path(__file__).parents[1]))

from ensembles import FORM, VOLUME, ensemble

from popsbounds.band import Band
from popsbounds.config import Propagate, Properties
from popsbounds.descriptors.snap import SnapCalculator, SnapRows
from popsbounds.implicit import Automatic, Implicit, propagate_automatically
from popsbounds.member import Member, evaluate_models
from popsbounds.models import Builder, Recorder
from popsbounds.potential import ColdPotential
from popsbounds.properties import REGISTRY, Settings
from popsbounds.relax import evaluate

SETTINGS = Propagate()


class Scratch(ColdPotential):
    """Every relaxation from scratch, by an optimiser of ASE's, in all Cartesian coordinates."""

    def __init__(self, calculator, settings, optimiser) -> None:
        super().__init__(calculator, settings)
        self.optimiser = optimiser

    def _run(self, atoms, cell):
        atoms = atoms.copy()
        atoms.calc = self.calculator
        target = FrechetCellFilter(atoms) if cell else atoms
        self.optimiser(target, logfile=None).run(fmax=self.settings.fmax_eV_per_A, steps=1000)
        return evaluate(atoms, self.calculator)

    def _crystal(self, name, atoms):
        return self._run(atoms, cell=True)

    def _relax(self, name, atoms, crystal):
        return self._run(atoms, cell=False)

    def _unstable_modes(self, name, relaxed):
        return 0  # the same for all: not compared

    def _band(self, name, images, crystal):
        ends = [self._run(images[0], cell=False), self._run(images[-1], cell=False)]
        path = [ends[0].atoms, *(image.copy() for image in images[1:-1]), ends[1].atoms]
        for image in path[1:-1]:
            image.calc = self.calculator
        for end, image in zip(ends, (path[0], path[-1]), strict=True):
            NEB.freeze_results_on_image(image, energy=end.energy, forces=end.forces)
        for climb, tolerance in ((False, 0.05), (True, self.settings.fmax_band_eV_per_A)):
            neb = NEB(path, k=5.0, climb=climb, method="improvedtangent", allow_shared_calculator=True)
            FIRE(neb, logfile=None).run(fmax=tolerance, steps=1000)
        return Band([ends[0], *(evaluate(image, self.calculator) for image in path[1:-1]), ends[1]], "ok", "", 0)


def report(names: list[str], n_members: int) -> None:
    """All measurements."""
    mle, thetas = ensemble(1500, n_members)
    print(f"{FORM.n_parameters} parameters, {n_members} members; force calls a member, and time beside ours (relaxed)")
    head = [
        "property",
        "calls",
        "auto",
        "L-BFGS",
        "FIRE",
        "implicit / ours",
        "auto / ours",
        "L-BFGS / ours",
        "FIRE / ours",
    ]
    head += ["outside force calls", "models"]
    print("  ".join(f"{word:>15}" for word in head))
    tolerance = SETTINGS.families.tolerance_eV_per_atom
    for name in names:
        section = getattr(Properties(**{name: {}}), name)
        prop = REGISTRY[name](Settings(section, "W", VOLUME))
        recorder = Recorder(SnapCalculator(FORM, mle), SETTINGS.relax)
        list(prop.values(recorder))
        start = time.perf_counter()
        models = Builder(recorder, SnapRows(FORM).respond, FORM.cutoffs, mle, thetas, SETTINGS.families).build()
        building = time.perf_counter() - start
        start = time.perf_counter()
        known = evaluate_models(models, thetas, tolerance)
        shared = (time.perf_counter() - start) / n_members
        coarse = evaluate_models(models, thetas, tolerance, "second")
        runs = []
        calculators = {what: SnapCalculator(FORM, mle) for what in ("ours", "implicit", "auto", "L-BFGS", "FIRE")}
        for number, theta in enumerate(thetas):
            for what, calculator in calculators.items():
                calculator.set_theta(theta)
                calculator.calls, calculator.seconds = 0, 0.0
                member = Member(known[number], calculator, SETTINGS.relax)
                start = time.perf_counter()
                if what == "ours":
                    list(prop.values(member))
                elif what == "implicit":
                    list(prop.values(Implicit(known[number], SETTINGS.relax)))
                elif what == "auto":
                    propagate_automatically(prop, Automatic(member, coarse[number]), section.tolerance)
                else:
                    optimiser = {"L-BFGS": LBFGS, "FIRE": FIRE}[what]
                    list(prop.values(Scratch(calculator, SETTINGS.relax, optimiser)))
                seconds = time.perf_counter() - start
                seconds += {"ours": shared, "implicit": shared, "auto": 2 * shared}.get(what, 0.0)
                runs.append((what, calculator.calls, seconds, seconds - calculator.seconds))
        table = pd.DataFrame(runs, columns=["what", "calls", "seconds", "outside"]).groupby("what").mean()
        calls, seconds = table["calls"], table["seconds"] / table.loc["ours", "seconds"]
        line = [name, *(f"{calls[what]:.0f}" for what in ("ours", "auto", "L-BFGS", "FIRE"))]
        line += [f"{seconds[what]:.2g}" for what in ("implicit", "auto", "L-BFGS", "FIRE")]
        line += [f"{table.loc['ours', 'outside'] / table.loc['ours', 'seconds']:.0%}"]
        line += [f"{building / table.loc['L-BFGS', 'seconds']:.1f}"]
        print("  ".join(f"{word:>15}" for word in line), flush=True)
    print("models: time to compute them once, in members relaxed by L-BFGS")


if __name__ == "__main__":
    threadpoolctl.threadpool_limits(limits=1)
    np.seterr(all="ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("properties", nargs="*", default=list(REGISTRY))
    options = parser.parse_args()
    report(options.properties, options.members)
