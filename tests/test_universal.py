"""Universal potentials under a linear corrector: their own packages as the truth, and finite differences."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from popsbounds.config import Universal, parse_config
from popsbounds.descriptors.universal import UniversalForm, check_energy_references, load_model
from popsbounds.ensemble import write_potentials
from popsbounds.errors import InputError
from popsbounds.preflight import check_inputs

MPTRJ = Path(__file__).parents[2] / "shared" / "data" / "mptrj_random_1k.extxyz.xz"

PACKAGES = {"chgnet": "chgnet", "sevennet": "sevenn", "mace": "mace"}


def of(model: str, **settings) -> UniversalForm:
    return UniversalForm(Universal(kind="universal", model=model, **settings))


@pytest.fixture(scope="module", params=PACKAGES)
def form(request, tmp_path_factory) -> UniversalForm:
    name = request.param
    pytest.importorskip(PACKAGES[name], reason=f"the extra `{name}` is not installed")
    arguments = {}
    if name == "mace":  # its weights are downloaded: random ones do here
        arguments["model"] = str(tmp_path_factory.mktemp("mace") / "random.model")
        write_random_mace(arguments["model"])
    return of(name, arguments=arguments, element_shifts=["O"], allow_pickle=name == "mace")


def write_random_mace(path: str) -> None:
    """A MACE of two layers that knows O, Mg and W, and nothing of them."""
    import torch
    from e3nn.o3 import Irreps
    from mace.modules import ScaleShiftMACE, interaction_classes

    block = interaction_classes["RealAgnosticResidualInteractionBlock"]
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    model = ScaleShiftMACE(
        r_max=4.0,
        num_bessel=4,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=3,
        hidden_irreps=Irreps("8x0e+8x1o"),
        MLP_irreps=Irreps("4x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.array([[-1.0, -2.0, -3.0]]),
        avg_num_neighbors=8.0,
        atomic_numbers=[8, 12, 74],
        correlation=2,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.1,
    )
    torch.set_default_dtype(before)
    torch.save(model, path)


@pytest.fixture(scope="module")
def frames() -> list[Atoms]:
    """A strained oxide, a metal, and the oxide again with atoms outside of its cell."""
    oxide = bulk("MgO", "rocksalt", a=4.2)
    oxide.rattle(0.05, seed=1)
    strain = 0.02 * np.array([[1.0, 0.5, 0.2], [0.5, -1.0, 0.3], [0.2, 0.3, 0.4]])
    oxide.set_cell(oxide.cell @ (np.eye(3) + strain), scale_atoms=True)
    metal = bulk("W", cubic=True)
    metal.rattle(0.1, seed=2)
    outside = oxide.copy()
    outside.positions += [[0, 0, 0], outside.cell[0] - 2 * outside.cell[2]]
    return [oxide, metal, outside]


def theta_of(form: UniversalForm) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=0.1, size=form.n_parameters)


def own_calculator(form: UniversalForm):
    if form.settings.model == "chgnet":
        from chgnet.model.dynamics import CHGNetCalculator

        return CHGNetCalculator(use_device="cpu")
    if form.settings.model == "mace":
        from mace.calculators import MACECalculator

        return MACECalculator(form.settings.arguments["model"], device="cpu", default_dtype="float64")
    from sevenn.calculator import SevenNetCalculator

    return SevenNetCalculator("7net-0", device="cpu")


def test_without_a_corrector_it_is_the_package_s_own_potential(form, frames):
    for atoms in frames:
        ours, theirs = atoms.copy(), atoms.copy()
        ours.calc, theirs.calc = form.calculator(np.zeros(form.n_parameters)), own_calculator(form)
        assert ours.get_potential_energy() == pytest.approx(float(theirs.get_potential_energy()), abs=2e-5)
        np.testing.assert_allclose(ours.get_forces(), theirs.get_forces(), atol=1e-4)
        np.testing.assert_allclose(ours.get_stress(), theirs.get_stress(), atol=1e-5)


def test_descriptors_are_the_package_s_own(form, frames):
    if form.settings.model != "mace":
        pytest.skip("the package does not give what its readout is given")
    theirs = own_calculator(form).get_descriptors(frames[0].copy(), invariants_only=True, num_layers=-1)
    ((row, _),) = form.rows().stream(frames[:1])
    np.testing.assert_allclose(row[0, 2:], theirs.mean(axis=0), atol=1e-8)


def test_forces_and_stress_are_derivatives_of_the_corrected_energy(form, frames):
    calculator = form.calculator(theta_of(form))
    atoms = frames[0].copy()
    atoms.calc = calculator
    forces, stress, step = atoms.get_forces(), atoms.get_stress(voigt=False), 2e-5

    def energy(displacement: np.ndarray, strain: np.ndarray) -> float:
        moved = frames[0].copy()
        moved.positions += displacement
        moved.set_cell(moved.cell @ (np.eye(3) + strain), scale_atoms=True)
        moved.calc = calculator
        return moved.get_potential_energy()

    rng = np.random.default_rng(3)
    along, strain = rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    strain = (strain + strain.T) / 2
    zero = np.zeros((3, 3))
    slope = (energy(step * along, zero) - energy(-step * along, zero)) / (2 * step)
    assert -np.sum(forces * along) == pytest.approx(slope, rel=1e-5, abs=1e-5)
    slope = (energy(0 * along, step * strain) - energy(0 * along, -step * strain)) / (2 * step)
    assert atoms.get_volume() * np.sum(stress * strain) == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_the_response_is_the_calculator_parameter_by_parameter(form, frames):
    theta = theta_of(form)
    atoms = frames[0].copy()
    atoms.calc = form.calculator(theta)
    response, weights = form.rows().respond(atoms), np.append(theta, 1.0)
    assert response.energy @ weights == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose((response.forces @ weights).reshape(-1, 3), atoms.get_forces(), atol=1e-10)
    stress = response.virial @ weights / atoms.get_volume()
    np.testing.assert_allclose(stress, atoms.get_stress(voigt=False), atol=1e-10)


def test_rows_do_not_depend_on_batches_or_on_the_choice_of_images(form, frames):
    together = list(form.rows().stream(frames))
    for atoms, (row, reference) in zip(frames, together, strict=True):
        ((alone, energy),) = form.rows().stream([atoms])
        np.testing.assert_allclose(alone, row, atol=1e-10)
        np.testing.assert_allclose(energy, reference, atol=1e-10)
        assert row.shape == (1, form.n_parameters)
        np.testing.assert_allclose(row[0, :2], [1.0, np.mean(atoms.symbols == "O")])
    np.testing.assert_allclose(together[0][0], together[2][0], atol=1e-9)
    np.testing.assert_allclose(together[0][1], together[2][1], atol=1e-9)


def test_rows_of_forces_between_batches_of_energies(form, frames):
    theta = theta_of(form)
    alone = list(form.rows().stream(frames))
    together = list(form.rows().stream(frames, [False, True, False]))
    for (row, _), (rows, _) in zip(alone, together, strict=True):
        np.testing.assert_allclose(rows[0], row[0], atol=1e-9)
    assert [len(rows) for rows, _ in together] == [1, 1 + 3 * len(frames[1]), 1]
    rows, reference = together[1]
    atoms = frames[1].copy()
    atoms.calc = form.calculator(theta)
    np.testing.assert_allclose((rows @ theta + reference)[1:].reshape(-1, 3), atoms.get_forces(), atol=1e-9)
    assert (rows @ theta + reference)[0] == pytest.approx(atoms.get_potential_energy() / len(atoms), abs=1e-9)


def cluster(n: int) -> Atoms:
    return Atoms(f"W{n}", positions=np.arange(3 * n).reshape(n, 3), cell=[99] * 3, pbc=True)


def test_a_batch_too_large_for_the_memory_is_halved():
    pytest.importorskip("torch", reason="PyTorch is optional")
    import fakes

    rows = list(of("fakes.Cramped", batch_atoms=16).rows().stream([cluster(n) for n in range(1, 8)]))
    assert [float(energy[0]) for _, energy in rows] == [float(n) for n in range(1, 8)]
    assert max(fakes.Cramped.sizes) > fakes.Cramped.room
    with pytest.raises(MemoryError):
        list(of("fakes.Cramped").rows().stream([cluster(20)]))


def test_a_configuration_that_fails_is_the_one_that_is_named():
    pytest.importorskip("torch", reason="PyTorch is optional")
    stream = of("fakes.Picky").rows().stream([cluster(n) for n in (1, 2, 3, 4)])
    assert [float(next(stream)[1][0]) for _ in range(2)] == [1.0, 2.0]
    with pytest.raises(ValueError, match="three is a crowd"):
        next(stream)


def test_what_is_no_lammps_potential_is_not_written_as_one(tmp_path):
    with pytest.raises(InputError, match="no LAMMPS potential"):
        write_potentials(tmp_path / "potentials", of("chgnet"), {"mle": np.zeros(3)})
    assert not (tmp_path / "potentials").exists()


def test_a_model_that_is_missing_is_noticed_before_any_work():
    raw = {
        "study": "a",
        "dataset": {"sources": [{"path": "a"}]},
        "descriptors": {"kind": "universal", "model": "no.Model"},
    }
    with pytest.raises(InputError, match=r"descriptors: descriptors\.model no\.Model: cannot be imported"):
        check_inputs(parse_config(raw))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "chgnett"}, "shipped are chgnet, sevennet, mace"),
        ({"model": "no_such_package.Model"}, "cannot be imported"),
        ({"model": "fakes.Cramped", "arguments": {"size": 3}}, "cannot be loaded: TypeError"),
        ({"model": "fakes.Cramped", "device": "cuda"}, "sees no GPU"),
    ],
)
def test_a_model_that_cannot_be_had_says_why(settings, message):
    torch = pytest.importorskip("torch", reason="PyTorch is optional")
    if settings.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=message):
        load_model(Universal(kind="universal", **settings))


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("mace", {}),
        ("mace", {"model": "mine.model"}),
        ("sevennet", {"model": "mine.pth"}),
        ("sevennet", {"model": "7net-omni"}),
    ],
)
def test_pickles_are_loaded_only_where_they_are_allowed(model, arguments):
    with pytest.raises(InputError, match=r"is a pickle, .* set descriptors\.allow_pickle: true"):
        load_model(Universal(kind="universal", model=model, arguments=arguments))
    # These are not there, or their packages are not.
    with pytest.raises(InputError, match=r"is not installed|cannot be loaded"):
        load_model(Universal(kind="universal", model=model, arguments=arguments, allow_pickle=True))


def compounds(n: int, rng: np.random.Generator) -> list[Atoms]:
    metals, anions = ["Li", "Mg", "Al", "Ti", "Fe", "Ni"], ["O", "F", "S", "Si"]
    chosen = [(rng.choice(metals), rng.choice(anions), *rng.integers(1, 5, size=2)) for _ in range(n)]
    return [Atoms(f"{a}{i}{b}{j}") for a, b, i, j in chosen]


def test_energies_relative_to_other_zeros_are_noticed_and_named():
    rng = np.random.default_rng(5)
    frames = compounds(300, rng)
    noise = rng.normal(scale=0.05, size=len(frames))
    # Corrections of the Materials Project (eV/atom of the anion), for real.
    shifts = np.array(
        [sum({"O": -0.687, "F": -0.462}.get(s, 0.0) for s in atoms.symbols) / len(atoms) for atoms in frames]
    )
    settings = Universal(kind="universal", model="chgnet")
    check_energy_references(noise + 0.4, frames, settings)  # a constant for all is the corrector's own
    with pytest.raises(InputError, match=r"O -0\.\d\d, F -0\.\d\d.*corrections of 2020: name such energies"):
        check_energy_references(noise + shifts, frames, settings)
    corrected = settings.model_copy(update={"element_shifts": ["O", "F"]})
    check_energy_references(noise + shifts, frames, corrected)


@pytest.mark.skipif(not MPTRJ.exists(), reason="the MPtrj frames lie beside the repository, and are not there")
def test_raw_energies_are_not_taken_for_corrected_ones():
    text = io.StringIO(lzma.decompress(MPTRJ.read_bytes()).decode())
    frames = [a for a in ase.io.read(text, format="extxyz", index=":") if "chgnet030_energy" in a.info]
    n = np.array([len(atoms) for atoms in frames])
    raw = np.array([atoms.get_potential_energy() for atoms in frames])
    corrected = np.array([atoms.info["energy_mp2020"] for atoms in frames])
    chgnet = np.array([atoms.info["chgnet030_energy"] for atoms in frames])
    sevennet = np.array([atoms.info["sevennet0_energy"] for atoms in frames])
    settings = Universal(kind="universal", model="chgnet")
    check_energy_references((corrected - chgnet) / n, frames, settings)
    with pytest.raises(InputError, match="constants of elements"):
        check_energy_references((raw - chgnet) / n, frames, settings)
    settings = Universal(kind="universal", model="sevennet")
    check_energy_references((raw - sevennet) / n, frames, settings)
    with pytest.raises(InputError, match="predicts raw DFT energies"):
        check_energy_references((corrected - sevennet) / n, frames, settings)
