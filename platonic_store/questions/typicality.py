"""How unlike everything else that a model has embedded structures, or their atoms, are."""

from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from ase.data import chemical_symbols

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.questions.shared import references
from platonic_store.questions.shared.declaration import Column, StructureMark, question
from platonic_store.questions.shared.inputs import ExternalStructure, identify, query_vector
from platonic_store.questions.shared.parameters import Level, Model
from platonic_store.questions.shared.references import EmbeddedSet, Reference
from platonic_store.storage import lookup
from platonic_store.storage.layout import Points
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
) -> pd.DataFrame:
    """How unlike what a model has embedded here structures (or their atoms) look to it.

    The rows are those of the SQL views `typicality` and `atom_typicality`: atypicality, its
    conformal p-value, and the typical atom that is most alike, of other compositions all. Scores
    that `score` stored are read, others computed. Typicality is not confidence. See
    docs/questions/typicality.md.

    Raises: StructureNotFound, NotEmbedded, ModelNotFound, LayerNotFound, InvalidQuery with too few
    compositions, UnreadableSource.
    """
    side = lookup.model_layer(snapshot, model)
    if query is None:
        return _of_ids(snapshot, side, _embedded(snapshot, side), level)
    if isinstance(query, list | tuple):
        for id_ in query:
            lookup.require_structure(snapshot, id_)
        return _of_ids(snapshot, side, list(query), level)
    known = identify(snapshot, query, side)
    if isinstance(known, str):
        return _of_ids(snapshot, side, [known], level)
    if isinstance(known, np.ndarray):
        raise InvalidQuery("a vector has no typicality", "name a structure")
    reference, _ = _reference(snapshot, side)
    return _scored(reference, _external_set(known, reference.seed), level)


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
    reference, everything = _reference(snapshot, side)
    if len(rest) == 1:
        found = _one_set(snapshot, side, rest[0], reference.seed)
    else:
        everything = everything or references.load_set(snapshot, side, reference.seed)
        embedded = set(everything.ids)
        for id_ in rest:
            if id_ not in embedded:
                query_vector(snapshot, id_, side)  # raises, and says why
        found = references.subset(everything, np.array(rest, dtype=object))
    scored = _scored(reference, found, level)
    return pd.concat([stored, scored], ignore_index=True) if len(stored) else scored


def _scored(reference: Reference, these: EmbeddedSet, level: Level) -> pd.DataFrame:
    """Scores as rows of the view."""
    found = references.scores(reference, these)
    rows = found.structures if level == "structure" else found.atoms.drop(columns="neighbours")
    rows = rows.assign(model=reference.model, layer=reference.layer, reference=reference.id)
    rows["element"] = np.array(chemical_symbols)[rows["atomic_number"]]
    return rows.drop(columns="atomic_number")


def _reference(snapshot: Snapshot, side: ModelLayer) -> tuple[Reference, EmbeddedSet | None]:
    """The store's reference set, or a new one of what it holds, with all that is embedded."""
    stored = references.stored(snapshot, side)
    if stored is not None:
        return stored, None
    tables = [lookup.vector_table(snapshot, side, level) for level in ("structure", "atom")]
    versions = [(table.name, snapshot.manifest.vectors[table.name].version) for table in tables]
    key = snapshot.manifest.store, str(versions)
    if known := references.cache_get(key):
        return known, None
    reference, everything = references.build_reference(snapshot, side)
    reference = references.calibrated(reference, everything)
    return references.cache_put(key, reference), everything


def _embedded(snapshot: Snapshot, side: ModelLayer) -> list[str]:
    """The ids of all structures that a model has embedded."""
    table = lookup.vector_table(snapshot, side, "structure")
    return sorted(snapshot.points(table).column("structure_id").tolist())


def _one_set(snapshot: Snapshot, side: ModelLayer, id_: str, seed: int) -> EmbeddedSet:
    query_vector(snapshot, id_, side)  # raises for what is not embedded
    whole, atoms = (
        snapshot.of_structure(lookup.vector_table(snapshot, side, level), id_)
        for level in ("structure", "atom")
    )
    ((formula,),) = snapshot.rows("SELECT formula FROM catalog.main.structures WHERE id = ?", [id_])
    return references.build_set(whole, atoms, {id_: references.composition(formula, seed)})


def _external_set(query: ExternalStructure, seed: int) -> EmbeddedSet:
    n = len(query.atoms)
    name = pa.array(["query"])
    mean = mean_by_structure(query.atoms, np.zeros(n, dtype=int))
    sites = pa.table(
        {
            "structure_id": pa.array(["query"] * n),
            "site_index": pa.array(range(n), pa.int32()),
            "atomic_number": pa.array(query.numbers, pa.int16()),
            "orbit": pa.array(range(n), pa.int32()),
        }
    )
    group = references.composition(query.formula, seed)
    return references.build_set(
        Points(pa.table({"structure_id": name}), mean), Points(sites, query.atoms), {"query": group}
    )
