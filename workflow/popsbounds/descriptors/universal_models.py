"""The universal potentials that come with the project; each needs a package of its own."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from popsbounds.descriptors.universal import Evaluation, UniversalModel

__all__ = ["MACE", "CHGNet", "SevenNet"]

_IN_SEVENNETS_WHEEL = {"7net-0", "7net-0_11july2024", "7net-0_22may2024", "7net-l3i5", "7net-mf-0"}


class CHGNet(UniversalModel):
    """CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)): what its readout is given, 64 numbers an atom.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    version
        Of the weights, which come with the package.
    """

    energies = "mp2020"

    def __init__(self, device: str, version: str = "0.3.0") -> None:
        from chgnet.model import CHGNet as Network
        from pymatgen.io.ase import AseAtomsAdaptor

        self._structure = AseAtomsAdaptor.get_structure
        self._device = device
        # It prints its size.
        with contextlib.redirect_stdout(io.StringIO()):
            network: Any = Network.load(model_name=version, use_device=device, verbose=False).double().eval()
        self._network = network.requires_grad_(False)
        # An atom without neighbours has descriptors like any other.
        self._network.graph_converter.set_isolated_atom_response("ignore")
        self._captured: Any = None
        self._network.mlp.register_forward_pre_hook(self._capture)
        self.n_descriptors = next(m for m in self._network.mlp.modules() if hasattr(m, "in_features")).in_features
        self.cutoffs = sorted(
            {
                float(self._network.graph_converter.bond_graph_cutoff),
                float(self._network.graph_converter.atom_graph_cutoff),
            }
        )

    def _capture(self, _: Any, inputs: tuple) -> None:
        self._captured = inputs[0]

    def evaluate(self, batch: Sequence[Atoms], gradients: bool) -> Evaluation:
        """See `UniversalModel.evaluate`."""
        import torch
        from chgnet.model.model import BatchedGraph

        network = self._network
        structures = [self._structure(atoms) for atoms in batch]
        graphs = [network.graph_converter(structure).to(self._device) for structure in structures]
        constants = network.composition_model.fc.weight.view(-1)
        for graph, structure in zip(graphs, structures, strict=True):
            # Once more, in double precision.
            graph.atom_frac_coord = torch.tensor(structure.frac_coords, device=self._device)
            graph.lattice = torch.tensor(structure.lattice.matrix.copy(), device=self._device)
            graph.neighbor_image = graph.neighbor_image.double()
        with torch.set_grad_enabled(gradients):
            together = BatchedGraph.from_graphs(
                graphs,
                bond_basis_expansion=network.bond_basis_expansion,
                angle_basis_expansion=network.angle_basis_expansion,
                compute_stress=gradients,
            )
            found = network._compute(together)
        sizes = [len(atoms) for atoms in batch]
        return Evaluation(
            [
                energy * len(atoms) + constants[graph.atomic_number - 1].sum()
                for energy, graph, atoms in zip(found["e"], graphs, batch, strict=True)
            ],
            list(torch.split(self._captured, sizes)),
            *((together.atom_positions[0], together.strains[0]) if gradients else ()),
        )


class SevenNet(UniversalModel):
    """SevenNet (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)): the scalars that its readout is given.

    They are 128 an atom in SevenNet-0.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    model
        Name of weights that come with the package, or a checkpoint.
    modal
        Of models that were trained on several kinds of data, the one to predict.
    """

    energies = "raw"

    @classmethod
    def pickle(cls, **arguments: Any) -> str | None:
        """See `UniversalModel.pickle`."""
        model = arguments.get("model", "7net-0")
        return None if model.lower() in _IN_SEVENNETS_WHEEL else model

    def __init__(self, device: str, model: str = "7net-0", modal: str | None = None) -> None:
        from sevenn.calculator import SevenNetCalculator

        calculator = SevenNetCalculator(model, device=device, modal=modal)
        self._modal, self._device = calculator.modal, device
        network: Any = calculator.model.double()
        network.set_is_batch_data(True)
        network.requires_grad_(False)
        self._network = network
        # Derivatives of the energy alone, in edges; ours are of descriptors too, in positions.
        self._layers = [(name, layer) for name, layer in network.named_children() if name != "force_output"]
        self.n_descriptors = network.reduce_input_to_hidden.linear.irreps_in.dim
        self.cutoffs = [float(calculator.cutoff)]

    def evaluate(self, batch: Sequence[Atoms], gradients: bool) -> Evaluation:
        """See `UniversalModel.evaluate`."""
        import sevenn._keys as key
        import torch
        from sevenn.atom_graph_data import AtomGraphData

        sizes = [len(atoms) for atoms in batch]
        offsets = np.cumsum([0, *sizes[:-1]])
        edges, vectors = [], []
        for atoms, offset in zip(batch, offsets, strict=True):
            i, j, shift = neighbor_list("ijS", atoms, self.cutoffs[0])
            place, strain, cell = _strained(atoms, self._device, gradients)
            edges.append(np.array([i, j]) + offset)
            vectors.append(place[j] - place[i] + place.new_tensor(shift) @ cell)
        data: Any = AtomGraphData()
        data[key.ATOMIC_NUMBERS] = torch.tensor(np.concatenate([a.numbers for a in batch]), device=self._device)
        data[key.NODE_FEATURE] = data[key.ATOMIC_NUMBERS]
        data[key.EDGE_IDX] = torch.tensor(np.concatenate(edges, axis=1), device=self._device)
        data[key.EDGE_VEC] = torch.cat(vectors)
        data[key.NUM_ATOMS] = torch.tensor(sizes, device=self._device)
        data[key.BATCH] = torch.repeat_interleave(torch.arange(len(batch), device=self._device), data[key.NUM_ATOMS])
        if self._modal is not None:
            data[key.DATA_MODALITY] = [self._modal] * len(batch)
        with torch.set_grad_enabled(gradients):
            data = self._network._preprocess(data)
            for name, layer in self._layers:
                if name == "reduce_input_to_hidden":
                    descriptors = data[key.NODE_FEATURE]
                data = layer(data)
                if name == "onehot_idx_to_onehot":  # in single precision
                    for kept in (key.NODE_FEATURE, key.NODE_ATTR):
                        data[kept] = data[kept].double()
        parts = list(torch.split(descriptors, sizes))
        return Evaluation(list(data[key.PRED_TOTAL_ENERGY].view(-1)), parts, place, strain)


def _strained(atoms: Atoms, device: str, gradients: bool) -> tuple[Any, Any, Any]:
    """Positions and cell that depend on a strain of zero, and the strain."""
    import torch

    strain = torch.zeros((3, 3), dtype=torch.float64, device=device, requires_grad=gradients)
    deformation = torch.eye(3, dtype=torch.float64, device=device) + strain
    positions = torch.tensor(atoms.positions, dtype=torch.float64, device=device) @ deformation
    return positions, strain, torch.tensor(atoms.cell[:], dtype=torch.float64, device=device) @ deformation


class MACE(UniversalModel):
    """MACE (Batatia et al., arXiv:2401.00096): the scalars of all layers, 256 an atom in MACE-MPA-0.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    model
        Name of weights, which are downloaded, or a model file.
    """

    energies = "raw"

    @classmethod
    def pickle(cls, **arguments: Any) -> str | None:
        """See `UniversalModel.pickle`."""
        return arguments.get("model", "the download of MACE's weights")

    def __init__(self, device: str, model: str = "medium-mpa-0") -> None:
        from mace.calculators import mace_mp

        # It announces licences and precision.
        with contextlib.redirect_stdout(io.StringIO()):
            self._calculator = mace_mp(model, device=device, default_dtype="float64")
        self._device = device
        self._network = self._calculator.models[0].double()
        self._network.requires_grad_(False)
        self.cutoffs = [float(self._network.r_max)]
        self.n_descriptors = self._invariant(self._probe()).shape[1]

    def _probe(self) -> Any:
        """Features of an atom that the model knows."""
        number = int(self._network.atomic_numbers[0])
        atoms = Atoms([number], cell=np.eye(3) * 3.0, pbc=True)
        return self._network(self._batch([atoms]), compute_force=False)["node_feats"]

    def _invariant(self, features: Any) -> Any:
        """The scalars of each layer: the last one has no others."""
        import torch
        from e3nn.o3 import Irreps

        parts, start = [], 0
        for product in self._network.products:
            irreps = Irreps(str(product.linear.irreps_out))
            parts.append(features[:, start : start + irreps.count("0e")])
            start += irreps.dim
        return torch.cat(parts, dim=1)

    def _batch(self, batch: Sequence[Atoms]) -> dict[str, Any]:
        import torch
        from mace.data import AtomicData, config_from_atoms
        from mace.tools.torch_geometric.batch import Batch

        table, before = self._calculator.z_table, torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # which is what it makes its tensors of
        try:
            data = [AtomicData.from_config(config_from_atoms(atoms), table, self.cutoffs[0]) for atoms in batch]
        finally:
            torch.set_default_dtype(before)
        return Batch.from_data_list(data).to(self._device).to_dict()

    def evaluate(self, batch: Sequence[Atoms], gradients: bool) -> Evaluation:
        """See `UniversalModel.evaluate`."""
        import torch

        data = self._batch(batch)
        with torch.set_grad_enabled(gradients):
            found = self._network(data, compute_force=False, compute_displacement=gradients)
        sizes = [len(atoms) for atoms in batch]
        descriptors = torch.split(self._invariant(found["node_feats"]), sizes)
        return Evaluation(list(found["energy"]), list(descriptors), data["positions"], found["displacement"])
