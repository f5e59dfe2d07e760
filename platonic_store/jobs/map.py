"""The map: a layout of structures and one of atoms, and where each model sees what is there.

A layout is fitted once, to the consensus: the mean of the coordinates by the models that agreed on
the space. Each model's own coordinates, and those of what comes later, are placed in it.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from platonic_store import progress
from platonic_store.arrow import vector_array
from platonic_store.engines.cluster import Cluster
from platonic_store.engines.parts import calls, one_by_one
from platonic_store.geometry import layout as geometry
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.layout import unit32
from platonic_store.storage import bulk, lookup
from platonic_store.storage import tables as t
from platonic_store.storage.layer_sets import text_of
from platonic_store.storage.layout import PRIMARY_KEY, Level, Points
from platonic_store.storage.snapshot import ModelLayer, Snapshot, VectorTable
from platonic_store.storage.sqltext import literals
from platonic_store.storage.writer import Writer

CAVEAT = "Near on the map is alike; how far apart what is not near lies says nothing."
CONSENSUS = "consensus"
FITTED = 30_000  # points at most that a layout is fitted to
SEED = 0
CHUNK = 50_000  # points placed and committed at once


class Mapped(NamedTuple):
    """One model's map of structures or of atoms, brought up to date."""

    level: Level
    model: str
    layer: str | None  # or several, as `0+1`
    new_points: int


def map_store(
    writer: Writer, *, renew: bool = False, cluster: Cluster | None = None
) -> list[Mapped]:
    """Bring the map up to date; fitted is only what has no layout in the space yet.

    cluster: whose nodes place the points, in place of this machine, which fits.

    Raises: AnchorsNotFound if nothing is projected.
    """
    done = []
    for level in get_args(Level):
        snapshot = writer.snapshot()
        space = _space(snapshot)
        tables = [one for one in snapshot.tables if (one.space, one.level) == (space, level)]
        if renew or not _is_laid_out(writer, space, level):
            _lay_out(writer, snapshot, space, _agreed(snapshot, space, tables), level)
        done += _bring_up_to_date(writer, snapshot, tables, level, cluster)
    return done


def _space(snapshot: Snapshot) -> str:
    """The newest space on which models agreed; where there is none, the newest."""
    rows = snapshot.rows(
        "SELECT id FROM catalog.main.spaces "
        "WHERE id IN (SELECT space FROM catalog.main.projections) AND recipe != ? "
        "ORDER BY recipe != 'aligned', created_at DESC LIMIT 1",
        [lookup.ALONE],
    )
    return str(rows[0][0]) if rows else lookup.space(snapshot, None, [])


def _agreed(snapshot: Snapshot, space: str, tables: list[VectorTable]) -> list[VectorTable]:
    """Those whose mean is the consensus: of the models that agreed on the space, else trained."""
    rows = snapshot.rows(
        "SELECT (agreement->>'models')::VARCHAR[] FROM catalog.main.spaces WHERE id = ?", [space]
    )
    named = set(rows[0][0] or [])
    return (
        [table for table in tables if str(_side(table)) in named]
        or [table for table in tables if table.model in snapshot.trained_models]
        or tables
    )


def _side(table: VectorTable) -> ModelLayer:
    return ModelLayer(table.model, table.layer)


def _is_laid_out(writer: Writer, space: str, level: Level) -> bool:
    query = sa.text(
        "SELECT 1 FROM layouts WHERE level = :level AND space = :space "
        "AND EXISTS (FROM layout_points AS p WHERE p.level = layouts.level)"
    )
    with writer.reading() as connection:
        return bool(connection.scalar(query, {"level": level, "space": space}))


