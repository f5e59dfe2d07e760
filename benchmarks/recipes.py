"""Which space lets one model find another's atoms: `recipes.py STORE`.

Embed an atom with one model, look for the same atom among another's: recall@1 and @10, without and
with hub scores. Split by composition: no atom that is asked is of a composition that has an anchor,
and all is fitted to anchors alone. Half of the compositions are asked, one site of each set of
symmetry-equivalent ones, at most `--asked` by content, and every distinct atom of the store may
answer; or with `--structures N` those of the first N by id are asked and are all that may answer.

A correction for hubs may help an atom to find itself and blur what else is near it. So `same` is
printed too: of the ten nearest atoms of other crystals, the part that the answering model's own
ten nearest are too.

Six tables in Markdown, each by itself with `--only`:

layers    each model's layers and sets of them, in a consensus with `--partner` at its default set;
recipes   recipe × K for the joint space of all trained models, mean over all ordered pairs;
models    that space with most anchors: every model and control asks every other;
hubs      the same space, trained models: no hub scores, CSLS, ours, ours at whole weight;
pairs     pairs with an equal say: a consensus of two trained models, or of one and a control;
twins     by λ, what a model shares with another that was trained, and with its own random twin.

The store needs all layers: `ingest --layers all`. λ and layers are found by cross-validation on the
anchors, as `platonic-store project` does. The null is the largest recall@10 of three shuffles.
"""

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, permutations
from typing import NamedTuple

import numpy as np
import pandas as pd

from platonic_store import Store
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.consensus import choose, consensus, join, refine
from platonic_store.geometry.hubs import WEIGHT, Sample, Seen, hubness
from platonic_store.geometry.neighbours import unit_rows
from platonic_store.geometry.projection import Recipe, fit, project, side_by_side
from platonic_store.jobs.hub_sample import MOST_ATOMS
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.runtimes.cards import RANDOM, kind_of, resolve
from platonic_store.storage import lookup
from platonic_store.storage.layer_sets import number_of
from platonic_store.storage.snapshot import ModelLayer, Snapshot

RECIPES: tuple[Recipe, ...] = ("cosine", "whitened", "aligned")
TABLES = ("layers", "recipes", "models", "hubs", "pairs", "twins")
PENALTIES = (1e-5, 1e-6, 1e-7, 1e-8)
Layers = list[np.ndarray]


class Found(NamedTuple):
    """recall@1, @10 and `same`, plain and with hub scores; the null of @10; λ, if there is one."""

    plain: np.ndarray
    hubs: np.ndarray
    null: float
    penalty: float | None

    def __str__(self) -> str:
        return f"{_said(self.plain)} → {_said(self.hubs)}"


def _said(found: np.ndarray) -> str:
    return " / ".join(f"{one:.3f}" for one in found)


