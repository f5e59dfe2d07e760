"""What every adapter must do, as checks that run on a loaded model. `python conformance.py REQUEST`

The request is JSON: card, device. Each check prints one JSON line, the fields of `Result`.

`CHECKS` run on any model. Each raises AssertionError, or returns what it measured: in most the
largest deviation of an atom's vector, relative to that vector's norm, of at most `TOLERANCE`
(float32). `OFFICIAL` compare with the family's own package, through its `official.py`.
"""

import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count, product
from pathlib import Path
from typing import Any, NamedTuple, cast

if __name__ == "__main__":
    # So that `ingest` is imported as a package.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from ingest.embedder import EmbeddedStructure, Embedder, GraphBuilder, one_line
from ingest.families import Model, Official, Potential, Structure, load, part

TOLERANCE = 1e-4
ENERGY_TOLERANCE = 1e-4  # eV an atom, float32
FORCE_TOLERANCE = 1e-4  # eV/Å, float32
ALL = np.ones(3, dtype=bool)


class Result(NamedTuple):
    """The result of one check; `tolerance` is None where `measured` is only reported."""

    check: str
    passed: bool
    measured: float | None
    tolerance: float | None
    remark: str


def crystals() -> list[Structure]:
    """A symmetric, a distorted and an elemental crystal, a slab and a sparse crystal.

    Of Na, Cl, Sr, Ti, O and Si. The distorted one is not its own mirror image; in the sparse one no
    two atoms are within 3 Å.
    """
    rng = np.random.default_rng(7)
    halves = np.array(list(product((0.0, 0.5), repeat=3)))
    rocksalt = np.where(halves.sum(1) % 1 == 0, 11, 17)
    perovskite = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    cell = np.array([[3.9, 0.1, 0], [0, 3.95, 0.2], [0.1, 0, 4.1]])
    diamond = np.array([[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]])
    centred = np.ones((3, 3)) / 2 - np.eye(3)
    shaken = perovskite @ cell + rng.normal(0, 0.08, (5, 3))
    return [
        Structure("NaCl", rocksalt, halves * 5.6, np.eye(3) * 5.6, ALL),
        Structure("SrTiO3", np.array([38, 22, 8, 8, 8]), shaken, cell, ALL),
        Structure("Si", np.array([14, 14]), np.array([[0, 0, 0], [1.35] * 3]), diamond, ALL),
        Structure("slab", rocksalt, halves * 5.6, np.eye(3) * 5.6, np.array([True, True, False])),
        Structure("Na", np.array([11]), np.zeros((1, 3)), centred * 4.3, ALL),
    ]


def vectors(model: Model, structures: list[Structure]) -> dict[int, np.ndarray]:
    """The embeddings of all layers, in one forward pass."""
    return model.embed([model.graph(one) for one in structures], sorted(model.layers))


def deviation(found: dict[int, np.ndarray], wanted: dict[int, np.ndarray]) -> float:
    """The largest difference of an atom's vector, relative to its norm. Asserts `TOLERANCE`."""
    worst = max(
        float(
            np.max(np.linalg.norm(found[i] - wanted[i], axis=1) / np.linalg.norm(wanted[i], axis=1))
        )
        for i in wanted
    )
    assert worst < TOLERANCE, f"deviates by {worst:.2e} of the norm"
    return worst


def shape_and_dtype(model: Model) -> float:
    """One row per atom, as many float32 columns as `layers` says, all finite."""
    structures = crystals()
    atoms = sum(len(one.numbers) for one in structures)
    for layer, rows in vectors(model, structures).items():
        assert rows.shape == (atoms, model.layers[layer])
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()
    return 0.0


def one_layer_at_a_time(model: Model) -> float:
    """A layer is the same whichever others are requested."""
    together = vectors(model, crystals())
    graphs = [model.graph(one) for one in crystals()]
    return max(deviation(model.embed(graphs, [i]), {i: together[i]}) for i in together)


def deterministic(model: Model) -> float:
    """The same structures give the same numbers twice, to the last bit on a CPU."""
    once, again = vectors(model, crystals()), vectors(model, crystals())
    if model.device == "cpu":
        assert all(np.array_equal(once[i], again[i]) for i in once)
    return deviation(again, once)