def _lay_out(
    writer: Writer, snapshot: Snapshot, space: str, agreed: list[VectorTable], level: Level
) -> None:
    """Fit a layout to the consensus, and keep it in the place of the last one and its map."""
    keys = _sample(snapshot, agreed, level)
    points = _consensus(snapshot, agreed, keys, level)
    with progress.bar(f"laying out {level}s", geometry.ITERATIONS, "iterations") as advance:
        fitted = geometry.fit(points, SEED, advance)
    settings = {
        "method": "t-SNE" if len(keys) >= geometry.FEW else "PCA",
        "perplexity": geometry.PERPLEXITY,
        "dimension": fitted.points.shape[1],
        "seed": SEED,
        "fitted": len(keys),
    }
    with writer.writing() as connection:
        connection.execute(sa.delete(t.layouts).where(t.layouts.c.level == level))
        connection.execute(
            sa.insert(t.layouts).values(
                level=level,
                space=space,
                models=[str(_side(table)) for table in agreed],
                settings=settings,
            )
        )
        writer.keep_parameters(f"layout/{level}", fitted.to_bytes())
        writer.clear_rows(f"{level}_map")
        writer.delete_rows("layout_points", f"level = '{level}'")
        rows = keys.assign(level=level, x=fitted.xy[:, 0], y=fitted.xy[:, 1])
        _add(writer, "layout_points", rows, point=vector_array(fitted.points))


def _sample(snapshot: Snapshot, tables: list[VectorTable], level: Level) -> pd.DataFrame:
    """The keys of what a layout is fitted to, in an order that only their content decides."""
    names = PRIMARY_KEY[level]
    keys = pd.concat([_keys(snapshot.points(table), level) for table in tables])
    keys = keys.drop_duplicates()
    hashes = snapshot.frame("SELECT id AS structure_id, content_hash FROM catalog.main.structures")
    keys = keys.merge(hashes, on="structure_id").sort_values(["content_hash", *names])
    if len(keys) > FITTED:
        text = keys[names].astype(str).agg(":".join, axis=1)
        keys = keys.iloc[np.sort(random_rows(text.to_numpy(), FITTED, SEED))]
    return keys[names].reset_index(drop=True)


def _keys(points: Points, level: Level) -> pd.DataFrame:
    """Of its distinct points, in their order."""
    frame: pd.DataFrame = points.keys.select(PRIMARY_KEY[level]).to_pandas()
    return frame[points.is_distinct]


def _consensus(
    snapshot: Snapshot, tables: list[VectorTable], keys: pd.DataFrame, level: Level
) -> np.ndarray:
    """(n, D) float32 of unit length: the mean of the models that have each of the keys."""
    wanted = _index(keys)
    total = np.zeros((len(keys), tables[0].dim), dtype=np.float32)
    for table in tables:
        points = snapshot.points(table)
        place = wanted.get_indexer(_index(_keys(points, level)))
        rows = np.flatnonzero(points.is_distinct)[place >= 0]
        total[place[place >= 0]] += unit32(points.vectors[rows])
    return unit32(total)


def _index(keys: pd.DataFrame) -> Any:
    if len(keys.columns) == 1:
        return pd.Index(keys.iloc[:, 0])
    return pd.MultiIndex.from_frame(keys)


def _bring_up_to_date(
    writer: Writer,
    snapshot: Snapshot,
    tables: list[VectorTable],
    level: Level,
    cluster: Cluster | None,
) -> list[Mapped]:
    """Place what each model, and then the consensus, has not on the map yet."""
    place = calls(geometry.place, lookup.layout(writer.snapshot(), level), cluster)
    with writer.reading() as connection:
        query = sa.select(t.layouts.c.models).where(t.layouts.c.level == level)
        named = set(connection.scalar(query) or [])
    agreed = [table for table in tables if str(_side(table)) in named]
    todo = [
        (table, _missing(writer, snapshot.points(table), _side(table), level)) for table in tables
    ]
    settled = _mapped(writer, level, CONSENSUS)
    done = []
    total = sum(len(keys) for _, keys in todo)
    with progress.bar(f"placing {level}s", total, f"{level}s") as advance:
        for table, keys in todo:
            vectors = snapshot.points(table).vectors

            def seen(part: pd.DataFrame, vectors: np.ndarray = vectors) -> np.ndarray:
                return place(vectors[part.index])

            for part, xy in one_by_one(seen, _chunks(keys), cluster):
                # One more model sees them, which moves the consensus: it is placed again below.
                moved = settled.intersection(part["structure_id"]) if table in agreed else set()
                with writer.writing():
                    _add_places(writer, level, part, xy, *_side(table))
                    if moved:
                        _forget(writer, level, moved)
                writer.publish_if_due()
                settled -= moved
                advance(len(part))
            done.append(Mapped(level, table.model, text_of(table.layer), len(keys)))
    done.append(_place_consensus(writer, snapshot, place, agreed, level, cluster))
    return done


