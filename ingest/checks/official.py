"""What holds of a model beside its family's own package, through the family's `official.py`.

Each check raises AssertionError, or returns the largest deviation.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from ingest.checks.crystals import crystals
from ingest.checks.deviations import (
    ENERGY_TOLERANCE,
    FORCE_TOLERANCE,
    TOLERANCE,
    deviation,
    vectors,
)
from ingest.families import Model, Official, Potential, Structure, part


def official_part(card: Mapping[str, Any]) -> Any:
    """The family's `official.py`, or None."""
    return part(card, "official") if (Path(card["folder"]) / "official.py").exists() else None


def official_features(model: Model, official: Official) -> float:
    """The embeddings are the atom features of the family's own package."""
    worst = 0.0
    for one in crystals()[:3]:
        wanted = official.features(model, one)
        found = model.embed([model.graph(one)], sorted(wanted))
        worst = max(worst, deviation(found, wanted))
    return worst


def official_energy(model: Model, official: Official) -> float:
    """The package's own head, on our layers, gives its calculator's energy (eV an atom)."""
    from ase import Atoms

    last = max(model.layers)

    def energy(one: Structure) -> float:
        if hasattr(official, "energy"):
            return official.energy(model, one)
        rows = model.embed([model.graph(one)], [last])[last]
        return float(official.head(model)(rows, one.numbers).sum(dtype=np.float64))

    calculator = official.calculator(model)
    worst = 0.0
    for one in crystals()[:3]:
        atoms = Atoms(one.numbers, one.positions, cell=one.cell, pbc=one.pbc, calculator=calculator)
        wanted = float(atoms.get_potential_energy())
        worst = max(worst, abs(energy(one) - wanted) / len(atoms))
    assert worst < ENERGY_TOLERANCE, f"deviates by {worst:.2e} eV an atom"
    return worst


def outputs_beside_features(model: Model, _official: Official) -> float:
    """Outputs come with the layers that `embed` gives, or with none, and the same in any batch."""
    potential, structures = cast(Potential, model), crystals()
    graphs, layers = [model.graph(one) for one in structures], sorted(model.layers)
    features, together = potential.predict(graphs, layers, True)
    _, alone = potential.predict(graphs, [], False)
    assert alone.forces is None
    apart = [potential.predict([graph], [], True)[1] for graph in graphs[::-1]][::-1]
    assert together.energies.dtype == np.float64
    for energies in (alone.energies, np.concatenate([one.energies for one in apart])):
        worst = np.max(np.abs(together.energies - energies))
        assert worst < ENERGY_TOLERANCE * len(structures), f"an energy differs by {worst:.2e} eV"
    forces = np.concatenate([one.forces for one in apart if one.forces is not None])
    assert together.forces is not None
    assert together.forces.dtype == np.float32
    worst = float(np.max(np.abs(together.forces - forces)))
    assert worst < FORCE_TOLERANCE, f"a force differs by {worst:.2e} eV/Å"
    return deviation(features, vectors(model, structures))


def calculator_energy(model: Model, official: Official) -> float:
    """The energies are those of the package's own calculator (eV an atom)."""
    return _from_calculator(model, official)[0]


def calculator_forces(model: Model, official: Official) -> float:
    """The forces are those of the package's own calculator (eV/Å)."""
    return _from_calculator(model, official)[1]


def _from_calculator(model: Model, official: Official) -> tuple[float, float]:
    """The largest deviations of an energy (eV an atom) and of a force (eV/Å).

    Of strongly distorted crystals too, whose forces are large.
    """
    from ase import Atoms

    calculator, rng = official.calculator(model), np.random.default_rng(11)
    worst = np.zeros(2)
    for one in crystals()[:3]:
        moved = one._replace(positions=one.positions + rng.normal(0, 0.1, one.positions.shape))
        for each in (one, moved):
            atoms = Atoms(each.numbers, each.positions, cell=each.cell, pbc=each.pbc)
            atoms.calc = calculator
            _, found = cast(Potential, model).predict([model.graph(each)], [], True)
            energy = abs(found.energies[0] - atoms.get_potential_energy()) / len(atoms)
            worst = np.maximum(worst, [energy, np.max(np.abs(found.forces - atoms.get_forces()))])
    assert worst[0] < ENERGY_TOLERANCE, f"deviates by {worst[0]:.2e} eV an atom"
    assert worst[1] < FORCE_TOLERANCE, f"deviates by {worst[1]:.2e} eV/Å"
    return float(worst[0]), float(worst[1])


# What `official.py` has → the check of it and its tolerance.
OFFICIAL: Mapping[str, tuple[Callable[[Model, Official], float], float]] = {
    "features": (official_features, TOLERANCE),
    "energy": (official_energy, ENERGY_TOLERANCE),
    "head": (official_energy, ENERGY_TOLERANCE),
}
# Of models that have `predict`, each with its tolerance.
OUTPUTS: Mapping[Callable[[Model, Official], float], float] = {
    outputs_beside_features: TOLERANCE,
    calculator_energy: ENERGY_TOLERANCE,
    calculator_forces: FORCE_TOLERANCE,
}
