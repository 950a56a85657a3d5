"""Crystals against their space groups, slabs against the geometry of lattice planes."""

from importlib import resources

import numpy as np
import pytest
import spglib
import yaml
from ase import Atoms
from ase.neighborlist import neighbor_list

from popsbounds import structures
from popsbounds.errors import InputError
from popsbounds.structures import crystal, crystal_names, material_volume, nearest_neighbour_distance, slab

PROTOTYPES = yaml.safe_load((resources.files("popsbounds.resources") / "crystals.yaml").read_text(encoding="utf-8"))
NAMES = list(PROTOTYPES)
BCC_FACETS = ["100", "110", "111", "210", "211", "310", "311", "320", "321", "322", "332"]
FCC_FACETS = ["100", "110", "111", "210", "211", "221", "310", "311", "331"]
VOLUME = 15.85
# Frank-Kasper phases have only their four coordination polyhedra; α-Mn has one of 13 besides.
COORDINATION = {
    "sc": {6},
    "diamond": {4},
    "hcp": {12},
    "A15": {12, 14},
    "sigma": {12, 14, 15},
    "chi": {12, 13, 16},
    "mu": {12, 14, 15, 16},
    "C14": {12, 16},
    "C15": {12, 16},
    "C36": {12, 16},
    "Al5W": {12},
}

# spglib announces a change of its error handling, which these tests do not meet.
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING")


def symmetry(atoms: Atoms):
    cell = (atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers)
    return spglib.get_symmetry_dataset(cell, symprec=1e-3)


def distinct(name: str, primitive: bool) -> Atoms:
    """The prototype with another species on each orbit."""
    species = ["H", "He", "Li", "Be", "B", "C", "N", "O", "F"]
    return structures._build(PROTOTYPES[name], species[: len(PROTOTYPES[name]["sites"])], primitive)


def test_names():
    phases = ["bcc", "fcc", "hcp", "A15", "sigma", "chi", "mu", "C14", "C15", "C36", "Al12W", "Al5W", "Al4W"]
    assert set(crystal_names()) == {*phases, "sc", "diamond"}
    assert all(PROTOTYPES[name]["source"] for name in NAMES)