def _mapped(writer: Writer, level: Level, model: str, layer: int | None = None) -> set[str]:
    """The ids of the structures on a model's map."""
    query = sa.text(
        f"SELECT DISTINCT structure_id FROM {level}_map "
        "WHERE model = :model AND layer IS NOT DISTINCT FROM CAST(:layer AS INTEGER)"
    )
    with writer.reading() as connection:
        return set(connection.scalars(query, {"model": model, "layer": layer}))


def _forget(writer: Writer, level: Level, ids: set[str]) -> None:
    """Take structures off the consensus's map."""
    condition = f"model = '{CONSENSUS}' AND structure_id IN ({literals(sorted(ids))})"
    writer.delete_rows(f"{level}_map", condition)


def _missing(writer: Writer, points: Points, side: ModelLayer, level: Level) -> pd.DataFrame:
    """The keys of a model's distinct points that are not on its map, by their row."""
    keys = _keys(points, level)
    return keys[~keys["structure_id"].isin(_mapped(writer, level, *side))]


def _place_consensus(
    writer: Writer,
    snapshot: Snapshot,
    place: Callable[[np.ndarray], np.ndarray],
    agreed: list[VectorTable],
    level: Level,
    cluster: Cluster | None,
) -> Mapped:
    done = _mapped(writer, level, CONSENSUS)
    keys = pd.concat([_keys(snapshot.points(table), level) for table in agreed])
    keys = keys[~keys["structure_id"].isin(done)].drop_duplicates().reset_index(drop=True)

    def seen(part: pd.DataFrame) -> np.ndarray:
        return place(_consensus(snapshot, agreed, part, level))

    with progress.bar(f"placing {level}s of the consensus", len(keys), f"{level}s") as advance:
        for part, xy in one_by_one(seen, _chunks(keys), cluster):
            with writer.writing():
                _add_places(writer, level, part, xy, CONSENSUS, None)
            writer.publish_if_due()
            advance(len(part))
    return Mapped(level, CONSENSUS, None, len(keys))


def _chunks(keys: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Whole structures, some CHUNK of points at a time."""
    keys = keys.sort_values(list(keys.columns))
    structure = pd.factorize(keys["structure_id"])[0]
    bounds = [*np.unique(np.searchsorted(structure, structure[::CHUNK])), len(keys)]
    for start, end in pairwise(bounds):
        yield keys.iloc[start:end]


def _add_places(
    writer: Writer, level: Level, keys: pd.DataFrame, xy: np.ndarray, model: str, layer: int | None
) -> None:
    rows = keys.assign(model=model, x=xy[:, 0], y=xy[:, 1])
    _add(writer, f"{level}_map", rows, layer=pa.array([layer] * len(keys), pa.int32()))


def _add(writer: Writer, table: str, rows: pd.DataFrame, **columns: pa.Array) -> None:
    """Add rows, and what a frame cannot hold, to a table; columns it lacks are NULL."""
    made = pa.Table.from_pandas(rows, preserve_index=False)
    for name, values in columns.items():
        made = made.append_column(name, values)
    for field in bulk.SCHEMAS[table]:
        if field.name not in made.column_names:
            made = made.append_column(field.name, pa.nulls(len(rows), field.type))
    writer.add_rows(table, made.select(bulk.SCHEMAS[table].names).cast(bulk.SCHEMAS[table]))
