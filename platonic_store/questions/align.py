"""Alignment: how alike models see the same atoms, by several measures, each beside its null."""

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from platonic_store import progress
from platonic_store.errors import AnchorsNotFound, InvalidQuery
from platonic_store.geometry import measures
from platonic_store.geometry.measures import View
from platonic_store.geometry.retrieval import retrieval_matrix
from platonic_store.geometry.typicality import conformal_p
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.storage.snapshot import ModelLayer, Snapshot

NULLS = 99
HALVES = 30
RECALLS = (1, 10)


class Seen(NamedTuple):
    """The same atoms as several sides see them.

    structures: (n,) of which structure each atom is; rows: for each side (n, D).
    found: the same in a shared space, anchors left out, or None where no space holds all sides.
    """

    sides: list[ModelLayer]
    structures: np.ndarray
    rows: list[np.ndarray]
    space: str | None
    found: tuple[np.ndarray, list[np.ndarray]] | None


def align(snapshot: Snapshot, models: Sequence[str] | None = None, **options: Any) -> pd.DataFrame:
    """See `gather` for the options and `compute` for the frame."""
    seed = options.get("seed", 0)
    return compute(gather(snapshot, models, **options), seed=seed)


def gather(
    snapshot: Snapshot,
    models: Sequence[str] | None = None,
    *,
    space: str | None = None,
    atoms: int = 2000,
    seed: int = 0,
) -> Seen:
    """A sample of the atoms that all models have embedded, one of each equivalent set.

    models: each `MODEL` or `MODEL@LAYER`; all of the store, if none or one is named (that one is
        then the first).

    Raises: ModelNotFound, LayerNotFound, AnchorsNotFound, InvalidQuery.
    """
    named = [snapshot.model_layer(text) for text in models or ()]
    if len(named) < 2:
        others = [snapshot.model_layer(name) for name in snapshot.models()]
        named += [side for side in others if side not in named]
    sides = list(dict.fromkeys(named))
    if len(sides) < 2:
        raise InvalidQuery("alignment is between two: name another model, or MODEL@LAYER")
    if atoms < 20:
        raise InvalidQuery(f"{atoms} atoms say nothing of alignment: ask for at least 20")
    both = paired_embeddings(snapshot, sides, sample=atoms, seed=seed)
    if len(both.keys) < 20 or both.keys["structure_id"].nunique() < 4:
        raise InvalidQuery(
            f"the models have {len(both.keys)} distinct atoms in common, of "
            f"{both.keys['structure_id'].nunique()} structures: alignment needs 20 of 4"
        )
    space, found = _in_space(snapshot, sides, space, atoms, seed)
    return Seen(sides, both.keys["structure_id"].to_numpy(), both.vectors, space, found)


def _in_space(
    snapshot: Snapshot, sides: list[ModelLayer], space: str | None, atoms: int, seed: int
) -> tuple[str | None, tuple[np.ndarray, list[np.ndarray]] | None]:
    try:
        name = snapshot.space(space, [side.model for side in sides])
        there = paired_embeddings(snapshot, sides, space=name, sample=atoms, seed=seed)
    except AnchorsNotFound:
        if space is not None:
            raise
        return None, None
    anchors = snapshot.frame(
        "SELECT structure_id, site_index FROM catalog.main.anchors AS a JOIN catalog.main.spaces "
        "AS s ON s.anchor_set = a.anchor_set WHERE s.id = ?",
        [name],
    )
    keys = ["structure_id", "site_index"]
    mine = pd.MultiIndex.from_frame(there.keys[keys])
    free = ~mine.isin(pd.MultiIndex.from_frame(anchors[keys]))
    structures = there.keys["structure_id"].to_numpy()[free]
    if len(structures) < 20 or len(np.unique(structures)) < 4:
        return name, None
    return name, (structures, [vectors[free] for vectors in there.vectors])


def compute(seen: Seen, *, seed: int = 0) -> pd.DataFrame:
    """A row for each pair of sides and measure, in both directions where these differ.

    Columns: a, b; layer_a, layer_b; measure; value; null, the mean over shuffled atoms, and
    null_high, the 95 % point on the side of the better; calibrated, 0 by chance and 1 for a model
    with itself; p, of the value against the null; low and high, the value's 95 % interval over
    structures; atoms and structures, of which it was computed; space, where retrieval asked.
    """
    count = range(len(seen.sides))
    views = [View(rows) for rows in seen.rows]
    parts = measures.halves(seen.structures, HALVES, seed)
    halved = [[View(rows[part]) for part in parts] for rows in seen.rows]
    rows: list[dict[str, Any]] = []
    with progress.bar("alignment", len(views) * (len(views) - 1), "pairs") as advance:
        for a, b in permutations(count, 2):
            wanted = measures.DIRECTED | (measures.SYMMETRIC if a < b else {})
            for name, measure in wanted.items():
                value = _whole(measure, views[a], views[b])
                shuffled = measures.permutation_null(measure, views[a], views[b], NULLS, seed)
                spread = [_whole(measure, *two) for two in zip(halved[a], halved[b], strict=True)]
                counts = len(seen.structures), len(np.unique(seen.structures))
                rows.append(_row(seen, a, b, name, value, shuffled, spread, counts))
            rows.extend(_recalls(seen, a, b, seed))
            advance(1)
    return pd.DataFrame(rows)


def _whole(measure: measures.Measure, a: View, b: View) -> float:
    return measure(a, b, np.arange(len(a.x)))


def _recalls(seen: Seen, a: int, b: int, seed: int) -> Iterator[dict[str, Any]]:
    """Cross-model retrieval, asked by a and answered by b, among the sampled atoms."""
    if seen.found is None:
        return
    structures, coordinates = seen.found
    n, labels = len(structures), np.unique(structures, return_inverse=True)[1]
    own, halves = np.arange(n), measures.halves(labels, HALVES, seed)
    orders = [np.random.default_rng(seed + i).permutation(n) for i in range(NULLS)]
    for k in RECALLS:
        hits = retrieval_matrix(coordinates[a], coordinates[b], k)
        shuffled = np.array([hits[own, order].mean() for order in orders])
        spread = [hits[part, part].mean() for part in halves]
        counts = n, int(labels.max()) + 1
        yield _row(seen, a, b, f"retrieval@{k}", hits[own, own].mean(), shuffled, spread, counts)


def _row(
    seen: Seen,
    a: int,
    b: int,
    name: str,
    value: float,
    shuffled: np.ndarray,
    spread: Sequence[float],
    counts: tuple[int, int],
) -> dict[str, Any]:
    best = measures.BEST.get(name, 1.0)
    towards = 1 if best else -1
    margin = 1.96 * float(np.std(spread))
    (one, layer_a), (other, layer_b) = seen.sides[a], seen.sides[b]
    return {
        "a": one,
        "b": other,
        "layer_a": layer_a,
        "layer_b": layer_b,
        "measure": name,
        "value": float(value),
        "null": float(np.mean(shuffled)),
        "null_high": float(np.quantile(towards * shuffled, 0.95) * towards),
        "calibrated": measures.calibrated(float(value), shuffled, best),
        "p": float(conformal_p([towards * value], towards * shuffled)[0]),
        "low": max(float(value) - margin, -1.0),
        "high": min(float(value) + margin, 1.0),
        "atoms": counts[0],
        "structures": counts[1],
        "space": seen.space if name.startswith("retrieval") else None,
    }
