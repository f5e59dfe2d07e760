"""Near duplicates: structures of one reduced formula that a model can hardly tell apart."""

from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
from annotated_types import Ge

from platonic_store.geometry.clusters import near_duplicate_groups
from platonic_store.geometry.neighbours import distances

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
    rows_of = pd.Series(np.arange(len(known_formulas))).groupby(known_formulas).indices
    for formula, mine in pd.Series(np.arange(len(formulas))).groupby(formulas).indices.items():
        theirs = rows_of.get(formula)
        if theirs is None:
            continue
        found = distances(vectors[mine], known[theirs])
        if own is not None:
            found[theirs == own[mine, None]] = np.inf
        best = found.argmin(axis=1)
        distance[mine] = found[np.arange(len(mine)), best]
        row[mine] = np.where(np.isfinite(distance[mine]), theirs[best], -1)
    return Known(row, distance)
