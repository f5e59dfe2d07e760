"""Pairs of structures that are the same crystal, or all but the same, to a model."""

from typing import Annotated

import pandas as pd
from annotated_types import Ge

from platonic_store.geometry.clusters import close_pairs, connected
from platonic_store.questions.shared.crystals import crystals, same
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.duplicates import WITHIN, pooled_by_element
from platonic_store.questions.shared.parameters import Model, Where
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.watch import check_rows

CAVEAT = (
    "Alike to the model is not the same crystal: polytypes can be nearer than a rattled copy. "
    "Check with StructureMatcher before anything is deleted."
)


@question(
    Column("group", "string", "First structure of those that hang together by pairs."),
    Column("structure_id", "string", "One structure."),
    Column("other", "string", "The other, of the same reduced formula."),
    Column("formula", "string", "Of both."),
    Column("distance", "double", "By the model.", unit="its mean between atoms of one element"),
    Column("nsites", "int32", "Of the one."),
    Column("nsites_other", "int32", "Of the other."),
    Column("spacegroup", "int32", "Of the one."),
    Column("spacegroup_other", "int32", "Of the other."),
    Column("volume_ratio", "double", "Volume by atom of the one over that of the other."),
    caveat=CAVEAT,
)
def near_duplicates(
    snapshot: Snapshot,
    *,
    model: Model = None,
    within: Annotated[
        float, "Largest distance, in the model's mean between atoms of one element.", Ge(0)
    ] = WITHIN,
    check: Annotated[
        bool, "Keep only what pymatgen's StructureMatcher takes for the same."
    ] = False,
    where: Where = None,
) -> pd.DataFrame:
    """All pairs of structures of one reduced formula that a model holds for the same crystal.

    Structures are compared by the mean of each element, so neither the cell nor the order of atoms
    matters. Distances are 1 − cosine in units of the model's mean between two atoms of one element:
    one threshold suits all models. The nearest pairs come first.

    Raises: ModelNotFound, LayerNotFound, InvalidQuery for a condition that is not understood, or if
    no element has two atoms.
    """
    side = lookup.model_layer(snapshot, model)
    whole = pooled_by_element(snapshot, side)
    known = _known(snapshot, where)
    rows = known.index.get_indexer(pd.Index(whole.ids))
    known, vectors = known.iloc[rows[rows >= 0]], whole.vectors[rows >= 0]
    shared = known["formula"].duplicated(keep=False).to_numpy()
    known, vectors = known[shared], vectors[shared]
    kinds = pd.factorize(known["formula"])[0]
    one, other, distance = close_pairs(vectors, kinds, vectors, kinds, within * whole.spread)
    once = one < other
    one, other, distance = one[once], other[once], distance[once] / whole.spread
    check_rows(len(one))
    if check:
        ids = [known.index[one], known.index[other]]
        cells = crystals(snapshot, [*ids[0], *ids[1]])
        kept = same(((cells.get(a), cells.get(b)) for a, b in zip(*ids, strict=True)), len(one))
        one, other, distance = one[kept], other[kept], distance[kept]
    group = connected(len(known), one, other)[one]
    a, b = known.iloc[one].reset_index(), known.iloc[other].reset_index()
    answer = pd.DataFrame(
        {
            "group": known.index[group],
            "structure_id": a["structure_id"],
            "other": b["structure_id"],
            "formula": a["formula"],
            "distance": distance,
            "nsites": a["nsites"],
            "nsites_other": b["nsites"],
            "spacegroup": a["spacegroup"],
            "spacegroup_other": b["spacegroup"],
            "volume_ratio": (a["volume"] / a["nsites"]) / (b["volume"] / b["nsites"]),
        }
    )
    return answer.sort_values(["distance", "structure_id", "other"], ignore_index=True)


def _known(snapshot: Snapshot, where: str | None) -> pd.DataFrame:
    """What is said of each structure that may answer, by id."""
    known = snapshot.frame(
        "SELECT id AS structure_id, formula, nsites, spacegroup, volume "
        "FROM catalog.main.structures ORDER BY id"
    ).set_index("structure_id")
    if where is None:
        return known
    return known[known.index.isin(lookup.matching(snapshot, where, "structure")["structure_id"])]
