"""Crystals and defects against their symmetry groups, slabs against the geometry of lattice planes."""

from importlib import resources

import numpy as np
import pytest
import spglib
import yaml
from ase import Atoms
from ase.geometry import get_distances
from ase.neighborlist import neighbor_list

from popsbounds import structures
from popsbounds.calculators import make_calculator
from popsbounds.config import PairStyle
from popsbounds.errors import InputError
from popsbounds.structures import (
    INTERSTITIALS,
    crystal,
    crystal_names,
    hop_inversion,
    interstitial,
    material_volume,
    nearest_neighbour_distance,
    slab,
    supercell,
    vacancy_hop,
)

PROTOTYPES = yaml.safe_load((resources.files("popsbounds.resources") / "crystals.yaml").read_text(encoding="utf-8"))
NAMES = list(PROTOTYPES)
BINARIES = ["rocksalt", "CsCl", "zincblende", "wurtzite"]
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
    "rocksalt": {6},
    "CsCl": {8},
    "zincblende": {4},
    "wurtzite": {4},
}

# spglib announces a change of its error handling, which these tests do not meet.
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING")


def symmetry(atoms: Atoms):
    cell = (atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers)
    return spglib.get_symmetry_dataset(cell, symprec=1e-3)


def species(name: str) -> str | list[str]:
    return ["Mg", "O"] if name in BINARIES else "W"


def distinct(name: str, primitive: bool) -> Atoms:
    """The prototype with another species on each orbit."""
    species = ["H", "He", "Li", "Be", "B", "C", "N", "O", "F"]
    return structures._build(PROTOTYPES[name], species[: len(PROTOTYPES[name]["sites"])], primitive)


def test_names():
    phases = ["bcc", "fcc", "hcp", "A15", "sigma", "chi", "mu", "C14", "C15", "C36", "Al12W", "Al5W", "Al4W"]
    assert set(crystal_names()) == {*phases, "sc", "diamond"}
    assert crystal_names(binary=True) == BINARIES
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
    entry = PROTOTYPES[name]
    found = symmetry(structures._build(entry, ["W"] * len(entry["sites"]), primitive=True))
    same = {"space_group": entry["space_group"], "n_atoms": entry["n_atoms_primitive"]}
    n_atoms = len(set(found.mapping_to_primitive))
    assert {"space_group": found.number, "n_atoms": n_atoms} == entry.get("one_element", same)


