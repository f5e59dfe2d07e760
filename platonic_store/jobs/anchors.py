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
from platonic_store.questions.shared.pairing import (
    PairedEmbeddings,
    distinct_keys,
    paired_embeddings,
)
from platonic_store.storage import lookup
from platonic_store.storage import tables as t
from platonic_store.storage.catalog import insert_arrow
from platonic_store.storage.side_points import layer_widths, side_points
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.sqltext import literals
from platonic_store.storage.writer import Writer

METHODS = ("random", "direct", "maml", "farthest")
MOST_ANCHORS = 8192
MOST_CANDIDATES = 500_000


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

    What another model has refused is left out. Without k a third of the rest, but at most
    MOST_ANCHORS. Of more than MOST_CANDIDATES so many are drawn, by their names, among which all
    methods but "random" choose.
    """
    if method not in METHODS:
        raise InvalidQuery(
            f"there is no anchor method {method!r}", f"choose one of {', '.join(METHODS)}"
        )
    refused = _refused(snapshot)
    if method == "random":
        keys, count = _random(snapshot, side, k, seed, refused)
    else:
        found = paired_embeddings(snapshot, [side], sample=MOST_CANDIDATES)
        if refused:
            may = np.flatnonzero(~found.keys["structure_id"].isin(refused))
            found = PairedEmbeddings(found.keys.iloc[may], [found.vectors[0][may]], [None])
        keys, count = _spread(found, method, k), len(found.keys)
    if k is not None and count < k:
        raise InvalidQuery(f"there are {count} distinct atoms, not {k}", "choose fewer anchors")
    origin = {
        "model": side.model,
        "layer": side.layer,
        "seed": seed if method == "random" else None,
    }
    return _anchor_set(snapshot, method, keys), origin


def _refused(snapshot: Snapshot) -> set[str]:
    """What some model has in quarantine, so that with such an anchor it could enter no space.

    A model that refuses more than half of the store, as one of molecules does, is not waited for.
    """
    return {
        id_
        for (id_,) in snapshot.rows(
            "WITH held AS (SELECT DISTINCT model, structure_id FROM catalog.main.quarantined "
            "WHERE model IS NOT NULL) "
            "SELECT DISTINCT structure_id FROM held WHERE model IN (SELECT model FROM held "
            "GROUP BY model HAVING 2 * count(*) <= (SELECT count(*) FROM catalog.main.structures))"
        )
    }


def _default(count: int) -> int:
    return min(MOST_ANCHORS, max(2, count // 3))


def _random(
    snapshot: Snapshot, side: ModelLayer, k: int | None, seed: int, refused: set[str]
) -> tuple[pd.DataFrame, int]:
    """The keys of k atoms at random, as `anchors.random_rows` chooses, and how many there are."""
    kept: list[pd.DataFrame] = []
    count = 0
    for keys in distinct_keys(snapshot, lookup.vector_table(snapshot, side, "atom")):
        keys = keys[~keys["structure_id"].isin(refused)] if refused else keys
        kept.append(keys.assign(digest=select.hashes(_names(keys), seed)))
        count += len(keys)
        if sum(map(len, kept)) > 2 * (k or MOST_ANCHORS):
            kept = [pd.concat(kept).sort_values("digest")[: k or MOST_ANCHORS]]
    found = pd.concat(kept).sort_values("digest")[: k or _default(count)]
    return found[["structure_id", "site_index"]], count


def _spread(found: PairedEmbeddings, method: str, k: int | None) -> pd.DataFrame:
    """The keys of k atoms that lie apart; of all, where there are not so many."""
    keys, (vectors,) = found.keys, found.vectors
    k = k or _default(len(keys))
    if len(keys) < k:
        return keys
    if method == "direct":
        chosen = select.direct(vectors, k, keys=_names(keys))
    elif method == "maml":
        chosen = select.direct_maml(vectors, k)
    else:
        chosen = select.farthest_point(vectors, k)
    return keys[["structure_id", "site_index"]].iloc[np.sort(chosen)]


def _names(keys: pd.DataFrame) -> np.ndarray:
    names: np.ndarray = (keys["structure_id"] + ":" + keys["site_index"].astype(str)).to_numpy()
    return names


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
    if (absent := found[found["row"].isna()]).size:
        raise _lacks(snapshot, side, anchor_set, absent["structure_id"])
    rows = points.vectors[found["row"].to_numpy(dtype=int)]
    return np.split(rows, np.cumsum(layer_widths(snapshot, side))[:-1], axis=1)


def _lacks(
    snapshot: Snapshot, side: ModelLayer, anchor_set: AnchorSet, absent: "pd.Series[str]"
) -> AnchorsNotFound:
    held = snapshot.rows(
        "SELECT DISTINCT structure_id FROM catalog.main.quarantined WHERE model = ?", [side.model]
    )
    refused = absent.isin([id_ for (id_,) in held])
    of_all = f"of the {anchor_set.k} anchors of {anchor_set.id}"
    if refused.any():
        return AnchorsNotFound(
            f"{side} refuses {refused.sum()} {of_all}, as {absent[refused].iloc[0]}, and can enter "
            "no space of theirs",
            Call("select_anchors"),
        )
    return AnchorsNotFound(
        f"{side} has not embedded {len(absent)} {of_all}",
        Call("ingest", models=[side.model], layers=",".join(str(one.layer) for one in side.layers)),
    )
