"""Self-interstitials in bcc: formation energies at the potential's own lattice constant, symmetry kept."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import MappingProxyType

from popsbounds.potential import Potential
from popsbounds.properties.base import Settings, Value, excess_energy, value
from popsbounds.structures import crystal, interstitial

__all__ = ["InterstitialProperty"]


class InterstitialProperty:
    """Formation energy E(n + 1) − (n + 1) E_bulk of each configuration (eV), and its Hessian index.

    A configuration keeps its symmetry, and may be a saddle between others; the
    index, the number of unstable modes, says so. Of a member it is counted in
    the twelve softest symmetry-breaking directions of the MLE, about the MLE's
    structure: a lower bound there, and an estimate for its own structure.
    """

    units = MappingProxyType({"formation_energy": "eV", "hessian_index": "1"})

    def __init__(self, settings: Settings) -> None:
        self.options = options = settings.options
        self.structures = list(options.structures)
        self.bulk = crystal("bcc", settings.element, settings.volume)
        self.defects = {
            kind: interstitial(kind, settings.element, settings.volume, options.repeats) for kind in self.structures
        }

    def values(self, potential: Potential) -> Iterator[Value]:
        bulk = potential.crystal("bcc", self.bulk)
        for kind, atoms in self.defects.items():
            defect = potential.relax(kind, atoms, within=bulk)
            needs = {"bcc": bulk, kind: defect}
            yield value(kind, "formation_energy", "eV", needs, partial(excess_energy, defect, bulk))
            if self.options.unstable_modes:
                count = partial(potential.unstable_modes, kind, defect)
                yield value(kind, "hessian_index", "1", needs, count)
