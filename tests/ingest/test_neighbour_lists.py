"""Neighbour lists of many structures at once, on the CPU's path of nvalchemi-toolkit-ops.

It is in no environment of ours: where it is on the PYTHONPATH (with warp-lang), these tests run.
"""

import io
import json
import os
import subprocess
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ingest import embedder, neighbours, worker
from ingest.checks.crystals import crystals
from ingest.embedder import DeviceGraphBuilder, GraphBuilder, Rejected
from ingest.families import Structure
from platonic_store import resources
from platonic_store.runtimes.batching import SCHEMA
from platonic_store.runtimes.preparation import prepare
from platonic_store.structures import read

needs_package = pytest.mark.skipif(
    not neighbours.installed(), reason=f"{neighbours.PACKAGE} is not on the PYTHONPATH"
)
ATOM = Structure("atom", np.array([8]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool))
DENSE = Structure("dense", np.array([1]), np.zeros((1, 3)), np.eye(3), np.ones(3, bool))


def sorted_edges(edges, vectors):
    rows = np.column_stack([np.asarray(edges).T, np.rint(np.asarray(vectors) * 1e3)]).astype(int)
    return rows[np.lexsort(rows.T)].tolist()


@needs_package
def test_the_edges_are_matscipys_in_an_order_of_their_own():
    from ase.geometry import complete_cell
    from matscipy.neighbours import neighbour_list

    structures = [*crystals(), ATOM, DENSE]
    found = neighbours.neighbours(structures, 5.0, "cpu")
    for one, (edges, vectors) in zip(structures, found, strict=True):
        start, end, wanted = neighbour_list(
            "ijD",
            positions=one.positions,
            cell=complete_cell(one.cell * one.pbc[:, None]),
            pbc=one.pbc,
            cutoff=5.0,
        )
        assert sorted_edges(edges, vectors) == sorted_edges([start, end], wanted)
        assert (np.diff(edges[0].numpy()) >= 0).all()
    assert found[-1][0].shape == (2, 484), "more than there was room for at first"
    for (edges, vectors), (alone, theirs) in zip(
        found, [neighbours.neighbours([one], 5.0, "cpu")[0] for one in structures], strict=True
    ):
        assert np.array_equal(edges, alone), "in any batch"
        assert np.array_equal(vectors, theirs)


@needs_package
@pytest.mark.models
@pytest.mark.parametrize("name", ["sevennet-0", "nequix-omat-1", "control:random:mace-mp-0-small"])
def test_embeddings_are_those_of_the_adapters_own_graphs(name, shared_weights, own_trust_store):
    weights = {name: shared_weights[name]} if name in shared_weights else None
    if name == "nequix-omat-1" and not weights:
        pytest.skip("its weights are not at hand")
    ((card, python),) = prepare([name], checkpoint=weights)
    shared = Path(os.environ.get("PLATONIC_SHARED", "none")) / "data/mp20_val_biternary.csv.gz"
    source = shared if shared.exists() else "builtin:aflow-prototypes"
    (batch,) = islice(read(source, batch_size=150), 1)
    sent = batch.structures.select(SCHEMA.names).cast(SCHEMA)
    known = [set(numbers) <= set(card.elements) for numbers in sent["numbers"].to_pylist()]
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, SCHEMA) as writer:
        writer.write_batch(sent.filter(pa.array(known)).slice(0, 100))
    script = Path(__file__).with_name("beside_matscipy.py")
    root = str(resources.folder("ingest").parent)
    done = subprocess.run(
        [python, "-W", "ignore", script, root, json.dumps(card.as_dict())],
        input=stream.getvalue(),
        stdout=subprocess.PIPE,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["same edges"] == said["structures"] > 50
    assert said["apart"] < 1e-5, said


class Together:
    """A model on a GPU that builds names, some of which it cannot."""

    device, elements, layers = "cuda", frozenset([8]), {0: 1}

    def __init__(self):
        self.calls = []

    @staticmethod
    def graph(structure):
        raise AssertionError("not one by one")

    def graphs(self, structures):
        names = [one.id for one in structures]
        self.calls.append(names)
        if "bad" in names:
            raise ValueError("two atoms at one place")
        return names


def test_what_cannot_be_built_together_is_rejected_alone(monkeypatch):
    monkeypatch.setattr(embedder, "beside", lambda device: nullcontext())
    model = Together()
    builder = DeviceGraphBuilder(GraphBuilder("it", model.elements, model.graph), model)
    names = ["a", "b", "bad", "c"]
    stranger = ATOM._replace(id="stranger", numbers=np.array([92]))
    found = list(builder([stranger, *(ATOM._replace(id=name) for name in names)]))
    assert found == [
        Rejected("it does not know element U"),
        "a",
        "b",
        Rejected("no graph: ValueError: two atoms at one place"),
        "c",
    ]
    assert model.calls[0] == names, "at once"
    monkeypatch.setattr(model, "graphs", broken)
    with pytest.raises(RuntimeError, match="CUDA error"):
        list(builder([ATOM]))


def broken(structures):
    raise RuntimeError("CUDA error: an illegal memory access")


@pytest.mark.parametrize("is_there", [True, False])
def test_graphs_are_built_by_a_gpu_where_the_package_is(monkeypatch, is_there):
    monkeypatch.setattr(neighbours, "installed", lambda: is_there)
    monkeypatch.setattr(worker, "graph_mapper", lambda card, device, processes: map)
    card, model = {"name": "it"}, Together()
    for device, has_it in (("cuda:1", is_there), ("cpu", False)):
        model.device = device
        built_by = worker.graph_maker(card, model, None)
        assert isinstance(built_by, DeviceGraphBuilder) == has_it
        assert worker.on_device(model) == has_it, "and the identity names the package"
