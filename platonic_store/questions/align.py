"""How alike models embed the same atoms, by several measures, each beside its null."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations, permutations
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from annotated_types import Ge

from platonic_store import progress
from platonic_store.engines.parts import ahead
from platonic_store.errors import AnchorsNotFound, Call, InvalidQuery
from platonic_store.geometry import measures
from platonic_store.geometry.measures import View
from platonic_store.geometry.retrieval import retrieval_matrix
from platonic_store.geometry.typicality import conformal_p
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.questions.shared.parameters import Models, Seed, Space
from platonic_store.questions.shared.tables import is_anchor, space_anchors
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

NULLS = 99
HALVES = 30
RECALLS = (1, 10)


class Sample(NamedTuple):
    """The same atoms as several models embed them.

    structures: (n,) the structure of each atom; rows: of each model (n, D).
    in_space: the same in a shared space without its anchors, with the hub scores, None where no
        space holds all models.
    """

    sides: list[ModelLayer]
    structures: np.ndarray
    rows: list[np.ndarray]
    space: str | None
    in_space: "InSpace | None"


class InSpace(NamedTuple):
    """structures, rows: as of `Sample`; hubs: of each model (n,), where the space has them."""

    structures: np.ndarray
    rows: list[np.ndarray]
    hubs: list[np.ndarray | None]


@question(
    Column("a", "string", "MODEL@LAYER; where a measure has a direction, the one that asks."),
    Column("b", "string", "MODEL@LAYER; the one that answers."),
    Column("measure", "string", "The measure; see docs/questions/align.md."),
    Column("value", "double", "Its value."),
    Column("calibrated", "double", "0 as for shuffled atoms, 1 as for a model with itself."),
    Column("null", "double", "Mean over shuffled atoms."),
    Column("null_high", "double", "The null's 95 % point on the side of the better."),
    Column("p", "double", "Share of shuffles at least as good."),
    Column("low", "double", "Lower end of the value's 95 % interval over structures."),
    Column("high", "double", "Upper end."),
    Column("atoms", "int64", "Atoms compared."),
    Column("structures", "int64", "Structures that hold them."),
    Column("space", "string", "The shared space in which retrieval asked."),
    caveat="agreement is not correctness: models that agree may share an error, and no value says "
    "anything without its null and a control",
    picture="platonic_store.plots.heat_map:draw",
)
def align(
    snapshot: Snapshot,
    models: Models = None,
    *,
    space: Space = None,
    atoms: Annotated[int, "Atoms to compare, at most.", Ge(20)] = 2000,
    seed: Seed = 0,
) -> pd.DataFrame:
    """How alike models embed the same atoms: a row for each pair and measure, with its null.

    A sample of the atoms that all models have embedded, one of each equivalent set; with one model
    named, it is compared with all others. Measures with a direction come in both.

    Raises: ModelNotFound, LayerNotFound, AnchorsNotFound, InvalidQuery with too few atoms.
    """
    sample = _sample(snapshot, models, space, atoms, seed)
    count = range(len(sample.sides))
    halves = measures.halves(sample.structures, HALVES, seed)
    with progress.bar("alignment of halves", HALVES, "halves") as advance:
        spreads: dict[Compared, list[float]] = {}
        for _, values in ahead(partial(_half, sample), halves):
            for compared, value in values.items():
                spreads.setdefault(compared, []).append(value)
            advance(1)
    pairs = list(combinations(count, 2))
    views = [View(rows) for rows in sample.rows]
    rows: dict[tuple[int, int], list[dict[str, Any]]] = {}
    with progress.bar("alignment", len(pairs), "pairs") as advance:
        for _, found in ahead(partial(_pair, sample, views, spreads, seed), pairs):
            rows |= found
            advance(1)
    return pd.DataFrame([row for pair in permutations(count, 2) for row in rows[pair]])


Compared = tuple[int, int, str]  # which asks, which answers, by which measure


def _compared(pairs: Iterable[tuple[int, int]]) -> Iterator[tuple[Compared, measures.Measure]]:
    """A measure without a direction is taken once a pair."""
    for a, b in pairs:
        wanted = measures.DIRECTED | (measures.SYMMETRIC if a < b else {})
        yield from (((a, b, name), measure) for name, measure in wanted.items())


def _half(sample: Sample, part: np.ndarray) -> dict[Compared, float]:
    """All measures of a part of the sample's rows, of all pairs."""
    views = [View(rows[part]) for rows in sample.rows]
    pairs = permutations(range(len(views)), 2)
    return {
        (a, b, name): _whole(measure, views[a], views[b])
        for (a, b, name), measure in _compared(pairs)
    }


