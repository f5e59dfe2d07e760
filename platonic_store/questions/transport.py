"""What it takes to move one model's atoms onto another's, together and by element."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from annotated_types import Ge
from ase.data import chemical_symbols

from platonic_store import progress
from platonic_store.errors import InvalidQuery
from platonic_store.geometry import transport as geometry
from platonic_store.geometry.anchors import random_rows
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.questions.shared.parameters import OneModel, Seed, Space
from platonic_store.questions.shared.tables import is_anchor, space_anchors
from platonic_store.runtimes.cores import usable_cores
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

ROUNDING = 1e-6  # of single precision: atoms closer than this are one


class Clouds(NamedTuple):
    """The same atoms in a shared space, as two models place them.

    numbers: (n,) atomic numbers; names: (n,) of the atoms; x, y: (n, K) float32.
    """

    numbers: np.ndarray
    names: np.ndarray
    x: np.ndarray
    y: np.ndarray


@question(
    Column("a", "string", "MODEL@LAYER whose atoms are moved."),
    Column("b", "string", "MODEL@LAYER whose atoms are reached."),
    Column("space", "string", "The shared space."),
    Column("element", "string", "Whose atoms, or `all`."),
    Column("atoms", "int64", "Atoms of each model."),
    Column("cost", "double", "Least mean 1 − cosine at which b's atoms are reached from a's."),
    Column("error", "double", "The least cost lies between cost and cost + error."),
    Column("method", "string", "exact, sinkhorn or sliced."),
    Column("cost_paired", "double", "Cost if every atom goes to itself."),
    Column("cost_chance", "double", "Cost if every atom goes everywhere alike."),
    Column("spread", "double", "Mean 1 − cosine of two atoms of one model."),
    Column("difference", "double", "Cost over spread; missing where all atoms are alike."),
    *(
        Column(f"own_{what}{column}", "double", meaning.format(what))
        for what in ("atom", "element", "group")
        for column, meaning in (
            ("", "Share of mass that stays on its own {}."),
            ("_chance", "That share if all goes everywhere alike, for the {}."),
            ("_null", "Its 95 % point where b's atoms are shuffled, for the {}."),
        )
    ),
    caveat="the cost is no error of either model: where they differ, it does not say who is right",
)
def transport(
    snapshot: Snapshot,
    a: OneModel,
    b: OneModel,
    *,
    space: Space = None,
    atoms: Annotated[int, "Atoms of each model, at most.", Ge(2)] = 2000,
    seed: Seed = 0,
) -> pd.DataFrame:
    """What it takes to move one model's atoms onto another's: a row for all, one for each element.

    Of all atoms that both have in the space, one of each equivalent set, at most `atoms`, the same
    ones for the same content. The space's anchors are left out: that they are where they are in
    both is how it was made. Groups are those of the periodic table (lanthanides and actinides count
    as group 3). The elements that differ most come first.

    Raises: ModelNotFound, LayerNotFound, AnchorsNotFound, InvalidQuery.
    """
    sides = [lookup.model_layer(snapshot, a), lookup.model_layer(snapshot, b)]
    space = lookup.space(snapshot, space, [side.model for side in sides])
    sides = [lookup.side_in(snapshot, space, name) for name in (a, b)]
    clouds = _clouds(snapshot, sides, space, atoms, seed)
    elements = np.unique(clouds.numbers).tolist()
    threads = max(1, min(usable_cores(), (geometry.EXACT // atoms) ** 2 // 2))  # 3 GiB at most
    with (
        progress.bar("transport", len(elements) + 1, "elements") as advance,
        ThreadPoolExecutor(threads) as pool,
    ):
        rows = []
        for row in pool.map(partial(_row, clouds, atoms, seed), [None, *elements]):
            rows.append(row)
            advance(1)
    frame = pd.DataFrame(rows).sort_values("difference", ascending=False, ignore_index=True)
    frame = pd.concat([frame[frame["element"] == "all"], frame[frame["element"] != "all"]])
    frame = frame.assign(a=str(sides[0]), b=str(sides[1]), space=space)
    return frame.reset_index(drop=True)


def _clouds(
    snapshot: Snapshot, sides: list[ModelLayer], space: str, atoms: int, seed: int
) -> Clouds:
    """Enough atoms to choose `atoms` from that are no anchors, of all and of each element."""
    anchors = space_anchors(snapshot, space)
    enough = atoms + len(anchors)
    found = paired_embeddings(
        snapshot, sides, space=space, sample=enough, each_element=True, seed=seed
    )
    free = ~is_anchor(found.keys, anchors)
    if not free.any():
        raise InvalidQuery(f"every atom of the space {space} is an anchor", "ingest more")
    rows = found.keys[free]
    # Not the texts that random anchors are drawn by: the sample would be the anchors.
    names = "sample " + rows["structure_id"] + ":" + rows["site_index"].astype(str)
    x, y = (vectors[free] for vectors in found.vectors)
    return Clouds(rows["atomic_number"].to_numpy(), names.to_numpy(dtype=object), x, y)


def _row(clouds: Clouds, atoms: int, seed: int, number: int | None) -> dict[str, Any]:
    """Of an element's atoms, or of all."""
    members = np.arange(len(clouds.numbers))
    if number is not None:
        members = np.flatnonzero(clouds.numbers == number)
    if len(members) > atoms:
        members = np.sort(members[random_rows(clouds.names[members], atoms, seed)])
    element = "all" if number is None else chemical_symbols[number]
    return {"element": element, **_moved(clouds, members, number is None, seed)}


def _moved(clouds: Clouds, members: np.ndarray, is_mixed: bool, seed: int) -> dict[str, Any]:
    x, y = clouds.x[members], clouds.y[members]
    found = geometry.transport(x, y, seed=seed)
    spread = (geometry.spread(x) + geometry.spread(y)) / 2
    row = {
        "atoms": len(members),
        "cost": found.cost,
        "error": found.error,
        "method": found.method,
        "cost_paired": geometry.cost_paired(x, y),
        "cost_chance": geometry.cost_by_chance(x, y),
        "spread": spread,
        "difference": found.cost / spread if spread > ROUNDING else np.nan,
    }
    numbers = clouds.numbers[members]
    classes = {"own_atom": np.arange(len(members))}
    if is_mixed:
        classes |= {"own_element": numbers, "own_group": _groups(numbers)}
    for name in ("own_atom", "own_element", "own_group"):
        stays = geometry.Share(np.nan, np.nan, np.nan)
        if name in classes:
            stays = geometry.share(found.plan, classes[name], classes[name], seed=seed)
        row |= {name: stays.share, f"{name}_chance": stays.chance, f"{name}_null": stays.null}
    return row


def _groups(numbers: np.ndarray) -> np.ndarray:
    from pymatgen.core import Element

    group = {number: Element.from_Z(int(number)).group for number in np.unique(numbers)}
    return np.array([group[number] for number in numbers])
