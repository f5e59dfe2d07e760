"""What an annotation reads of a store: vectors, scores, forces and rejections of its structures."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from platonic_store.errors import InvalidQuery
from platonic_store.questions.committee import judged
from platonic_store.questions.shared.duplicates import POOLING
from platonic_store.questions.shared.pooled import Pooled, pooled
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

COMMITTEE = ["spread", "force", "p", "error_bound", "apart"]  # of the question `committee`

Rows = NDArray[np.int64]
Vectors = NDArray[np.floating[Any]]


class StoreData(NamedTuple):
    """What is read of one state of a store.

    contents: the content hash of each of n structures by its id, in the order of ids.
    formulas: (n,). vectors: of each model the rows of `contents` that it has embedded, ascending,
    and (rows, dim) float32. by_element: the same structures, pooled as `near_duplicates` does, in
    the order of ids. scores: of each model `atypicality` and `p`, by id. consensus: `p` and
    `disagreement` of all models together, by id. committee: `COMMITTEE` of those with forces, by
    id. rejected: why, by (id, model).
    """

    contents: dict[str, str]
    formulas: NDArray[np.object_]
    vectors: dict[ModelLayer, tuple[Rows, Vectors]]
    by_element: dict[ModelLayer, Pooled]
    scores: dict[ModelLayer, pd.DataFrame]
    consensus: pd.DataFrame
    committee: pd.DataFrame
    rejected: dict[tuple[str, str], str]

    @property
    def ids(self) -> NDArray[np.object_]:
        """(n,) the structures' ids."""
        return np.array(list(self.contents), dtype=object)


def gather(snapshot: Snapshot, layers: list[ModelLayer]) -> StoreData:
    """Read all that `answers.compute` needs.

    Raises: LayerNotFound.
    """
    structures = snapshot.frame(
        "SELECT id, content_hash, formula FROM catalog.main.structures ORDER BY id"
    )
    ids = pd.Index(structures["id"])
    vectors: dict[ModelLayer, tuple[Rows, Vectors]] = {}
    for layer in layers:
        points = snapshot.points(lookup.vector_table(snapshot, layer, "structure"))
        rows = ids.get_indexer(pd.Index(points.column("structure_id"))).astype(np.int64)
        order = np.argsort(rows)
        vectors[layer] = rows[order], points.vectors[order]
    rejected = snapshot.rows(
        "SELECT structure_id, model, reason FROM catalog.main.quarantined WHERE model IS NOT NULL"
    )
    by_element = {
        layer: pooled(snapshot, lookup.vector_table(snapshot, layer, "atom"), POOLING)
        for layer in layers
    }
    scores = {layer: _scores(snapshot, layer) for layer in layers}
    return StoreData(
        dict(zip(structures["id"], structures["content_hash"], strict=True)),
        structures["formula"].to_numpy(),
        vectors,
        by_element,
        scores,
        _consensus(snapshot, scores),
        _committee(snapshot, [layer.model for layer in layers]),
        {(id, model): reason for id, model, reason in rejected},
    )


def _scores(snapshot: Snapshot, layer: ModelLayer) -> pd.DataFrame:
    """A model's `atypicality` and `p`, by id."""
    return snapshot.frame(
        "SELECT c.structure_id, c.atypicality, c.p FROM structure_scores AS c "
        "JOIN catalog.main.reference_sets AS r ON r.id = c.reference "
        "WHERE r.model = ? AND r.layer = ?",
        list(layer),
    ).set_index("structure_id")


def _consensus(snapshot: Snapshot, scores: dict[ModelLayer, pd.DataFrame]) -> pd.DataFrame:
    """`p` by all models and their `disagreement`, by id, where all have scored the structure."""
    if len(scores) == 1:
        (only,) = scores.values()
        return only[["p"]].assign(disagreement=np.nan)
    references = [
        id
        for id, *layer in snapshot.rows("SELECT id, model, layer FROM catalog.main.reference_sets")
        if ModelLayer(*layer) in scores
    ]
    return snapshot.frame(
        "SELECT structure_id, p, disagreement FROM disagreement_by(?) WHERE len(models) = ?",
        [references, len(scores)],
    ).set_index("structure_id")


def _committee(snapshot: Snapshot, models: list[str]) -> pd.DataFrame:
    """What those of the models that make a committee by default say, by id."""
    ((default,),) = snapshot.rows("SELECT committee_models()")
    members = [model for model in default or [] if model in models]
    if len(members) < 2:
        return pd.DataFrame(columns=COMMITTEE)
    try:
        return judged(snapshot, models=members).set_index("structure_id")[COMMITTEE]
    except InvalidQuery:  # no structure has forces by all of them
        return pd.DataFrame(columns=COMMITTEE)


def common(data: StoreData) -> Rows:
    """The rows of the structures that all models have embedded, ascending."""
    first, *others = (rows for rows, _ in data.vectors.values())
    for rows in others:
        first = np.intersect1d(first, rows, assume_unique=True)
    return first