@pytest.mark.parametrize("primitive", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_crystal(name, primitive):
    atoms = crystal(name, species(name), VOLUME, primitive)
    entry = PROTOTYPES[name]
    assert len(atoms) == entry["n_atoms_primitive" if primitive else "n_atoms"]
    assert atoms.get_volume() / len(atoms) == pytest.approx(VOLUME)
    assert set(atoms.symbols) == {*np.atleast_1d(species(name))}
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
    atoms = crystal(name, species(name), VOLUME)
    i, d = neighbor_list("id", atoms, 8.0)
    nearest = np.array([d[i == atom].min() for atom in range(len(atoms))])
    assert nearest.min() > 0.8 * nearest.mean()
    # Diamond is the emptiest: 0.866 in units of the cube root of the volume per atom; close packing has 1.122.
    assert 0.86 * VOLUME ** (1 / 3) < nearest.min() < 1.13 * VOLUME ** (1 / 3)


@pytest.mark.parametrize("name", COORDINATION)
def test_coordination(name):
    atoms = crystal(name, species(name), VOLUME)
    bonds = {"sc": 2.7, "diamond": 2.5, "rocksalt": 2.7, "CsCl": 3.0, "zincblende": 2.5, "wurtzite": 2.5}
    i, j = neighbor_list("ij", atoms, bonds.get(name, 3.45))
    assert set(np.bincount(i).tolist()) == COORDINATION[name]
    if name in BINARIES:  # each atom's neighbours are of the other element
        assert (atoms.numbers[i] != atoms.numbers[j]).all()


def test_axes_of_cubic_crystals_are_the_coordinate_axes():
    names = crystal_names(cubic=True) + crystal_names(binary=True, cubic=True)
    assert {"bcc", "fcc", "chi", "Al12W", "A15", "C15", "CsCl"} <= set(names)
    assert not {"hcp", "C14", "sigma", "wurtzite"} & set(names)
    for name in names:
        atoms = crystal(name, ["W", "C"] if PROTOTYPES[name].get("binary") else "W", VOLUME)
        turned = atoms.copy()
        turned.rotate(120, (1, 1, 1), rotate_cell=False)  # x to y to z
        cell = atoms.cell[:] @ np.roll(np.eye(3), 1, axis=1)
        # The same lattice, and the same atoms in it.
        vectors = np.linalg.solve(atoms.cell[:].T, cell.T)
        np.testing.assert_allclose(vectors, np.round(vectors), atol=1e-6, err_msg=name)
        for number, position in zip(turned.numbers, turned.positions, strict=True):
            same = atoms.positions[atoms.numbers == number]
            assert get_distances(position, same, atoms.cell, atoms.pbc)[1].min() < 1e-3, name


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


@pytest.mark.parametrize(
    ("name", "species", "message"),
    [
        ("bbc", "W", "unknown crystal 'bbc' of W; known: bcc, "),
        ("rocksalt", "W", "unknown crystal 'rocksalt' of W; known: bcc, "),
        ("bcc", ["Mg", "O"], "unknown crystal 'bcc' of Mg and O; known: rocksalt, "),
        ("CsCl", ["Mg", "O", "H"], "unknown crystal 'CsCl' of Mg and O and H"),
    ],
)
def test_unknown_crystal(name, species, message):
    with pytest.raises(InputError, match=message):
        crystal(name, species, VOLUME)


def test_the_cation_comes_first():
    """As in the compound's name: wurtzite is polar, so that the order is seen."""
    atoms = crystal("wurtzite", ["Zn", "S"], VOLUME)
    i, d = neighbor_list("iD", atoms, 2.6)
    along = np.abs(d[:, :2]).max(axis=1) < 1e-6
    assert set(atoms.symbols[i[along & (d[:, 2] > 0)]]) == {"Zn"}
    assert set(atoms.symbols[i[along & (d[:, 2] < 0)]]) == {"S"}


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


@pytest.mark.parametrize(("bulk", "atoms_a_cell"), [("bcc", 2), ("fcc", 4)])
def test_supercell(bulk, atoms_a_cell):
    atoms = supercell(bulk, "W", VOLUME, 3)
    assert len(atoms) == 27 * atoms_a_cell
    np.testing.assert_allclose(atoms.cell[:], 3 * (atoms_a_cell * VOLUME) ** (1 / 3) * np.eye(3), atol=1e-12)
    np.testing.assert_allclose(atoms.positions[0], 0, atol=1e-12)
    assert atoms.info == {"name": bulk}
    assert symmetry(atoms).number == PROTOTYPES[bulk]["space_group"]
    found = nearest_neighbour_distance(atoms)
    assert found == pytest.approx(nearest_neighbour_distance(crystal(bulk, "W", VOLUME)))


@pytest.mark.parametrize(("bulk", "repeats"), [("hcp", 2), ("bcc", 0)])
def test_supercell_rejects(bulk, repeats):
    with pytest.raises(InputError):
        supercell(bulk, "W", VOLUME, repeats)


# Point group of the defect and, for a dumbbell, its axis.
SIA_SYMMETRY = {
    "111": ("-3m", 12, [1, 1, 1]),
    "110": ("mmm", 8, [1, 1, 0]),
    "100": ("4/mmm", 16, [1, 0, 0]),
    "TS": ("-42m", 8, None),
    "OS": ("4/mmm", 16, None),
}


@pytest.mark.parametrize("repeats", [2, 3, 4])
@pytest.mark.parametrize("kind", INTERSTITIALS)
class TestInterstitial:
    @pytest.fixture
    def atoms(self, kind, repeats):
        return interstitial(kind, "W", VOLUME, repeats)

    def test_full_symmetry(self, atoms, kind):
        point_group, order, _ = SIA_SYMMETRY[kind]
        found = spglib.get_symmetry_dataset((atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers), symprec=1e-8)
        assert found.pointgroup == point_group
        # One defect a cell: every operation belongs to its own point group.
        assert len(found.rotations) == order
        copies = np.sum(found.equivalent_atoms == found.equivalent_atoms[-1])
        assert copies == (1 if kind in ("TS", "OS") else 2)

    def test_geometry(self, atoms, kind, repeats):
        a = (2 * VOLUME) ** (1 / 3)
        bond = a * np.sqrt(3) / 2
        assert len(atoms) == 2 * repeats**3 + 1
        np.testing.assert_allclose(atoms.cell[:], repeats * a * np.eye(3), atol=1e-12)
        assert atoms.pbc.all()
        assert atoms.info == {"name": kind}
        assert nearest_neighbour_distance(atoms) > (0.79 if repeats > 2 else 0.7) * bond
        scaled = atoms.get_scaled_positions(wrap=False)
        assert scaled.min() > -1e-9
        assert scaled.max() < 1
        _, _, axis = SIA_SYMMETRY[kind]
        if axis is not None:
            dumbbell = atoms.positions[-1] - atoms.positions[-2]
            assert np.linalg.norm(np.cross(dumbbell, axis)) == pytest.approx(0, abs=1e-9)
            assert 0.79 * bond < np.linalg.norm(dumbbell) < 0.91 * bond
            middle = atoms.positions[-2:].mean(axis=0) / a
            np.testing.assert_allclose(middle, repeats / 2)

    def test_far_atoms_stay(self, atoms, repeats):
        perfect = supercell("bcc", "W", VOLUME, repeats)
        moved = [np.linalg.norm(perfect.positions - p, axis=1).min() for p in atoms.positions]
        assert np.sum(np.array(moved) > 1e-9) <= 12


def test_octahedral_and_tetrahedral_sites():
    """The inserted atom has two and four neighbours at the same distance."""
    for kind, neighbours in (("OS", 2), ("TS", 4)):
        atoms = interstitial(kind, "W", VOLUME, 4)
        distances = np.sort(atoms.get_distances(-1, range(len(atoms) - 1), mic=True))
        assert distances[:neighbours] == pytest.approx(distances[0])
        assert distances[neighbours] > 1.01 * distances[0]


def test_interstitial_rejects():
    with pytest.raises(InputError, match="111, 110, 100, TS, OS"):
        interstitial("112", "W", VOLUME, 3)
    with pytest.raises(InputError, match="at least 2"):
        interstitial("111", "W", VOLUME, 1)


@pytest.mark.parametrize("repeats", [2, 3, 4])
@pytest.mark.parametrize("images", [3, 7])
class TestVacancyHop:
    @pytest.fixture
    def path(self, repeats, images):
        return vacancy_hop("W", VOLUME, repeats, images)

    def test_one_atom_moves_straight(self, path, repeats, images):
        assert len(path) == images
        steps = np.diff([image.positions for image in path], axis=0)
        moving = np.flatnonzero(np.abs(steps).max(axis=(0, 2)) > 0)
        assert len(moving) == 1
        hop = -((2 * VOLUME) ** (1 / 3)) / 2 / (images - 1)
        np.testing.assert_allclose(steps[:, moving[0]], hop)
        for image in path:
            assert len(image) == 2 * repeats**3 - 1
            assert image.info == {"name": "vacancy_hop"}
            assert image.get_scaled_positions(wrap=False).min() > -1e-9
            assert image.get_scaled_positions(wrap=False).max() < 1

    def test_symmetry(self, path, repeats, images):
        bond = (2 * VOLUME) ** (1 / 3) * np.sqrt(3) / 2
        for end in (path[0], path[-1]):
            # Oh around a vacancy; all atoms are on lattice sites.
            assert len(symmetry(end).rotations) == 48
            assert nearest_neighbour_distance(end) == pytest.approx(bond)
        assert symmetry(path[images // 2]).pointgroup == "-3m"

    def test_inversion(self, path, repeats, images):
        inversion = hop_inversion(path)
        assert sorted(inversion.permutation) == list(range(len(path[0])))
        # Lattice vectors: whole numbers of the cell.
        multiples = inversion.shifts / path[0].cell[0, 0]
        np.testing.assert_allclose(multiples, np.round(multiples), atol=1e-12)
        for i, image in enumerate(path):
            opposite = path[images - 1 - i].positions
            np.testing.assert_allclose(inversion.mirror(image.positions), opposite, atol=1e-12)


def test_inversion_maps_energies_forces_and_displaced_images():
    eam = PairStyle(pair_style="eam/alloy", pair_coeff=["* * W_zhou.eam.alloy W"])
    calculator = make_calculator(eam, ["W"])
    path = vacancy_hop("W", VOLUME, 3, 5)
    inversion = hop_inversion(path)
    displacement = np.random.default_rng(0).normal(scale=0.05, size=path[1].positions.shape)
    path[1].positions += displacement
    path[3].positions += inversion.mirror_vectors(displacement)
    np.testing.assert_allclose(inversion.mirror(path[1].positions), path[3].positions, atol=1e-12)
    results = []
    for image in (path[1], path[3]):
        image.calc = calculator
        results.append((image.get_potential_energy(), image.get_forces()))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-8)
    np.testing.assert_allclose(inversion.mirror_vectors(results[0][1]), results[1][1], atol=1e-8)


def test_inversion_of_relaxed_ends():
    path = vacancy_hop("W", VOLUME, 3, 3)
    inversion = hop_inversion(path)
    path[0].positions *= 1.001
    path[2].positions = inversion.mirror(path[0].positions)
    again = hop_inversion(path)
    np.testing.assert_array_equal(again.permutation, inversion.permutation)
    np.testing.assert_allclose(again.mirror(path[0].positions), path[2].positions, atol=1e-12)


def test_inversion_rejects_unlike_ends():
    path = vacancy_hop("W", VOLUME, 3, 3)
    path[2].positions[0] += 0.3
    with pytest.raises(InputError, match="not mirror images"):
        hop_inversion(path)


@pytest.mark.parametrize(("repeats", "images"), [(3, 1), (3, 4), (1, 3)])
def test_vacancy_hop_rejects(repeats, images):
    with pytest.raises(InputError):
        vacancy_hop("W", VOLUME, repeats, images)
