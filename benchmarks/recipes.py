"""Which space lets one model find another's atoms: `recipes.py STORE [--structures N]`.

Embed an atom with one model, look for the same atom among another's: recall@1 and @10. Split by
composition: no atom that is asked is of a composition that has an anchor, and all is fitted to
anchors alone. With `--structures N` those of the first N by id are asked and are all that may
answer; without, half of the compositions are asked and every distinct atom of the store may answer.
One site of each set of symmetry-equivalent ones; at most 2,000 are asked, by content.

Three tables in Markdown: layer × recipe × K for two models (`--models`, by default the first two
trained ones), the other at its default layer, both ways averaged; every model and control of
the store against every other at its default layer, aligned with most anchors, where the consensus
is of the trained models alone; and the first of the two models in a consensus with each other one
alone, so that a control has the same say as a model. The null is three shuffles' largest recall@10.
The λ is found by cross-validation on the anchors, as `platonic-store project` does.
"""

import argparse
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from platonic_store import Store
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.consensus import choose, consensus, join
from platonic_store.geometry.neighbours import RESOLUTION, distances
from platonic_store.geometry.projection import Recipe, fit, project
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.runtimes.cards import kind_of
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

RECIPES: tuple[Recipe, ...] = ("cosine", "centred", "whitened", "aligned")
ASKED = 2000


