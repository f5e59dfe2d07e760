"""The vector of a structure, or of one of its atoms."""

from typing import Annotated

import numpy as np
from annotated_types import Ge

from platonic_store.questions.shared.declaration import Column, value_question
from platonic_store.questions.shared.inputs import query_vector
from platonic_store.questions.shared.parameters import Model, StructureQuery
from platonic_store.storage import lookup
from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import Snapshot


@value_question(Column("embedding", "list<float>", "The vector's components, float32."))
def embedding(
    snapshot: Snapshot,
    query: StructureQuery,
    site: Annotated[int | None, "The atom of this site, from 0; else the structure.", Ge(0)] = None,
    *,
    model: Model = None,
    space: Annotated[str | None, "A shared space's id or recipe; else as embedded."] = None,
) -> np.ndarray:
    """The vector of a structure (the mean of its atoms'), or of one of its atoms.

    Returns: (dim,) float32, in the shared space if one is named.
    Raises: as `similar`.
    """
    side = lookup.model_layer(snapshot, model)
    if space is not None:
        space = lookup.space(snapshot, space, [side.model])
        side = lookup.side_in(snapshot, space, model)
    level: Level = "structure" if site is None else "atom"
    return query_vector(snapshot, query, side, space=space, level=level, site=site).vector
