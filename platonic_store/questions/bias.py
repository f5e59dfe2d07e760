"""Bias: the elements and symmetries where one model's neighbourhoods differ from all others'.

It says where a model is unlike the others, not that it is wrong there: the others may share an
error.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from platonic_store import progress
from platonic_store.errors import InvalidQuery
from platonic_store.geometry import bias as geometry
from platonic_store.geometry.neighbours import nearest_others
from platonic_store.geometry.typicality import conformal_p
from platonic_store.questions.shared.pairing import PairedEmbeddings, paired_embeddings
from platonic_store.storage.snapshot import ModelLayer, Snapshot

BY = ("element", "group", "spacegroup", "crystal_system", "dimensionality")
CAVEAT = "bias is to differ from the other models, not to be wrong: the others may share an error"
STRUCTURES = 5_000  # compared at most
FEWEST = 10  # structures of a group
MERGED_AMONG = 5  # nearest neighbours
_SYSTEMS = ["triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal"]
_LAST_GROUP = [2, 15, 74, 142, 167, 194]
_BONDED = 1.15  # times the sum of covalent radii


class Compared(NamedTuple):
    """The same structures as several models see them; sides[0] is the model in question."""

    sides: list[ModelLayer]
    same: PairedEmbeddings
    crystals: pd.DataFrame


def gather(
    snapshot: Snapshot, model: str | None = None, *, structures: int = STRUCTURES, seed: int = 0
) -> Compared:
    """What `bias` and `merged` compute with: a sample of the structures that all models embedded.

    Models are compared at the layer named (`MODEL@LAYER`) or their default one; controls are not
    among the others.

    Raises: ModelNotFound, LayerNotFound, InvalidQuery if there is no other model.
    """
    side = snapshot.model_layer(model)
    names = [n for n in snapshot.models() if n != side.model and not n.startswith("control:")]
    if not names:
        raise InvalidQuery(
            f"there is no model to compare {side.model} with: "
            "run `platonic-store ingest --model NAME` with another"
        )
    sides = [side, *(snapshot.model_layer(name) for name in names)]
    same = paired_embeddings(snapshot, sides, "structure", sample=structures, seed=seed)
    crystals = snapshot.frame(
        "SELECT id, formula, elements, spacegroup, numbers, positions, cell, pbc "
        "FROM catalog.main.structures WHERE id IN (SELECT unnest(?)) ORDER BY id",
        [same.keys["structure_id"].tolist()],
    )
    return Compared(sides, same, crystals)


def bias(compared: Compared, *, by: Sequence[str] = BY, k: int = 10, seed: int = 0) -> pd.DataFrame:
    """A row for each element, group, … with at least ten structures, the most deviant first.

    A structure's deviation is how much less of its k nearest structures the model shares with the
    others than those share among each other (with one other model: how little it shares). The
    frame has model, kind, value, structures, overlap (with the others), overlap_others (of those),
    effect (the group's mean deviation, less that of all, in standard deviations), p and p_any
    (adjusted for the number of groups), both by permutation.

    Raises: InvalidQuery for an unknown `by`, or too few structures.
    """
    if unknown := set(by) - set(BY):
        raise InvalidQuery(f"no such grouping {min(unknown)!r}: choose of {', '.join(BY)}")
    n = len(compared.crystals)
    if not 1 <= k < n:
        raise InvalidQuery(f"{k} neighbours among {n} structures: ask for fewer with `-k`")
    neighbours = [nearest_others(rows, k)[0] for rows in compared.same.vectors]
    own, others = geometry.deviation(neighbours, 0)
    deviation = np.where(np.isnan(others), 0, others) - own
    groups = _groups(compared.crystals, by)
    if not groups:
        raise InvalidQuery(f"no group of {FEWEST} among {n} structures: ingest more")
    members = np.stack(list(groups.values()))
    found = geometry.group_effects(deviation, members, seed=seed)
    frame = pd.DataFrame(list(groups), columns=["kind", "value"])
    frame.insert(0, "model", str(compared.sides[0]))
    sizes = members.sum(1)
    frame = frame.assign(
        structures=sizes,
        overlap=members @ own / sizes,
        overlap_others=members @ others / sizes,
        **found._asdict(),
    )
    order = frame.assign(effect=-frame["effect"]).sort_values(["effect", "kind", "value"]).index
    return frame.loc[order].reset_index(drop=True)


def merged(compared: Compared, *, k: int = 20) -> pd.DataFrame:
    """The k pairs of structures that the model merges and every other model tells apart.

    Pairs are those among each other's five nearest to the model. `distance` is how far they are to
    it, and `elsewhere` to whichever other model they are nearest, both in that model's median
    distance of nearest neighbours; `effect` is log10 of elsewhere over distance. The null makes
    each of the others the model in question: p is the share of the pairs so found with as large
    an effect.
    """
    vectors = compared.same.vectors
    around = [nearest_others(rows, MERGED_AMONG) for rows in vectors]
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
            "id": one["id"].to_numpy(),
            "other": other["id"].to_numpy(),
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


def _groups(crystals: pd.DataFrame, by: Sequence[str]) -> dict[tuple[str, str], np.ndarray]:
    """(by, value) → (n,) bool, for values with enough structures, in order."""
    labels = {name: _LABELS[name](crystals) for name in by}
    groups = {}
    for name in by:
        for value in sorted({value for values in labels[name] for value in values}):
            is_one = np.array([value in values for values in labels[name]])
            if FEWEST <= is_one.sum() < len(is_one):
                groups[name, value] = is_one
    return groups


def _of_spacegroup(crystals: pd.DataFrame, name: Callable[[int], str]) -> list[list[str]]:
    return [[] if pd.isna(g) else [name(int(g))] for g in crystals["spacegroup"]]


def crystal_system(spacegroup: int) -> str:
    """The crystal system of a space group's number."""
    place = np.searchsorted(_LAST_GROUP, spacegroup)
    return "cubic" if place == len(_SYSTEMS) else _SYSTEMS[place]


def _periodic_groups(crystals: pd.DataFrame) -> list[list[str]]:
    from pymatgen.core import Element

    return [
        sorted({str(Element(symbol).group) for symbol in symbols})
        for symbols in crystals["elements"]
    ]


def _dimensionalities(crystals: pd.DataFrame) -> list[list[str]]:
    with progress.bar("bonded networks", len(crystals), "structures") as advance:
        found = []
        for row in crystals.itertuples():
            found.append([f"{dimensionality(row.numbers, row.positions, row.cell, row.pbc)}D"])
            advance(1)
    return found


def dimensionality(numbers, positions, cell, pbc) -> int:
    """0 to 3: in how many directions the bonded network of a crystal goes on.

    Atoms are bonded within 1.15 times the sum of their covalent radii. It is the largest rank of
    a component's periodic cycles (Larsen, Pandey, Strange and Jacobsen, Phys. Rev. Mater. 3,
    034003, 2019).
    """
    from ase import Atoms
    from ase.geometry.dimensionality.rank_determination import RDA
    from ase.neighborlist import natural_cutoffs, neighbor_list

    atoms = Atoms(
        numbers,
        positions=np.reshape(positions, (-1, 3)),
        cell=np.reshape(cell, (3, 3)),
        pbc=pbc,
    )
    network = RDA(len(atoms))
    bonds = neighbor_list("ijS", atoms, natural_cutoffs(atoms, mult=_BONDED))
    for i, j, shift in zip(*bonds, strict=True):
        if i <= j:
            network.insert_bond(int(i), int(j), tuple(int(s) for s in shift))
    histogram = network.check()
    return max(d for d, count in enumerate(histogram) if count)


_LABELS: dict[str, Callable[[pd.DataFrame], list[list[str]]]] = {
    "element": lambda crystals: crystals["elements"].map(list).tolist(),
    "group": _periodic_groups,
    "spacegroup": lambda crystals: _of_spacegroup(crystals, str),
    "crystal_system": lambda crystals: _of_spacegroup(crystals, crystal_system),
    "dimensionality": _dimensionalities,
}
