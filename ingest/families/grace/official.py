"""GRACE's own calculator, and the reductions that its model returns on request."""

from typing import Any

import numpy as np
import tensorflow as tf
from ase import Atoms
from tensorpotential import TPModel
from tensorpotential.calculator.asecalculator import TPCalculator
from tensorpotential.tpmodel import ComputeStructureEnergyAndForcesAndVirial

from ingest.families import Structure


def calculator(model: Any) -> TPCalculator:
    """The package's ASE calculator of the very network: neighbours and padding are its own."""
    return _calculator(model, None)


def _calculator(model: Any, names: list[str] | None) -> TPCalculator:
    function = ComputeStructureEnergyAndForcesAndVirial(extra_return_keys=names)
    network = TPModel(model.network.instructions, compute_function=function)
    network.build(tf.float32)  # the instructions are built already
    return TPCalculator(network, extra_properties=names, truncate_extras_by_natoms=True)


def features(model: Any, structure: Structure) -> dict[int, np.ndarray]:
    """The even scalars come first among a reduction's components."""
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    atoms.calc = _calculator(model, model.reductions)
    atoms.get_potential_energy()
    return {
        layer: np.reshape(atoms.calc.results[name][:, :, :1], (len(atoms), -1))
        for layer, name in enumerate(model.reductions)
    }
