"""Similarity search: the atoms or crystals nearest to one, within a model or across models."""

from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.scan import nearest_to_one
from platonic_store.geometry.sets import nearest_sets
from platonic_store.questions.shared.atom_sets import atom_sets
from platonic_store.questions.shared.inputs import AtomSet, Query, atom_set, resolve
from platonic_store.storage.snapshot import Snapshot, VectorTable
from platonic_store.storage.sqltext import literals
from platonic_store.storage.vectors import CACHE_BYTES, Level, Points

Distance = Literal["cosine", "transport"]


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
    distance: Distance = "cosine",
) -> pd.DataFrame:
    """The k nearest structures, or atoms (one for each set of symmetry-equivalent sites).

    See `Store.similar` for the arguments. The frame has rank, distance (1 − cosine, or by
    transport) and id, for atoms also site_index.
    """
    if k < 1:
        raise InvalidQuery(f"k must be at least 1, not {k}")
    if distance not in get_args(Distance):
        raise InvalidQuery(
            f"no distance {distance!r}: choose one of {', '.join(get_args(Distance))}"
        )
    model = snapshot.model(model)
    layer = snapshot.layer(model, layer)
    level = level or ("structure" if site is None else "atom")
    by_transport = distance == "transport"
    if by_transport and level == "atom":
        raise InvalidQuery("transport is between structures, not atoms: leave out the site")
    compared: Level = "atom" if by_transport else level
    if across is None and space is None:
        table = snapshot.embeddings(model, layer, compared)
    else:
        answerer = snapshot.model(across) if across else model
        space = snapshot.space(space, [model, answerer])
        table = snapshot.coordinates(space, answerer, None if across else layer, compared)
    if by_transport:
        asked = atom_set(snapshot, query, model, layer, space)
        itself = query if table.model == model and isinstance(query, str) else None
        return _nearest_sets(snapshot, table, asked, itself, k, where)
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
    if where is None and table.nbytes > CACHE_BYTES:
        return _nearest_by_index(snapshot, table, vector, own, k)
    points = snapshot.points(table)
    mask = _candidates(snapshot, table, points, own, where)
    indices, distances = nearest_to_one(vector, points.vectors, points.lengths, k, mask)
    return points.keys.take(indices).to_pandas(), distances


def _nearest_sets(
    snapshot: Snapshot,
    table: VectorTable,
    asked: AtomSet,
    own: str | None,
    k: int,
    where: str | None,
) -> pd.DataFrame:
    """Rank, distance and id of the k structures nearest by transport, without `own`.

    Exact while the atoms' table fits the cache; beyond, of the structures nearest by their mean.
    """
    condition = None
    if table.nbytes > CACHE_BYTES:
        pooled = snapshot.pooled(table)
        mean = asked.mass @ asked.vectors
        query = Query(mean.astype(np.float32), own)
        keys, _ = _nearest(snapshot, pooled, query.vector, query, max(50, 5 * k), where)
        condition = f"structure_id IN ({literals(keys['structure_id']) or 'NULL'})"
    points = snapshot.points(table, condition)
    sets = atom_sets(points)
    mask = np.ones(len(sets.label), dtype=bool)
    if own is not None:
        mask &= ~points.is_of(own)[sets.label]
    if where is not None:
        mask &= meeting(snapshot, points, "structure", where)[sets.label]
    indices, distances = nearest_sets(*asked, points.vectors, points.lengths, sets, k, mask)
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(indices) + 1),
            "distance": distances,
            "id": points.keys["structure_id"].take(sets.label[indices]).to_numpy(),
        }
    )


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
        mask &= meeting(snapshot, points, table.level, where)
    return mask


def meeting(snapshot: Snapshot, points: Points, level: Level, where: str) -> np.ndarray:
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
