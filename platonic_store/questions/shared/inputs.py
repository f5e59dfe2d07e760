"""What is asked about: ids, files, structure objects and vectors, resolved to vectors."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import pyarrow as pa

from platonic_store.arrow import vector_matrix
from platonic_store.errors import Call, InvalidQuery, NotEmbedded, UnreadableSource
from platonic_store.geometry.pooling import mean_by_structure, pool
from platonic_store.geometry.projection import project
from platonic_store.questions.shared.atom_sets import atom_sets
from platonic_store.questions.shared.running import pool_of
from platonic_store.storage import lookup
from platonic_store.storage.layout import Level, Points
from platonic_store.storage.snapshot import ModelLayer, Snapshot

_files_allowed = ContextVar("_files_allowed", default=True)


class QueryVector(NamedTuple):
    """A query as a vector (dim,); `structure_id` is set where it is itself in the store."""

    vector: np.ndarray
    structure_id: str | None = None
    site_index: int | None = None


class AtomSet(NamedTuple):
    """A structure as its distinct atoms: vectors (m, dim), mass (m,) that adds up to one."""

    vectors: np.ndarray
    mass: np.ndarray


class ExternalStructure(NamedTuple):
    """A structure that is not in the store, embedded by one layer of a model or several.

    atoms: (n, dim) embeddings, several layers side by side; numbers: (n,) atomic numbers; formula:
    reduced; positions: (n, 3) and cell: (3, 3), Å; pbc: (3,) bool.
    """

    atoms: np.ndarray
    numbers: np.ndarray
    formula: str
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray

    @classmethod
    def of(cls, atoms: np.ndarray, row: Mapping[str, Any]) -> Self:
        """Embeddings of a row of `STRUCTURE_SCHEMA`."""
        return cls(
            atoms,
            np.array(row["numbers"]),
            row["formula"],
            np.reshape(row["positions"], (-1, 3)),
            np.reshape(row["cell"], (3, 3)),
            np.array(row["pbc"]),
        )


UPLOAD = "upload:"  # what the ids of structures that a service keeps begin with


class UploadedBatch(NamedTuple):
    """What was sent together.

    names: (n,) what the structures are called. structures: (n,) STRUCTURE_SCHEMA, whose ids the
    keeper knows; the same content has the same id. rejected: what could not be read, and why.
    """

    names: list[str]
    structures: pa.Table
    rejected: list[tuple[str, str]]


class UploadedStructures(Protocol):
    """Who keeps structures for a while that are not in the store, under ids that begin with UPLOAD.

    All methods raise StructureNotFound.
    """

    def embedded(self, id: str, side: ModelLayer) -> ExternalStructure:
        """As a layer of a model embeds it. Raises: NotYetEmbedded, NotEmbedded."""
        ...

    def numbers(self, id: str) -> list[int]:
        """Its atomic numbers."""
        ...

    def batch(self, id: str) -> UploadedBatch:
        """The structures that were sent under this id, one or many."""
        ...


class NotYetEmbedded(Exception):
    """A model is at work on a structure that is not in the store; `future` ends when it is done."""

    def __init__(self, future: "Future[Any]"):
        super().__init__("not embedded yet")
        self.future = future


_uploads: ContextVar[UploadedStructures | None] = ContextVar("_uploads", default=None)


@contextmanager
def naming_uploads(uploads: UploadedStructures | None) -> Iterator[None]:
    """Within the block a text may also name a structure that they keep."""
    token = _uploads.set(uploads)
    try:
        yield
    finally:
        _uploads.reset(token)


def uploads_of(text: str) -> UploadedStructures | None:
    """Who keeps the structures that a text names, if it names such."""
    return _uploads.get() if text.startswith(UPLOAD) else None


def external_numbers(text: str) -> list[int]:
    """The atomic numbers of what `is_external`. Raises: StructureNotFound, UnreadableSource."""
    if uploads := uploads_of(text):
        return uploads.numbers(text)
    numbers: list[int] = _one_structure(text)["numbers"][0].as_py()
    return numbers


@contextmanager
def ids_only() -> Iterator[None]:
    """Within the block a text names a structure of the store and never a file."""
    token = _files_allowed.set(False)
    try:
        yield
    finally:
        _files_allowed.reset(token)


def is_external(text: str) -> bool:
    """Whether a text names a structure that is not in the store: a file, or what is kept here."""
    return uploads_of(text) is not None or is_file(text)


def is_file(text: str) -> bool:
    """Whether a text names a file that may be read here."""
    return files_are_allowed() and Path(text).exists()


def files_are_allowed() -> bool:
    """Whether a text may name more than what the store knows: not within `ids_only`."""
    return _files_allowed.get()


def identify(
    snapshot: Snapshot, query: Any, side: ModelLayer
) -> str | np.ndarray | ExternalStructure:
    """An id or a vector as it is; a file or an object as a structure that is embedded now.

    Raises: StructureNotFound, UnreadableSource, and what running a model raises; NotYetEmbedded.
    """
    if isinstance(query, np.ndarray):
        return query.astype(np.float32)
    if isinstance(query, ExternalStructure):
        return query
    if isinstance(query, str):
        if uploads := uploads_of(query):
            return uploads.embedded(query, side)
        if snapshot.has_structure(query):
            return query
        if not is_file(query):
            raise lookup.no_structure(snapshot, query)
    return embed_external(snapshot, query, side)


def query_vector(
    snapshot: Snapshot,
    query: Any,
    side: ModelLayer,
    *,
    space: str | None = None,
    level: Level = "structure",
    site: int | None = None,
) -> QueryVector:
    """The vector of what `identify` knows: one structure, or one of its atoms.

    Raises: StructureNotFound, NotEmbedded, InvalidQuery, UnreadableSource.
    """
    if level == "atom" and site is None and not isinstance(query, np.ndarray):
        raise InvalidQuery("an atom is named by its structure and site", "name the site, from 0")
    stored = _embedded(snapshot, query, side, space, level)
    known = identify(snapshot, query, side) if stored is None else query
    if isinstance(known, np.ndarray):
        return QueryVector(known)
    if isinstance(known, str):
        points, rows = _stored_rows(snapshot, known, side, space, level, site, stored)
        orbit = int(points.column("orbit")[rows[0]]) if level == "atom" else None
        return QueryVector(points.vectors[rows[0]], known, orbit)
    atoms = _projected(snapshot, known, side, space)
    if level == "structure":
        return QueryVector(mean_by_structure(atoms, np.zeros(len(atoms), dtype=int))[0])
    if site is None or not 0 <= site < len(atoms):
        raise InvalidQuery(f"there is no site {site}: sites are 0 to {len(atoms) - 1}")
    return QueryVector(atoms[site])


def atom_set(snapshot: Snapshot, query: Any, side: ModelLayer, space: str | None) -> AtomSet:
    """A structure's atoms as a model embeds them, or their coordinates in a space.

    Raises: StructureNotFound, NotEmbedded, UnreadableSource, InvalidQuery for a vector.
    """
    known = identify(snapshot, query, side)
    if isinstance(known, np.ndarray):
        raise InvalidQuery("transport compares sets of atoms, not one vector", "name a structure")
    if isinstance(known, str):
        points, _ = _stored_rows(snapshot, known, side, space, "atom", None)
        sets = atom_sets(points)
        return AtomSet(points.vectors[sets.rows], sets.mass)
    atoms = _projected(snapshot, known, side, space)
    return AtomSet(atoms, np.full(len(atoms), 1 / len(atoms)))


def pooled_query(
    snapshot: Snapshot, query: Any, side: ModelLayer, space: str | None, pooling: str
) -> QueryVector:
    """A structure's atoms, pooled by a key of `geometry.pooling.POOLINGS`.

    Raises: as `atom_set`.
    """
    known = identify(snapshot, query, side)
    if isinstance(known, np.ndarray):
        raise InvalidQuery("a vector has no atoms to pool", "name a structure")
    if isinstance(known, str):
        points, _ = _stored_rows(snapshot, known, side, space, "atom", None)
        numbers, orbits = points.column("atomic_number"), points.column("orbit")
        owner = np.zeros(len(numbers), dtype=int)
        return QueryVector(pool(pooling, points.vectors, owner, numbers, orbits)[0], known)
    atoms = _projected(snapshot, known, side, space)
    return QueryVector(pool(pooling, atoms, np.zeros(len(atoms), int), known.numbers)[0])


def _projected(
    snapshot: Snapshot, external: ExternalStructure, side: ModelLayer, space: str | None
) -> np.ndarray:
    if space is None:
        return external.atoms
    return project(lookup.projection(snapshot, space, side), external.atoms)


def _embedded(
    snapshot: Snapshot, query: Any, side: ModelLayer, space: str | None, level: Level
) -> Points | None:
    """The rows of the structure that a text names, if it has some.

    What has rows is in the store: it need not be looked up.
    """
    if not isinstance(query, str) or uploads_of(query):
        return None
    points = snapshot.of_structure(lookup.vector_table(snapshot, side, level, space), query)
    return points if len(points.vectors) else None


def _stored_rows(
    snapshot: Snapshot,
    id_: str,
    side: ModelLayer,
    space: str | None,
    level: Level,
    site: int | None,
    known: Points | None = None,
) -> tuple[Points, np.ndarray]:
    """The rows that the store has of a structure, and which of them are wanted: one site, or all.

    known: its rows, where they were read.

    Raises: NotEmbedded, InvalidQuery if there is no such site.
    """
    table = lookup.vector_table(snapshot, side, level, space)
    points = known or snapshot.of_structure(table, id_)
    rows = np.arange(len(points.vectors))
    if site is not None:
        rows = np.flatnonzero(points.column("site_index") == site)
    if not len(rows):
        raise _not_embedded(snapshot, id_, side, space, site, table.name)
    return points, rows


def _not_embedded(
    snapshot: Snapshot, id_: str, side: ModelLayer, space: str | None, site: int | None, table: str
) -> InvalidQuery | NotEmbedded:
    """Why a structure or site has no vector."""
    ((nsites,),) = snapshot.rows("SELECT nsites FROM catalog.main.structures WHERE id = ?", [id_])
    if site is not None and not 0 <= site < nsites:
        return InvalidQuery(f"{id_} has no site {site}: its sites are 0 to {nsites - 1}")
    reasons = snapshot.rows(
        "SELECT reason FROM catalog.main.quarantined WHERE structure_id = ? AND model = ?",
        [id_, side.model],
    )
    if reasons:
        return NotEmbedded(f"{id_} has no vector in {table} ({reasons[0][0]})")
    mend = Call("project") if space else Call("ingest", models=[side.model])
    return NotEmbedded(f"{id_} has no vector in {table}", mend)


def embed_external(snapshot: Snapshot, query: Any, side: ModelLayer) -> ExternalStructure:
    """Run a model on one structure that is not in the store.

    Raises: UnreadableSource, CheckpointMismatch, and what running a model raises.
    """
    structure = _one_structure(query)
    batch = structure.select(["id", "numbers", "positions", "cell", "pbc"])
    layers = tuple(one.layer for one in side.layers)
    with pool_of(snapshot, side.model, layers, workers=1) as pool:
        (embedded,) = pool.embed([batch])
    for _, reason in embedded.rejected:
        raise UnreadableSource(f"{_described(query)}: {reason}")
    atoms = np.hstack([vector_matrix(embedded.table[f"layer_{layer}"]) for layer in layers])
    return ExternalStructure.of(atoms, structure.to_pylist()[0])


def _one_structure(query: Any) -> Any:
    """A file or object as an Arrow batch of one structure. Raises UnreadableSource."""
    from platonic_store.structures import read

    batches = list(read(query))
    for batch in batches:
        for rejected in batch.rejected:
            raise UnreadableSource(f"{_described(query)}: {rejected.record}: {rejected.reason}")
    count = sum(len(batch.structures) for batch in batches)
    if count != 1:
        raise UnreadableSource(
            f"{_described(query)} holds {count} structures, a query is one",
            "ingest them and ask by id",
        )
    return next(batch.structures for batch in batches if len(batch.structures))


def _described(query: Any) -> str:
    from platonic_store.structures import describe

    return describe(query)
