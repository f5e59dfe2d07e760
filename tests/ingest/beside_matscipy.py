"""Runs in a family's own interpreter: `beside_matscipy.py ROOT CARD < structures.arrow`

Graphs that are built together by nvalchemi-toolkit-ops beside those of the adapter's own builder,
which is matscipy's, and the embeddings of both. Prints one JSON line.
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

import numpy as np
import pyarrow as pa

from ingest.embedder import DeviceGraphBuilder, Embedder, GraphBuilder
from ingest.families import load
from ingest.worker import structures_of

card = json.loads(sys.argv[2])
model = load(card, "cpu")
(batch,) = pa.ipc.open_stream(sys.stdin.buffer)
structures = structures_of(batch)
builder = GraphBuilder(card["name"], model.elements, model.graph)
one_by_one = [builder(one) for one in structures]
together = list(DeviceGraphBuilder(builder, model)(structures))


def edges(graph):
    """Sorted: two atoms and the vector, 1e-3 Å."""
    ends, vectors = [], None
    for name, part in graph.items():
        part = np.asarray(part)
        if part.ndim == 2 and part.shape[1] == 3:
            vectors = part
        elif name in ("edges", "edge_index", "senders", "receivers"):
            ends.append(np.atleast_2d(part))
    rows = np.column_stack([np.concatenate(ends).T, np.rint(vectors * 1e3)]).astype(int)
    return rows[np.lexsort(rows.T)]


def rows(graphs):
    found = Embedder(model, sorted(model.layers), None).embed(structures, graphs)
    return np.concatenate([np.concatenate(list(one.layers.values()), axis=1) for one in found])


ours, theirs = rows(one_by_one), rows(together)
apart = np.linalg.norm(theirs - ours, axis=1) / np.linalg.norm(ours, axis=1)
same = [np.array_equal(edges(a), edges(b)) for a, b in zip(one_by_one, together, strict=True)]
print(
    json.dumps(
        {
            "structures": len(same),
            "same edges": sum(same),
            "edges": sum(len(edges(graph)) for graph in together),
            "apart": float(apart.max()),
        }
    )
)
