"""The same structures as one model and all others embed them, to see where it differs."""

from typing import NamedTuple

import pandas as pd

from platonic_store.errors import Call, InvalidQuery
from platonic_store.questions.shared.pairing import PairedEmbeddings, paired_embeddings
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

STRUCTURES = 5_000  # compared at most
CAVEAT = "bias is to differ from the other models, not to be wrong: the others may share an error"


class OneAgainstOthers(NamedTuple):
    """The same structures as several models embed them; sides[0] is the model in question."""

    sides: list[ModelLayer]
    paired: PairedEmbeddings
    crystals: pd.DataFrame


def one_against_others(
    snapshot: Snapshot, model: str | None, *, structures: int = STRUCTURES, seed: int = 0
) -> OneAgainstOthers:
    """A sample of the structures that all models embedded; controls are not among the others.

    Raises: ModelNotFound, LayerNotFound, InvalidQuery if there is no other model.
    """
    side = lookup.model_layer(snapshot, model)
    names = [name for name in snapshot.trained_models if name != side.model]
    if not names:
        raise InvalidQuery(
            f"there is no model to compare {side.model} with", Call("ingest", models=["NAME"])
        )
    sides = [side, *(lookup.model_layer(snapshot, name) for name in names)]
    paired = paired_embeddings(snapshot, sides, "structure", sample=structures, seed=seed)
    crystals = snapshot.frame(
        "SELECT structure_id, formula, elements, spacegroup, numbers, positions, cell, pbc "
        "FROM catalog.main.structures JOIN crystals ON structure_id = id "
        "WHERE id IN (SELECT unnest(?)) ORDER BY id",
        [paired.keys["structure_id"].tolist()],
    )
    return OneAgainstOthers(sides, paired, crystals)
