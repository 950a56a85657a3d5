"""Relaxation of one structure under one potential, in its symmetry-allowed coordinates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.optimize import BFGS
from ase.utils.abc import Optimizable

from popsbounds.config import Relax
from popsbounds.coordinates import Coordinates
from popsbounds.errors import InputError
from popsbounds.structures import nearest_neighbour_distance

__all__ = ["NO_MINIMUM", "Relaxed", "evaluate", "failed", "other_basin", "relax", "scaled", "strained", "uniform_scale"]

# Longest step: of an atom (Å) or of the cell's scaled strain.
_LARGEST_STEP = 0.2
# Steps after which a Hessian is learnt anew.
_FORGET = 50
# A bond shorter than this share of the start's is a collapse.
_COLLAPSE = 0.5
# Displacements (Å) that no bond collapses by, and how far an atom may go (in bonds) before it is lost.
_HARMLESS, _FARTHEST = 0.2, 1.5
# Cells whose strain relative to each other differs from a uniform one by less are scaled copies.
_SAME_SHAPE = 1e-8
# Why a structure has no prediction.
NO_MINIMUM = "no minimum of its model within the trust radius"


@dataclass(frozen=True)
class Relaxed:
    """A structure as a potential has it, or what became of it.

    Attributes
    ----------
    atoms : Atoms
        Last geometry.
    energy : float
        Its energy (eV); NaN unless `status` is ``ok``.
    status : str
        ``ok``, ``not_converged``, ``unstable``, ``different_basin`` or ``failed``.
    reason : str
        Why it is not ok, or what else there is to say of it.
    evaluations : int
        Force calls spent.
    stress : ndarray, shape (3, 3)
        At the last geometry (eV/Å³); NaN where the structure is not ok, or its calculator has no stress.
    forces : ndarray, shape (n, 3)
        At the last geometry (eV/Å); NaN where the structure is not ok, or nobody asked for them.
    scale : float
        Of a crystal: cube root of its volume over that of its start.
    strains : ndarray, shape (r,), or None
        Of what has no freedom but its crystal's cell: that crystal's strain coordinates from the MLE's.
    name : str
        What a crystal was asked for by.
    """

    atoms: Atoms
    energy: float
    status: str
    reason: str
    evaluations: int
    stress: np.ndarray
    forces: np.ndarray
    scale: float = 1.0
    strains: np.ndarray | None = None
    name: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is a structure with an energy."""
        return self.status == "ok"

    @property
    def volume(self) -> float:
        """Volume per atom (Å³); NaN unless the structure is ok."""
        return float(self.atoms.get_volume() / len(self.atoms)) if self.ok else np.nan

    @property
    def energy_per_atom(self) -> float:
        """Energy per atom (eV)."""
        return self.energy / len(self.atoms)


class _Stop(Exception):
    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def failed(atoms: Atoms, status: str, reason: str, evaluations: int = 0) -> Relaxed:
    """A structure without an energy.

    Parameters
    ----------
    atoms
        Last geometry.
    status, reason, evaluations
        As in `Relaxed`.
    """
    nothing = np.full((len(atoms), 3), np.nan)
    return Relaxed(atoms, np.nan, status, reason, evaluations, np.full((3, 3), np.nan), nothing)


def strained(atoms: Atoms, deformation: np.ndarray) -> Atoms:
    """Copy whose cell, row vectors, is multiplied by a deformation, shape (3, 3)."""
    copy = atoms.copy()
    copy.set_cell(atoms.cell[:] @ deformation, scale_atoms=True)
    return copy


def scaled(atoms: Atoms, factor: float) -> Atoms:
    """Copy with all lengths multiplied by `factor`."""
    return strained(atoms, factor * np.eye(3))


def uniform_scale(before: Atoms, after: Atoms) -> float | None:
    """Factor between two cells; None where they differ in shape."""
    if len(before) != len(after):
        return None
    factor = (after.get_volume() / before.get_volume()) ** (1 / 3)
    differs = np.abs(after.cell[:] - factor * before.cell[:]).max()
    return float(factor) if differs < _SAME_SHAPE * np.abs(after.cell[:]).max() else None


