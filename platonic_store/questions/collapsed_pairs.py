"""The pairs of structures that one model collapses and every other model tells apart."""

from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Ge

from platonic_store.geometry import bias as geometry
from platonic_store.geometry.neighbours import nearest_others
from platonic_store.geometry.typicality import conformal_p
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.one_against_others import (
    CAVEAT,
    STRUCTURES,
    one_against_others,
)
from platonic_store.questions.shared.parameters import K, Model, Seed
from platonic_store.storage.snapshot import Snapshot

NEIGHBOURS = 5  # pairs are among each other's nearest


@question(
    Column("rank", "int64", "1 has the largest effect."),
    Column("model", "string", "MODEL@LAYER that collapses the pair."),
    Column("structure_id", "string", "One structure."),
    Column("other", "string", "The other."),
    Column("formula", "string", "Of the one."),
    Column("formula_other", "string", "Of the other."),
    Column("spacegroup", "int32", "Of the one."),
    Column("spacegroup_other", "int32", "Of the other."),
    Column("distance", "double", "By the model.", unit="its median nearest distance"),
    Column("elsewhere", "double", "By the other model that has them nearest.", unit="its median"),
    Column("effect", "double", "log10 of elsewhere over distance."),
    Column("p", "double", "Share of other models' pairs with as large an effect."),
    caveat=CAVEAT,
)
def collapsed_pairs(
    snapshot: Snapshot,
    *,
    model: Model = None,
    k: K = 20,
    structures: Annotated[int, "Structures to compare, at most.", Ge(2)] = STRUCTURES,
    seed: Seed = 0,
) -> pd.DataFrame:
    """The k pairs of structures that a model holds for alike and every other model tells apart.

    Pairs are those among each other's five nearest to the model. Distances are in each model's
    median distance of nearest neighbours. The null makes each of the others the model in question.

    Raises: as `bias`.
    """
    compared = one_against_others(snapshot, model, structures=structures, seed=seed)
    vectors = compared.paired.vectors
    around = [nearest_others(rows, NEIGHBOURS) for rows in vectors]
    found = []
    for i, (index, _) in enumerate(around):
        pairs = geometry.mutual_pairs(index)
        all_apart = [
            geometry.closeness(rows, pairs, distance[:, 0])
            for rows, (_, distance) in zip(vectors, around, strict=True)
        ]
        apart = all_apart.pop(i)
        elsewhere = np.min(all_apart, axis=0)
        found.append((pairs, apart, elsewhere, np.log10(elsewhere / apart)))
    pairs, apart, elsewhere, effect = found[0]
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -effect))[:k]
    one, other = (compared.crystals.iloc[pairs[order, end]] for end in (0, 1))
    null = np.concatenate([others for *_, others in found[1:]])
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(order) + 1),
            "model": str(compared.sides[0]),
            "structure_id": one["structure_id"].to_numpy(),
            "other": other["structure_id"].to_numpy(),
            "formula": one["formula"].to_numpy(),
            "formula_other": other["formula"].to_numpy(),
            "spacegroup": one["spacegroup"].to_numpy(),
            "spacegroup_other": other["spacegroup"].to_numpy(),
            "distance": apart[order],
            "elsewhere": elsewhere[order],
            "effect": effect[order],
            "p": conformal_p(effect[order], null),
        }
    )