def batch_independence(model: Model) -> float:
    """An atom's vector does not depend on what else is in the batch."""
    structures = crystals()
    together = vectors(model, structures[::-1])
    alone = [vectors(model, [one]) for one in structures[::-1]]
    return deviation(together, {i: np.concatenate([one[i] for one in alone]) for i in together})


def rotation(model: Model) -> float:
    """A rotated structure has the same vectors."""
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    return _unchanged(
        model, lambda s: s._replace(positions=s.positions @ turn.T, cell=s.cell @ turn.T)
    )


def mirror(model: Model) -> float:
    """The mirror image of a structure has the same vectors."""
    flip = np.diag([1.0, 1.0, -1.0])
    return _unchanged(model, lambda s: s._replace(positions=s.positions @ flip, cell=s.cell @ flip))


def translation(model: Model) -> float:
    """A structure shifted, also out of the cell, has the same vectors."""
    shift = np.array([11.3, -4.7, 0.9])
    return _unchanged(model, lambda s: s._replace(positions=s.positions + shift))


def lattice_choice(model: Model) -> float:
    """Another basis of the same lattice gives the same vectors."""
    basis = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    return _unchanged(model, lambda s: s._replace(cell=basis @ s.cell))


def site_order(model: Model) -> float:
    """Sites in reverse order have vectors in reverse order."""
    structure = crystals()[1]
    turned = structure._replace(
        numbers=structure.numbers[::-1].copy(), positions=structure.positions[::-1].copy()
    )
    found = vectors(model, [turned])
    wanted = vectors(model, [structure])
    return deviation({i: rows[::-1] for i, rows in found.items()}, wanted)


def supercell(model: Model) -> float:
    """Every copy of an atom in a 2×1×2 supercell has that atom's vector."""
    worst = 0.0
    for one in crystals()[:3]:
        copies, shifts = _repeated(one, (2, 1, 2)), range(4)
        wanted = {i: np.tile(rows, (len(shifts), 1)) for i, rows in vectors(model, [one]).items()}
        worst = max(worst, deviation(vectors(model, [copies]), wanted))
    return worst


def _repeated(one: Structure, times: tuple[int, int, int]) -> Structure:
    """A supercell: all atoms of the first copy come first."""
    shifts = np.array(list(product(*map(range, times)))) @ one.cell
    return Structure(
        one.id,
        np.tile(one.numbers, len(shifts)),
        (one.positions + shifts[:, None]).reshape(-1, 3),
        one.cell * np.array(times)[:, None],
        one.pbc,
    )


def different_environments_differ(model: Model) -> float:
    """Na in rock salt and Na at the surface of a slab have different vectors.

    Except where the cutoff is 0: then they are equal.
    """
    bulk, slab = (one for one in crystals() if one.id in ("NaCl", "slab"))
    inside, surface = vectors(model, [bulk]), vectors(model, [slab])
    least = min(
        float(np.linalg.norm(inside[i][0] - surface[i][0]) / np.linalg.norm(inside[i][0]))
        for i in inside
    )
    assert least > 10 * TOLERANCE if model.cutoff else least == 0, f"they differ by {least:.2e}"
    return least


def rejects_invalid_structures(model: Model) -> float:
    """Invalid structures are rejected one by one, each with a reason, and no others."""
    good = crystals()[1]
    unknown = next(z for z in range(119, 0, -1) if z not in model.elements)
    bad = [
        good._replace(id="unknown element", numbers=np.array([unknown, 8, 8, 8, 8])),
        good._replace(id="not finite", positions=good.positions * np.nan),
        good._replace(id="no atoms", numbers=good.numbers[:0], positions=good.positions[:0]),
        good._replace(id="no lattice", cell=np.zeros((3, 3))),
    ]
    structures = [bad[0], good, *bad[1:]]
    builder = GraphBuilder("the model", model.elements, model.graph)
    results = list(
        Embedder(model, list(model.layers), 64).embed(structures, list(map(builder, structures)))
    )
    reasons = dict(result for result in results if len(result) == 2 and isinstance(result[1], str))
    assert list(reasons) == [one.id for one in bad], reasons
    assert "does not know element" in reasons["unknown element"]
    assert len(results) == len(structures)
    return 0.0


