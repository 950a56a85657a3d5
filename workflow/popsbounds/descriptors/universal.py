"""Universal potentials under a linear corrector: rows of the design matrix, and the potential they define.

A universal potential reads its energy out of scalar descriptors D_i of each atom. The corrector adds what is linear in
them, E = E_model + Σ_i Θ·D_i, so that the universal potential stands where SNAP has its reference potential and
everything else, from the fit to the members' properties, is the same.

Source: Perez, Subramanyam, Maliyov & Swinburne, npj Comput. Mater. 11, 263 (2025).
"""

from __future__ import annotations

import importlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from popsbounds.config import MODELS, Universal
from popsbounds.dataset import element_shares
from popsbounds.errors import InputError
from popsbounds.live import LiveCalculator
from popsbounds.response import Response

if TYPE_CHECKING:
    import torch

__all__ = [
    "Evaluation",
    "UniversalCalculator",
    "UniversalForm",
    "UniversalModel",
    "UniversalRows",
    "check_energy_references",
    "load_model",
    "model_class",
]

_LOG = logging.getLogger(__name__)

_PREDICTED = {"raw": "raw DFT energies", "mp2020": "energies with the Materials Project's corrections of 2020"}
# Residuals follow the composition where the elements' shares explain this much of their variance (leave-one-out) and
# the part explained is larger than this (eV/atom, root mean square).
_EXPLAINED, _OFFSET_EV = 0.5, 0.05


@dataclass(frozen=True)
class Evaluation:
    """What a model says of a batch of configurations, as tensors.

    Attributes
    ----------
    energies : list of Tensor
        Total energy of each (eV).
    descriptors : list of Tensor, shapes (n, K)
        Scalar descriptors of its atoms.
    positions : Tensor, shape (n, 3), or None
        Positions (Å) that both depend on, where gradients were asked for.
    strain : Tensor, shape (3, 3), or None
        Zeros: positions and cell, row vectors, are multiplied by one plus them.
    """

    energies: list[torch.Tensor]
    descriptors: list[torch.Tensor]
    positions: torch.Tensor | None = None
    strain: torch.Tensor | None = None


class UniversalModel(ABC):
    """A universal potential. To add one, write this class and name it in `descriptors.model`.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    arguments
        Section `descriptors.arguments`.

    Attributes
    ----------
    energies : {"raw", "mp2020"}
        What its energies are: those of DFT, or with the Materials Project's corrections of 2020.
    n_descriptors : int
        K.
    cutoffs : list of float
        Distances (Å) at which the interaction of a pair ends.
    """

    energies: ClassVar[Literal["raw", "mp2020"]]
    n_descriptors: int
    cutoffs: list[float]

    @abstractmethod
    def __init__(self, device: str, **arguments: Any) -> None: ...

    @classmethod
    def pickle(cls, **arguments: Any) -> str | None:
        """What, other than a part of the model's own package, would be unpickled to make the model, if anything."""
        return None

    @abstractmethod
    def evaluate(self, batch: Sequence[Atoms], gradients: bool) -> Evaluation:
        """Energies and descriptors of some periodic configurations; of one alone, what gradients need as well."""


def model_class(settings: Universal) -> type[UniversalModel]:
    """Class of a model.

    Raises
    ------
    InputError
        It cannot be imported.
    """
    path = MODELS.get(settings.model, settings.model)
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # modules raise what they like
        known = ", ".join(MODELS)
        reason = f"cannot be imported ({error}); shipped are {known}, others are named by their import path"
        raise InputError(f"descriptors.model {settings.model}", [reason]) from None
    return found


def load_model(settings: Universal) -> UniversalModel:
    """Load a model.

    Raises
    ------
    InputError
        It cannot be imported or loaded, would load a pickle that is not allowed, or the device is not there.
    """
    found, origin = model_class(settings), f"descriptors.model {settings.model}"
    try:
        pickle = found.pickle(**settings.arguments)
        if pickle is not None and not settings.allow_pickle:
            reason = f"{pickle} is a pickle, which can run anything when it is loaded; if you trust it, set "
            raise InputError(origin, [reason + "descriptors.allow_pickle: true"])
        import torch

        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device == "cuda" and not torch.cuda.is_available():
            raise InputError("descriptors.device", ["'cuda', but PyTorch sees no GPU here; write 'auto' or 'cpu'"])
        return found(device, **settings.arguments)
    except InputError:
        raise
    except ImportError as error:
        extra = f": make extra EXTRA={settings.model}" if settings.model in MODELS else ""
        raise InputError(origin, [f"is not installed ({error}){extra}"]) from None
    except Exception as error:  # models raise what they like
        raise InputError(origin, [f"cannot be loaded: {type(error).__name__}: {error}"]) from None


