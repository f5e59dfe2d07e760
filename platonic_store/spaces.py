"""Anchor sets, and the shared spaces that they span.

A space is a recipe and an anchor set; a model enters it by a projection, which is fitted on the
model's own embeddings of the anchors and stored whole, so that tomorrow's structure lands where
today's would have.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from platonic_store import commits, progress
from platonic_store.catalog import Catalog, insert_arrow, literals
from platonic_store.catalog import tables as t
from platonic_store.errors import AnchorsNotFound, InvalidQuery
from platonic_store.geometry import anchors as select
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.geometry.projection import Projection, Recipe, fit, project
from platonic_store.snapshot import Snapshot, VectorTable, take
from platonic_store.vectors import Level, Points, Vectors, schema, table_name, vector_array

METHODS = ("direct", "maml", "farthest", "random")
RECIPES = ("cosine", "centred", "whitened")
# By evidence: see docs/recipes.md.
DEFAULT_RECIPE = "whitened"
_GROUP_ROWS = 200_000


class AnchorSet(NamedTuple):
    """An immutable set of anchor atoms; `id` is the hash of what they are."""

    id: str
    method: str
    k: int
    atoms: pd.DataFrame


class Projected(NamedTuple):
    """One model brought up to date in a space."""

    space: str
    model: str
    layer: int
    new_atoms: int


def select_anchors(
    snapshot: Snapshot, method: str, k: int, model: str | None, layer: int | None, seed: int
) -> tuple[AnchorSet, dict]:
    """Choose k anchors among a model's distinct atoms (one for each set of equivalent sites)."""
    if method not in METHODS:
        raise InvalidQuery(f"no anchor method {method!r}: choose one of {', '.join(METHODS)}")
    model = snapshot.model(model)
    layer = snapshot.layer(model, layer)
    points = snapshot.points(snapshot.embeddings(model, layer, "atom"))
    distinct = np.flatnonzero(points.column("site_index") == points.column("orbit"))
    keys = points.keys.select(["structure_id", "site_index"]).take(distinct).to_pandas()
    order = np.lexsort((keys["site_index"], keys["structure_id"]))
    keys, vectors = keys.iloc[order], points.vectors[distinct[order]]
    if len(keys) < k:
        raise InvalidQuery(f"{k} anchors from {len(keys)} distinct atoms: ask for fewer with `-k`")
    names = (keys["structure_id"] + ":" + keys["site_index"].astype(str)).to_numpy()
    if method == "direct":
        chosen = select.direct(vectors, k, keys=names)
    elif method == "maml":
        chosen = select.direct_maml(vectors, k)
    elif method == "farthest":
        chosen = select.farthest_point(vectors, k)
    else:
        chosen = select.random_rows(names, k, seed)
    origin = {"model": model, "layer": layer, "seed": seed if method == "random" else None}
    return _anchor_set(snapshot, method, keys.iloc[np.sort(chosen)]), origin


def anchors_from_file(snapshot: Snapshot, path: Path) -> tuple[AnchorSet, dict]:
    """Anchors listed in a csv or parquet file with columns structure_id and site_index."""
    if not path.exists():
        raise InvalidQuery(f"{path} does not exist: give a csv with structure_id,site_index")
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    if missing := {"structure_id", "site_index"} - set(table.columns):
        raise InvalidQuery(f"{path} has no column {' or '.join(sorted(missing))}")
    keys = table[["structure_id", "site_index"]].astype({"structure_id": str})
    for id_ in keys["structure_id"].unique():
        snapshot.require_structure(id_)
    origin = {"model": None, "layer": None, "seed": None}
    return _anchor_set(snapshot, "file", keys.drop_duplicates()), origin


def _anchor_set(snapshot: Snapshot, method: str, keys: pd.DataFrame) -> AnchorSet:
    keys = keys.sort_values(["structure_id", "site_index"], ignore_index=True)
    hashes = snapshot.describe(keys["structure_id"].unique().tolist()).set_index("id")
    content = "\n".join(
        f"{id_}\t{site}\t{hashes.content_hash[id_]}" for id_, site in keys.itertuples(index=False)
    )
    id_ = hashlib.sha256(content.encode()).hexdigest()[:12]
    return AnchorSet(id_, method, len(keys), keys)


def save_anchors(catalog: Catalog, anchor_set: AnchorSet, origin: dict) -> None:
    """Keep an anchor set; the same atoms chosen again are the same set."""
    with catalog.writing() as connection:
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
            f"no anchor set{f' {id_}' if id_ else ''} in the store: "
            "run `platonic-store anchors select`"
        )
    atoms = snapshot.frame(
        "SELECT structure_id, site_index FROM catalog.main.anchors "
        "WHERE anchor_set = ? ORDER BY rank",
        [rows[0][0]],
    )
    return AnchorSet(rows[0][0], rows[0][1], len(atoms), atoms)


def project_model(
    catalog: Catalog,
    vectors: Vectors,
    model: str,
    *,
    recipe: str = DEFAULT_RECIPE,
    anchors: str | None = None,
    layer: int | None = None,
) -> Projected:
    """Bring a model's coordinates in a space up to date; only what is new is computed."""
    if recipe not in RECIPES:
        raise InvalidQuery(f"no recipe {recipe!r}: choose one of {', '.join(RECIPES)}")
    with take(catalog, vectors) as snapshot:
        model = snapshot.model(model)
        layer = snapshot.layer(model, layer)
        anchor_set = newest_anchors(snapshot, anchors)
        space = f"{recipe}-{anchor_set.k}-{anchor_set.id[:8]}"
        source = snapshot.embeddings(model, layer, "atom")
        try:
            fitted, is_new = snapshot.projection(space, model, layer), False
        except AnchorsNotFound:
            fitted, is_new = (
                fit(cast(Recipe, recipe), _anchor_embeddings(snapshot, source, anchor_set)),
                True,
            )
    if is_new:
        _save_projection(catalog, space, recipe, anchor_set.id, model, layer, fitted)
    return Projected(space, model, layer, _fill(catalog, vectors, space, source, fitted))


