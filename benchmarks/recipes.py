"""Which recipe lets one model find another's atoms: `python benchmarks/recipes.py A.npy B.npy`.

Each file is an (n, D) array of one model's embeddings, row i of both the same atom; best one row
for each distinct environment, since copies of an environment cannot be told apart. Prints
recall@10 of the same atom among all that are no anchors (an anchor finds itself by its own
coordinate), with the null of shuffled rows beside it.
"""

import sys
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

from platonic_store.geometry.alignment import permutation_null, retrieval
from platonic_store.geometry.anchors import direct, random_rows
from platonic_store.geometry.projection import Recipe, fit, project

RECIPES: tuple[Recipe, ...] = ("cosine", "centred", "whitened")


def main(path_a: str, path_b: str) -> None:
    a, b = np.load(path_a), np.load(path_b)
    keys = np.arange(len(a))
    recall = partial(retrieval, k=10)
    table = Table(
        "K", "anchors", *RECIPES, "null", title=f"recall@10 among {len(a):,} atoms less K"
    )
    for k in (100, 256, 512, 1024):
        choices = {"direct": direct(a, k, keys=keys), "random": random_rows(keys, k, seed=0)}
        for name, chosen in choices.items():
            rest = np.delete(np.arange(len(a)), chosen)
            scores = []
            for recipe in RECIPES:
                za, zb = (project(fit(recipe, x[chosen]), x[rest]) for x in (a, b))
                scores.append(f"{recall(za, zb):.3f}")
            null = permutation_null(recall, za, zb, n=3, seed=0).max()
            table.add_row(str(k), name, *scores, f"{null:.4f}")
    Console().print(table)


if __name__ == "__main__":
    main(*sys.argv[1:3])