class _Objective(Optimizable):
    """The energy over symmetry-allowed coordinates, as ASE's optimisers see it."""

    def __init__(
        self, coordinates: Coordinates, scale: float | np.ndarray, calculator: Calculator, settings: Relax
    ) -> None:
        self.coordinates, self.scale, self.calculator, self.settings = coordinates, scale, calculator, settings
        self.evaluations = 0
        self._q = np.zeros(coordinates.size)
        self._at: tuple[Atoms, float, np.ndarray] | None = None

    @property
    def atoms(self) -> Atoms:
        return self._state()[0]

    def _state(self) -> tuple[Atoms, float, np.ndarray]:
        if self._at is None:
            atoms = self.coordinates.place(self._q, self.scale)
            atoms.calc = self.calculator
            self.evaluations += 1
            forces = atoms.get_forces()
            virial = np.zeros((3, 3))
            if len(self.coordinates.strains):
                virial = atoms.get_volume() * atoms.get_stress(voigt=False)
            gradient = self.coordinates.gradient(self._q, forces.ravel(), virial, self.scale)
            self._at = (atoms, atoms.get_potential_energy(), gradient)
        return self._at

    def ndofs(self) -> int:
        return self.coordinates.size

    def get_x(self) -> np.ndarray:
        return self._q.copy()

    def set_x(self, x: np.ndarray) -> None:
        self._q, self._at = np.array(x, float), None

    def get_value(self) -> float:
        return self._state()[1]

    def get_gradient(self) -> np.ndarray:
        return self._state()[2]

    def iterimages(self) -> Any:
        yield self.atoms

    def gradient_norm(self, gradient: np.ndarray) -> float:
        return self.coordinates.largest_step(gradient)

    def converged(self, gradient: np.ndarray, fmax: float) -> bool:
        small = self.coordinates.largest_force(gradient) < fmax
        return small and self.coordinates.largest_stress(gradient) < self.settings.smax_GPa * units.GPa


def relax(
    coordinates: Coordinates,
    calculator: Calculator,
    settings: Relax,
    q: np.ndarray | None = None,
    hessian: np.ndarray | None = None,
    scale: float | np.ndarray = 1.0,
    basin: Atoms | None = None,
) -> Relaxed:
    """Relax a structure along its coordinates to the nearest minimum, with ASE's BFGS.

    Parameters
    ----------
    coordinates
        What may change.
    calculator
        The potential.
    settings
        Tolerances.
    q
        Where to start, shape (k,); None starts at the origin.
    hessian
        Initial Hessian, shape (k, k) (eV/Å²); None takes ASE's.
    scale
        Multiplies all lengths, and is kept; see `Coordinates`.
    basin
        Structure, atom by atom the same, whose basin the result must lie in;
        None takes any.

    Returns
    -------
    Relaxed
        Never raises for a potential that misbehaves: see its status.
    """
    objective = _Objective(coordinates, scale, calculator, settings)
    try:
        # ASE annotates Atoms, and takes whatever is optimisable.
        optimiser = BFGS(objective, logfile=None, maxstep=_LARGEST_STEP)  # type: ignore[arg-type]
        if q is not None:
            objective.set_x(q)
        if hessian is not None:
            optimiser.H0 = hessian.copy()
        first = None
        converged = False
        for step, done in enumerate(optimiser.irun(fmax=settings.fmax_eV_per_A, steps=settings.max_steps), start=1):
            converged = done
            first = objective.get_value() if first is None else first
            _watch(objective, first, settings)
            # A curvature learnt on the way over a saddle can be so large that nothing moves any more.
            if step % _FORGET == 0:
                optimiser.state = None
        atoms = objective.atoms
        if not converged:
            raise _Stop("not_converged", f"{settings.max_steps} steps did not reach the force tolerance")
        elsewhere = "" if basin is None else other_basin(basin, atoms, settings)
        if elsewhere:
            raise _Stop("different_basin", f"{elsewhere} the MLE's structure")
    except _Stop as stop:
        return failed(_without_calculator(objective), stop.status, stop.reason, objective.evaluations)
    except InputError:
        raise
    except Exception as error:  # calculators raise what they like
        reason = f"{type(error).__name__}: {error}"
        return failed(_without_calculator(objective), "failed", reason, objective.evaluations)
    return replace(_read_off(atoms, calculator), evaluations=objective.evaluations)


