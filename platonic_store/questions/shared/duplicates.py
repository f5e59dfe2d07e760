"""What near duplicates are: structures of one reduced formula that a model can hardly tell apart.

`near_duplicates`, `screen` and `compare_sets` ask it.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import pandas as pd
from annotated_types import Ge

from platonic_store.errors import Call, InvalidQuery
from platonic_store.geometry.clusters import near_duplicate_groups
from platonic_store.geometry.neighbours import nearest, unit_rows
from platonic_store.questions.shared.crystals import as_pymatgen, same
from platonic_store.questions.shared.pooled import Pooled, pooled
from platonic_store.questions.shared.structure_sets import StructureSet
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

POOLING = "by-element"  # see docs/structure-vectors.md
WITHIN = 0.005  # finds some 95 % of copies rattled by 0.05 Å or strained by 2 %, by any model
Within = Annotated[
    float, "Largest distance of near duplicates, as `near-duplicates` measures it.", Ge(0)
]


class ElementMeans(NamedTuple):
    """Structures as near duplicates are told: a mean of each element, by several models together.

    vectors: (n, …), whose cosine distance times `scale` is the mean over the models of their
    distances, each in the model's mean between two atoms of one element.
    """

    vectors: np.ndarray
    scale: float

    def within(self, distance: float) -> float:
        """A distance as a cosine distance of the vectors."""
        return distance / self.scale


def element_means(these: StructureSet, spreads: dict[ModelLayer, float]) -> ElementMeans:
    """Structures as several models see them. spreads: each model's unit, see `spread_of`."""
    return combined_means([these.pooled(side, POOLING) for side in spreads], [*spreads.values()])


def combined_means(parts: Sequence[np.ndarray], spreads: Sequence[float]) -> ElementMeans:
    """The same structures by each model, (n, D) by POOLING, and each model's unit."""
    weights = 1 / np.array(spreads)
    rows = [unit_rows(one) * np.sqrt(weight) for one, weight in zip(parts, weights, strict=True)]
    return ElementMeans(np.hstack(rows), float(weights.mean()))


def pooled_by_element(snapshot: Snapshot, side: ModelLayer) -> Pooled:
    """All structures of a store as a model's near duplicates are told; `spread` is the unit.

    Raises: InvalidQuery where no element has two atoms.
    """
    found = pooled(snapshot, lookup.vector_table(snapshot, side, "atom"), POOLING)
    if np.isnan(found.spread):
        raise InvalidQuery(
            f"no element has two atoms that {side} has embedded", Call("ingest", "SOURCE")
        )
    return found


def spread_of(snapshot: Snapshot, side: ModelLayer) -> float:
    """The mean 1 − cosine between two atoms of one element in a store, a model's own unit.

    Raises: as `pooled_by_element`.
    """
    return pooled_by_element(snapshot, side).spread


class NearestKnown(NamedTuple):
    """The nearest known structure of each one's formula: (n,) its row, -1 for none, and 1 − cosine.

    The distance is inf where there is none.
    """

    row: np.ndarray
    distance: np.ndarray


def first_alike(vectors: np.ndarray, formulas: np.ndarray, within: float) -> np.ndarray:
    """(n,) the first row of each row's group of near duplicates; itself for the first."""
    return near_duplicate_groups(vectors, pd.factorize(formulas)[0], within)


def nearest_known(
    vectors: np.ndarray,
    formulas: np.ndarray,
    known: np.ndarray,
    known_formulas: np.ndarray,
    own: np.ndarray | None = None,
) -> NearestKnown:
    """The nearest known structure of each one's formula.

    own: (n,) the row of each one among the known, which is not compared with it; -1 for none.
    """
    row, distance = np.full(len(vectors), -1), np.full(len(vectors), np.inf)
    itself = np.full(len(vectors), -1) if own is None else own
    rows_of = pd.Series(np.arange(len(known_formulas))).groupby(known_formulas).indices
    for formula, mine in pd.Series(np.arange(len(formulas))).groupby(formulas).indices.items():
        theirs = rows_of.get(formula)
        if theirs is None:
            continue
        # Blocks of them at a time: many may be of one formula.
        index, apart = nearest(vectors[mine], known[theirs], 1 if own is None else 2)
        is_own = np.equal(theirs[index], itself[mine, None])
        best = is_own.argmin(axis=1)[:, None]  # the first that is another one
        found = np.take_along_axis(np.where(is_own, np.inf, apart), best, axis=1)[:, 0]
        distance[mine] = found
        row[mine] = np.where(
            np.isfinite(found), theirs[np.take_along_axis(index, best, axis=1)[:, 0]], -1
        )
    return NearestKnown(row, distance)


def match(some: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    """(n,) bool: whether pymatgen's StructureMatcher, as it is by default, fits two crystals.

    some, others: n rows with numbers, positions and cell, compared row by row.
    """
    return same(zip(_structures(some), _structures(others), strict=True), len(some))


def _structures(crystals: pd.DataFrame) -> "Iterator[Structure]":
    columns = (crystals[name] for name in ("numbers", "positions", "cell"))
    for numbers, positions, cell in zip(*columns, strict=True):
        yield as_pymatgen(numbers, positions, cell)
