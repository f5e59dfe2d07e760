"""Anchor sets: the atoms that every model embeds, chosen and kept."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from platonic_store.errors import AnchorsNotFound, Call, InvalidQuery
from platonic_store.geometry import anchors as select
from platonic_store.storage import lookup
from platonic_store.storage import tables as t
from platonic_store.storage.catalog import insert_arrow
from platonic_store.storage.side_points import layer_widths, side_points
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.sqltext import literals
from platonic_store.storage.writer import Writer

METHODS = ("random", "direct", "maml", "farthest")
MOST_ANCHORS = 4096


class AnchorSet(NamedTuple):
    """An immutable set of anchor atoms; `id` is the hash of what they are."""

    id: str
    method: str
    k: int
    atoms: pd.DataFrame


def select_anchors(
    snapshot: Snapshot, method: str, k: int | None, side: ModelLayer, seed: int
) -> tuple[AnchorSet, dict[str, Any]]:
    """Choose k anchors among a model's distinct atoms (one for each set of equivalent sites).

    Without k a third of these, but at most MOST_ANCHORS.
    """
    if method not in METHODS:
        raise InvalidQuery(
            f"there is no anchor method {method!r}", f"choose one of {', '.join(METHODS)}"
        )
    points = snapshot.points(lookup.vector_table(snapshot, side, "atom"))
    distinct = np.flatnonzero(points.column("site_index") == points.column("orbit"))
    keys = points.keys.select(["structure_id", "site_index"]).take(distinct).to_pandas()
    order = np.lexsort((keys["site_index"], keys["structure_id"]))
    keys, vectors = keys.iloc[order], points.vectors[distinct[order]]
    k = k or min(MOST_ANCHORS, max(2, len(keys) // 3))
    if len(keys) < k:
        raise InvalidQuery(f"there are {len(keys)} distinct atoms, not {k}", "choose fewer anchors")
    names = (keys["structure_id"] + ":" + keys["site_index"].astype(str)).to_numpy()
    if method == "direct":
        chosen = select.direct(vectors, k, keys=names)
    elif method == "maml":
        chosen = select.direct_maml(vectors, k)
    elif method == "farthest":
        chosen = select.farthest_point(vectors, k)
    else:
        chosen = select.random_rows(names, k, seed)
    origin = {
        "model": side.model,
        "layer": side.layer,
        "seed": seed if method == "random" else None,
    }
    return _anchor_set(snapshot, method, keys.iloc[np.sort(chosen)]), origin


def anchors_from_file(snapshot: Snapshot, path: Path) -> tuple[AnchorSet, dict[str, Any]]:
    """Anchors listed in a csv or parquet file with columns structure_id and site_index."""
    if not path.exists():
        raise InvalidQuery(
            f"{path} does not exist", "give a csv file with columns structure_id and site_index"
        )
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    if missing := {"structure_id", "site_index"} - set(table.columns):
        raise InvalidQuery(f"{path} has no column {' or '.join(sorted(missing))}")
    keys = table[["structure_id", "site_index"]].astype({"structure_id": str})
    for id_ in keys["structure_id"].unique():
        lookup.require_structure(snapshot, id_)
    origin = {"model": None, "layer": None, "seed": None}
    return _anchor_set(snapshot, "file", keys.drop_duplicates()), origin


def _anchor_set(snapshot: Snapshot, method: str, keys: pd.DataFrame) -> AnchorSet:
    keys = keys.sort_values(["structure_id", "site_index"], ignore_index=True)
    hashes = snapshot.describe(keys["structure_id"].unique().tolist()).set_index("structure_id")
    content = "\n".join(
        f"{id_}\t{site}\t{hashes.content_hash[id_]}" for id_, site in keys.itertuples(index=False)
    )
    id_ = hashlib.sha256(content.encode()).hexdigest()[:12]
    return AnchorSet(id_, method, len(keys), keys)


def save_anchors(writer: Writer, anchor_set: AnchorSet, origin: dict[str, Any]) -> None:
    """Keep an anchor set; the same atoms chosen again are the same set."""
    with writer.writing() as connection:
        if connection.scalar(sa.select(t.anchor_sets.c.id).filter_by(id=anchor_set.id)) is not None:
            # Chosen again makes it the newest, which is what `project` takes.
            connection.execute(
                sa.update(t.anchor_sets)
                .where(t.anchor_sets.c.id == anchor_set.id)
                .values(created_at=sa.func.now())
            )
            return
        connection.execute(
            sa.insert(t.anchor_sets).values(id=anchor_set.id, method=anchor_set.method, **origin)
        )
        rows = anchor_set.atoms.assign(anchor_set=anchor_set.id, rank=range(anchor_set.k))
        insert_arrow(connection, "anchors", pa.Table.from_pandas(rows, preserve_index=False))


def newest_anchors(snapshot: Snapshot, id_: str | None) -> AnchorSet:
    """The anchor set whose id begins with `id_`, or the newest one."""
    rows = snapshot.rows(
        "SELECT id, method FROM catalog.main.anchor_sets WHERE id LIKE ? ORDER BY created_at DESC",
        [f"{id_ or ''}%"],
    )
    if not rows:
        raise AnchorsNotFound(
            f"no anchor set{f' {id_}' if id_ else ''} in the store", Call("select_anchors")
        )
    atoms = snapshot.frame(
        "SELECT structure_id, site_index FROM catalog.main.anchors "
        "WHERE anchor_set = ? ORDER BY rank",
        [rows[0][0]],
    )
    return AnchorSet(rows[0][0], rows[0][1], len(atoms), atoms)


def anchor_embeddings(
    snapshot: Snapshot, side: ModelLayer, anchor_set: AnchorSet
) -> list[np.ndarray]:
    """(K, D) embeddings of the anchors by each layer of a side, in the anchors' order.

    Raises: AnchorsNotFound, LayerNotFound.
    """
    ids = literals(anchor_set.atoms["structure_id"].unique())
    points = side_points(snapshot, side, f"structure_id IN ({ids})")
    rows = points.keys.to_pandas()[["structure_id", "site_index"]].assign(
        row=range(len(points.vectors))
    )
    found = anchor_set.atoms.merge(rows, on=["structure_id", "site_index"], how="left")
    if absent := int(found["row"].isna().sum()):
        raise AnchorsNotFound(
            f"{side} has not embedded {absent} of the {anchor_set.k} anchors of {anchor_set.id}",
            Call(
                "ingest",
                models=[side.model],
                layers=",".join(str(one.layer) for one in side.layers),
            ),
        )
    rows = points.vectors[found["row"].to_numpy(dtype=int)]
    return np.split(rows, np.cumsum(layer_widths(snapshot, side))[:-1], axis=1)
