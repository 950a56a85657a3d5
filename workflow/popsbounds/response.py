"""What a potential that is linear in its parameters does to a configuration, parameter by parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

__all__ = ["Respond", "Response", "augmented"]


@dataclass(frozen=True)
class Response:
    """Energy, forces and virial of n atoms as linear functions of Θ.

    The last of the P + 1 columns is what does not depend on Θ, such as a
    reference potential: multiply by `augmented` parameters.

    Attributes
    ----------
    energy : ndarray, shape (P + 1,)
        Of the configuration (eV).
    forces : ndarray, shape (3n, P + 1)
        Atom by atom, x y z (eV/Å).
    virial : ndarray, shape (3, 3, P + 1)
        Volume times stress, ASE's sign (eV).
    """

    energy: np.ndarray
    forces: np.ndarray
    virial: np.ndarray

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the design matrix, and reference values.

        Returns
        -------
        rows : ndarray, shape (1 + 3n, P)
            Times Θ: the energy per atom (eV), and the forces (eV/Å; atom by atom, x y z).
        reference : ndarray, shape (1 + 3n,)
            What does not depend on Θ.
        """
        both = np.vstack([self.energy / (len(self.forces) // 3), self.forces])
        return np.ascontiguousarray(both[:, :-1]), both[:, -1].copy()


Respond = Callable[[Atoms], Response]


def augmented(theta: np.ndarray) -> np.ndarray:
    """Parameters, shape (..., P), with a one for what does not depend on them, shape (..., P + 1)."""
    return np.concatenate([theta, np.ones((*np.shape(theta)[:-1], 1))], axis=-1)
