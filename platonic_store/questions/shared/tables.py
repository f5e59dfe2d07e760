"""Which vectors a question reads: of one model or two, as embedded or in a shared space."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot


class Between(NamedTuple):
    """The model that sees the query, the one whose vectors answer, and the space they share.

    space: None where one model answers in its own embeddings.
    """

    asking: ModelLayer
    answering: ModelLayer
    space: str | None


def between(
    snapshot: Snapshot, model: str | None, across: str | None, space: str | None
) -> Between:
    """What `model`, `across` and `space` of a question stand for.

    Raises: ModelNotFound, LayerNotFound, AnchorsNotFound.
    """
    asking = lookup.model_layer(snapshot, model)
    answering = lookup.model_layer(snapshot, across) if across else asking
    is_set = len(asking.layers) > 1 or len(answering.layers) > 1
    if across is not None or space is not None or is_set:
        space = lookup.space(snapshot, space, [asking.model, answering.model])
        asking = lookup.side_in(snapshot, space, model)
        answering = lookup.side_in(snapshot, space, across) if across else asking
    return Between(asking, answering, space)


def space_anchors(snapshot: Snapshot, space: str) -> pd.DataFrame:
    """The anchors of a space in their order: structure_id, site_index and formula."""
    return snapshot.frame(
        "SELECT a.structure_id, a.site_index, t.formula FROM catalog.main.spaces AS s "
        "JOIN catalog.main.anchors AS a USING (anchor_set) "
        "JOIN catalog.main.structures AS t ON t.id = a.structure_id WHERE s.id = ? ORDER BY a.rank",
        [space],
    )


def is_anchor(atoms: pd.DataFrame, anchors: pd.DataFrame) -> np.ndarray:
    """(n,) bool: which of some atoms are among the anchors, by structure_id and site_index."""
    keys = ["structure_id", "site_index"]
    wanted = pd.MultiIndex.from_frame(anchors[keys])
    return np.asarray(pd.MultiIndex.from_frame(atoms[keys]).isin(wanted))
