"""An adapter for whatever is an ASE calculator and gives features of atoms.

The quick way to try a potential: one structure at a time, as its calculator takes them. A family
that is to be used much has an adapter of its own, which batches and stops after the last layer.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from ingest.families import Outputs, Structure, tensors_sha256, verified, versions

# An ASE structure → layer → (atoms, dim): an array, or a tensor on any device.
Features = Callable[[Atoms], Mapping[int, Any]]


def as_atoms(structure: Structure) -> Atoms:
    """The structure as ASE has it."""
    _, numbers, positions, cell, pbc = structure
    return Atoms(numbers, positions, cell=cell, pbc=pbc)


def metatomic_features(calculator: Any, outputs: Mapping[int, str]) -> Features:
    """Features of atoms that a metatomic model has among its outputs, such as `feature`.

    calculator: its `MetatomicCalculator`. outputs: layer → the name of an output.
    """
    import torch
    from metatomic.torch import ModelOutput

    wanted = {name: ModelOutput(sample_kind="atom") for name in outputs.values()}

    def features(atoms: Atoms) -> dict[int, Any]:
        with torch.no_grad():
            found = calculator.run_model(atoms, wanted)
        return {layer: found[name].block().values for layer, name in outputs.items()}

    return features


class CalculatorModel:
    """A model of a card, by an ASE calculator and a function that gives its features of atoms.

    packages: those whose versions affect the numbers. weights: named tensors, such as a
    `state_dict`, that tell these weights from others, {} where it has none; by default the card's
    checkpoint does.
    """

    graph = staticmethod(as_atoms)

    def __init__(
        self,
        card: Mapping[str, Any],
        calculator: Any,
        features: Features,
        packages: Sequence[str],
        weights: Mapping[str, Any] | None = None,
    ) -> None:
        if weights is None and card["checkpoint"] is None:
            raise ValueError(
                "no checkpoint tells these weights from others: give CalculatorModel the weights, "
                "such as the state_dict of the network, or {} if it has none"
            )
        self.checkpoint_sha256 = (
            verified(card["checkpoint"], card) if weights is None else tensors_sha256(weights)
        )
        self.versions = versions("ase", *packages)
        self.device = "cpu"  # the calculator knows its own; it takes one structure at a time
        self.cutoff = float(card["cutoff"])
        self.elements = frozenset(card["elements"])
        self.layers = {layer["index"]: layer["dim"] for layer in card["layers"]}
        self.calculator = calculator
        self._features = features

    def embed(self, graphs: Sequence[Atoms], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """The features of each structure in turn."""
        found = [self._features(atoms) for atoms in graphs]
        return {layer: np.concatenate([_array(one[layer]) for one in found]) for layer in layers}

    def predict(
        self, graphs: Sequence[Atoms], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """The same with the calculator's energies and forces."""
        energies, gradients = [], []
        for atoms in graphs:
            atoms.calc = self.calculator
            energies.append(float(atoms.get_potential_energy()))
            gradients.append(atoms.get_forces().astype(np.float32) if forces else None)
            atoms.calc = None
        there = [each for each in gradients if each is not None]
        return self.embed(graphs, layers), Outputs(
            np.array(energies), np.concatenate(there) if there else None
        )


def _array(rows: Any) -> np.ndarray:
    if hasattr(rows, "detach"):
        rows = rows.detach().cpu().numpy()
    return np.array(rows, np.float32)