class UniversalForm:
    """The functional form of the corrector: everything but Θ.

    Θ begins with a constant for every atom, then come those of `element_shifts`, then the descriptors' coefficients.

    Parameters
    ----------
    settings
        Section `descriptors` of the configuration.
    """

    def __init__(self, settings: Universal) -> None:
        self.settings = settings
        self._model: UniversalModel | None = None

    @property
    def model(self) -> UniversalModel:
        """The universal potential, loaded when first asked for."""
        if self._model is None:
            self._model = load_model(self.settings)
        return self._model

    @property
    def constants(self) -> list[int]:
        """Positions in Θ of the constants."""
        return list(range(1 + len(self.settings.element_shifts)))

    @property
    def n_parameters(self) -> int:
        """Length P of Θ."""
        return len(self.constants) + self.model.n_descriptors

    @property
    def cutoffs(self) -> list[float]:
        """Distances (Å) at which the interaction of a pair ends."""
        return self.model.cutoffs

    def rows(self) -> UniversalRows:
        """Computes rows of the design matrix."""
        return UniversalRows(self)

    def calculator(self, theta: np.ndarray) -> UniversalCalculator:
        """ASE calculator of the potential with parameters Θ, shape (P,)."""
        return UniversalCalculator(self, theta)

    def counts(self, atoms: Atoms) -> np.ndarray:
        """What multiplies the constants: the number of atoms, in all and of each shifted element."""
        shifted = [np.count_nonzero(atoms.symbols == element) for element in self.settings.element_shifts]
        return np.array([len(atoms), *shifted], dtype=float)