@pytest.mark.parametrize("primitive", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_symmetry_of_prototype(name, primitive):
    assert symmetry(distinct(name, primitive)).number == PROTOTYPES[name]["space_group"]


@pytest.mark.parametrize("name", NAMES)
def test_orbits_have_the_multiplicity_of_their_wyckoff_label(name):
    atoms = distinct(name, primitive=False)
    counts = [np.sum(atoms.numbers == 1 + i) for i in range(len(PROTOTYPES[name]["sites"]))]
    assert counts == [int(site["wyckoff"][:-1]) for site in PROTOTYPES[name]["sites"]]
    # The Pearson symbol of a rhombohedral lattice counts the hexagonal cell.
    assert sum(counts) == int(PROTOTYPES[name]["pearson"][2:])


@pytest.mark.parametrize("name", NAMES)
def test_symmetry_with_one_element(name):
    found = symmetry(crystal(name, "W", VOLUME))
    entry = PROTOTYPES[name]
    same = {"space_group": entry["space_group"], "n_atoms": entry["n_atoms_primitive"]}
    n_atoms = len(set(found.mapping_to_primitive))
    assert {"space_group": found.number, "n_atoms": n_atoms} == entry.get("one_element", same)


@pytest.mark.parametrize("primitive", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_crystal(name, primitive):
    atoms = crystal(name, "W", VOLUME, primitive)
    entry = PROTOTYPES[name]
    assert len(atoms) == entry["n_atoms_primitive" if primitive else "n_atoms"]
    assert atoms.get_volume() / len(atoms) == pytest.approx(VOLUME)
    assert set(atoms.symbols) == {"W"}
    assert atoms.pbc.all()
    assert atoms.cell.handedness == 1
    assert atoms.info == {"name": name}
    assert set(atoms.arrays) == {"numbers", "positions"}
    scaled = atoms.get_scaled_positions(wrap=False)
    assert scaled.min() > -1e-6
    assert scaled.max() < 1
    if primitive:
        assert atoms.cell.angles().min() >= 60 - 1e-6
        assert atoms.cell.angles().max() <= 120 + 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_no_atoms_overlap(name):
    atoms = crystal(name, "W", VOLUME)
    i, d = neighbor_list("id", atoms, 8.0)
    nearest = np.array([d[i == atom].min() for atom in range(len(atoms))])
    assert nearest.min() > 0.8 * nearest.mean()
    # Diamond is the emptiest: 0.866 in units of the cube root of the volume per atom; close packing has 1.122.
    assert 0.86 * VOLUME ** (1 / 3) < nearest.min() < 1.13 * VOLUME ** (1 / 3)


@pytest.mark.parametrize("name", COORDINATION)
def test_coordination(name):
    atoms = crystal(name, "W", VOLUME)
    bond = {"sc": 2.7, "diamond": 2.5}.get(name, 3.45)
    assert set(np.bincount(neighbor_list("i", atoms, bond)).tolist()) == COORDINATION[name]


def test_default_volume():
    assert crystal("A15", "W").get_volume() / 8 == pytest.approx(material_volume("W"))


@pytest.mark.parametrize(
    ("element", "volume"), [("W", 15.8), ("Cu", 11.8), ("Mg", 23.2), ("Si", 20.0), ("Po", 37.6), ("Fe", 11.8)]
)
def test_material_volume(element, volume):
    assert material_volume(element) == pytest.approx(volume, rel=0.02)


@pytest.mark.parametrize("element", ["Ga", "O", "X", "Xy"])
def test_material_volume_unknown(element):
    with pytest.raises(InputError, match=element):
        material_volume(element)


def test_unknown_crystal():
    with pytest.raises(InputError, match="bbc"):
        crystal("bbc", "W")


def test_nearest_neighbour_distance():
    assert nearest_neighbour_distance(Atoms("W", cell=[3, 4, 50], pbc=True)) == pytest.approx(3)
    a = (2 * VOLUME) ** (1 / 3)
    assert nearest_neighbour_distance(crystal("bcc", "W", VOLUME)) == pytest.approx(a * np.sqrt(3) / 2)
    # A dilute pair: much farther apart than the mean spacing, along one axis of the cell.
    assert nearest_neighbour_distance(Atoms("W", cell=[40, 40, 30], pbc=True)) == pytest.approx(30)


def layer_spacing(bulk: str, facet: str, a: float) -> float:
    """Textbook: a/|hkl|, halved where the centring puts a plane in between."""
    hkl = np.array([int(digit) for digit in facet])
    if bulk == "bcc":
        halved = hkl.sum() % 2 == 1
    else:
        halved = not (hkl % 2).all()
    return a / np.linalg.norm(hkl) / (2 if halved else 1)


@pytest.mark.parametrize(
    ("bulk", "facet"), [("bcc", facet) for facet in BCC_FACETS] + [("fcc", facet) for facet in FCC_FACETS]
)
class TestSlab:
    thickness, vacuum = 14.0, 8.0

    @pytest.fixture
    def atoms(self, bulk, facet):
        return slab(bulk, "W", VOLUME, facet, self.thickness, self.vacuum)

    @pytest.fixture
    def a(self, bulk):
        return ({"bcc": 2, "fcc": 4}[bulk] * VOLUME) ** (1 / 3)

    def test_layers(self, atoms, bulk, facet, a):
        spacing = layer_spacing(bulk, facet, a)
        z = atoms.positions[:, 2]
        assert np.diff(z) == pytest.approx(spacing)
        assert z[-1] - z[0] >= self.thickness
        assert z[-1] - z[0] < self.thickness + spacing
        assert atoms.cell[2, 2] - (z[-1] - z[0]) == pytest.approx(self.vacuum)
        assert (z[0] + z[-1]) / 2 == pytest.approx(atoms.cell[2, 2] / 2)

    def test_cell(self, atoms, bulk, facet, a):
        assert atoms.info["area_A2"] == pytest.approx(VOLUME / layer_spacing(bulk, facet, a))
        assert np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1])) == pytest.approx(atoms.info["area_A2"])
        assert atoms.cell[2, :2] == pytest.approx(0)
        assert atoms.cell[:2, 2] == pytest.approx(0, abs=1e-9)
        assert atoms.cell[0, 1] == pytest.approx(0, abs=1e-9)
        assert atoms.cell.handedness == 1
        # Gauss-reduced
        first, second = atoms.cell[0], atoms.cell[1]
        assert abs(first @ second) <= first @ first / 2 + 1e-6
        assert first @ first <= second @ second + 1e-6
        assert atoms.pbc.all()

    def test_inversion(self, atoms):
        assert any((rotation == -np.eye(3)).all() for rotation in symmetry(atoms).rotations)

    def test_inner_atoms_are_bulk(self, atoms, bulk, a):
        distances = sorted(neighbor_list("d", crystal(bulk, "W", VOLUME), 1.3 * a))
        i, d = neighbor_list("id", atoms, 1.3 * a)
        assert len(distances) == {"bcc": 8 + 6, "fcc": 12 + 6 + 24}[bulk]
        z = atoms.positions[:, 2]
        inner = np.flatnonzero(np.minimum(z - z[0], z[-1] - z) > 1.3 * a)
        assert len(inner)
        for atom in inner:
            assert sorted(d[i == atom]) == pytest.approx(distances)
        assert np.sum(i == 0) == np.sum(i == len(atoms) - 1) < len(distances)


def test_slab_thickness_of_whole_layers():
    spacing = (2 * VOLUME) ** (1 / 3) / 2
    assert len(slab("bcc", "W", VOLUME, "100", 6 * spacing, 8.0)) == 7


def test_slab_of_a_multiple_facet_is_the_same():
    assert len(slab("bcc", "W", VOLUME, "220", 10.0, 8.0)) == len(slab("bcc", "W", VOLUME, "110", 10.0, 8.0))


@pytest.mark.parametrize(("bulk", "facet"), [("hcp", "100"), ("bcc", "000"), ("bcc", "11"), ("bcc", "1-10")])
def test_slab_rejects(bulk, facet):
    with pytest.raises(InputError):
        slab(bulk, "W", VOLUME, facet, 10.0, 8.0)
