"""Projecting models into a space: their coordinates, of atoms and of structures."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from platonic_store import progress
from platonic_store.arrow import vector_array
from platonic_store.engines.cluster import Cluster
from platonic_store.engines.parts import calls, one_by_one
from platonic_store.errors import AnchorsNotFound
from platonic_store.geometry.hubs import Sample, hubness
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.geometry.projection import Projection, project
from platonic_store.jobs.anchors import anchor_embeddings
from platonic_store.jobs.chunks import missing_chunks, rows_of_chunk
from platonic_store.jobs.space import Space, agreed_again, hub_rows
from platonic_store.runtimes.threads import ahead
from platonic_store.storage import commits, lookup
from platonic_store.storage import tables as t
from platonic_store.storage.layer_sets import text_of
from platonic_store.storage.layout import HUB, Level, Points, schema
from platonic_store.storage.side_points import side_points
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.writer import Writer

AT_ONCE = 4_096  # atoms that a thread projects


class Projected(NamedTuple):
    """One model brought up to date in a space."""

    space: str
    model: str
    layer: str  # or several, as `0+1`
    new_atoms: int


def project_models(
    writer: Writer,
    space: Space,
    sides: Iterable[ModelLayer],
    cluster: Cluster | None = None,
    *,
    may_lack: bool = False,
) -> list[Projected]:
    """Bring models up to date in a space, also where one of them lacks anchors.

    may_lack: then that one is left out with a remark.

    Raises: AnchorsNotFound, when the others are done.
    """
    done: list[Projected] = []
    lacking: list[AnchorsNotFound] = []
    for side in sides:
        try:
            done.append(project_model(writer, space, side, cluster))
        except AnchorsNotFound as error:
            lacking.append(error)
    if lacking and not (may_lack and done):
        raise lacking[0]
    for reason in lacking:
        progress.say(f"left out: {reason}")
    return done


def project_model(
    writer: Writer, space: Space, side: ModelLayer, cluster: Cluster | None = None
) -> Projected:
    """Bring a model's coordinates in a space up to date; only what is new is computed.

    cluster: whose nodes compute them, in place of this machine.
    """
    snapshot = writer.snapshot()
    try:
        fitted = lookup.projection(snapshot, space.id, side)
    except AnchorsNotFound:
        fitted = space.fit(anchor_embeddings(snapshot, side, space.anchors))
        _save_projection(writer, space, side, fitted)
    new_atoms = _project_missing(writer, snapshot, space.id, side, fitted, cluster)
    return Projected(space.id, side.model, text_of(side.layer), new_atoms)


def project_again(writer: Writer, space: str, side: ModelLayer) -> int:
    """Compute the coordinates that a space lacks by its stored projection; returns how many."""
    snapshot = writer.snapshot()
    fitted = lookup.projection(snapshot, space, side)
    return _project_missing(writer, snapshot, space, side, fitted)


def fit_again(writer: Writer) -> int:
    """Compute the parameters of all spaces and projections from the anchors, as they were.

    Returns how many projections there are.
    """
    snapshot = writer.snapshot()
    projected = snapshot.rows("SELECT space, model, layer FROM catalog.main.projections")
    for space in agreed_again(writer):
        with writer.writing():
            for side in (ModelLayer(*row[1:]) for row in projected if row[0] == space.id):
                fitted = space.fit(anchor_embeddings(snapshot, side, space.anchors))
                writer.keep_parameters(lookup.projection_name(space.id, side), fitted.to_bytes())
    return len(projected)


def _save_projection(writer: Writer, space: Space, side: ModelLayer, fitted: Projection) -> None:
    with writer.writing() as connection:
        if connection.scalar(sa.select(t.spaces.c.id).filter_by(id=space.id)) is None:
            connection.execute(
                sa.insert(t.spaces).values(
                    id=space.id, recipe=space.recipe, anchor_set=space.anchors.id
                )
            )
        connection.execute(sa.insert(t.projections).values(space=space.id, **side._asdict()))
        writer.keep_parameters(lookup.projection_name(space.id, side), fitted.to_bytes())


def _project_missing(
    writer: Writer,
    snapshot: Snapshot,
    space: str,
    side: ModelLayer,
    fitted: Projection,
    cluster: Cluster | None = None,
) -> int:
    """Project the chunks that the space lacks; returns how many atoms those hold."""
    dim = fitted.dim
    levels: tuple[Level, ...] = ("atom", "structure")
    sample = hub_rows(snapshot, space, side.model)
    has_hubs = sample is not None
    names = {
        level: commits.ensure_vector_table(
            writer, side.model, side.layer, level, dim, space, hubs=has_hubs, half=True
        )
        for level in levels
    }
    # A task of a cluster has one core; here a chunk at a time takes all cores, and much memory.
    threads = None if cluster is None else 1
    project_chunk = calls(_project_chunk, (fitted, sample, threads), cluster)

    def projected(chunk: int) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        points = side_points(snapshot, side, rows_of_chunk(snapshot, side, chunk))
        return project_chunk((chunk, points))

    groups = missing_chunks(writer, side, names["atom"])
    atoms = sum(sum(group["atom"].values()) for group in groups)
    with progress.bar(f"projecting {side.model}", atoms, "atoms") as advance:
        for group in groups:
            pooled: list[pa.RecordBatch] = []
            done = (made for _, made in one_by_one(projected, group["atom"], cluster))
            coordinates = _coordinates(done, pooled, advance)
            schemas = {level: writer.schema_of(name) for level, name in names.items()}
            streams: dict[Level, Iterator[pa.RecordBatch]] = {
                "atom": (_typed(batch, schemas["atom"]) for batch in coordinates),
                "structure": (_typed(batch, schemas["structure"]) for batch in pooled),
            }
            commits.commit_projection(
                writer,
                {names[level]: rows for level, rows in group.items()},
                {
                    names[level]: pa.RecordBatchReader.from_batches(schemas[level], stream)
                    for level, stream in streams.items()
                },
            )
    if groups:
        writer.publish(maintained=names.values())
    return atoms


def _typed(batch: pa.RecordBatch, target: pa.Schema) -> pa.RecordBatch:
    return batch.select(target.names).cast(target)


def _coordinates(
    done: Iterable[tuple[pa.RecordBatch, pa.RecordBatch]],
    pooled: list[pa.RecordBatch],
    advance: Callable[[float], None],
) -> Iterator[pa.RecordBatch]:
    """Stream the atoms' coordinates, leaving those of their structures in `pooled`."""
    for atoms, structures in done:
        pooled.append(structures)
        advance(atoms.num_rows)
        yield atoms