def _pair(
    sample: Sample,
    views: Sequence[View],
    spreads: Mapping[Compared, Sequence[float]],
    seed: int,
    pair: tuple[int, int],
) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """The rows of a pair, by who asks and who answers."""
    counts = len(sample.structures), len(np.unique(sample.structures))
    both = pair, pair[::-1]
    rows: dict[tuple[int, int], list[dict[str, Any]]] = {one: [] for one in both}
    for (a, b, name), measure in _compared(both):
        value = _whole(measure, views[a], views[b])
        shuffled = measures.permutation_null(measure, views[a], views[b], NULLS, seed)
        spread = spreads[a, b, name]
        rows[a, b].append(_row(sample, a, b, name, value, shuffled, spread, counts))
    for a, b in both:
        rows[a, b].extend(_recalls(sample, a, b, seed))
    return rows


def _sample(
    snapshot: Snapshot, models: Sequence[str] | None, space: str | None, atoms: int, seed: int
) -> Sample:
    named = [lookup.model_layer(snapshot, text) for text in models or ()]
    if len(named) < 2:
        others = [lookup.model_layer(snapshot, name) for name in list(snapshot.models)]
        named += [side for side in others if side not in named]
    sides = list(dict.fromkeys(named))
    if len(sides) < 2:
        raise InvalidQuery(
            "alignment compares two models, or two layers of one, and there is one",
            "name another MODEL@LAYER",
            Call("ingest", models=["NAME"]),
        )
    both = paired_embeddings(snapshot, sides, sample=atoms, seed=seed)
    if len(both.keys) < 20 or both.keys["structure_id"].nunique() < 4:
        raise InvalidQuery(
            f"the models have {len(both.keys)} distinct atoms in common, of "
            f"{both.keys['structure_id'].nunique()} structures: alignment needs 20 of 4"
        )
    as_named = {lookup.model_layer(snapshot, text): text for text in models or ()}
    texts = [as_named.get(side, side.model) for side in sides]
    space, in_space = _in_space(snapshot, texts, space, atoms, seed)
    structures = both.keys["structure_id"].to_numpy()
    return Sample(sides, structures, both.vectors, space, in_space)


def _in_space(
    snapshot: Snapshot, models: list[str], space: str | None, atoms: int, seed: int
) -> tuple[str | None, InSpace | None]:
    try:
        names = [lookup.model_layer(snapshot, text).model for text in models]
        name = lookup.space(snapshot, space, names)
        sides = [lookup.side_in(snapshot, name, text) for text in models]
        there = paired_embeddings(snapshot, sides, space=name, sample=atoms, seed=seed)
    except AnchorsNotFound:
        if space is not None:
            raise
        return None, None
    free = ~is_anchor(there.keys, space_anchors(snapshot, name))
    structures = there.keys["structure_id"].to_numpy()[free]
    if len(structures) < 20 or len(np.unique(structures)) < 4:
        return name, None
    hubs = [None if one is None else one[free] for one in there.hubs]
    return name, InSpace(structures, [vectors[free] for vectors in there.vectors], hubs)


def _whole(measure: measures.Measure, a: View, b: View) -> float:
    return measure(a, b, np.arange(len(a.x)))


def _recalls(sample: Sample, a: int, b: int, seed: int) -> Iterator[dict[str, Any]]:
    """Cross-model retrieval, asked by a and answered by b, among the sampled atoms."""
    if sample.in_space is None:
        return
    structures, coordinates, hubs = sample.in_space
    n, labels = len(structures), np.unique(structures, return_inverse=True)[1]
    own, halves = np.arange(n), measures.halves(labels, HALVES, seed)
    orders = [np.random.default_rng(seed + i).permutation(n) for i in range(NULLS)]
    for k in RECALLS:
        hits = retrieval_matrix(coordinates[a], coordinates[b], k, hubs[b])
        shuffled = np.array([hits[own, order].mean() for order in orders])
        spread = [hits[part, part].mean() for part in halves]
        counts = n, int(labels.max()) + 1
        yield _row(sample, a, b, f"retrieval@{k}", hits[own, own].mean(), shuffled, spread, counts)


def _row(
    sample: Sample,
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
    return {
        "a": str(sample.sides[a]),
        "b": str(sample.sides[b]),
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
        "space": sample.space if name.startswith("retrieval") else None,
    }