class UniversalRows:
    """Rows of the design matrix, of one batch of configurations after another; with forces, of one configuration.

    Parameters
    ----------
    form
        The functional form.
    """

    def __init__(self, form: UniversalForm) -> None:
        self.form, self.model = form, form.model
        self.calls = 0

    def stream(
        self, frames: Sequence[Atoms], forces: Sequence[bool] | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows and the universal potential's values of each configuration of n atoms.

        Where forces are asked for, shapes (1 + 3n, P) and (1 + 3n,): the energy per atom (eV) and the forces (eV/Å).
        Elsewhere the energy alone.

        Batches hold `descriptors.batch_atoms` atoms. One that fails is halved, in case the memory was too small for it;
        so an error comes when the configuration that it is about is asked for.
        """
        batch: list[Atoms] = []
        for atoms, with_forces in zip(frames, forces or [False] * len(frames), strict=True):
            if with_forces:
                yield from self._batch(batch)
                batch = []
                yield self.respond(atoms).rows()
                continue
            if batch and sum(map(len, batch)) + len(atoms) > self.form.settings.batch_atoms:
                yield from self._batch(batch)
                batch = []
            batch.append(atoms)
        yield from self._batch(batch)

    def _batch(self, batch: Sequence[Atoms]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if not batch:
            return
        self.calls += 1
        try:
            found = self.model.evaluate(batch, gradients=False)
        except Exception as error:  # models raise what they like
            if len(batch) == 1:
                raise
            found = None
            _LOG.warning("halving a batch of %d configurations: %s", len(batch), " ".join(str(error).split()))
        if found is None:  # by now, nothing holds on to the tensors of the one that failed
            half = len(batch) // 2
            yield from self._batch(batch[:half])
            yield from self._batch(batch[half:])
            return
        for atoms, energy, descriptors in zip(batch, found.energies, found.descriptors, strict=True):
            row = np.concatenate([self.form.counts(atoms), _array(descriptors.sum(dim=0))])
            yield row[None] / len(atoms), np.array([float(energy)]) / len(atoms)

    def respond(self, atoms: Atoms) -> Response:
        """Energy, forces and virial of a periodic configuration by parameter, the universal potential last."""
        self.calls += 1
        found = self.model.evaluate([atoms], gradients=True)
        columns = [*found.descriptors[0].sum(dim=0), found.energies[0]]
        n_constants, n = len(self.form.constants), len(atoms)
        energy = np.concatenate([self.form.counts(atoms), [float(column.detach()) for column in columns]])
        forces, virial = np.zeros((3 * n, len(energy))), np.zeros((3, 3, len(energy)))
        for k, column in enumerate(columns, n_constants):
            force, work = _gradients(column, found)
            forces[:, k], virial[..., k] = force.ravel(), work
        return Response(energy, forces, virial)


class UniversalCalculator(LiveCalculator):
    """ASE calculator of a corrected universal potential whose Θ can be swapped.

    Parameters
    ----------
    form
        The functional form.
    theta
        Parameters, shape (P,).
    """

    def __init__(self, form: UniversalForm, theta: np.ndarray) -> None:
        super().__init__(form.settings.model)
        self.form = form
        self.set_theta(theta)

    def set_theta(self, theta: np.ndarray) -> None:
        """Swap the parameters, shape (P,); results of the old ones are forgotten."""
        self.theta = np.asarray(theta, dtype=float)
        self.reset()

    def _evaluate(self, atoms: Atoms) -> dict[str, Any]:
        constants, coefficients = np.split(self.theta, [len(self.form.constants)])
        found = self.form.model.evaluate([atoms], gradients=True)
        total = found.descriptors[0].sum(dim=0)
        energy = found.energies[0] + total @ total.new_tensor(coefficients)
        forces, virial = _gradients(energy, found)
        return {
            "energy": float(energy.detach()) + float(self.form.counts(atoms) @ constants),
            "forces": forces,
            "stress": full_3x3_to_voigt_6_stress(virial / atoms.get_volume()),
        }


def _gradients(energy: torch.Tensor, found: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Forces, shape (n, 3), and virial, shape (3, 3), of an energy of the only configuration."""
    import torch

    assert found.positions is not None
    assert found.strain is not None
    slopes = torch.autograd.grad(energy, (found.positions, found.strain), retain_graph=True)
    along, work = (_array(slope).reshape(-1, 3) for slope in slopes)
    return -along, (work + work.T) / 2


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def check_energy_references(residuals: np.ndarray, frames: Sequence[Atoms], settings: Universal) -> None:
    """Compare the energies of data and model, whose zeros may differ from element to element.

    Data without the Materials Project's corrections and a model with them, or the reverse, differ by constants of
    some elements, which no descriptor should have to make up for.

    Parameters
    ----------
    residuals
        Energies of the data minus those of the model (eV/atom).
    frames
        The configurations.
    settings
        Section `descriptors`, named in the message.

    Raises
    ------
    InputError
        The elements' shares explain most of the residuals. Names the elements with the largest constants.
    """
    symbols, shares = element_shares(frames)
    taken = [symbols.index(element) for element in settings.element_shifts if element in symbols]
    free = np.delete(shares, taken, axis=1)
    # What the corrector's own constants take up is no offset.
    own = np.column_stack([np.ones(len(frames)), shares[:, taken]])
    residuals = residuals - own @ np.linalg.lstsq(own, residuals, rcond=None)[0]
    spread = np.mean(residuals**2)
    if free.shape[1] < 2 or spread == 0.0:
        return
    penalty = 1e-3 * np.trace(free.T @ free) / free.shape[1]
    inverse = np.linalg.inv(free.T @ free + penalty * np.eye(free.shape[1]))
    constants = inverse @ free.T @ residuals
    explained = free @ constants
    leverage = np.einsum("ij,jk,ik->i", free, inverse, free)
    unexplained = np.mean(((residuals - explained) / (1 - leverage)) ** 2)
    share, size = 1 - unexplained / spread, np.sqrt(np.mean(explained**2))
    _LOG.info("composition explains %.0f %% of the residuals' variance (leave-one-out)", 100 * max(share, 0))
    if share < _EXPLAINED or size < _OFFSET_EV:
        return
    names = np.delete(symbols, taken)
    weight = np.abs(constants) * np.sqrt(np.mean(free**2, axis=0))
    largest = ", ".join(f"{names[i]} {constants[i]:+.2f}" for i in np.argsort(-weight)[:6])
    raise InputError(
        f"dataset, descriptors.model {settings.model}",
        [
            f"the data's energies differ from the model's by constants of elements ({largest} eV/atom), which explain "
            f"{100 * share:.0f} % of the residuals' variance. {settings.model} predicts "
            f"{_PREDICTED[model_class(settings).energies]}: name such energies in keys.energy of the source, or give "
            "these elements constants of their own in descriptors.element_shifts"
        ],
    )
