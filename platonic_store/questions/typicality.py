"""How unlike everything else that a model has embedded structures, or their atoms, are."""

from typing import Annotated, Any

import numpy as np
import pandas as pd
from ase.data import chemical_symbols

from platonic_store.questions.shared import bounded_references, references, stored_references
from platonic_store.questions.shared.asked_sets import (
    asked_set,
    external_set,
    known_query,
    one_set,
    some_of,
)
from platonic_store.questions.shared.declaration import Column, StructureMark, question
from platonic_store.questions.shared.embedded_sets import EmbeddedSet
from platonic_store.questions.shared.inputs import ExternalStructure
from platonic_store.questions.shared.parameters import Level, Model, ReferenceStore
from platonic_store.questions.shared.reference_stores import reference_model
from platonic_store.questions.shared.references import Reference
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

CAVEAT = (
    "typicality is not confidence: the score says how unlike other compositions an environment "
    "looks to the model, not how wrong the model is"
)
COLUMNS = (
    Column("structure_id", "string", "The structure."),
    Column(
        "atypicality",
        "double",
        "What the nearest atoms leave unexplained, over their spread.",
    ),
    Column("p", "double", "Share of the calibration that is at least as atypical."),
    Column("site_index", "int32", "The atom; of a structure its least typical one."),
    Column("element", "string", "The atom's element."),
    Column("nearest_id", "string", "The structure that holds the typical atom most like it."),
    Column("nearest_site", "int32", "The site of that atom."),
    Column("nearest_distance", "double", "1 − cosine to it."),
    Column("distance", "double", "Mean distance to the nearest typical atoms."),
    Column("density", "double", "Neighbours' spread over their distance: 1 in their midst, 0 far."),
    Column("residual", "double", "Length of the unexplained part of its unit vector."),
    Column("neighbours", "list<string>", "The most similar typical structures.", kind="structure"),
    Column("model", "string", "The model."),
    Column("layer", "int32", "Its layer."),
    Column("reference", "string", "The reference set it was compared with."),
)
_VIEWS = {"structure": "typicality", "atom": "atom_typicality"}


@question(*COLUMNS, caveat=CAVEAT)
def typicality(
    snapshot: Snapshot,
    query: Annotated[
        Any, "An id, a list of ids, a file or an object; by default all.", StructureMark()
    ] = None,
    *,
    model: Model = None,
    level: Level = "structure",
    reference: ReferenceStore = None,
) -> pd.DataFrame:
    """How unlike what a model has embedded here structures (or their atoms) look to it.

    The rows are those of the SQL views `typicality` and `atom_typicality`: atypicality, its
    conformal p-value, and the typical atom that is most alike, of other compositions all. Scores
    that `score` stored are read, others computed. With `reference` all is compared with what
    another store holds. Typicality is not confidence. See docs/questions/typicality.md.

    Raises: StructureNotFound, NotEmbedded, ModelNotFound, LayerNotFound, InvalidQuery with too few
    compositions, UnreadableSource; of a reference StoreNotFound, CheckpointMismatch.
    """
    if reference is not None:
        return _against(snapshot, query, reference, model, level)
    side = lookup.model_layer(snapshot, model)
    asked = known_query(snapshot, query, side)
    if isinstance(asked, ExternalStructure):
        own = _reference(snapshot, side)
        return _scored(own, external_set(asked, own.seed), level)
    return _of_ids(snapshot, side, _embedded(snapshot, side) if asked is None else asked, level)


def _against(
    snapshot: Snapshot, query: Any, reference: str, model: str | None, level: Level
) -> pd.DataFrame:
    """Scores by what another store holds."""
    name, other, side = reference_model(snapshot, reference, model)
    judge = _reference(other, side)
    these = asked_set(snapshot, known_query(snapshot, query, side), side, judge.seed)
    # Ids of another store say nothing of whether a structure is part of the reference.
    return _scored(judge, these, level, are_members=False).assign(reference=name)


def _of_ids(snapshot: Snapshot, side: ModelLayer, ids: list[str], level: Level) -> pd.DataFrame:
    """The stored scores of some structures, and those of the rest, computed."""
    stored = snapshot.frame(
        f"FROM {_VIEWS[level]} WHERE model = ? AND layer = ? "
        "AND structure_id IN (SELECT unnest(?)) ORDER BY structure_id, site_index",
        [side.model, side.layer, ids],
    )
    known = set(stored["structure_id"])
    rest = [id_ for id_ in dict.fromkeys(ids) if id_ not in known]
    if not rest:
        return stored
    reference = _reference(snapshot, side)
    if len(rest) == 1:
        found = one_set(snapshot, side, rest[0], reference.seed)
    else:
        found = some_of(snapshot, side, rest, reference.seed)
    scored = _scored(reference, found, level)
    return pd.concat([stored, scored], ignore_index=True) if len(stored) else scored


def _scored(
    reference: Reference, these: EmbeddedSet, level: Level, *, are_members: bool = True
) -> pd.DataFrame:
    """Scores as rows of the view."""
    found = references.scores(reference, these, are_members=are_members)
    rows = found.structures if level == "structure" else found.atoms.drop(columns="neighbours")
    rows = rows.assign(model=reference.model, layer=reference.layer, reference=reference.id)
    rows["element"] = np.array(chemical_symbols)[rows["atomic_number"]]
    return rows.drop(columns="atomic_number")


def _reference(snapshot: Snapshot, side: ModelLayer) -> Reference:
    """The store's reference set, or a new one of what it holds."""
    stored = stored_references.stored(snapshot, side)
    if stored is not None:
        return stored
    tables = [lookup.vector_table(snapshot, side, level) for level in ("structure", "atom")]
    key = snapshot.manifest.store, str([snapshot.checksum(table) for table in tables])
    if known := stored_references.cache.get(key):
        return known
    return stored_references.cache.put(
        key, references.calibrated(*bounded_references.build_reference(snapshot, side))
    )


def _embedded(snapshot: Snapshot, side: ModelLayer) -> list[str]:
    """The ids of all structures that a model has embedded."""
    table = lookup.vector_table(snapshot, side, "structure")
    return sorted(snapshot.points(table).column("structure_id").tolist())
