"""The class of each record and the order to compute them in, as `screen` gives them."""

from typing import Any

import pandas as pd

from platonic_store import progress
from platonic_store.annotation.targets import PREFIX
from platonic_store.errors import InvalidQuery
from platonic_store.questions.screen import screened
from platonic_store.questions.shared.duplicates import WITHIN
from platonic_store.questions.shared.screening.known import known
from platonic_store.questions.shared.screening.limits import OUTSIDE, SPARSE, limits_of
from platonic_store.questions.shared.structure_sets import StructureSet
from platonic_store.storage.snapshot import ModelLayer, Snapshot


def screen_records(
    snapshot: Snapshot, layers: list[ModelLayer], ids: list[str]
) -> dict[str, dict[str, Any]]:
    """The columns of each structure, by id: the records are candidates, the rest is known.

    ids: of structures that every model has embedded, each once, sorted. Where the store has too
    few compositions, there are no columns, and this is said.
    """
    if not ids:
        return {}
    try:
        base = known(snapshot, layers, None)
        limits = limits_of(base, OUTSIDE, SPARSE, WITHIN)
        answer = screened(base, StructureSet(snapshot, ids, ids, []), limits)
    except InvalidQuery as error:
        progress.say(f"{error}; the columns of `screen` stay empty")
        return {}
    return {str(row["candidate"]): _columns(row) for _, row in answer.iterrows()}


def _columns(row: "pd.Series[Any]") -> dict[str, Any]:
    return {
        f"{PREFIX}class": row["class"],
        f"{PREFIX}rule": row["rule"],
        f"{PREFIX}order": float(row["rank"]),
    }
