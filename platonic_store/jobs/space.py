"""The shared spaces that anchors span, and how a new one is agreed on.

A space is a recipe and an anchor set; a model enters it by a projection, which is fitted on the
model's own embeddings of the anchors and stored whole, so that tomorrow's structure lands where
today's would have. A space of the recipe `aligned` is also a consensus about its anchors, which the
models that were there when it was made reached together, and which is stored, as is a sample of
their coordinates that hubs are measured by: who comes later joins it and moves nobody.
"""

import hashlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import NamedTuple, cast

import numpy as np
import sqlalchemy as sa

from platonic_store import progress
from platonic_store.errors import AnchorsNotFound, Call, InvalidQuery
from platonic_store.geometry import hubs
from platonic_store.geometry.consensus import choose, consensus, join
from platonic_store.geometry.projection import Projection, Recipe, fit
from platonic_store.jobs import hub_sample
from platonic_store.jobs.anchors import AnchorSet, anchor_embeddings, newest_anchors
from platonic_store.storage import lookup
from platonic_store.storage import tables as t
from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.writer import Writer

# Fitted to one model at a time; ALIGNED to all trained models that are there.
RECIPES = ("cosine", "centred", "whitened")
ALIGNED = "aligned"


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
            found[side] = anchored(snapshot, side, anchor_set)
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
    if targets is not None:
        _keep(writer, space, embeddings)
    return space


def _keep(writer: Writer, space: Space, embeddings: Mapping[ModelLayer, np.ndarray]) -> None:
    """Keep what a space of these embeddings of the anchors is: its targets, its sample of hubs."""
    fitted = {side: space.fit(rows) for side, rows in embeddings.items()}
    with progress.counting("sampling coordinates", "models") as advance:
        sample = hub_sample.draw(writer.snapshot(), fitted)
        advance(len(fitted))
    with writer.writing():
        writer.keep_parameters(f"space/{space.id}", _npy(cast(np.ndarray, space.targets)))
        writer.keep_parameters(f"hubs/{space.id}", hubs.to_bytes(sample))


def agreed_again(writer: Writer) -> Iterator[Space]:
    """All spaces; those that are agreed on are computed and kept again, from their anchors.

    The sample of hubs is drawn from what the store holds now.
    """
    snapshot = writer.snapshot()
    known = snapshot.rows(
        "SELECT id, recipe, anchor_set, (agreement->>'penalty')::DOUBLE, "
        "(agreement->>'models')::VARCHAR[] FROM catalog.main.spaces ORDER BY created_at"
    )
    for id_, recipe, anchors, penalty, models in known:
        space = Space(id_, recipe, newest_anchors(snapshot, anchors))
        if penalty is not None:
            sides = [lookup.model_layer(snapshot, name) for name in models]
            embeddings = {side: anchored(snapshot, side, space.anchors) for side in sides}
            targets = consensus(list(embeddings.values()), penalty)
            space = space._replace(targets=targets, penalty=penalty)
            _keep(writer, space, embeddings)
        yield space


def anchored(snapshot: Snapshot, side: ModelLayer, anchor_set: AnchorSet) -> np.ndarray:
    """A model's embeddings of the anchors. Raises: AnchorsNotFound."""
    return anchor_embeddings(snapshot, lookup.vector_table(snapshot, side, "atom"), anchor_set)


def hub_rows(snapshot: Snapshot, space: str, model: str) -> dict[Level, np.ndarray] | None:
    """The sample that a model's hub scores are measured by: what the others of a space see.

    None where the space has none: it is no consensus, or was made by 0.1.
    """
    content = lookup.parameters(snapshot, f"hubs/{space}")
    if content is None:
        return None
    ((agreed,),) = snapshot.rows(
        "SELECT (agreement->>'models')::VARCHAR[] FROM catalog.main.spaces WHERE id = ?", [space]
    )
    names = [side.rpartition("@")[0] for side in agreed]
    own = names.index(model) if model in names else None
    samples = hubs.from_bytes(content)
    return {"atom": samples["atom"].without(own), "structure": samples["structure"].without(own)}


def _npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