def _project_chunk(
    given: tuple[Projection, dict[Level, Sample] | None, int | None], part: tuple[int, Points]
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Coordinates of a chunk's atoms, and of its structures: the mean over their atoms.

    given: the projection, what hubs are measured by, and how many threads, all cores if None.
    """
    (fitted, sample, threads), (chunk, points) = given, part
    order = points.keys.to_pandas().sort_values(["structure_id", "site_index"]).index.to_numpy()
    keys, vectors = points.keys.take(order), points.vectors[order]
    ids = keys["structure_id"].to_numpy()
    is_first = np.r_[True, ids[1:] != ids[:-1]]
    owner = np.cumsum(is_first) - 1
    orbit = np.flatnonzero(is_first)[owner] + keys["orbit"].to_numpy()
    coordinates = _coordinates_of(fitted, vectors, orbit, threads)
    of_structures = pa.table({"structure_id": ids[is_first]})
    means = mean_by_structure(coordinates, owner)
    return (
        _rows("atom", chunk, keys, coordinates, sample),
        _rows("structure", chunk, of_structures, means, sample),
    )


def _coordinates_of(
    fitted: Projection, vectors: np.ndarray, orbit: np.ndarray, threads: int | None
) -> np.ndarray:
    """`project`, once for equivalent atoms whose vectors are the same, as most are in half
    precision.

    orbit: (n,) the row of the first of the sites that are equivalent to an atom's.
    """
    row = np.arange(len(vectors))
    orbit = np.minimum(orbit, len(vectors) - 1)  # of a structure that is here in part
    is_same = (orbit[orbit] == orbit) & (vectors == vectors[orbit]).all(axis=1)
    distinct, place = np.unique(np.where(is_same, orbit, row), return_inverse=True)
    coordinates = np.empty((len(distinct), fitted.dim), dtype=np.float32)
    parts = (slice(start, start + AT_ONCE) for start in range(0, len(distinct), AT_ONCE))
    for part, made in ahead(lambda part: project(fitted, vectors[distinct[part]]), parts, threads):
        coordinates[part] = made
    return coordinates if len(distinct) == len(vectors) else coordinates[place]


def _rows(
    level: Level,
    chunk: int,
    keys: pa.Table,
    vectors: np.ndarray,
    sample: dict[Level, Sample] | None,
) -> pa.RecordBatch:
    columns = {name: keys[name] for name in keys.column_names}
    columns["chunk_id"] = pa.array(np.full(len(keys), chunk))
    columns["vector"] = vector_array(vectors)
    if sample is not None:
        columns[HUB] = hubness(vectors, sample[level])
    rows = pa.table(columns).cast(schema(level, vectors.shape[1], hubs=sample is not None))
    return rows.combine_chunks().to_batches()[0]
