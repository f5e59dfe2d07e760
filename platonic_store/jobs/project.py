"""The shared spaces that anchors span.

A space is a recipe and an anchor set; a model enters it by a projection, which is fitted on the
model's own embeddings of the anchors and stored whole, so that tomorrow's structure lands where
today's would have. A space of the recipe `aligned` is also a consensus about its anchors, which the
models that were there when it was made reached together, and which is stored: who comes later
joins it and moves nobody.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BytesIO
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from platonic_store import progress
from platonic_store.arrow import vector_array
from platonic_store.errors import AnchorsNotFound, Call, InvalidQuery
from platonic_store.geometry.consensus import choose, consensus, join
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.geometry.projection import Projection, Recipe, fit, project
from platonic_store.jobs.anchors import AnchorSet, anchor_embeddings, newest_anchors
from platonic_store.storage import commits, lookup
from platonic_store.storage import tables as t
from platonic_store.storage.layout import Level, Points, schema, table_name
from platonic_store.storage.snapshot import ModelLayer, Snapshot, VectorTable
from platonic_store.storage.writer import Writer

# Fitted to one model at a time; ALIGNED to all trained models that are there.
RECIPES = ("cosine", "centred", "whitened")
ALIGNED = "aligned"
_GROUP_ROWS = 200_000


class Space(NamedTuple):
    """A shared space: `targets` is what models are mapped to where they agreed on something."""

    id: str
    recipe: str
    anchors: AnchorSet
    targets: np.ndarray | None = None
    penalty: float | None = None

    def fit(self, anchors: np.ndarray) -> Projection:
        """The projection of a model from its (K, D) embeddings of the anchors."""
        if self.targets is not None and self.penalty is not None:
            return join(anchors, self.targets, self.penalty)
        return fit(cast(Recipe, "whitened" if self.recipe == ALIGNED else self.recipe), anchors)


class Projected(NamedTuple):
    """One model brought up to date in a space."""

    space: str
    model: str
    layer: int
    new_atoms: int


def open_space(writer: Writer, recipe: str | None = None, anchors: str | None = None) -> Space:
    """The space of a recipe and an anchor set; where it is new and `aligned`, it is agreed on.

    Without a recipe `aligned`, or `whitened` while fewer than two trained models are there.
    """
    if recipe not in (None, ALIGNED, *RECIPES):
        raise InvalidQuery(
            f"there is no recipe {recipe!r}", f"choose one of {', '.join((*RECIPES, ALIGNED))}"
        )
    with writer.snapshot() as snapshot:
        anchor_set = newest_anchors(snapshot, anchors)
        known = _agreed_space(snapshot, anchor_set)
        if known and recipe in (None, ALIGNED):
            return known
        embeddings = {} if recipe in RECIPES else _trained(snapshot, anchor_set)
        formulas = snapshot.describe(anchor_set.atoms["structure_id"].unique().tolist())
    if recipe is None:
        recipe = ALIGNED if len(embeddings) > 1 and anchor_set.k >= 4 else "whitened"
    if recipe != ALIGNED:
        return Space(f"{recipe}-{anchor_set.k}-{anchor_set.id[:8]}", recipe, anchor_set)
    if len(embeddings) < 2 or anchor_set.k < 4:
        raise InvalidQuery(
            "recipe 'aligned' needs two trained models that have embedded the anchors, and at "
            f"least 4 of these; here are {len(embeddings)} and {anchor_set.k}",
            Call("ingest", models=["MODEL"]),
            "choose the recipe 'whitened'",
        )
    compositions = anchor_set.atoms["structure_id"].map(
        formulas.set_index("structure_id")["formula"]
    )
    return _agree(writer, anchor_set, embeddings, compositions.to_numpy())


def _agreed_space(snapshot: Snapshot, anchor_set: AnchorSet) -> Space | None:
    """The newest space of these anchors that models have agreed on."""
    rows = snapshot.rows(
        "SELECT id, (agreement->>'penalty')::DOUBLE FROM catalog.main.spaces "
        "WHERE recipe = ? AND anchor_set = ? ORDER BY created_at DESC LIMIT 1",
        [ALIGNED, anchor_set.id],
    )
    if not rows:
        return None
    id_, penalty = rows[0]
    content = lookup.parameters(snapshot, f"space/{id_}")
    targets = None if content is None else np.load(BytesIO(content), allow_pickle=False)
    return Space(id_, ALIGNED, anchor_set, targets, penalty)


def _trained(snapshot: Snapshot, anchor_set: AnchorSet) -> dict[ModelLayer, np.ndarray]:
    """The anchors as each trained model (no control) sees them that has embedded them all."""
    found = {}
    for name in sorted(snapshot.trained_models):
        side = lookup.model_layer(snapshot, name)
        try:
            found[side] = _anchored(snapshot, side, anchor_set)
        except AnchorsNotFound:
            continue
    return found


def _agree(
    writer: Writer,
    anchor_set: AnchorSet,
    embeddings: Mapping[ModelLayer, np.ndarray],
    compositions: np.ndarray,
) -> Space:
    """Find the consensus of models about the anchors, and keep it with how it was chosen."""
    models = list(embeddings.values())
    with progress.counting("agreeing on the anchors", "models") as advance:
        advance(len(models))
        choice = choose(models, compositions)
        targets = None if choice.penalty is None else consensus(models, choice.penalty)
    content = b"" if targets is None else _npy(targets)
    digest = hashlib.sha256(anchor_set.id.encode() + content).hexdigest()[:8]
    space = Space(
        f"{ALIGNED}-{anchor_set.k}-{digest}", ALIGNED, anchor_set, targets, choice.penalty
    )
    agreement = {"models": [str(side) for side in embeddings], **choice._asdict()}
    with writer.writing() as connection:
        connection.execute(
            sa.insert(t.spaces).values(
                id=space.id,
                recipe=ALIGNED,
                anchor_set=anchor_set.id,
                agreement=agreement,
            )
        )
        if content:
            writer.keep_parameters(f"space/{space.id}", content)
    return space


def _npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def project_model(writer: Writer, space: Space, side: ModelLayer) -> Projected:
    """Bring a model's coordinates in a space up to date; only what is new is computed."""
    snapshot = writer.snapshot()
    source = lookup.vector_table(snapshot, side, "atom")
    try:
        fitted = lookup.projection(snapshot, space.id, side)
    except AnchorsNotFound:
        fitted = space.fit(anchor_embeddings(snapshot, source, space.anchors))
        _save_projection(writer, space, side, fitted)
    new_atoms = _project_missing(writer, snapshot, space.id, source, fitted)
    return Projected(space.id, *side, new_atoms)


