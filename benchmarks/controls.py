"""What training adds: `controls.py STORE [--structures N]`, for a store with models and controls.

For every pair of models, embed an atom with the one (row) and look for the same atom among the
other's (column): recall@10 by the recipe whitened, with 512 random anchors that are no candidates.
Candidates are one site of each set of symmetry-equivalent ones, of the first N structures by id.
The last column is the largest recall of three shuffles. Default layers only. Printed is Markdown.
"""

import argparse
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platonic_store import Store
from platonic_store.geometry.alignment import permutation_null, retrieval
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.projection import fit, project
from platonic_store.vectors import vector_matrix

K = 512


def distinct(table: pa.Table, structures: int) -> pa.Table:
    """One row for each set of equivalent sites of the first structures, ordered by their keys."""
    first = table["structure_id"].unique().sort()[:structures]
    is_kept = pc.and_(
        pc.is_in(table["structure_id"], first), pc.equal(table["site_index"], table["orbit"])
    )
    return table.filter(is_kept).sort_by(
        [("structure_id", "ascending"), ("site_index", "ascending")]
    )


def coordinates(store: Store, models: list[str], structures: int) -> dict[str, np.ndarray]:
    """Each model's coordinates of the same atoms, anchors left out."""
    found, keys = {}, None
    for model in models:
        table = distinct(store.embeddings(model), structures)
        mine = table.select(["structure_id", "site_index"])
        keys = keys or mine
        assert mine.equals(keys), f"{model} has not embedded the same atoms"
        rows = vector_matrix(table["vector"])
        anchors = random_rows(np.arange(len(rows)), K, seed=0)
        rest = np.delete(np.arange(len(rows)), anchors)
        found[model] = project(fit("whitened", rows[anchors]), rows[rest])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--structures", type=int, default=2000)
    options = parser.parse_args()
    store = Store.open(options.store)
    models = store.sql("SELECT name FROM model ORDER BY added_at").name.tolist()
    spaces = coordinates(store, models, options.structures)
    recall = partial(retrieval, k=10)
    print(f"{len(spaces[models[0]]):,} atoms, K = {K}, whitened\n")
    print(f"| asks \\ answers | {' | '.join(models)} | null |\n|{'---|' * (len(models) + 2)}")
    for one in models:
        scores = [
            "" if one == other else f"{recall(spaces[one], spaces[other]):.3f}" for other in models
        ]
        null = permutation_null(recall, spaces[one], spaces[models[-1]], n=3, seed=0).max()
        print(f"| {one} | {' | '.join(scores)} | {null:.4f} |", flush=True)


if __name__ == "__main__":
    main()
