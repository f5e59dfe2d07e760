"""Analogies that a store poses itself: `analogies.py STORE [--space S] [--exchanges N] [MODEL …]`.

Tables in Markdown. The first: every model (or `MODEL@LAYER`; by default all) within itself, and
composition alone. The second: every model (row) whose terms are answered by every other (column),
through the shared space, on 2,000 of the cases. The third: N exchanges of one element,
`start - X + Y`, by every model, the answer's own atoms left out of the mean that stands for Y.
"""

import argparse

import numpy as np
import pandas as pd
from ase.data import chemical_symbols

from platonic_store import Store
from platonic_store.geometry.anchors import random_rows
from platonic_store.questions.analogy import expression_vector
from platonic_store.questions.shared import substitutions
from platonic_store.questions.shared.expression import read
from platonic_store.runtimes.cards import kind_of
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot

COLUMNS = ["model", "hit", "low", "high", "formula", "nearest", "polymorph", "polymorph_cases"]


def within(snapshot: Snapshot, cases: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """One row a model, and one for composition alone."""
    rows = [substitutions.score(snapshot, cases, model) for model in models]
    rows.append(substitutions.score_of_composition(snapshot, cases))
    return pd.concat(rows)[COLUMNS]


def across(
    snapshot: Snapshot, cases: pd.DataFrame, models: list[str], space: str | None
) -> pd.DataFrame:
    """hit, by who asks and who answers; on the diagonal within the shared space."""
    answers = [m for m in models if kind_of(m) == "trained"]
    return pd.DataFrame(
        [
            {"asks \\ answers": one}
            | {
                other: substitutions.score(snapshot, cases, one, other, space=space).hit[0]
                for other in answers
            }
            for one in models
        ]
    )


def exchanges(snapshot: Snapshot, cases: pd.DataFrame, n: int) -> pd.DataFrame:
    """start, target and the expression that exchanges the element by which they differ."""
    pairs = cases[["start", "plus", "minus", "target"]]
    both = pd.concat(
        [
            pairs[["plus", "target"]].set_axis(["start", "target"], axis=1),
            pairs[["start", "target"]],
        ]
    ).drop_duplicates()
    numbers = snapshot.frame("SELECT structure_id, numbers FROM crystals").set_index("structure_id")
    elements = numbers["numbers"].map(lambda one: frozenset(int(z) for z in one))
    rows = []
    for start, target in both.itertuples(index=False):
        out, into = elements[start] - elements[target], elements[target] - elements[start]
        if len(out) == len(into) == 1:
            symbols = (chemical_symbols[z] for z in (*out, *into))
            rows.append((start, target, "{} - {} + {}".format(start, *symbols)))
    found = pd.DataFrame(rows, columns=["start", "target", "expression"])
    names = (found["start"] + " " + found["target"]).to_numpy()
    return found.iloc[np.sort(random_rows(names, min(n, len(found)), 0))]


def exchange_hits(snapshot: Snapshot, posed: pd.DataFrame, model: str) -> float:
    """The share of exchanges whose nearest structure, `start` left out, is the target."""
    side = lookup.model_layer(snapshot, model)
    points = snapshot.points(lookup.vector_table(snapshot, side, "structure"))
    units = points.vectors / np.maximum(points.lengths, 1e-30)[:, None]
    ids, hits = points.column("structure_id"), 0
    for start, target, expression in posed.itertuples(index=False):
        terms = read(snapshot, expression)
        vector = expression_vector(snapshot, terms, side, None, without=(target,))
        cosines = np.where(ids == start, -np.inf, units @ vector)
        hits += ids[cosines.argmax()] == target
    return hits / len(posed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--space")
    parser.add_argument("--exchanges", type=int, default=300)
    options = parser.parse_args()
    snapshot = Store.open(options.store).snapshot()
    models = options.models or list(snapshot.models)
    cases = substitutions.cases(snapshot)
    two = (cases["apart"] == 2).sum()
    print(f"{len(cases):,} cases; contexts differ by two elements in {two:,}\n")
    print(
        within(snapshot, cases, models).to_markdown(index=False, floatfmt=".3f"),
        "\n",
        flush=True,
    )
    if snapshot.rows("FROM catalog.main.spaces"):
        fewer = substitutions.cases(snapshot, limit=2_000)
        table = across(snapshot, fewer, models, options.space)
        print(table.to_markdown(index=False, floatfmt=".3f"), "\n", flush=True)
    posed = exchanges(snapshot, cases, options.exchanges)
    rows = [(model, exchange_hits(snapshot, posed, model)) for model in models]
    print(f"{len(posed)} exchanges of one element\n")
    print(pd.DataFrame(rows, columns=["model", "hit"]).to_markdown(index=False, floatfmt=".3f"))


if __name__ == "__main__":
    main()
