"""Transport: what it takes to move one model's atoms onto another's, or two crystals'."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from ase.data import chemical_symbols

from platonic_store import progress
from platonic_store.errors import InvalidQuery
from platonic_store.geometry import transport as geometry
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.sets import set_distance
from platonic_store.questions.shared.inputs import ExternalStructure, atom_set
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.storage.snapshot import Snapshot

ROUNDING = 1e-6  # of single precision: atoms closer than this are one


_NO_ANCHOR = (
    "(structure_id, site_index) NOT IN (SELECT (a.structure_id, a.site_index) "
    "FROM catalog.main.anchors AS a JOIN catalog.main.spaces AS s USING (anchor_set) "
    "WHERE s.id = '{}')"
)


class Clouds(NamedTuple):
    """The same atoms as two sides see them in a shared space.

    keys: n rows with structure_id, site_index and atomic_number; x, y: (n, K) float32.
    """

    a: str
    b: str
    space: str
    keys: pd.DataFrame
    x: np.ndarray
    y: np.ndarray


def transport(
    snapshot: Snapshot,
    a: str,
    b: str,
    *,
    space: str | None = None,
    atoms: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """See `gather` for the arguments and `compute` for the frame."""
    return compute(gather(snapshot, a, b, space=space), atoms=atoms, seed=seed)


def gather(snapshot: Snapshot, a: str, b: str, *, space: str | None = None) -> Clouds:
    """All atoms that both have in the space, one of each set of symmetry-equivalent ones.

    The space's anchors are left out: that they are where they are in both is how it was made.

    a, b: `MODEL` or `MODEL@LAYER`; space: a space's id or recipe, by default the newest.

    Raises: ModelNotFound, LayerNotFound, AnchorsNotFound, InvalidQuery.
    """
    sides = [snapshot.model_layer(a), snapshot.model_layer(b)]
    space = snapshot.space(space, [side.model for side in sides])
    found = paired_embeddings(snapshot, sides, space=space, where=_NO_ANCHOR.format(space))
    x, y = found.vectors
    return Clouds(str(sides[0]), str(sides[1]), space, found.keys, x, y)


def compute(clouds: Clouds, *, atoms: int = 2000, seed: int = 0) -> pd.DataFrame:
    """One row for all elements together and one for each by itself, the most different first.

    At most `atoms` of each cloud, chosen by content. The columns beside a, b, space, element and
    atoms: cost, the least mean 1 − cosine at which b's cloud is reached from a's (it lies between
    cost and cost + error, by method); cost_paired, if every atom goes to itself; cost_chance, if it
    goes everywhere alike; spread, the mean 1 − cosine of two atoms of one cloud; difference, cost
    over spread, NaN where all atoms of the cloud are alike. own_atom, own_element and own_group:
    the share of mass that stays on its own atom, on an atom of its own element, of its own group of
    the periodic table (lanthanides and actinides count as group 3); …_chance, that share if all
    goes everywhere alike; …_null, its 95 % point where b's atoms are shuffled.

    Raises: InvalidQuery if atoms < 2.
    """
    if atoms < 2:
        raise InvalidQuery(f"{atoms} atoms make no cloud: ask for at least 2")
    numbers = clouds.keys["atomic_number"].to_numpy()
    elements = np.unique(numbers).tolist()
    keys = clouds.keys["structure_id"] + ":" + clouds.keys["site_index"].astype(str)
    names = "sample " + keys.to_numpy(dtype=object)
    rows = []
    with progress.bar("transport", len(elements) + 1, "clouds") as advance:
        for number in [None, *elements]:
            members = np.arange(len(numbers))
            if number is not None:
                members = np.flatnonzero(numbers == number)
            if len(members) > atoms:
                members = np.sort(members[random_rows(names[members], atoms, seed)])
            element = "all" if number is None else chemical_symbols[number]
            rows.append({"element": element, **_moved(clouds, members, number is None, seed)})
            advance(1)
    frame = pd.DataFrame(rows).sort_values("difference", ascending=False, ignore_index=True)
    frame = pd.concat([frame[frame["element"] == "all"], frame[frame["element"] != "all"]])
    frame.insert(0, "a", clouds.a)
    frame.insert(1, "b", clouds.b)
    frame.insert(2, "space", clouds.space)
    return frame.reset_index(drop=True)


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
    numbers = clouds.keys["atomic_number"].to_numpy()[members]
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


def transport_distance(
    snapshot: Snapshot,
    a: str | ExternalStructure,
    b: str | ExternalStructure,
    *,
    model: str | None = None,
    layer: int | None = None,
    across: str | None = None,
    space: str | None = None,
) -> float:
    """How far two structures are as sets of atoms; see `Store.transport_distance`."""
    model = snapshot.model(model)
    layer = snapshot.layer(model, layer)
    other, other_layer = model, layer
    if across is not None:
        other = snapshot.model(across)
        other_layer = snapshot.layer(other, None)
    if across is not None or space is not None:
        space = snapshot.space(space, [model, other])
    one = atom_set(snapshot, a, model, layer, space)
    return set_distance(*one, *atom_set(snapshot, b, other, other_layer, space))
