"""Near duplicates: structures of one reduced formula that a model can hardly tell apart."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import pandas as pd
from annotated_types import Ge

from platonic_store import progress
from platonic_store.geometry.clusters import near_duplicate_groups
from platonic_store.geometry.neighbours import nearest

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

WITHIN = 0.01
Within = Annotated[float, "Cosine distance of near duplicates, of one reduced formula.", Ge(0)]


class Known(NamedTuple):
    """The nearest known structure of each one's formula: (n,) its row, -1 for none, and 1 − cosine.

    The distance is inf where there is none.
    """

    row: np.ndarray
    distance: np.ndarray


def first_alike(vectors: np.ndarray, formulas: np.ndarray, within: float) -> np.ndarray:
    """(n,) the first row of each row's group of near duplicates; itself for the first."""
    return near_duplicate_groups(vectors, pd.factorize(formulas)[0], within)


def known_alike(
    vectors: np.ndarray,
    formulas: np.ndarray,
    known: np.ndarray,
    known_formulas: np.ndarray,
    own: np.ndarray | None = None,
) -> Known:
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
    return Known(row, distance)


def match(some: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    """(n,) bool: whether pymatgen's StructureMatcher, as it is by default, fits two crystals.

    some, others: n rows with numbers, positions and cell, compared row by row.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher()
    with progress.bar("matching", len(some), "pairs") as advance:
        found = []
        for one, other in zip(_structures(some), _structures(others), strict=True):
            found.append(bool(matcher.fit(one, other)))
            advance(1)
    return np.array(found, dtype=bool)


def _structures(crystals: pd.DataFrame) -> "Iterator[Structure]":
    from pymatgen.core.structure import Structure

    columns = (crystals[name] for name in ("cell", "numbers", "positions"))
    for cell, numbers, positions in zip(*columns, strict=True):
        yield Structure(
            np.reshape(cell, (3, 3)),
            numbers,
            np.reshape(positions, (-1, 3)),
            coords_are_cartesian=True,
        )
