"""What half precision changes: `half_precision.py STORE`, for each model and layer it holds.

Of 200 atoms the ten nearest others by vectors as they are stored, and rounded to half precision
(the query, too): recall@10, and the largest change of a distance among them. Also the largest
number, which half precision must hold (65,504).
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from platonic_store.geometry.neighbours import nearest
from platonic_store.store import Store

QUERIES, K = 200, 10


def changed(vectors: np.ndarray) -> tuple[float, float]:
    """(recall@10, largest change of a distance) of rows that are rounded."""
    rows = np.random.default_rng(0).permutation(len(vectors))[:QUERIES]
    half = vectors.astype(np.float16).astype(np.float32)
    distance = nearest(vectors[rows], vectors, K + 1)[1]
    rounded, found = nearest(half[rows], half, K + 1)
    # A row may be among equals: what counts is how near the rows are that were found.
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    far = 1 - np.einsum("qd,qkd->qk", unit[rows], unit[rounded])
    recall = (far <= distance[:, -1:] + 1e-6).mean()
    return float(recall), float(np.abs(far - found).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    snapshot = Store.open(parser.parse_args().store).snapshot()
    table = Table("embeddings", "atoms", "largest", "length", "recall@10", "distance moves by")
    for one in snapshot.tables:
        if one.level == "atom" and one.space is None:
            points = snapshot.points(one)
            vectors = points.vectors[points.is_distinct]
            recall, moved = changed(vectors)
            largest, length = np.abs(vectors).max(), np.median(np.linalg.norm(vectors, axis=1))
            numbers = f"{largest:.3g}", f"{length:.3g}", f"{recall:.4f}", f"{moved:.1e}"
            table.add_row(str(one.side), f"{len(vectors):,}", *numbers)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
