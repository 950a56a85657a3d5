"""Transformation paths against the crystals they pass through."""

import numpy as np
import pytest
import spglib
from ase import Atoms

from popsbounds.calculators import make_calculator
from popsbounds.config import PairStyle
from popsbounds.errors import InputError
from popsbounds.paths import PATHS, path_coordinates, transformation_path
from popsbounds.structures import crystal, nearest_neighbour_distance

EAM = PairStyle(pair_style="eam/alloy", pair_coeff=["* * W_zhou.eam.alloy W"])
VOLUME = 15.8
A = (2 * VOLUME) ** (1 / 3)
SPACE_GROUPS = {"bcc": 229, "fcc": 225, "sc": 221, "hcp": 194}
# I4/mmm, Fmmm, R-3m and Cmcm: what a path keeps away from its crystals.
GENERAL = {"tetragonal": 139, "orthorhombic": 69, "trigonal": 166, "hexagonal": 63}
KINDS = list(PATHS)
POINTS = [(kind, name, p) for kind in KINDS for name, p in PATHS[kind].points]

# spglib announces a change of its error handling, which these tests do not meet.
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING")


def expected(name: str) -> Atoms:
    """The crystal, hcp with the ideal axial ratio rather than its prototype's."""
    atoms = crystal(name, "W", VOLUME)
    if name == "hcp":
        a, _, c = atoms.cell.lengths()
        factor = np.sqrt(8 / 3) * a / c
        atoms.set_cell(atoms.cell[:] * (factor ** (np.array([-1, -1, 2]) / 3))[:, None], scale_atoms=True)
    return atoms


def space_group(atoms: Atoms) -> int:
    return spglib.get_symmetry_dataset((atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers), 1e-6).number


def test_names():
    names = {kind: [name for name, _ in PATHS[kind].points] for kind in KINDS}
    assert names == {
        "tetragonal": ["bcc", "fcc"],
        "orthorhombic": ["bcc", "bcc"],
        "trigonal": ["bcc", "sc", "fcc"],
        "hexagonal": ["bcc", "hcp"],
    }
    assert all(PATHS[kind].low <= p <= PATHS[kind].high for kind, _, p in POINTS)


@pytest.mark.parametrize(("kind", "name", "p"), POINTS)
def test_passes_through_its_crystals(kind, name, p):
    atoms = transformation_path(kind, "W", VOLUME, p)
    assert space_group(atoms) == SPACE_GROUPS[name]
    assert nearest_neighbour_distance(atoms) == pytest.approx(nearest_neighbour_distance(expected(name)))


@pytest.mark.parametrize(("kind", "name", "p"), POINTS)
def test_energy_of_its_crystals(kind, name, p):
    calculator = make_calculator(EAM, ["W"])
    energies = []
    for atoms in (transformation_path(kind, "W", VOLUME, p), expected(name)):
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy() / len(atoms))
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_between_its_crystals(kind):
    path = PATHS[kind]
    crystals = [p for _, p in path.points]
    for p in path_coordinates(kind, 15):
        atoms = transformation_path(kind, "W", VOLUME, p)
        assert len(atoms) == (2 if kind == "hexagonal" else 1)
        assert atoms.get_volume() / len(atoms) == pytest.approx(VOLUME, rel=1e-12)
        assert atoms.cell.handedness == 1
        assert atoms.pbc.all()
        assert atoms.info == {"name": kind, "coordinate": p}
        assert nearest_neighbour_distance(atoms) > 0.85 * A * np.sqrt(3) / 2
        if np.abs(np.array(crystals) - p).min() > 1e-3:
            assert space_group(atoms) == GENERAL[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_smooth(kind):
    """Third differences of an analytic function shrink with the third power of the step."""
    path = PATHS[kind]
    largest = []
    for n in (401, 801):
        images = [transformation_path(kind, "W", VOLUME, p) for p in np.linspace(path.low, path.high, n)]
        geometry = np.array([[*image.cell[:], *image.positions] for image in images])
        largest.append(np.abs(np.diff(geometry, 3, axis=0)).max())
    assert largest[0] < 1e-3
    assert largest[0] / largest[1] == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_does_not_rotate(kind):
    start = transformation_path(kind, "W", VOLUME, PATHS[kind].points[0][1]).cell[:]
    stretch = np.linalg.solve(start, transformation_path(kind, "W", VOLUME, PATHS[kind].high).cell[:])
    np.testing.assert_allclose(stretch, stretch.T, atol=1e-12)
    assert np.linalg.eigvalsh(stretch).min() > 0


def test_tetragonal_coordinate_is_the_axial_ratio():
    cell = transformation_path("tetragonal", "W", VOLUME, 1.3).cell[:]
    a, c = (cell[1] + cell[2])[0], (cell[0] + cell[1])[2]  # the edges of the body-centred cell
    assert c / a == pytest.approx(1.3)


@pytest.mark.parametrize(("p", "angle"), [(1, np.degrees(np.arccos(-1 / 3))), (2, 90), (4, 60)])
def test_trigonal_cell_is_a_rhombohedron(p, angle):
    cell = transformation_path("trigonal", "W", VOLUME, p).cell
    np.testing.assert_allclose(cell.lengths(), cell.lengths()[0])
    np.testing.assert_allclose(cell.angles(), angle)


def test_orthorhombic_path_is_its_own_mirror_image():
    calculator = make_calculator(EAM, ["W"])

    def energy(p):
        atoms = transformation_path("orthorhombic", "W", VOLUME, p)
        atoms.calc = calculator
        return atoms.get_potential_energy()

    middle = 2**0.25
    for factor in (1.03, 1.1):
        assert energy(middle * factor) == pytest.approx(energy(middle / factor), abs=1e-9)
    assert energy(middle * 1.1) != pytest.approx(energy(middle), abs=1e-3)
    assert space_group(transformation_path("orthorhombic", "W", VOLUME, middle)) == GENERAL["tetragonal"]


def test_hexagonal_path_reaches_ideal_hcp():
    atoms = transformation_path("hexagonal", "W", VOLUME, 1)
    a, b, c = atoms.cell.lengths()
    assert a == pytest.approx(b)
    assert c / a == pytest.approx(np.sqrt(8 / 3))
    np.testing.assert_allclose(atoms.cell.angles(), [90, 90, 120])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [5, 22, 40])
def test_coordinates(kind, n):
    path = PATHS[kind]
    found = path_coordinates(kind, n)
    assert found.shape == (n,)
    assert found[0] == path.low
    assert found[-1] == path.high
    assert all(p in found for _, p in path.points)
    steps = np.diff(found)
    assert steps.min() > 0
    if n == 40:
        assert steps.max() < 1.1 * (path.high - path.low) / (n - 1)
    if (kind, n) == ("trigonal", 22) or kind == "orthorhombic":
        assert steps == pytest.approx((path.high - path.low) / (n - 1))


def test_rejects():
    with pytest.raises(InputError, match="tetragonal, orthorhombic, trigonal, hexagonal"):
        transformation_path("bain", "W", VOLUME, 1.0)
    with pytest.raises(InputError, match="monoclinic"):
        path_coordinates("monoclinic", 10)
    with pytest.raises(InputError, match="at least 5"):
        path_coordinates("trigonal", 4)


@pytest.mark.parametrize(
    ("kind", "p"), [("tetragonal", 0), ("trigonal", -1), ("orthorhombic", 0), ("orthorhombic", -1), ("hexagonal", 6)]
)
def test_end_of_a_path(kind, p):
    with pytest.raises(InputError, match=f"{kind} path has no crystal"):
        transformation_path(kind, "W", VOLUME, p)