class Split:
    """Which atoms are anchors, which are asked and which may answer."""

    def __init__(self, keys: pd.DataFrame, formulas: pd.Series, structures: int | None, most: int):
        self.compositions = keys["structure_id"].map(formulas).to_numpy()
        self.names = (keys["structure_id"] + ":" + keys["site_index"].astype(str)).to_numpy()
        known = np.unique(self.compositions)
        if structures:
            first = np.sort(keys["structure_id"].unique())[:structures]
            asked = np.unique(self.compositions[keys["structure_id"].isin(first)])
            self.answers = np.flatnonzero(keys["structure_id"].isin(first))
        else:
            asked = known[random_rows(known, len(known) // 2, seed=1)]
            self.answers = np.arange(len(keys))
        self.structures = keys["structure_id"].to_numpy()[self.answers]
        is_asked = np.isin(self.compositions, asked)
        self.pool = np.flatnonzero(~is_asked)
        may_ask = np.flatnonzero(is_asked[self.answers])
        some = random_rows(self.names[self.answers[may_ask]], min(most, len(may_ask)), seed=2)
        self.asked = np.sort(may_ask[some])

    def anchors(self, k: int) -> np.ndarray:
        return np.sort(self.pool[random_rows(self.names[self.pool], k, seed=0)])


class Data:
    """The embeddings of a store, read a side at a time."""

    def __init__(self, snapshot: Snapshot, structures: int | None, most: int):
        self.snapshot = snapshot
        formulas = snapshot.frame("SELECT structure_id, formula FROM structure")
        self.keys = paired_embeddings(
            snapshot, [lookup.model_layer(snapshot, name) for name in list(snapshot.models)]
        ).keys
        self.split = Split(
            self.keys, formulas.set_index("structure_id")["formula"], structures, most
        )

    def layers(self, side: ModelLayer) -> Layers:
        """Each layer's (n, D) embeddings of all atoms."""
        found = [paired_embeddings(self.snapshot, [one]) for one in side.layers]
        names = ["structure_id", "site_index"]
        index = pd.MultiIndex.from_frame(self.keys[names])
        places = [pd.MultiIndex.from_frame(one.keys[names]).get_indexer(index) for one in found]
        return [one.vectors[0][rows] for one, rows in zip(found, places, strict=True)]

    def stored(self, model: str) -> list[int]:
        return sorted(
            {one.layer for one in self.snapshot.tables if (one.model, one.space) == (model, None)}
        )

    def default(self, model: str) -> ModelLayer:
        """The set of the card, as far as it is stored."""
        wanted = resolve(model).default_layers or (resolve(model).default_layer,)
        return ModelLayer(model, number_of({*wanted} & {*self.stored(model)} or self.stored(model)))


def spaces(
    data: Data,
    sides: Sequence[ModelLayer],
    k: int,
    recipe: Recipe,
    agreeing: Iterable[int],
    penalty: float | None = None,
) -> tuple[list[np.ndarray], float | None]:
    """The answers' coordinates by each side, (n, d) float32 of unit length; λ if it has one.

    penalty: λ, by default as `project` chooses it.
    """
    split, anchors = data.split, data.split.anchors(k)
    layers = [data.layers(side) for side in sides]
    at_anchors = [[one[anchors] for one in layer] for layer in layers]
    if recipe != "aligned":
        fitted = [fit(recipe, side_by_side(one).rows) for one in at_anchors]
        whole = [side_by_side([layer[split.answers] for layer in one]).rows for one in layers]
        return [_unit(project(one, rows)) for one, rows in zip(fitted, whole, strict=True)], None
    models = [side_by_side(at_anchors[i]).rows for i in agreeing]
    groups = split.compositions[anchors]
    penalty = penalty or refine(models, groups, choose(models, groups)).penalty
    if penalty is None:
        return spaces(data, sides, k, "whitened", agreeing)
    targets = consensus(models, penalty)
    seen = [
        _unit(
            project(
                join(few, targets, penalty),
                np.concatenate([one[split.answers] for one in all_], 1),
            )
        )
        for few, all_ in zip(at_anchors, layers, strict=True)
    ]
    return seen, penalty


def _unit(rows: np.ndarray) -> np.ndarray:
    return unit_rows(rows).astype(np.float32)


def hubs_of(seen: Sequence[np.ndarray], agreeing: Sequence[int]) -> list[np.ndarray]:
    """Each side's hub scores, as `project` stores them."""
    order = random_rows(np.arange(len(seen[0])), min(MOST_ATOMS, len(seen[0])), seed=0)
    sample = Seen.of(np.stack([seen[i][order] for i in agreeing]), len(order) / len(seen[0]))
    places = {side: place for place, side in enumerate(agreeing)}
    return [hubness(rows, sample.by_others(places.get(i))) for i, rows in enumerate(seen)]


def csls_of(seen: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The mean cosine with the ten nearest (Conneau et al., 2018), of the other sides in turn."""
    found = []
    for i, rows in enumerate(seen):
        others = [one for j, one in enumerate(seen) if j != i]
        order = random_rows(np.arange(len(rows)), min(MOST_ATOMS, len(rows)), seed=0)
        parts = [one[order[place :: len(others)]] for place, one in enumerate(others)]
        found.append(hubness(rows, Sample(np.concatenate(parts), len(order) / len(rows), None)))
    return found


def recall(
    a: np.ndarray,
    b: np.ndarray,
    asked: np.ndarray,
    hubs: np.ndarray | None = None,
    order: np.ndarray | None = None,
) -> np.ndarray:
    """(recall@1, recall@10) of rows `asked` of a among all of b, or of others by `order`."""
    found, half = np.zeros(2), 0 if hubs is None else hubs / 2
    for part in np.array_split(asked, max(1, len(asked) // 250)):
        scores = a[part] @ b.T - half
        own = part if order is None else order[part]
        gaps = scores - scores[np.arange(len(part)), own][:, None]
        nearer, ties = (gaps > 1e-6).sum(1), (np.abs(gaps) <= 1e-6).sum(1)
        found += [np.clip((k - nearer) / ties, 0, 1).sum() for k in (1, 10)]
    return found / len(asked)


def same(
    a: np.ndarray, b: np.ndarray, split: Split, hubs: np.ndarray | None = None, k: int = 10
) -> float:
    """Of the k nearest of other crystals in b, asked from a: the part that is so asked from b."""
    found, half = 0, 0 if hubs is None else hubs / 2
    for part in np.array_split(split.asked, max(1, len(split.asked) // 250)):
        own = split.structures[part][:, None] == split.structures
        across, within = a[part] @ b.T - half, b[part] @ b.T
        across[own], within[own] = -np.inf, -np.inf
        nearest = (np.argpartition(-one, k, axis=1)[:, :k] for one in (across, within))
        found += sum(len(np.intersect1d(*both)) for both in zip(*nearest, strict=True))
    return found / (k * len(split.asked))


def measured(
    a: np.ndarray, b: np.ndarray, split: Split, hubs: np.ndarray | None = None
) -> np.ndarray:
    return np.array([*recall(a, b, split.asked, hubs), same(a, b, split, hubs)])


def compared(
    data: Data,
    sides: Sequence[ModelLayer],
    k: int,
    recipe: Recipe,
    agreeing: Sequence[int],
    penalty: float | None = None,
) -> Iterator[tuple[int, int, Found]]:
    """What each side finds among each other's atoms."""
    seen, penalty = spaces(data, sides, k, recipe, agreeing, penalty)
    scores, asked = hubs_of(seen, agreeing), data.split.asked
    orders = [np.random.default_rng(n).permutation(len(seen[0])) for n in range(3)]
    nulls = [
        max(recall(a, seen[i - 1], asked, scores[i - 1], order)[1] for order in orders)
        for i, a in enumerate(seen)
    ]
    for i, j in permutations(range(len(sides)), 2):
        plain = measured(seen[i], seen[j], data.split)
        hubs = measured(seen[i], seen[j], data.split, scores[j])
        yield i, j, Found(plain, hubs, nulls[i], penalty)


def mean(found: Iterable[Found]) -> Found:
    several = list(found)
    plain, hubs = (np.mean(of, 0) for of in list(zip(*several, strict=True))[:2])
    return several[0]._replace(plain=plain, hubs=hubs, null=max(one.null for one in several))


def by_layer(data: Data, models: list[str], partner: ModelLayer, k: int) -> None:
    """Single layers, neighbours, all; each model's own random twin beside it where it is stored."""
    print(f"\nrecall@1 / @10 / same, plain → with hub scores, K = {k}, both ways averaged\n")
    print("| side | partner | found | its random twin |\n|---|---|---|---|")
    for model in models:
        stored = data.stored(model)
        sets: list[tuple[int, ...]] = [(one,) for one in stored]
        sets += pairwise(stored)
        sets += [tuple(stored)] * (len(stored) > 2)
        twin = f"{RANDOM}{model}"
        for layers in sets:
            side = ModelLayer(model, number_of(layers))
            other = partner if partner.model != model else data.default(models[1])
            cells = [mean(one[2] for one in compared(data, [other, side], k, "aligned", (0, 1)))]
            if twin in data.snapshot.models and {*layers} <= {*data.stored(twin)}:
                pair = [side, ModelLayer(twin, side.layer)]
                cells.append(mean(one[2] for one in compared(data, pair, k, "aligned", (0, 1))))
            print(
                f"| {side} | {other} | {cells[0]} | {cells[1] if cells[1:] else ''} |", flush=True
            )


def by_recipe(data: Data, sides: list[ModelLayer], ks: list[int]) -> None:
    print(
        "\nrecall@1 / @10 / same, plain → with hub scores, "
        f"mean over {', '.join(map(str, sides))}\n"
    )
    print(f"| K | {' | '.join(RECIPES)} | s |\n|{'---|' * (len(RECIPES) + 2)}")
    everybody = range(len(sides))
    for k in ks:
        started = time.monotonic()
        cells = [
            str(mean(one[2] for one in compared(data, sides, k, recipe, everybody)))
            for recipe in RECIPES
        ]
        print(f"| {k} | {' | '.join(cells)} | {time.monotonic() - started:.0f} |", flush=True)


def by_model(data: Data, trained: list[ModelLayer], controls: list[ModelLayer], k: int) -> None:
    sides = [*trained, *controls]
    found = list(compared(data, sides, k, "aligned", range(len(trained))))
    print(
        f"\nrecall@1 / @10 / same with hub scores, the joint space of all trained models, K = {k}, "
        f"λ = {found[0][2].penalty:g}"
    )
    print(f"\n| asks \\ answers | {' | '.join(map(str, sides))} | null |")
    print(f"|{'---|' * (len(sides) + 2)}")
    for i, side in enumerate(sides):
        cells = {j: _said(one.hubs) for a, j, one in found if a == i}
        null = max(one.null for a, _, one in found if a == i)
        row = " | ".join(cells.get(j, "") for j in range(len(sides)))
        print(f"| {side} | {row} | {null:.4f} |", flush=True)


def by_hubs(data: Data, trained: list[ModelLayer], k: int) -> None:
    """No correction, CSLS, ours, and ours at whole weight."""
    everybody = range(len(trained))
    seen, penalty = spaces(data, trained, k, "aligned", everybody)
    ours = hubs_of(seen, everybody)
    none = [np.zeros_like(one) for one in ours]
    ways = [none, csls_of(seen), ours, [2 / WEIGHT * one for one in ours]]
    print(
        f"\nrecall@1 / @10 / same, the joint space of all trained models, K = {k}, λ = {penalty}\n"
    )
    print(
        "| asks | answers | no hub scores | CSLS | ours | whole weight |\n|---|---|---|---|---|---|"
    )
    for i, j in permutations(everybody, 2):
        cells = [_said(measured(seen[i], seen[j], data.split, way[j])) for way in ways]
        print(f"| {trained[i]} | {trained[j]} | {' | '.join(cells)} |", flush=True)


def by_pair(data: Data, trained: list[ModelLayer], controls: list[ModelLayer], k: int) -> None:
    print(f"\nrecall@1 / @10 / same, plain → with hub scores, a consensus of two alone, K = {k}\n")
    print("| a | b | a asks | b asks | λ | null |\n|---|---|---|---|---|---|")
    pairs = [(a, b) for i, a in enumerate(trained) for b in trained[i + 1 :]]
    pairs += [(a, b) for a in trained for b in controls if b.model.endswith(f":{a.model}")]
    pairs += [(trained[0], b) for b in controls if (trained[0], b) not in pairs]
    for a, b in pairs:
        there, back = (one[2] for one in compared(data, [a, b], k, "aligned", (0, 1)))
        null = max(there.null, back.null)
        print(f"| {a} | {b} | {there} | {back} | {there.penalty} | {null:.4f} |", flush=True)


def by_penalty(
    data: Data, trained: list[ModelLayer], controls: list[ModelLayer], partner: ModelLayer, k: int
) -> None:
    """A consensus of two alone, both ways averaged, for each model whose twin is there."""
    print(f"\nrecall@1 / @10 / same with hub scores, a consensus of two alone, K = {k}\n")
    print("| model | λ | with one that was trained | with its random twin |\n|---|---|---|---|")
    twins = [(a, b) for a in trained for b in controls if b.model == f"{RANDOM}{a.model}"]
    for model, twin in twins:
        other = partner if partner != model else next(one for one in trained if one != model)
        for penalty in PENALTIES:
            cells = [
                _said(
                    mean(one[2] for one in compared(data, pair, k, "aligned", (0, 1), penalty)).hubs
                )
                for pair in ([model, other], [model, twin])
            ]
            print(f"| {model} with {other} | {penalty:g} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--structures", type=int)
    parser.add_argument("--asked", type=int, default=2000)
    parser.add_argument("--partner")
    parser.add_argument("--models", nargs="+", help="MODEL or MODEL@0+1; by default all")
    parser.add_argument("--anchors", nargs="+", type=int, default=[512, 2048, 4096])
    parser.add_argument("--only", choices=TABLES)
    options = parser.parse_args()
    snapshot = Store.open(options.store, read_only=True).snapshot()
    data = Data(snapshot, options.structures, options.asked)
    sides = [
        lookup.model_layer(snapshot, text) if "@" in text else data.default(text)
        for text in options.models or list(snapshot.models)
    ]
    trained = [side for side in sides if kind_of(side.model) == "trained"]
    controls = [side for side in sides if side not in trained]
    ks = [k for k in options.anchors if k <= len(data.split.pool)]
    print(
        f"{len(data.split.asked):,} atoms asked, {len(data.split.answers):,} may answer, "
        f"anchors among {len(data.split.pool):,} of other compositions"
    )
    partner = data.default(options.partner) if options.partner else trained[0]
    wanted = [options.only] if options.only else TABLES
    if "layers" in wanted:
        by_layer(data, [side.model for side in trained], partner, min(1024, ks[-1]))
    if "recipes" in wanted:
        by_recipe(data, trained, ks)
    if "models" in wanted:
        by_model(data, trained, controls, ks[-1])
    if "hubs" in wanted:
        by_hubs(data, trained, ks[-1])
    if "pairs" in wanted:
        by_pair(data, trained, controls, ks[-1])
    if "twins" in wanted:
        by_penalty(data, trained, controls, partner, ks[-1])


if __name__ == "__main__":
    main()
