"""Projecting models into a space: their coordinates, of atoms and of structures."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa
import sqlalchemy as sa

from platonic_store import progress
from platonic_store.engines.cluster import Cluster
from platonic_store.engines.parts import calls, cores
from platonic_store.errors import AnchorsNotFound
from platonic_store.geometry.projection import Projection
from platonic_store.jobs.anchors import anchor_embeddings
from platonic_store.jobs.chunks import missing_chunks, rows_of_chunk
from platonic_store.jobs.coordinates import Given, Part, parts_of, project_part
from platonic_store.jobs.space import Space, agreed_again, hub_rows
from platonic_store.runtimes.threads import ahead
from platonic_store.storage import commits, lookup
from platonic_store.storage import tables as t
from platonic_store.storage.layer_sets import text_of
from platonic_store.storage.layout import Level
from platonic_store.storage.side_points import side_points
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.writer import Writer


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
    levels: tuple[Level, ...] = ("atom", "structure")
    sample = hub_rows(snapshot, space, side.model)
    names = {
        level: commits.ensure_vector_table(
            writer,
            side.model,
            side.layer,
            level,
            fitted.dim,
            space,
            hubs=sample is not None,
            half=True,
        )
        for level in levels
    }
    schemas = {level: writer.schema_of(name) for level, name in names.items()}
    work = calls(project_part, Given(fitted, sample, schemas), cluster)
    groups = missing_chunks(writer, side, names["atom"])
    atoms = sum(sum(group["atom"].values()) for group in groups)
    with progress.bar(f"projecting {side.model}", atoms, "atoms") as advance:
        # The next chunk is read, and a group committed, while parts are computed.
        done = ahead(lambda one: work(one[1]), _parts(snapshot, side, groups), cores(cluster))
        for number, made in groupby(done, key=lambda one: one[0][0]):
            streams = _streams((rows for _, rows in made), advance)
            commits.commit_projection(
                writer,
                {names[level]: rows for level, rows in groups[number].items()},
                {
                    names[level]: pa.RecordBatchReader.from_batches(schemas[level], stream)
                    for level, stream in streams.items()
                },
            )
    if groups:
        writer.publish(maintained=names.values())
    return atoms


def _parts(
    snapshot: Snapshot, side: ModelLayer, groups: list[dict[Level, dict[int, int]]]
) -> Iterator[tuple[int, Part]]:
    """The parts of all chunks, with the numbers of their groups; each chunk is read once."""
    for number, group in enumerate(groups):
        for chunk in group["atom"]:
            points = side_points(snapshot, side, rows_of_chunk(snapshot, side, chunk))
            for part in parts_of(chunk, points):
                yield number, part


def _streams(
    made: Iterable[dict[Level, pa.RecordBatch]], advance: Callable[[float], None]
) -> dict[Level, Iterator[pa.RecordBatch]]:
    """The rows of atoms, as they are made, and after those the rows of their structures."""
    pooled: list[pa.RecordBatch] = []

    def atoms() -> Iterator[pa.RecordBatch]:
        for rows in made:
            pooled.append(rows["structure"])
            advance(rows["atom"].num_rows)
            yield rows["atom"]

    return {"atom": atoms(), "structure": iter(pooled)}
