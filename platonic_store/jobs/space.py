"""The shared spaces that anchors span, and how a new one is agreed on.

A space is a recipe and an anchor set; a model enters it by a projection, which is fitted on the
model's own embeddings of the anchors and stored whole, so that tomorrow's structure lands where
today's would have. A space of the recipe `aligned` is also a consensus about its anchors, which the
models that were there when it was made reached together, and which is stored, as is a sample of
their coordinates that hubs are measured by: who comes later joins it and moves nobody. A space of
the recipe `alone` is the same of a few models that are named: a pair tells more of its atoms apart
than all models agree on.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BytesIO
from typing import NamedTuple, cast

import numpy as np
import sqlalchemy as sa

from platonic_store import progress
from platonic_store.errors import AnchorsNotFound, Call, InvalidQuery
from platonic_store.geometry import hubs
from platonic_store.geometry.consensus import (
    DIMENSION,
    LIKE_THE_CONSENSUS,
    Joining,
    choose,
    consensus,
    join,
    joining_with,
    refine,
)
from platonic_store.geometry.projection import Projection, Recipe, fit, side_by_side
from platonic_store.jobs import hub_sample
from platonic_store.jobs.anchors import AnchorSet, anchor_embeddings, newest_anchors
from platonic_store.storage import lookup
from platonic_store.storage import tables as t
from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.writer import Writer

# Fitted to one model at a time; ALIGNED to all trained models that are there, ALONE to those named.
RECIPES = ("cosine", "centred", "whitened")
ALIGNED = "aligned"
ALONE = lookup.ALONE


class Space(NamedTuple):
    """A shared space: `targets` is what models are mapped to where they agreed on something.

    sides: the models that agreed, each with the layers that the space takes of it. joining: how
    models join.
    """

    id: str
    recipe: str
    anchors: AnchorSet
    targets: np.ndarray | None = None
    penalty: float | None = None
    sides: tuple[ModelLayer, ...] = ()
    joining: Joining = Joining()

    def fit(self, anchors: list[np.ndarray]) -> Projection:
        """The projection of a side from its (K, D) embeddings of the anchors, a matrix a layer.

        Raises: InvalidQuery for several layers where the recipe takes one.
        """
        if self.targets is not None and self.penalty is not None:
            return join(anchors, self.targets, self.penalty, self.joining)
        recipe = "whitened" if self.recipe in (ALIGNED, ALONE) else self.recipe
        if len(anchors) > 1:
            raise InvalidQuery(f"the recipe {recipe!r} takes one layer", "name one of the layers")
        return fit(cast(Recipe, recipe), anchors[0])

    def side_of(self, snapshot: Snapshot, text: str) -> ModelLayer:
        """What the space takes of a model: as MODEL@LAYER says, as it agreed, or by default.

        Raises: ModelNotFound, LayerNotFound, InvalidQuery.
        """
        side = lookup.model_layer(snapshot, text)
        if "@" in text:
            return side
        if any((one.space, one.model) == (self.id, side.model) for one in snapshot.tables):
            return lookup.side_in(snapshot, self.id, text)
        agreed = (one for one in self.sides if one.model == side.model)
        by_default = side if self.targets is None else lookup.default_set(snapshot, side.model)
        return next(agreed, by_default)


def open_space(
    writer: Writer,
    recipe: str | None = None,
    anchors: str | None = None,
    models: Iterable[str] = (),
) -> Space:
    """The space of a recipe and an anchor set; where it is new and a consensus, it is agreed on.

    Without a recipe `aligned`, or `whitened` while fewer than two trained models are there.

    models: of those written MODEL@LAYER a new space takes these layers, of all others those that
        serve best. Of the recipe `alone` they are those that agree.
    """
    if recipe not in (None, ALIGNED, ALONE, *RECIPES):
        raise InvalidQuery(
            f"there is no recipe {recipe!r}",
            f"choose one of {', '.join((*RECIPES, ALIGNED, ALONE))}",
        )
    snapshot = writer.snapshot()
    anchor_set = newest_anchors(snapshot, anchors)
    alone = _named(snapshot, models) if recipe == ALONE else []
    known = _agreed_space(snapshot, anchor_set, alone)
    if known and recipe in (None, ALIGNED, ALONE):
        return known
    named = [lookup.model_layer(snapshot, text) for text in models if "@" in text]
    options = [] if recipe in RECIPES else _options(snapshot, anchor_set, named, alone)
    embeddings = max(options, key=len, default={})
    formulas = snapshot.describe(anchor_set.atoms["structure_id"].unique().tolist())
    if recipe is None:
        recipe = ALIGNED if len(embeddings) > 1 and anchor_set.k >= 4 else "whitened"
    if recipe in RECIPES:
        return Space(f"{recipe}-{anchor_set.k}-{anchor_set.id[:8]}", recipe, anchor_set)
    if len(embeddings) < 2 or anchor_set.k < 4:
        raise InvalidQuery(
            f"recipe {recipe!r} needs two trained models that have embedded the anchors, and at "
            f"least 4 of these; here are {len(embeddings)} and {anchor_set.k}",
            Call("ingest", models=["MODEL"]),
            "choose the recipe 'whitened'",
        )
    compositions = anchor_set.atoms["structure_id"].map(
        formulas.set_index("structure_id")["formula"]
    )
    return _agree(writer, recipe, anchor_set, options, compositions.to_numpy())


def _named(snapshot: Snapshot, models: Iterable[str]) -> list[str]:
    """The models of a space of their own. Raises: InvalidQuery if there are not two."""
    names = sorted({lookup.model_layer(snapshot, text).model for text in models})
    if len(names) < 2:
        raise InvalidQuery(
            f"the recipe {ALONE!r} is of two models or more that are named",
            Call("project", models=["MODEL", "OTHER"], recipe=ALONE),
        )
    return names


def _agreed_space(snapshot: Snapshot, anchor_set: AnchorSet, alone: list[str]) -> Space | None:
    """The newest space of these anchors that models have agreed on, or these models alone."""
    rows = snapshot.rows(
        "SELECT id, recipe, (agreement->>'penalty')::DOUBLE, (agreement->>'models')::VARCHAR[], "
        "agreement->>'joining' FROM catalog.main.spaces "
        "WHERE recipe = ? AND anchor_set = ? ORDER BY created_at DESC",
        [ALONE if alone else ALIGNED, anchor_set.id],
    )
    for id_, recipe, penalty, models, joining in rows:
        sides = tuple(lookup.model_layer(snapshot, text) for text in models)
        if not alone or sorted(side.model for side in sides) == alone:
            content = lookup.parameters(snapshot, f"space/{id_}")
            targets = None if content is None else np.load(BytesIO(content), allow_pickle=False)
            return Space(id_, recipe, anchor_set, targets, penalty, sides, _joining(joining))
    return None


Anchored = dict[ModelLayer, list[np.ndarray]]  # by each layer of a side (K, D)


def _options(
    snapshot: Snapshot, anchor_set: AnchorSet, named: list[ModelLayer], alone: list[str]
) -> list[Anchored]:
    """The anchors as the trained models (no control) see them: by one layer each, and by sets.

    A model comes with what it has embedded all anchors by; `named` sides are taken as they are.
    alone: the models that agree, controls too; by default all trained ones.
    """
    one: Anchored = {}
    sets: Anchored = {}
    for name in alone or sorted(snapshot.trained_models):
        given = [side for side in named if side.model == name]
        single = given[0] if given else lookup.model_layer(snapshot, name)
        several = given[0] if given else lookup.default_set(snapshot, name)
        for side, into in ((single, one), (several, sets)):
            with suppress(AnchorsNotFound):
                into[side] = anchor_embeddings(snapshot, side, anchor_set)
        if several not in sets and single in one:
            sets[single] = one[single]
    return [one] if one.keys() == sets.keys() else [one, sets]


def _agree(
    writer: Writer,
    recipe: str,
    anchor_set: AnchorSet,
    options: list[Anchored],
    compositions: np.ndarray,
) -> Space:
    """Find the consensus of models about the anchors, and keep it with how it was chosen.

    Of several options the one that finds most held-out anchors is taken, of equals the first.
    """
    with progress.counting("agreeing on the anchors", "options") as advance:
        choices = []
        for option in options:
            choices.append(choose(list(map(_rows, option.values())), compositions))
            advance(1)
        best = max(range(len(options)), key=lambda i: max(choices[i].recalls.values(), default=0))
        embeddings = options[best]
        choice = refine(list(map(_rows, embeddings.values())), compositions, choices[best])
        targets = None
        if choice.penalty is not None:
            targets = consensus(list(map(_rows, embeddings.values())), choice.penalty)
    if targets is None:  # the other recipes take one layer
        embeddings = options[0]
    content = b"" if targets is None else _npy(targets)
    digest = hashlib.sha256(anchor_set.id.encode() + content).hexdigest()[:8]
    name = f"{recipe}-{anchor_set.k}-{digest}"
    joining = joining_with(anchor_set.k)
    space = Space(name, recipe, anchor_set, targets, choice.penalty, tuple(embeddings), joining)
    agreement = {
        "models": list(map(str, embeddings)),
        **choice._asdict(),
        "joining": joining._asdict(),
        "dimension": DIMENSION,
    }
    if len(options) > 1:
        agreement["options"] = [
            {"models": list(map(str, option)), "recalls": found.recalls}
            for option, found in zip(options, choices, strict=True)
        ]
    with writer.writing() as connection:
        connection.execute(
            sa.insert(t.spaces).values(
                id=space.id,
                recipe=recipe,
                anchor_set=anchor_set.id,
                agreement=agreement,
            )
        )
    if targets is not None:
        _keep(writer, space, embeddings)
    return space


def _rows(layers: list[np.ndarray]) -> np.ndarray:
    return side_by_side(layers).rows if len(layers) > 1 else layers[0]


def _keep(writer: Writer, space: Space, embeddings: Anchored) -> None:
    """Keep what a space of these embeddings of the anchors is: its targets, its sample of hubs."""
    fitted = {side: space.fit(rows) for side, rows in embeddings.items()}
    with progress.counting("sampling coordinates", "models") as advance:
        sample = hub_sample.draw(writer.snapshot(), fitted)
        advance(len(fitted))
    with writer.writing():
        writer.keep_parameters(f"space/{space.id}", _npy(cast(np.ndarray, space.targets)))
        if sample:
            writer.keep_parameters(f"hubs/{space.id}", hubs.to_bytes(sample))


def agreed_again(writer: Writer) -> Iterator[Space]:
    """All spaces; those that are agreed on are computed and kept again, from their anchors.

    The sample of hubs is drawn from what the store holds now.
    """
    snapshot = writer.snapshot()
    known = snapshot.rows(
        "SELECT id, recipe, anchor_set, (agreement->>'penalty')::DOUBLE, "
        "(agreement->>'models')::VARCHAR[], agreement->>'joining', "
        "coalesce((agreement->>'dimension')::INTEGER, 128) "
        "FROM catalog.main.spaces ORDER BY created_at"
    )
    for id_, recipe, anchors, penalty, models, joining, dimension in known:
        space = Space(id_, recipe, newest_anchors(snapshot, anchors), joining=_joining(joining))
        if penalty is not None:
            sides = [lookup.model_layer(snapshot, name) for name in models]
            embeddings = {side: anchor_embeddings(snapshot, side, space.anchors) for side in sides}
            targets = consensus(list(map(_rows, embeddings.values())), penalty, dimension)
            space = space._replace(targets=targets, penalty=penalty, sides=tuple(sides))
            _keep(writer, space, embeddings)
        yield space


def hub_rows(snapshot: Snapshot, space: str, model: str) -> dict[Level, hubs.Sample] | None:
    """The sample that a model's hub scores are measured by: what the others of a space see.

    None where the space has none: it is no consensus, the store was large, or 0.1 made it.
    """
    content = lookup.parameters(snapshot, f"hubs/{space}")
    if content is None:
        return None
    ((agreed,),) = snapshot.rows(
        "SELECT (agreement->>'models')::VARCHAR[] FROM catalog.main.spaces WHERE id = ?", [space]
    )
    names = [side.rpartition("@")[0] for side in agreed]
    own = names.index(model) if model in names else None
    levels: tuple[Level, ...] = ("atom", "structure")
    return {level: hubs.from_bytes(content, level, own) for level in levels}


def _joining(kept: str | None) -> Joining:
    """How models join a space, by its record: older programs kept the penalty, or nothing."""
    known = json.loads(kept or "1")
    if isinstance(known, dict):
        return Joining(**known)
    return LIKE_THE_CONSENSUS._replace(penalty=known)


def _npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
