"""How alike two whole sets of structures are, with what two halves of one set give."""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
from annotated_types import Ge

from platonic_store import progress
from platonic_store.errors import InvalidQuery
from platonic_store.geometry import set_measures as geometry
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.neighbours import unit_rows
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.duplicates import (
    WITHIN,
    ElementMeans,
    Within,
    element_means,
    first_alike,
    nearest_known,
    spread_of,
)
from platonic_store.questions.shared.parameters import Models, Seed
from platonic_store.questions.shared.structure_queries import (
    StructuresQuery,
    structure_set,
    trained_sides,
)
from platonic_store.questions.shared.structure_sets import StructureSet
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

SAMPLE = 5_000  # structures of a set that are compared with all others, at most
SPLITS = 5
MEASURES = ("frechet", "precision", "recall", "density", "coverage", "vendi", "unique", "novel")
ALIKE = ("unique", "novel")  # which are of all structures
# Those that are no means over structures, and of how many sets they are.
_WHOLE: tuple[tuple[str, Callable[..., float], int], ...] = (
    ("frechet", geometry.frechet_distance, 2),
    ("vendi", geometry.vendi, 1),
)
CAVEAT = (
    "that two sets are alike to a model does not make either right: compare each value with "
    "`halves`, what two halves of B give at the same numbers, and with a control's"
)


@question(
    Column("model", "string", "MODEL@LAYER in whose vectors the sets are compared."),
    Column("space", "string", "The shared space, if it is one."),
    Column("measure", "string", "What is measured; see docs/questions/compare-sets.md."),
    Column("value", "double", "Of A against B, whole."),
    Column("low", "double", "2.5 % of the bootstrap over structures."),
    Column("high", "double", "97.5 % of it."),
    Column("like_halves", "double", "Of as many of A as a half of B has, against the other half."),
    Column("halves", "double", "Of a half of B against the other, in their place."),
    Column("halves_low", "double", "The least over splits of B."),
    Column("halves_high", "double", "The greatest."),
    Column("n_a", "int64", "Structures of A that are compared."),
    Column("n_b", "int64", "Structures of B that are compared."),
    caveat=CAVEAT,
)
def compare_sets(
    snapshot: Snapshot,
    a: StructuresQuery,
    b: StructuresQuery = None,
    *,
    models: Models = None,
    space: Annotated[str | None, "A shared space's id or recipe; else as embedded."] = None,
    neighbours: Annotated[int, "That make a structure's ball, k.", Ge(1)] = 5,
    within: Within = WITHIN,
    resamples: Annotated[int, "Of the bootstrap.", Ge(2)] = 100,
    seed: Seed = 0,
) -> pd.DataFrame:
    """How alike set A is to set B, to each model: what was generated, say, to what is known.

    `frechet`: distance of the normal distributions that fit the sets. `precision`, `density`: how
    far A lies where B is. `recall`, `coverage`: how far B is met by A. `vendi`: how many different
    structures A is worth. `unique`: share of A that no earlier one of A is a near duplicate of;
    `novel`: share without a near duplicate in B. Vectors have unit length. B is by default the
    whole store. Of large sets 5,000 structures are compared; `unique` and `novel` are of all.

    Every measure depends on the numbers of structures. `halves` is therefore what two halves of B
    give, and `like_halves` what A gives in the place of the first.

    Raises: as `screen`; InvalidQuery for sets of no more than k structures, or halves of B.
    """
    sides = trained_sides(snapshot, models)
    if space is not None:
        space = lookup.space(snapshot, space, [side.model for side in sides])
        named = models or [side.model for side in sides]
        sides = [lookup.side_in(snapshot, space, one) for one in named]
    one = structure_set(snapshot, a, sides)
    other = structure_set(snapshot, "true" if b is None else b, sides)
    return compared(snapshot, one, other, sides, space, neighbours, within, resamples, seed)


