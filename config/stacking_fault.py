"""Generalised stacking-fault energy of bcc, slip by 1/2⟨111⟩ on {110}: the gamma line, and its maximum.

An example of a property of your own. In a study::

    properties:
      own:
        stacking_fault:
          file: config/stacking_fault.py
          arguments: {layers: 12, points: 21}

What a property can ask a potential for is written at the top of `popsbounds.properties.own`.
"""

import numpy as np
from ase import Atoms, units
from ase.constraints import FixedLine

from popsbounds.structures import crystal

NORMAL = [1, -1, 0]  # of the glide plane, in the cubic axes
BURGERS = [0.5, 0.5, 0.5]  # the slip that takes the crystal back to itself, in lattice constants


def quantities(potential, element, volume, layers=12, points=21):
    """Ask a potential for the faults, then yield the line and its maximum.

    `volume` is the material's volume per atom (Å³), for the structures to start with; `layers` is the number of
    planes between a fault and its periodic image, `points` that of points from no slip to a whole Burgers vector: odd,
    so that one is in the middle, where the maximum is expected.
    """
    # Every structure has a name: members find by it what was learnt from the MLE.
    bulk = potential.crystal("bcc", crystal("bcc", element, volume))

    # The second half of the line mirrors the first. `within=bulk` scales each structure to the potential's own
    # lattice constant.
    fractions = np.linspace(0, 1, points)
    half = fractions[: (points + 1) // 2]
    slipped = [
        potential.relax(f"slip_{number}", fault(element, volume, layers, fraction), within=bulk)
        for number, fraction in enumerate(half)
    ]

    # The first structure, without slip, is the perfect crystal in the same cell. One fault a cell: one area, not two.
    cell = slipped[0].atoms.cell
    area = np.linalg.norm(np.cross(cell[0], cell[1]))
    line = np.array([structure.energy - slipped[0].energy for structure in slipped]) / area
    line = line * units.m**2 / units.J  # ASE's unit J is one joule in eV
    line = np.concatenate([line, line[: points // 2][::-1]])

    # If a structure failed, its energy is not a number, and neither is what is made of it: no need to ask.
    # Structure, quantity, unit, value and, on a curve, the place: one that is the same for every potential.
    for fraction, energy in zip(fractions, line, strict=True):
        yield "111_110", "fault_energy", "J/m2", energy, fraction
    yield "111_110", "unstable_fault_energy", "J/m2", line.max()


def fault(element, volume, layers, fraction):
    """Crystal of so many {110} planes, one atom each, slipped by a fraction of the Burgers vector at the cell's end."""
    a = (2 * volume) ** (1 / 3)
    in_plane = a * np.array([[0.5, 0.5, 0.5], [0.5, 0.5, -0.5]])
    # From plane to plane by [100] and [0-10] in turn: both lead a plane up, and together they don't drift sideways.
    steps = a * np.array([[1, 0, 0], [0, -1, 0]])
    heights = np.array([steps[: plane % 2].sum(axis=0) + plane // 2 * steps.sum(axis=0) for plane in range(layers + 1)])
    # The perfect crystal goes on where the last plane would be; the slip is the tilt of the cell added to it.
    top = heights[-1] + fraction * a * np.array(BURGERS)
    atoms = Atoms([element] * layers, positions=heights[:-1], cell=[*in_plane, top], pbc=True)
    # Atoms that may move sideways would slip back: let them move along the normal only.
    atoms.set_constraint(FixedLine(range(layers), NORMAL))
    return atoms
