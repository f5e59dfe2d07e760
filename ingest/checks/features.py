"""What holds of the features of any model.

Each check raises AssertionError, or returns what it measured: in most the largest deviation of an
atom's vector, relative to that vector's norm.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ingest.checks.crystals import PERIODIC, crystals, repeated
from ingest.checks.deviations import TOLERANCE, deviation, vectors
from ingest.checks.late import late
from ingest.embedder import EmbeddedStructure, Embedder, GraphBuilder, Result
from ingest.families import Model, Structure


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


def arrives_late(model: Model) -> float:
    """What a GPU gives arrives later, and nothing is computed of it before.

    With the outputs of a potential; to the last bit on a CPU.
    """
    structures = crystals()
    graphs = [model.graph(one) for one in structures]
    worst = 0.0
    for outputs in [(), ("energy", "forces")][: 1 + hasattr(model, "predict")]:
        embedder = Embedder(model, sorted(model.layers), 10_000, outputs=outputs)
        once = joined(embedder.embed(structures, graphs))
        with late():
            again = joined(embedder.embed(structures, graphs))
        if model.device == "cpu":
            assert all(np.array_equal(once[i], again[i]) for i in once)
        worst = max(worst, deviation(again, once))
    return worst


def joined(results: list[Result]) -> dict[int, np.ndarray]:
    """The layers of all, none of which was rejected."""
    assert all(isinstance(one, EmbeddedStructure) for one in results), results
    layers = [one.layers for one in results if isinstance(one, EmbeddedStructure)]
    return {i: np.concatenate([one[i] for one in layers]) for i in layers[0]}


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
        copies, shifts = repeated(one, (2, 1, 2)), range(4)
        wanted = {i: np.tile(rows, (len(shifts), 1)) for i, rows in vectors(model, [one]).items()}
        worst = max(worst, deviation(vectors(model, [copies]), wanted))
    return worst


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
    atom = Structure("atom", np.array([8]), np.zeros((1, 3)), np.zeros((3, 3)), ~PERIODIC)
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


# Each with its tolerance; None where it measures no deviation.
CHECKS: Mapping[Callable[[Model], float], float | None] = {
    shape_and_dtype: None,
    one_layer_at_a_time: TOLERANCE,
    deterministic: TOLERANCE,
    batch_independence: TOLERANCE,
    arrives_late: TOLERANCE,
    rotation: TOLERANCE,
    mirror: TOLERANCE,
    translation: TOLERANCE,
    lattice_choice: TOLERANCE,
    site_order: TOLERANCE,
    supercell: TOLERANCE,
    different_environments_differ: None,
    rejects_invalid_structures: None,
    isolated_atom: None,
}
