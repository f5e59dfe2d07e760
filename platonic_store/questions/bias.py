"""Where one model's neighbourhoods differ from all others': by element, group, symmetry."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge
from numpy.typing import ArrayLike

from platonic_store import progress
from platonic_store.errors import InvalidQuery
from platonic_store.geometry import bias as geometry
from platonic_store.geometry.neighbours import nearest_others
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.one_against_others import (
    CAVEAT,
    STRUCTURES,
    one_against_others,
)
from platonic_store.questions.shared.parameters import K, Model, Seed
from platonic_store.storage.snapshot import Snapshot

Grouping = Literal["element", "group", "spacegroup", "crystal_system", "dimensionality"]
BY: tuple[Grouping, ...] = ("element", "group", "spacegroup", "crystal_system", "dimensionality")
FEWEST = 10  # structures of a group
_SYSTEMS = ["triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal"]
_LAST_GROUP = [2, 15, 74, 142, 167, 194]
_BONDED = 1.15  # times the sum of covalent radii


@question(
    Column("model", "string", "MODEL@LAYER."),
    Column("kind", "string", "By what structures are grouped."),
    Column("value", "string", "The group."),
    Column("structures", "int64", "Structures of the group."),
    Column("overlap", "double", "Share of the k nearest that the model shares with the others."),
    Column("overlap_others", "double", "Share that the others share among each other."),
    Column("effect", "double", "Mean deviation of the group, less that of all.", unit="std. dev."),
    Column("p", "double", "Of the effect, by permutation."),
    Column("p_any", "double", "Adjusted for the number of groups."),
    caveat=CAVEAT,
)
def bias(
    snapshot: Snapshot,
    *,
    model: Model = None,
    by: Annotated[Sequence[Grouping], "What groups the structures."] = BY,
    k: K = 10,
    structures: Annotated[int, "Structures to compare, at most.", Ge(2)] = STRUCTURES,
    seed: Seed = 0,
) -> pd.DataFrame:
    """Elements, groups, symmetries and dimensionalities where a model differs from all others.

    A row for each with at least ten structures, the most deviant first. A structure's deviation is
    how much less of its k nearest structures the model shares with the others than those share
    among each other (with one other model: how little it shares). To differ is not to be wrong:
    the others may share an error. Controls are not among the others.

    Raises: ModelNotFound, LayerNotFound, InvalidQuery if there is no other model or are too few
    structures.
    """
    compared = one_against_others(snapshot, model, structures=structures, seed=seed)
    n = len(compared.crystals)
    if k >= n:
        raise InvalidQuery(f"{k} neighbours among {n} structures", "ask for fewer")
    neighbours = [nearest_others(rows, k)[0] for rows in compared.paired.vectors]
    own, others = geometry.deviation(neighbours, 0)
    deviation = np.where(np.isnan(others), 0, others) - own
    groups = _groups(compared.crystals, by)
    if not groups:
        raise InvalidQuery(f"no group of {FEWEST} among {n} structures", "ingest more")
    members = np.stack(list(groups.values()))
    found = geometry.group_effects(deviation, members, seed=seed)
    sizes = members.sum(1)
    frame = pd.DataFrame(list(groups), columns=["kind", "value"]).assign(
        model=str(compared.sides[0]),
        structures=sizes,
        overlap=members @ own / sizes,
        overlap_others=members @ others / sizes,
        **found._asdict(),
    )
    order = frame.assign(effect=-frame["effect"]).sort_values(["effect", "kind", "value"]).index
    return frame.loc[order].reset_index(drop=True)


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
        for row in crystals[["numbers", "positions", "cell", "pbc"]].to_numpy():
            found.append([f"{dimensionality(*row)}D"])
            advance(1)
    return found


def dimensionality(
    numbers: ArrayLike, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike
) -> int:
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