def isolated_atom(model: Model) -> float:
    """An atom without neighbours gets a finite vector, or a reason."""
    atom = Structure("atom", np.array([8]), np.zeros((1, 3)), np.zeros((3, 3)), ~ALL)
    graph = GraphBuilder("the model", model.elements, model.graph)(atom)
    (found,) = Embedder(model, sorted(model.layers), 64).embed([atom], [graph])
    if isinstance(found, EmbeddedStructure):
        assert all(rows.shape[0] == 1 for rows in found.layers.values())
    else:
        assert found[1], "rejected without a reason"
    return 0.0


def _unchanged(model: Model, change: Callable[[Structure], Structure]) -> float:
    return deviation(
        vectors(model, [change(one) for one in crystals()]), vectors(model, crystals())
    )


CHECKS: tuple[Callable[[Model], float], ...] = (
    shape_and_dtype,
    one_layer_at_a_time,
    deterministic,
    batch_independence,
    rotation,
    mirror,
    translation,
    lattice_choice,
    site_order,
    supercell,
    different_environments_differ,
    rejects_invalid_structures,
    isolated_atom,
)


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


OFFICIAL: Mapping[str, Callable[[Model, Official], float]] = {
    "features": official_features,
    "energy": official_energy,
    "head": official_energy,
}
# Of models that have `predict`; the tolerance of each.
OUTPUTS: Mapping[Callable[[Model, Any], float], float] = {
    outputs_beside_features: TOLERANCE,
    calculator_energy: ENERGY_TOLERANCE,
    calculator_forces: FORCE_TOLERANCE,
}
# Checks that do not measure a deviation.
WITHOUT_TOLERANCE = {
    different_environments_differ,
    isolated_atom,
    rejects_invalid_structures,
    shape_and_dtype,
}


def official_part(card: Mapping[str, Any]) -> Any:
    """The family's `official.py`, or None."""
    return part(card, "official") if (Path(card["folder"]) / "official.py").exists() else None


def loaded_whole(model: Model, card: Mapping[str, Any]) -> float:
    """Loaded again after other random numbers, it embeds the same to the last bit on a CPU.

    A tensor that a checkpoint does not fill is as it was drawn; one that begins as zeros or ones
    passes unseen.
    """
    _draw_elsewhere()
    again = load(card, model.device)
    assert again.checkpoint_sha256 == model.checkpoint_sha256, "its identity is another"
    once, twice = vectors(model, crystals()), vectors(again, crystals())
    if model.device == "cpu":
        layers = [i for i in once if not np.array_equal(once[i], twice[i])]
        assert not layers, f"layers {layers} differ: tensors that were not loaded"
        if hasattr(model, "predict"):
            graphs = [model.graph(one) for one in crystals()]
            one, other = (cast(Potential, each).predict(graphs, [], False)[1].energies
                          for each in (model, again))  # fmt: skip
            assert np.array_equal(one, other), "energies differ: tensors that were not loaded"
    return deviation(twice, once)


def _draw_elsewhere() -> None:
    """Leave the random numbers of this process where another process would not be."""
    np.random.seed(20_241_224)  # noqa: NPY002 — packages draw from it
    random.seed(20_241_224)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(20_241_224)
    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.random.set_seed(20_241_224)


def matches_card(model: Model, card: Mapping[str, Any]) -> float:
    """Layers, cutoff, elements, energy head and forces are those of the card."""
    predicts = hasattr(model, "predict")
    assert predicts == (card["conservative"] is not None), f"has forces: {predicts}"
    assert dict(model.layers) == {layer["index"]: layer["dim"] for layer in card["layers"]}
    assert model.cutoff == card["cutoff"], f"its cutoff is {model.cutoff} Å"
    assert model.elements == set(card["elements"]), f"its elements are {sorted(model.elements)}"
    has_head = hasattr(official_part(card), "head")
    assert has_head == card["head"], f"official.py has {'a' if has_head else 'no'} head"
    return 0.0


