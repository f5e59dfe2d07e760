"""What is asked about: ids, files, structure objects and vectors, resolved to vectors."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from platonic_store.errors import InvalidQuery, NotEmbedded, UnreadableSource
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.geometry.projection import project
from platonic_store.questions.shared.atom_sets import atom_sets
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.vectors import Level, Points


class Query(NamedTuple):
    """A query resolved to a vector; `id` is set where it is itself in the store."""

    vector: np.ndarray
    id: str | None = None
    site_index: int | None = None


class AtomSet(NamedTuple):
    """A structure as its distinct atoms: vectors (m, dim), mass (m,) that adds up to one."""

    vectors: np.ndarray
    mass: np.ndarray


class ExternalStructure(NamedTuple):
    """A structure that is not in the store.

    atoms: (n, dim) embeddings; numbers: (n,) atomic numbers; formula: reduced.
    """

    atoms: np.ndarray
    numbers: np.ndarray
    formula: str


def met(
    take: Callable[[], AbstractContextManager[Snapshot]],
    query: Any,
    model: str | None,
    layer: int | None,
) -> Any:
    """A query that any snapshot can answer: files and structure objects become Newcomers.

    No snapshot is held while the model loads, or commits would wait for it.
    """
    if isinstance(query, np.ndarray) or (isinstance(query, str) and not Path(query).exists()):
        return query
    with take() as snapshot:
        if isinstance(query, str) and snapshot.has_structure(query):
            return query
        model = snapshot.model(model)
        layer = snapshot.layer(model, layer)
    return _embedded_now(query, model, layer)


def vector(
    snapshot: Snapshot,
    query: Any,
    *,
    model: str | None = None,
    layer: int | None = None,
    space: str | None = None,
    site: int | None = None,
) -> np.ndarray:
    """(dim,) float32: the vector of one structure, or of one of its atoms; see `Store.vector`."""
    model = snapshot.model(model)
    layer = snapshot.layer(model, layer)
    space = snapshot.space(space, [model]) if space else None
    level: Level = "structure" if site is None else "atom"
    return resolve(snapshot, query, model, layer, space, level, site).vector


def resolve(
    snapshot: Snapshot,
    query: str | ExternalStructure | np.ndarray,
    model: str,
    layer: int,
    space: str | None,
    level: Level,
    site: int | None,
) -> Query:
    """The vector of an id, a structure that `met` embedded, or the vector itself.

    Raises: StructureNotFound, NotEmbedded, InvalidQuery.
    """
    if level == "atom" and site is None and not isinstance(query, np.ndarray):
        raise InvalidQuery("which atom? name its site: `--site 0`, or site=0 in Python")
    if isinstance(query, np.ndarray):
        return Query(np.asarray(query, dtype=np.float32))
    if isinstance(query, str):
        snapshot.require_structure(query)
        return _stored(snapshot, query, model, layer, space, level, site)
    atoms = query.atoms
    if space is not None:
        atoms = project(snapshot.projection(space, model, layer), atoms)
    if level == "structure":
        return Query(mean_by_structure(atoms, np.zeros(len(atoms), dtype=int))[0])
    if site is None or not 0 <= site < len(atoms):
        raise InvalidQuery(
            f"there is no site {site}: the structure has sites 0 to {len(atoms) - 1}"
        )
    return Query(atoms[site])


def atom_set(
    snapshot: Snapshot,
    query: str | ExternalStructure | np.ndarray,
    model: str,
    layer: int,
    space: str | None,
) -> AtomSet:
    """A structure's atoms as a model sees them, as coordinates if there is a space.

    Raises: StructureNotFound, NotEmbedded, InvalidQuery for a vector.
    """
    if isinstance(query, np.ndarray):
        raise InvalidQuery("transport compares atoms, not one vector: ask by id or by file")
    if isinstance(query, str):
        snapshot.require_structure(query)
        points, _ = _stored_rows(snapshot, query, model, layer, space, "atom", None)
        sets = atom_sets(points)
        return AtomSet(points.vectors[sets.rows], sets.mass)
    atoms = query.atoms
    if space is not None:
        atoms = project(snapshot.projection(space, model, layer), atoms)
    return AtomSet(atoms, np.full(len(atoms), 1 / len(atoms)))


def _stored(
    snapshot: Snapshot,
    id_: str,
    model: str,
    layer: int,
    space: str | None,
    level: Level,
    site: int | None,
) -> Query:
    """The vector that the store has of a structure or a site."""
    points, rows = _stored_rows(snapshot, id_, model, layer, space, level, site)
    orbit = int(points.column("orbit")[rows[0]]) if level == "atom" else None
    return Query(points.vectors[rows[0]], id_, orbit)


def _stored_rows(
    snapshot: Snapshot,
    id_: str,
    model: str,
    layer: int,
    space: str | None,
    level: Level,
    site: int | None,
) -> tuple[Points, np.ndarray]:
    """What the store has of a structure, and which of it is asked for: one site, or all.

    Raises: NotEmbedded, InvalidQuery if there is no such site.
    """
    if space is None:
        table = snapshot.embeddings(model, layer, level)
    else:
        table = snapshot.coordinates(space, model, layer, level)
    points = snapshot.of_structure(table, id_)
    rows = np.arange(len(points.vectors))
    if site is not None:
        rows = np.flatnonzero(points.column("site_index") == site)
    if not len(rows):
        ((nsites,),) = snapshot.rows(
            "SELECT nsites FROM catalog.main.structures WHERE id = ?", [id_]
        )
        if site is not None and not 0 <= site < nsites:
            raise InvalidQuery(f"{id_} has no site {site}: its sites are 0 to {nsites - 1}")
        why = snapshot.rows(
            "SELECT reason FROM catalog.main.quarantined WHERE structure_id = ? AND model = ?",
            [id_, model],
        )
        mend = "project --all" if space else f"ingest --model {model}"
        raise NotEmbedded(
            f"{id_} has no vector in {table.name}"
            + (f" ({why[0][0]})" if why else f": run `platonic-store {mend}`")
        )
    return points, rows


def _embedded_now(query: Any, model: str, layer: int) -> ExternalStructure:
    """A structure that is not in the store, embedded."""
    from platonic_store.runtimes.preparation import prepare
    from platonic_store.runtimes.workers import WorkerPool
    from platonic_store.storage.vectors import vector_matrix
    from platonic_store.structures import describe, read

    for batch in read(query):
        for rejected in batch.rejected:
            raise UnreadableSource(f"{describe(query)}: {rejected.record}: {rejected.reason}")
        if len(batch.structures) != 1:
            raise UnreadableSource(
                f"{describe(query)} holds {len(batch.structures)} structures, a query is one: "
                "ingest them and ask by id"
            )
        structure = batch.structures.select(["id", "numbers", "positions", "cell", "pbc"])
        (ready,) = prepare([model])
        with WorkerPool(ready.card, (layer,), python=ready.python, workers=1) as pool:
            for embedded in pool.embed([structure]):
                for _, reason in embedded.rejected:
                    raise UnreadableSource(f"{describe(query)}: {reason}")
                return ExternalStructure(
                    vector_matrix(embedded.table[f"layer_{layer}"]),
                    np.array(structure["numbers"][0].as_py()),
                    batch.structures["formula"][0].as_py(),
                )
    raise UnreadableSource(f"{describe(query)} holds no structure")
