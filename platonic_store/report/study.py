"""What a report is about, and what a section of it is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any, NamedTuple

import pandas as pd

from platonic_store.errors import AnchorsNotFound, Call, InvalidQuery
from platonic_store.plots.labels import is_control
from platonic_store.questions.shared.reference_stores import opened
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot


class Study(NamedTuple):
    """What every section speaks of, settled once.

    Attributes:
        store: the store's name.
        snapshot: its state's number.
        sides: a layer of each model, trained models first, then controls.
        shared: what the space takes of those of them that are projected into it.
        space: the shared space's id; None where nothing is projected.
        seed: of everything random.
        reference: a store that structures are held against, by URI or name.
    """

    store: str
    snapshot: int
    sides: list[ModelLayer]
    shared: list[ModelLayer]
    space: str | None
    seed: int
    reference: str | None = None

    @property
    def trained(self) -> list[ModelLayer]:
        """The sides in the space that training had a part in."""
        return [side for side in self.shared if not is_control(side)]

    def pairs(self) -> list[tuple[ModelLayer, ModelLayer]]:
        """Each two trained sides in the space, and the first of them with every control."""
        first = (self.trained or self.shared)[:1]
        rest = [side for side in self.shared if side not in self.trained and side not in first]
        return [*combinations(self.trained, 2), *product(first, rest)]

    def sides_in_space(self, least: int = 1) -> list[ModelLayer]:
        """The sides in the shared space.

        Raises: AnchorsNotFound if there is no space, InvalidQuery with fewer sides than `least`.
        """
        if self.space is None:
            raise AnchorsNotFound(
                "no model is projected into a shared space", Call("select_anchors"), Call("project")
            )
        if len(self.shared) < least:
            raise InvalidQuery(
                f"the space {self.space} holds only {', '.join(map(str, self.shared))}, models "
                "are compared",
                Call("ingest", models=["NAME"]),
                Call("project"),
            )
        return self.shared


@dataclass(frozen=True)
class Figure:
    """A plot, what to see in it and what it is not, and a legend of {name: colour}."""

    plot: Any
    caption: str
    caveat: str = ""
    legend: dict[str, str] = field(default_factory=dict)
    linked: bool = False


class Table(NamedTuple):
    """A frame as the reader sees it."""

    frame: pd.DataFrame
    caption: str


class Comparison(NamedTuple):
    """One measure: of trained models, of the best control in their place, and by chance."""

    measure: str
    trained: float
    control: float | None
    null: float | None


@dataclass(frozen=True)
class Section:
    """One question's answer.

    Attributes:
        lead: the answer in a sentence or two.
        blocks: figures and tables in reading order.
        frames: the numbers, by the name of their parquet file.
        caveat: what the numbers are not.
        findings: computed sentences for the summary at the page's top.
        comparisons: what was measured, for the section on controls.
        skipped_reason: why the question could not be answered here, and what mends it.
        name: the section's anchor in the page.
    """

    title: str
    lead: str = ""
    blocks: Sequence[Figure | Table] = ()
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    caveat: str = ""
    findings: Sequence[str] = ()
    comparisons: Sequence[Comparison] = ()
    skipped_reason: str | None = None
    name: str = ""


def resolve_study(
    snapshot: Snapshot,
    store: str,
    models: list[str] | None,
    space: str | None,
    seed: int,
    reference: str | None = None,
) -> Study:
    """Choose sides and space: those asked for, else every model and the newest fullest space.

    Raises: ModelNotFound, LayerNotFound, AnchorsNotFound; of the reference StoreNotFound,
    StoreUnreachable, InvalidQuery.
    """
    lookup.model(snapshot, None)
    if reference is not None:
        opened(snapshot, reference)
    named = [lookup.model_layer(snapshot, text) for text in models or []]
    space = _space(snapshot, space, [side.model for side in named])
    texts = list(snapshot.models) if models is None else models
    named = named or [lookup.model_layer(snapshot, model) for model in texts]
    sides = sorted(dict.fromkeys(named), key=is_control)
    there = sorted({_side_in(snapshot, space, text): None for text in texts}, key=is_control)
    projected = {table.side for table in snapshot.tables if space and table.space == space}
    shared = [side for side in there if side in projected]
    return Study(store, snapshot.id, sides, shared, space, seed, reference)


def _space(snapshot: Snapshot, name: str | None, models: list[str]) -> str | None:
    """The newest space with all the models or, where none are named, with the most of them."""
    if name is not None or models:
        try:
            return lookup.space(snapshot, name, models)
        except AnchorsNotFound:
            if name is not None:
                raise
    fullest = snapshot.rows(
        "SELECT s.id FROM catalog.main.spaces AS s "
        "JOIN catalog.main.projections AS p ON p.space = s.id WHERE s.recipe != ? "
        "GROUP BY s.id, s.created_at "
        "ORDER BY count(DISTINCT p.model) DESC, s.created_at DESC LIMIT 1",
        [lookup.ALONE],
    )
    return fullest[0][0] if fullest else None


def _side_in(snapshot: Snapshot, space: str | None, model: str) -> ModelLayer:
    """What the space takes of the model, else its default layer."""
    if space is None:
        return lookup.model_layer(snapshot, model)
    return lookup.side_in(snapshot, space, model)
