"""Similarity search: the atoms or crystals nearest to one, within a model or across models."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from platonic_store.errors import InvalidQuery, NotEmbedded, UnreadableSource
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.geometry.projection import project
from platonic_store.geometry.scan import nearest_to_one
from platonic_store.snapshot import Snapshot, VectorTable
from platonic_store.vectors import CACHE_BYTES, Level, Points


class Query(NamedTuple):
    """A query resolved to a vector; `id` is set where it is itself in the store."""

    vector: np.ndarray
    id: str | None = None
    site_index: int | None = None


class Newcomer(NamedTuple):
    """A structure that is not in the store: (n, dim) embeddings of its atoms."""

    atoms: np.ndarray


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
    return Newcomer(_embedded_now(query, model, layer))


def similar(snapshot: Snapshot, query: Any, **arguments: Any) -> pd.DataFrame:
    """What `find` finds, with every column of the `structure` view (and element, multiplicity)."""
    hits = find(snapshot, query, **arguments)
    if "site_index" in hits:
        hits = _with_sites(snapshot, hits)
    known = snapshot.describe(hits["id"].unique().tolist())
    return hits.merge(known, on="id", how="left", validate="many_to_one")


def find(
    snapshot: Snapshot,
    query: Any,
    *,
    model: str | None = None,
    layer: int | None = None,
    across: str | None = None,
    space: str | None = None,
    site: int | None = None,
    level: Level | None = None,
    k: int = 10,
    where: str | None = None,
) -> pd.DataFrame:
    """The k nearest structures, or atoms (one for each set of symmetry-equivalent sites).

    See `Store.similar` for the arguments. The frame has rank, distance (1 − cosine) and id, for
    atoms also site_index.
    """
    if k < 1:
        raise InvalidQuery(f"k must be at least 1, not {k}")
    model = snapshot.model(model)
    layer = snapshot.layer(model, layer)
    level = level or _level(site)
    if across is None and space is None:
        table = snapshot.embeddings(model, layer, level)
    else:
        answerer = snapshot.model(across) if across else model
        space = snapshot.space(space, [model, answerer])
        table = snapshot.coordinates(space, answerer, None if across else layer, level)
    resolved = resolve(snapshot, query, model, layer, space, level, site)
    if resolved.vector.shape != (table.dim,):
        raise InvalidQuery(
            f"the query has {resolved.vector.size} numbers, "
            f"vectors of {table.name} have {table.dim}"
        )
    own = resolved if table.model == model else None
    keys, distances = _nearest(snapshot, table, resolved.vector, own, k, where)
    hits = pd.DataFrame(
        {
            "rank": np.arange(1, len(keys) + 1),
            "distance": distances,
            "id": keys["structure_id"].to_numpy(),
        }
    )
    if level == "atom":
        hits["site_index"] = keys["site_index"].to_numpy()
    return hits


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
    return resolve(snapshot, query, model, layer, space, _level(site), site).vector


def _level(site: int | None) -> Level:
    return "structure" if site is None else "atom"


def resolve(
    snapshot: Snapshot,
    query: str | Newcomer | np.ndarray,
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
    if space is None:
        table = snapshot.embeddings(model, layer, level)
    else:
        table = snapshot.coordinates(space, model, layer, level)
    points = snapshot.of_structure(table, id_)
    rows = np.arange(len(points.vectors))
    if level == "atom":
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
    orbit = int(points.column("orbit")[rows[0]]) if level == "atom" else None
    return Query(points.vectors[rows[0]], id_, orbit)


def _embedded_now(query: Any, model: str, layer: int) -> np.ndarray:
    """(n, dim) embeddings of the atoms of a structure that is not in the store."""
    from platonic_store.runtimes.preparation import prepare
    from platonic_store.runtimes.workers import WorkerPool
    from platonic_store.structures import describe, read
    from platonic_store.vectors import vector_matrix

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
                return vector_matrix(embedded.table[f"layer_{layer}"])
    raise UnreadableSource(f"{describe(query)} holds no structure")


def _nearest(
    snapshot: Snapshot,
    table: VectorTable,
    vector: np.ndarray,
    own: Query | None,
    k: int,
    where: str | None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Keys and distances of the k nearest rows that meet the condition, without the query's own.

    Exact while the table fits the cache (and whenever there is a condition), by index beyond.
    """
    rows = sum(
        n
        for (n,) in snapshot.rows(
            "SELECT rows FROM catalog.main.fills WHERE table_name = ? AND committed", [table.name]
        )
    )
    if where is None and rows * table.dim * 4 > CACHE_BYTES:
        return _nearest_by_index(snapshot, table, vector, own, k)
    points = snapshot.points(table)
    mask = _candidates(snapshot, table, points, own, where)
    indices, distances = nearest_to_one(vector, points.vectors, points.lengths, k, mask)
    return points.keys.take(indices).to_pandas(), distances


def _nearest_by_index(
    snapshot: Snapshot, table: VectorTable, vector: np.ndarray, own: Query | None, k: int
) -> tuple[pd.DataFrame, np.ndarray]:
    found = snapshot.vectors.nearest_indexed(
        table.name, table.version, vector, k + 1, table.level
    ).to_pandas()
    if own is not None and own.id is not None:
        same = found["structure_id"] == own.id
        if table.level == "atom":
            same &= found["orbit"] == own.site_index
        found = found[~same]
    found = found.head(k)
    return found.drop(columns="_distance"), found["_distance"].to_numpy()


def _candidates(
    snapshot: Snapshot, table: VectorTable, points: Points, own: Query | None, where: str | None
) -> np.ndarray:
    """Which rows may answer: (n,) bool."""
    is_atom = table.level == "atom"
    mask = points.is_distinct.copy()
    if own is not None and own.id is not None:
        same = points.is_of(own.id)
        mask &= ~(same & (points.column("orbit") == own.site_index) if is_atom else same)
    if where is not None:
        mask &= _meeting(snapshot, points, table.level, where)
    return mask


def _meeting(snapshot: Snapshot, points: Points, level: Level, where: str) -> np.ndarray:
    """(n,) bool: for which rows an SQL condition holds."""
    try:  # most conditions speak of structures alone, which are a tenth of the atoms
        ids = snapshot.matching(where, "structure")["structure_id"]
        return pc.is_in(points.keys["structure_id"], pa.array(ids, pa.string())).to_numpy()
    except InvalidQuery:
        if level == "structure":
            raise
    keys = ["structure_id", "site_index"]
    wanted = pd.MultiIndex.from_frame(snapshot.matching(where, "atom")[keys])
    return pd.MultiIndex.from_frame(points.keys.select(keys).to_pandas()).isin(wanted)


def _with_sites(snapshot: Snapshot, hits: pd.DataFrame) -> pd.DataFrame:
    # Not from the view `site`: that would unfold every atom of these structures and count them.
    sites = snapshot.frame(
        """
        SELECT
            id, site_index, element_symbol(numbers[site_index + 1]) AS element,
            len(list_filter(orbits, lambda o: o = orbits[site_index + 1])) AS multiplicity
        FROM (SELECT unnest(?) AS id, unnest(?) AS site_index)
        JOIN catalog.main.structures USING (id)
        """,
        [hits["id"].tolist(), hits["site_index"].tolist()],
    )
    return hits.merge(sites, on=["id", "site_index"], how="left", validate="many_to_one")