def compared(
    snapshot: Snapshot,
    one: StructureSet,
    other: StructureSet,
    sides: Sequence[ModelLayer],
    space: str | None,
    neighbours: int,
    within: float,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """The answer of `compare_sets` for two sets; near duplicates are told in a store's units.

    Raises: InvalidQuery if they are too small.
    """
    if min(len(one.ids), len(other.ids) // 2) <= neighbours:
        raise InvalidQuery(
            f"{len(one.ids)} structures against {len(other.ids)} are too few: A and half of B need "
            f"more than {neighbours} each",
            "give larger sets, or fewer neighbours",
        )
    frames = []
    with progress.bar("comparing", len(sides) * (1 + SPLITS), "comparisons") as advance:
        for side in sides:
            layer = side.layers[0]  # in which near duplicates are told
            spread = {layer: spread_of(snapshot, layer)}
            seen, known = (_seen(these, side, space, spread) for these in (one, other))
            rows = _measured(seen, known, neighbours, within, resamples, seed, advance)
            frames.append(rows.assign(model=str(side), space=space))
    typed: pd.DataFrame = compare_sets.typed(pd.concat(frames, ignore_index=True))
    return typed


class _Seen(NamedTuple):
    """A set as one model sees it.

    vectors: (n, D) rows of unit length. element_means: the same as near duplicates are told.
    """

    vectors: np.ndarray
    element_means: ElementMeans
    formulas: np.ndarray
    ids: np.ndarray
    is_stored: bool

    def take(self, rows: np.ndarray) -> "_Seen":
        """Some of them. rows: integers."""
        element_means = self.element_means._replace(vectors=self.element_means.vectors[rows])
        return _Seen(
            self.vectors[rows], element_means, self.formulas[rows], self.ids[rows], self.is_stored
        )

    def sample(self, seed: int) -> "_Seen":
        """What is compared with all others, the same for the same ids in any order."""
        if len(self.ids) <= SAMPLE:
            return self
        return self.take(np.sort(random_rows(self.ids, SAMPLE, seed)))


def _seen(
    these: StructureSet, side: ModelLayer, space: str | None, spread: dict[ModelLayer, float]
) -> _Seen:
    vectors = unit_rows(these.vectors(side, space))
    return _Seen(vectors, element_means(these, spread), these.formulas, these.ids, these.is_stored)


def _measured(
    a: _Seen,
    b: _Seen,
    k: int,
    within: float,
    resamples: int,
    seed: int,
    advance: Callable[[float], None],
) -> pd.DataFrame:
    """A row a measure."""
    rng = np.random.default_rng(seed)
    some_a, some_b = a.sample(seed), b.sample(seed)
    means = _means(some_a, some_b, k, within)
    if len(some_a.ids) < len(a.ids) or len(some_b.ids) < len(b.ids):
        means |= _alike(a, b, within)
    found = {
        name: (float(values.mean()), *geometry.mean_interval(values, resamples, rng))
        for name, values in means.items()
    }
    for name, measure, sets in _WHOLE:
        rows = tuple(one.vectors for one in (some_a, some_b)[:sets])
        found[name] = (measure(*rows), *geometry.interval(measure, rows, resamples, rng))
    advance(1)
    like, halves = [], []
    for _ in range(SPLITS):
        rows_a, first, second = geometry.halves(len(some_a.ids), len(some_b.ids), rng)
        like.append(_values(some_a.take(rows_a), some_b.take(second), k, within))
        halves.append(_values(some_b.take(first), some_b.take(second), k, within))
        advance(1)
    frame = pd.DataFrame.from_dict(found, orient="index", columns=["value", "low", "high"])
    parts = pd.DataFrame(halves)
    frame = frame.assign(
        like_halves=pd.DataFrame(like).mean(),
        halves=parts.mean(),
        halves_low=parts.min(),
        halves_high=parts.max(),
        n_a=[len(a.ids) if name in ALIKE else len(some_a.ids) for name in frame.index],
        n_b=[len(b.ids) if name in ALIKE else len(some_b.ids) for name in frame.index],
    )
    return frame.loc[list(MEASURES)].rename_axis("measure").reset_index()


def _means(a: _Seen, b: _Seen, k: int, within: float) -> dict[str, np.ndarray]:
    """What each structure adds to the measures that are means over structures."""
    return geometry.manifold(a.vectors, b.vectors, k)._asdict() | _alike(a, b, within)


def _alike(a: _Seen, b: _Seen, within: float) -> dict[str, np.ndarray]:
    """Of which structures of A no earlier one, and none of B, is a near duplicate."""
    nearer = a.element_means.within(within)
    first = first_alike(a.element_means.vectors, a.formulas, nearer)
    both = a.is_stored and b.is_stored
    own = pd.Index(b.ids).get_indexer(pd.Index(a.ids)) if both else None
    known = nearest_known(
        a.element_means.vectors, a.formulas, b.element_means.vectors, b.formulas, own
    )
    return {"unique": first == np.arange(len(first)), "novel": known.distance > nearer}


def _values(a: _Seen, b: _Seen, k: int, within: float) -> dict[str, float]:
    """Every measure of A against B."""
    found = {name: float(values.mean()) for name, values in _means(a, b, k, within).items()}
    for name, measure, sets in _WHOLE:
        found[name] = measure(*(one.vectors for one in (a, b)[:sets]))
    return found