def _anchor_embeddings(
    snapshot: Snapshot, source: VectorTable, anchor_set: AnchorSet
) -> np.ndarray:
    """(K, D) embeddings of the anchors by one model, in the anchors' order."""
    ids = literals(anchor_set.atoms["structure_id"].unique())
    points = snapshot.points(source, f"structure_id IN ({ids})")
    rows = points.keys.to_pandas()[["structure_id", "site_index"]].assign(
        row=range(len(points.vectors))
    )
    found = anchor_set.atoms.merge(rows, on=["structure_id", "site_index"], how="left")
    if absent := int(found["row"].isna().sum()):
        raise AnchorsNotFound(
            f"{source.model} has not embedded {absent} of the {anchor_set.k} anchors of "
            f"{anchor_set.id}: run `platonic-store ingest --model {source.model}`"
        )
    return points.vectors[found["row"].to_numpy(dtype=int)]


def _save_projection(
    catalog: Catalog,
    space: str,
    recipe: str,
    anchor_set: str,
    model: str,
    layer: int,
    fitted: Projection,
) -> None:
    with catalog.writing() as connection:
        if connection.scalar(sa.select(t.spaces.c.id).filter_by(id=space)) is None:
            connection.execute(
                sa.insert(t.spaces).values(id=space, recipe=recipe, anchor_set=anchor_set)
            )
        connection.execute(
            sa.insert(t.projections).values(
                space=space, model=model, layer=layer, parameters=fitted.to_bytes()
            )
        )


def _fill(
    catalog: Catalog, vectors: Vectors, space: str, source: VectorTable, fitted: Projection
) -> int:
    """Project the chunks that the space lacks; returns how many atoms those hold."""
    dim = len(fitted.anchors)
    levels: tuple[Level, ...] = ("atom", "structure")
    names = {
        level: commits.ensure_vector_table(
            catalog, vectors, source.model, source.layer, level, dim, space
        )
        for level in levels
    }
    groups = _missing_chunks(catalog, source, names["atom"])
    atoms = sum(sum(group["atom"].values()) for group in groups)
    with progress.bar(f"projecting {source.model}", atoms, "atoms") as advance:
        for group in groups:
            pooled: list[pa.RecordBatch] = []
            coordinates = _coordinates(vectors, source, fitted, group["atom"], pooled, advance)
            streams: dict[Level, Iterator[pa.RecordBatch]] = {
                "atom": coordinates,
                "structure": (batch for batch in pooled),
            }
            commits.commit_projection(
                catalog,
                vectors,
                {names[level]: rows for level, rows in group.items()},
                {
                    names[level]: pa.RecordBatchReader.from_batches(schema(level, dim), stream)
                    for level, stream in streams.items()
                },
            )
    if groups:
        commits.maintain(catalog, vectors, names.values())
    return atoms


def _missing_chunks(
    catalog: Catalog, source: VectorTable, target: str
) -> list[dict[Level, dict[int, int]]]:
    """The source's chunks that the target lacks: groups of {level: {chunk: rows}}."""
    pooled = table_name(source.model, source.layer, "structure")
    with catalog.reading() as connection:
        filled = connection.execute(sa.select(t.fills).where(t.fills.c.committed)).all()
    rows = {
        name: {f.chunk_id: f.rows for f in filled if f.table_name == name}
        for name in (source.name, pooled, target)
    }
    groups: list[dict[Level, dict[int, int]]] = []
    for chunk in sorted(rows[source.name].keys() - rows[target].keys()):
        if not groups or sum(groups[-1]["atom"].values()) > _GROUP_ROWS:
            groups.append({"atom": {}, "structure": {}})
        groups[-1]["atom"][chunk] = rows[source.name][chunk]
        groups[-1]["structure"][chunk] = rows[pooled][chunk]
    return groups


def _coordinates(
    vectors: Vectors,
    source: VectorTable,
    fitted: Projection,
    chunks: Iterable[int],
    pooled: list[pa.RecordBatch],
    advance: Callable[[float], None],
) -> Iterator[pa.RecordBatch]:
    """Stream the atoms' coordinates, leaving those of their structures in `pooled`."""
    for chunk in chunks:
        points = vectors.points(source.name, source.version, "atom", f"chunk_id = {chunk}")
        atoms, structures = _project_chunk(points, fitted, chunk)
        pooled.append(structures)
        advance(atoms.num_rows)
        yield atoms


def _project_chunk(
    points: Points, fitted: Projection, chunk: int
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Coordinates of a chunk's atoms, and of its structures: the mean over their atoms."""
    order = points.keys.to_pandas().sort_values(["structure_id", "site_index"]).index.to_numpy()
    keys = points.keys.take(order)
    coordinates = project(fitted, points.vectors[order])
    ids = keys["structure_id"].to_numpy()
    is_first = np.r_[True, ids[1:] != ids[:-1]]
    dim = coordinates.shape[1]
    atoms = keys.append_column("vector", vector_array(coordinates)).cast(schema("atom", dim))
    structures = pa.table(
        {
            "structure_id": ids[is_first],
            "chunk_id": np.full(is_first.sum(), chunk),
            "vector": vector_array(mean_by_structure(coordinates, np.cumsum(is_first) - 1)),
        },
        schema=schema("structure", dim),
    )
    return atoms.combine_chunks().to_batches()[0], structures.to_batches()[0]
