"""Pieces for a cluster: the requests of one machine, about equal in work, with their orbits."""

import numpy as np
import pyarrow as pa
import pytest
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list

from platonic_store.engines import Chunk, cutting, node
from platonic_store.runtimes.batching import rebatch


def structures(sizes: list[int], start: int = 0) -> pa.RecordBatch:
    """Of these numbers of atoms; atom i of structure s has atomic number i + 1 and orbit s."""
    return pa.RecordBatch.from_pydict(
        {
            "id": [f"s{start + place}" for place in range(len(sizes))],
            "numbers": pa.array([list(range(1, n + 1)) for n in sizes], pa.list_(pa.int16())),
            "positions": [[0.0] * 3 * n for n in sizes],
            "cell": pa.array([(5 * np.eye(3)).ravel()] * len(sizes), pa.list_(pa.float64(), 9)),
            "pbc": pa.array([[True] * 3] * len(sizes), pa.list_(pa.bool_(), 3)),
            "orbits": pa.array([[start + i] * n for i, n in enumerate(sizes)]),
        }
    )


@pytest.fixture
def stream() -> list[pa.RecordBatch]:
    dice = np.random.default_rng(0)
    sizes = dice.integers(1, 30, (7, 11)).tolist()
    return [structures(some, 11 * place) for place, some in enumerate(sizes)]


@pytest.mark.parametrize("most", [(1.0, 1), (1e9, 100), (3000.0, 10**9), (1e9, 10**9)])
def test_a_model_sees_the_batches_of_one_machine(stream, most):
    requests = [batch["id"].to_pylist() for batch in rebatch(stream, lambda: 40)]
    cut = list(cutting.pieces(stream, 5.0, lambda: 40, lambda: most))
    again = [r["id"].to_pylist() for piece in cut for r in rebatch([piece.structures], lambda: 40)]
    assert again == requests
    for piece in cut:
        for id_, orbits, numbers in zip(
            piece.ids,
            piece.orbits.to_pylist(),
            piece.structures["numbers"].to_pylist(),
            strict=True,
        ):
            assert orbits == [int(id_[1:])] * len(numbers)
    one_request = len(requests) == len(cut)
    assert one_request or max(piece.sites for piece in cut) <= most[1]
    parts = [half for piece in cut if len(piece.ids) > 1 for half in cutting.halves(piece)]
    assert sum(len(part.ids) for part in parts) >= sum(len(p.ids) for p in cut if len(p.ids) > 1)


def test_edges_are_about_those_of_a_neighbour_list():
    for atoms in (bulk("Cu", cubic=True) * 2, bulk("NaCl", "rocksalt", 5.64), molecule("C6H6")):
        batch = pa.RecordBatch.from_pydict(
            {
                "numbers": pa.array([atoms.numbers.tolist()]),
                "cell": pa.array([atoms.cell[:].ravel()], pa.list_(pa.float64(), 9)),
                "pbc": pa.array([atoms.pbc.tolist()], pa.list_(pa.bool_(), 3)),
            }
        )
        exact = len(neighbor_list("i", atoms, 5.0))
        assert cutting.edges(batch, 5.0)[0] == pytest.approx(exact, rel=0.35)


def test_what_an_actor_answers_is_held_against_what_it_was_asked():
    (piece,) = cutting.pieces([structures([2, 3])], 5.0, lambda: 40, lambda: (1e9, 100))
    whole = Chunk(["s0", "s1"], 5, [], None, {}, 0.0, 0.0)
    assert node.unexpected(whole, piece) is None
    assert node.unexpected(whole._replace(structure_ids=["s0"], sites=2), piece)
    assert node.unexpected(whole._replace(structure_ids=["s0", "s0"]), piece)
    assert node.unexpected(whole._replace(sites=4), piece)
    rejected = whole._replace(structure_ids=["s1"], sites=3, rejected=[("s0", "bad")])
    assert node.unexpected(rejected, piece) is None
    sites = node.sites(piece, ["s1", "s0"]).to_pydict()
    assert sites == {"atomic_number": [1, 2, 3, 1, 2], "orbit": [1, 1, 1, 0, 0]}