class Split:
    """Which atoms are anchors, which are asked and which may answer."""

    def __init__(self, keys: pd.DataFrame, formulas: pd.Series, structures: int | None):
        self.compositions = keys["structure_id"].map(formulas).to_numpy()
        self.names = (keys["structure_id"] + ":" + keys["site_index"].astype(str)).to_numpy()
        known = np.unique(self.compositions)
        if structures:
            first = np.sort(keys["structure_id"].unique())[:structures]
            asked = np.unique(self.compositions[keys["structure_id"].isin(first)])
        else:
            asked = known[random_rows(known, len(known) // 2, seed=1)]
        is_asked = np.isin(self.compositions, asked)
        if structures:
            self.answers = np.flatnonzero(keys["structure_id"].isin(first))
        else:
            self.answers = np.arange(len(keys))
        self.pool = np.flatnonzero(~is_asked)
        may_ask = np.flatnonzero(is_asked[self.answers])
        some = random_rows(self.names[self.answers[may_ask]], min(ASKED, len(may_ask)), seed=2)
        self.asked = np.sort(may_ask[some])

    def anchors(self, k: int) -> np.ndarray:
        return np.sort(self.pool[random_rows(self.names[self.pool], k, seed=0)])


def recall(
    za: np.ndarray, zb: np.ndarray, asked: np.ndarray, order: np.ndarray | None = None
) -> np.ndarray:
    """(recall@1, recall@10) of rows `asked` of za among all of zb, or of others by `order`."""
    found = np.zeros(2)
    for part in np.array_split(asked, max(1, len(asked) // 250)):
        gaps = distances(za[part], zb)
        own = part if order is None else order[part]
        gaps -= gaps[np.arange(len(part)), own][:, None]
        nearer, ties = (gaps < -RESOLUTION).sum(1), (np.abs(gaps) <= RESOLUTION).sum(1)
        found += [np.clip((k - nearer) / ties, 0, 1).sum() for k in (1, 10)]
    return found / len(asked)


def spaces(
    rows: Sequence[np.ndarray], split: Split, k: int, recipe: Recipe, trained: Iterable[int]
) -> list[np.ndarray]:
    """The answers' coordinates by each model; `trained` are the models that may agree."""
    anchors = split.anchors(k)
    if recipe != "aligned":
        return [project(fit(recipe, one[anchors]), one[split.answers]) for one in rows]
    agreeing = [rows[i][anchors] for i in trained]
    penalty = choose(agreeing, split.compositions[anchors]).penalty
    if penalty is None:
        return spaces(rows, split, k, "whitened", trained)
    targets = consensus(agreeing, penalty)
    return [project(join(one[anchors], targets, penalty), one[split.answers]) for one in rows]


def by_layer(snapshot: Snapshot, pair: list[str], split: Split, ks: list[int]) -> None:
    print(f"| side | other | K | {' | '.join(RECIPES)} |\n|{'---|' * (len(RECIPES) + 3)}")
    stored = {(t.model, t.layer) for t in snapshot.tables if t.space is None}
    for model, other in (pair, pair[::-1]):
        for layer in sorted(layer for name, layer in stored if name == model):
            sides = [ModelLayer(model, layer), lookup.model_layer(snapshot, other)]
            rows = paired_embeddings(snapshot, sides).vectors
            assert len(rows[0]) == len(split.names), "not all models have embedded all atoms"
            for k in ks:
                cells = []
                for recipe in RECIPES:
                    a, b = spaces(rows, split, k, recipe, (0, 1))
                    both = (recall(a, b, split.asked) + recall(b, a, split.asked)) / 2
                    cells.append("{:.3f} / {:.3f}".format(*both))
                print(f"| {sides[0]} | {sides[1]} | {k} | {' | '.join(cells)} |", flush=True)


def by_model(snapshot: Snapshot, sides: list[ModelLayer], split: Split, k: int) -> None:
    rows = paired_embeddings(snapshot, sides).vectors
    trained = [i for i, side in enumerate(sides) if kind_of(side.model) == "trained"]
    seen = spaces(rows, split, k, "aligned", trained)
    print(f"\nrecall@10, aligned, K = {k}\n")
    print(f"| asks \\ answers | {' | '.join(map(str, sides))} | null |")
    print(f"|{'---|' * (len(sides) + 2)}")
    for i, side in enumerate(sides):
        cells = [
            "" if i == j else f"{recall(seen[i], other, split.asked)[1]:.3f}"
            for j, other in enumerate(seen)
        ]
        orders = [np.random.default_rng(n).permutation(len(seen[i])) for n in range(3)]
        other = seen[i - 1]
        null = max(recall(seen[i], other, split.asked, order)[1] for order in orders)
        print(f"| {side} | {' | '.join(cells)} | {null:.4f} |", flush=True)


def by_pair(
    snapshot: Snapshot, side: ModelLayer, others: list[ModelLayer], split: Split, k: int
) -> None:
    print(f"\nrecall@1 / @10, a consensus of {side} and one other, K = {k}\n")
    print(f"| other | {side} asks | {side} answers |\n|---|---|---|")
    for other in others:
        a, b = spaces(
            paired_embeddings(snapshot, [side, other]).vectors, split, k, "aligned", (0, 1)
        )
        cells = ["{:.3f} / {:.3f}".format(*recall(*two, split.asked)) for two in ((a, b), (b, a))]
        print(f"| {other} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--structures", type=int)
    parser.add_argument("--models", nargs=2)
    parser.add_argument("--anchors", nargs="+", type=int, default=[100, 512, 2048])
    options = parser.parse_args()
    with Store.open(options.store).snapshot() as snapshot:
        sides = [lookup.model_layer(snapshot, name) for name in list(snapshot.models)]
        trained = [side.model for side in sides if kind_of(side.model) == "trained"]
        structures = snapshot.frame("SELECT structure_id, formula FROM structure")
        formulas = structures.set_index("structure_id")["formula"]
        split = Split(paired_embeddings(snapshot, sides).keys, formulas, options.structures)
        ks = [k for k in options.anchors if k <= len(split.pool)]
        print(
            f"{len(split.asked):,} atoms asked, {len(split.answers):,} may answer, anchors among "
            f"{len(split.pool):,} of other compositions\n"
        )
        pair = options.models or trained[:2]
        by_layer(snapshot, pair, split, ks)
        by_model(snapshot, sides, split, ks[-1])
        one = lookup.model_layer(snapshot, pair[0])
        by_pair(snapshot, one, [side for side in sides if side != one], split, ks[-1])


if __name__ == "__main__":
    main()