def _watch(objective: _Objective, first: float, settings: Relax) -> None:
    """Stop what has lost its way."""
    atoms, energy, gradient = objective.atoms, objective.get_value(), objective.get_gradient()
    if not (np.isfinite(energy) and np.isfinite(gradient).all()):
        raise _Stop("unstable", "energy or forces are not finite")
    change = (energy - first) / len(atoms)
    if abs(change) > settings.max_energy_change_eV:
        raise _Stop("unstable", f"energy moved by {change:.3g} eV/atom from its start")
    force = objective.coordinates.largest_force(gradient)
    if force > settings.max_force_eV_per_A:
        raise _Stop("unstable", f"a force of {force:.3g} eV/Å")
    moved = objective.coordinates.largest_step(objective.get_x())
    if moved < _HARMLESS:
        return
    shortest = nearest_neighbour_distance(objective.coordinates.place(np.zeros(objective.ndofs()), objective.scale))
    if moved > _FARTHEST * shortest:
        raise _Stop("unstable", f"atoms or cell went {moved:.2f} Å from their start")
    bond = nearest_neighbour_distance(atoms)
    if bond < _COLLAPSE * shortest:
        raise _Stop("unstable", f"a bond collapsed from {shortest:.2f} to {bond:.2f} Å")


def _without_calculator(objective: _Objective) -> Atoms:
    return objective.coordinates.place(objective.get_x(), objective.scale)


def _read_off(atoms: Atoms, calculator: Calculator) -> Relaxed:
    # Not every calculator has stresses, and not every structure needs one.
    has_stress = "stress" in calculator.implemented_properties
    stress = atoms.get_stress(voigt=False) if has_stress else np.full((3, 3), np.nan)
    energy, forces = float(atoms.get_potential_energy()), atoms.get_forces(apply_constraint=False)
    bare = atoms.copy()
    bare.calc = None
    return Relaxed(bare, energy, "ok", "", 1, stress, forces)


def evaluate(atoms: Atoms, calculator: Calculator) -> Relaxed:
    """Energy, forces and stress of a structure as it is; never raises for a potential that misbehaves."""
    atoms = atoms.copy()
    atoms.calc = calculator
    try:
        result = _read_off(atoms, calculator)
    except InputError:
        raise
    except Exception as error:  # calculators raise what they like
        return failed(atoms.copy(), "failed", f"{type(error).__name__}: {error}", 1)
    if not (np.isfinite(result.energy) and np.isfinite(result.forces).all()):
        return failed(result.atoms, "unstable", "energy or forces are not finite", 1)
    return result


def other_basin(before: Atoms, after: Atoms, settings: Relax) -> str:
    """How far a structure, atom by atom the same as another, has left it.

    Parameters
    ----------
    before, after
        The other structure, and the one.
    settings
        Largest displacement and strain within a basin.

    Returns
    -------
    str
        Empty where both lie in one basin; else what tells them apart, to be
        followed by a name for `before`.
    """
    deformation = np.linalg.solve(before.cell[:], after.cell[:])
    strain = np.abs(np.linalg.eigvalsh(0.5 * (deformation @ deformation.T - np.eye(3)))).max()
    if strain > settings.basin_strain:
        return f"strained by {strain:.2f} from"
    moved = after.get_positions() - before.get_positions() @ deformation
    moved = np.linalg.norm(moved - moved.mean(axis=0), axis=1).max() / nearest_neighbour_distance(before)
    if moved > settings.basin_displacement:
        return f"an atom moved {moved:.2f} neighbour distances from"
    return ""
