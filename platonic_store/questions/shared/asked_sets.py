"""What is asked about as sets of atoms: one structure, some, or all that a model has embedded."""

from typing import Any

import numpy as np
import pyarrow as pa

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.questions.shared import embedded_sets
from platonic_store.questions.shared.embedded_sets import EmbeddedSet
from platonic_store.questions.shared.inputs import ExternalStructure, identify, query_vector
from platonic_store.storage import lookup
from platonic_store.storage.layout import Points
from platonic_store.storage.snapshot import ModelLayer, Snapshot

EXTERNAL = "query"  # what answers call a structure that is not in the store


def known_query(
    snapshot: Snapshot, query: Any, side: ModelLayer
) -> list[str] | ExternalStructure | None:
    """Ids of the store (None for all of it), or a structure that is embedded now.

    Raises: StructureNotFound, UnreadableSource, InvalidQuery for a vector; NotYetEmbedded.
    """
    if query is None or isinstance(query, ExternalStructure):
        return query
    if isinstance(query, list | tuple):
        for id_ in query:
            lookup.require_structure(snapshot, id_)
        return list(dict.fromkeys(query))
    known = identify(snapshot, query, side)
    if isinstance(known, np.ndarray):
        raise InvalidQuery("a vector is no structure", "name a structure")
    return [known] if isinstance(known, str) else known


def asked_set(
    snapshot: Snapshot, query: list[str] | ExternalStructure | None, side: ModelLayer, seed: int
) -> EmbeddedSet:
    """The atoms of what `known_query` knows. Raises: NotEmbedded."""
    if isinstance(query, ExternalStructure):
        return external_set(query, seed)
    if query is not None and len(query) == 1:
        return one_set(snapshot, side, query[0], seed)
    if query is None:
        return embedded_sets.load_set(snapshot, side, seed)
    return some_of(snapshot, side, query, seed)


def some_of(snapshot: Snapshot, side: ModelLayer, ids: list[str], seed: int) -> EmbeddedSet:
    """Some structures of the store. Raises: NotEmbedded."""
    groups = embedded_sets.compositions(snapshot, seed)
    found = embedded_sets.load_some(snapshot, side, ids, groups)
    embedded = set(found.ids)
    for id_ in ids:
        if id_ not in embedded:
            query_vector(snapshot, id_, side)  # raises, and says why
    return found


def one_set(snapshot: Snapshot, side: ModelLayer, id_: str, seed: int) -> EmbeddedSet:
    """A structure of the store. Raises: NotEmbedded."""
    query_vector(snapshot, id_, side)  # raises for what is not embedded
    whole, atoms = (
        snapshot.of_structure(lookup.vector_table(snapshot, side, level), id_)
        for level in ("structure", "atom")
    )
    ((formula,),) = snapshot.rows("SELECT formula FROM catalog.main.structures WHERE id = ?", [id_])
    return embedded_sets.build_set(whole, atoms, {id_: embedded_sets.composition(formula, seed)})


def external_set(query: ExternalStructure, seed: int) -> EmbeddedSet:
    """A structure that is not in the store, under the id `query`."""
    n = len(query.atoms)
    name = pa.array([EXTERNAL])
    mean = mean_by_structure(query.atoms, np.zeros(n, dtype=int))
    sites = pa.table(
        {
            "structure_id": pa.array([EXTERNAL] * n),
            "site_index": pa.array(range(n), pa.int32()),
            "atomic_number": pa.array(query.numbers, pa.int16()),
            "orbit": pa.array(range(n), pa.int32()),
        }
    )
    group = embedded_sets.composition(query.formula, seed)
    whole = Points(pa.table({"structure_id": name}), mean)
    return embedded_sets.build_set(whole, Points(sites, query.atoms), {EXTERNAL: group})