def conform(card: Mapping[str, Any], device: str = "auto") -> Iterator[Result]:
    """Every check that applies to the model of a card, one after the other."""
    model = load(card, device)
    found = _result(matches_card, None, model, card)
    versions = ", ".join(f"{name} {number}" for name, number in model.versions.items())
    yield found._replace(remark=versions) if found.passed else found
    yield _result(loaded_whole, TOLERANCE, model, card)
    excepted = _excepted(card)
    for check in CHECKS:
        if check in excepted:
            yield _reported(check, model, drawn=card["seed"] is not None)
        else:
            yield _result(check, None if check in WITHOUT_TOLERANCE else TOLERANCE, model)
    official = official_part(card)
    for name, comparison in OFFICIAL.items():
        if hasattr(official, name):
            tolerance = TOLERANCE if name == "features" else ENERGY_TOLERANCE
            yield _result(comparison, tolerance, model, official)
    if hasattr(model, "predict") and hasattr(official, "calculator"):
        for check_outputs, tolerance in OUTPUTS.items():
            yield _result(check_outputs, tolerance, model, official)
    yield speed(model, card, official)


def speed(model: Model, card: Mapping[str, Any], official: Any) -> Result:
    """Atoms embedded in a second up to the default layer; and times the package's calculator.

    That gives energy and forces, one structure at a time. On a CPU the second is one of the
    processor's, of one core, whatever else runs on the machine.
    """
    cells = [_repeated(one, (2, 2, 2)) for one in crystals()[:3]]
    atoms = sum(len(one.numbers) for one in cells)

    def embed() -> None:
        model.embed([model.graph(one) for one in cells], [card["default_layer"]])

    try:
        clock = time.process_time if model.device == "cpu" else time.perf_counter
        unit = f"atoms a second{' of one core' if model.device == 'cpu' else ''}"
        ours = atoms / _seconds(embed, clock)
        if not hasattr(official, "calculator"):
            return Result("speed", True, ours, None, unit)
        from ase import Atoms

        calculator = official.calculator(model)

        def calculate() -> None:
            for one in cells:
                each = Atoms(one.numbers, one.positions, cell=one.cell, pbc=one.pbc)
                each.calc = calculator
                each.get_forces()

        ratio = ours / (atoms / _seconds(calculate, clock))
    except Exception as error:
        return Result("speed", False, None, None, one_line(error))
    return Result("speed", True, ours, None, f"{unit}, {ratio:.1f} times its calculator")


def _seconds(work: Callable[[], None], clock: Callable[[], float], enough: float = 1.0) -> float:
    """Of the fastest of some runs, after two that warm up; of one that takes long, of that one."""
    best, since = math.inf, clock()
    for run in count():
        start = clock()
        work()
        took = clock() - start
        if run >= 2 or took > 2 * enough:
            best = min(best, took)
        if best < math.inf and clock() - since > enough:
            return best
    raise AssertionError("unreachable")


def _excepted(card: Mapping[str, Any]) -> set[Callable[[Model], float]]:
    """The checks that the card says will fail."""
    invariant = {
        rotation: card["invariant"],
        mirror: card["invariant"] and card["mirror_invariant"],
        supercell: card["supercell_invariant"],
    }
    return {check for check, holds in invariant.items() if not holds}


def _result(check: Callable[..., float], tolerance: float | None, *arguments: Any) -> Result:
    try:
        return Result(check.__name__, True, check(*arguments), tolerance, "")
    except Exception as error:
        return Result(check.__name__, False, None, tolerance, one_line(error))


def _reported(check: Callable[..., float], model: Model, *, drawn: bool) -> Result:
    """A check that the card says will fail: reports by how much.

    drawn: whether its weights are random: such may hardly use what breaks the invariance.
    """
    found = _result(check, TOLERANCE, model)
    if found.passed and drawn:
        return found._replace(remark="invariant with random weights, though not by construction")
    if found.passed:
        return found._replace(passed=False, remark="invariant, though the card says it is not")
    return found._replace(passed=True, tolerance=None, remark=f"as the card says: {found.remark}")


def main() -> None:
    """Only results go to stdout: what a library prints goes to stderr."""
    sink = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(sys.argv[1])
    try:
        for result in conform(request["card"], request["device"]):
            print(json.dumps(result._asdict()), file=sink, flush=True)
    except Exception as error:
        sys.exit(one_line(error))


if __name__ == "__main__":
    main()