def project_again(writer: Writer, space: str, side: ModelLayer) -> int:
    """Compute the coordinates that a space lacks by its stored projection; returns how many."""
    snapshot = writer.snapshot()
    fitted = lookup.projection(snapshot, space, side)
    source = lookup.vector_table(snapshot, side, "atom")
    return _project_missing(writer, snapshot, space, source, fitted)


def fit_again(writer: Writer) -> int:
    """Compute the parameters of all spaces and projections from the anchors, as they were.

    Returns how many projections there are.
    """
    snapshot = writer.snapshot()
    spaces = snapshot.rows(
        "SELECT id, recipe, anchor_set, (agreement->>'penalty')::DOUBLE, "
        "(agreement->>'models')::VARCHAR[] FROM catalog.main.spaces ORDER BY created_at"
    )
    projected = snapshot.rows("SELECT space, model, layer FROM catalog.main.projections")
    for id_, recipe, anchors, penalty, models in spaces:
        anchor_set = newest_anchors(snapshot, anchors)
        targets = None
        if penalty is not None:
            sides = [lookup.model_layer(snapshot, name) for name in models]
            targets = consensus([_anchored(snapshot, side, anchor_set) for side in sides], penalty)
        space = Space(id_, recipe, anchor_set, targets, penalty)
        with writer.writing():
            if targets is not None:
                writer.keep_parameters(f"space/{id_}", _npy(targets))
            for side in (ModelLayer(*row[1:]) for row in projected if row[0] == id_):
                fitted = space.fit(_anchored(snapshot, side, anchor_set))
                writer.keep_parameters(lookup.projection_name(id_, side), fitted.to_bytes())
    return len(projected)


def _anchored(snapshot: Snapshot, side: ModelLayer, anchor_set: AnchorSet) -> np.ndarray:
    return anchor_embeddings(snapshot, lookup.vector_table(snapshot, side, "atom"), anchor_set)


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
    writer: Writer, snapshot: Snapshot, space: str, source: VectorTable, fitted: Projection
) -> int:
    """Project the chunks that the space lacks; returns how many atoms those hold."""
    dim = fitted.dim
    levels: tuple[Level, ...] = ("atom", "structure")
    names = {
        level: commits.ensure_vector_table(writer, source.model, source.layer, level, dim, space)
        for level in levels
    }
    groups = _missing_chunks(writer, source, names["atom"])
    atoms = sum(sum(group["atom"].values()) for group in groups)
    with progress.bar(f"projecting {source.model}", atoms, "atoms") as advance:
        for group in groups:
            pooled: list[pa.RecordBatch] = []
            coordinates = _coordinates(snapshot, source, fitted, group["atom"], pooled, advance)
            streams: dict[Level, Iterator[pa.RecordBatch]] = {
                "atom": coordinates,
                "structure": (batch for batch in pooled),
            }
            commits.commit_projection(
                writer,
                {names[level]: rows for level, rows in group.items()},
                {
                    names[level]: pa.RecordBatchReader.from_batches(schema(level, dim), stream)
                    for level, stream in streams.items()
                },
            )
    if groups:
        writer.publish(maintained=names.values())
    return atoms


def _missing_chunks(
    writer: Writer, source: VectorTable, target: str
) -> list[dict[Level, dict[int, int]]]:
    """The source's chunks that the target lacks: groups of {level: {chunk: rows}}."""
    pooled = table_name(source.model, source.layer, "structure")
    with writer.reading() as connection:
        appends = connection.execute(sa.select(t.table_appends)).all()
    rows = {
        name: {one.chunk_id: one.rows for one in appends if one.table_name == name}
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
    snapshot: Snapshot,
    source: VectorTable,
    fitted: Projection,
    chunks: Iterable[int],
    pooled: list[pa.RecordBatch],
    advance: Callable[[float], None],
) -> Iterator[pa.RecordBatch]:
    """Stream the atoms' coordinates, leaving those of their structures in `pooled`."""
    for chunk in chunks:
        points = snapshot.points(source, f"chunk_id = {chunk}")
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
