"""What is known, as `screen` holds candidates against it, and held-out structures to calibrate it.

The reference of each model splits the compositions: two thirds are typical, one third is held out.
The held-out structures are measured as candidates are, so that each limit has a known error rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from ase.data import chemical_symbols

from platonic_store import progress
from platonic_store.geometry import screening as geometry
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.typicality import SHARED, neighbourhoods
from platonic_store.questions.shared import (
    bounded_references,
    embedded_sets,
    references,
    stored_references,
)
from platonic_store.questions.shared.duplicates import ElementMeans, element_means, spread_of
from platonic_store.questions.shared.embedded_sets import EmbeddedSet
from platonic_store.questions.shared.last_few import LastFew
from platonic_store.questions.shared.reference_stores import reference_model
from platonic_store.questions.shared.references import Reference
from platonic_store.questions.shared.structure_sets import StructureSet
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

HELD_OUT = 2_000  # structures that calibrate, at most
CONTACTS = 10_000  # known structures whose contacts are measured, at most
NEAREST = 5  # known structures that say how well a region is known
CHUNK = 2_000  # candidates measured at once


@dataclass(frozen=True, eq=False)
class Measured:
    """Some structures, held against what is known; rows in the order of `frame`.

    frame: structure_id, and of its least typical atom site_index, element, nearest_id,
    nearest_site, nearest_distance; disagreement; shortest (over the sum of covalent radii).
    atypicality, gap: (n, models), the score of the least typical atom, and the mean 1 − cosine of
    the whole structure from its five nearest known ones. are_members: whether ids are those of
    what is known.
    """

    frame: pd.DataFrame
    atypicality: np.ndarray
    gap: np.ndarray
    are_members: bool


@dataclass(frozen=True, eq=False)
class Known:
    """What candidates are held against.

    snapshot: of the store that holds it. references: of each model. is_reference: whether that was
    named as such: all of it is known then, candidates too. held_out: the structures that calibrate.
    """

    snapshot: Snapshot
    references: dict[ModelLayer, Reference]
    among: str | None
    is_reference: bool
    held_out: Measured

    def others(self, these: StructureSet) -> StructureSet:
        """What is known beside the candidates."""
        everything = self.everything
        if not self._holds(these):
            return everything
        return everything.select(np.flatnonzero(~np.isin(everything.ids, these.ids)))

    def measure(self, these: StructureSet) -> Measured:
        """The rows in the order of `these.ids`."""
        return measured(self.references, these, are_members=self._holds(these))

    def _holds(self, these: StructureSet) -> bool:
        """Whether the candidates' ids are those of known structures."""
        return these.are_of(self.snapshot) and not self.is_reference

    @cached_property
    def everything(self) -> StructureSet:
        """All known structures that every model has embedded."""
        sets = []
        for side in self.references:
            table = lookup.vector_table(self.snapshot, side, "structure")
            sets.append(set(self.snapshot.points(table).column("structure_id").tolist()))
        ids = set.intersection(*sets)
        if self.among is not None:
            ids &= set(lookup.matching(self.snapshot, self.among, "structure")["structure_id"])
        return StructureSet(self.snapshot, sorted(ids), sorted(ids), [])

    @cached_property
    def contacts(self) -> np.ndarray:
        """(n,) the shortest contacts of known structures, some of them where there are many."""
        ids = self.everything.ids
        if len(ids) > CONTACTS:
            ids = ids[np.sort(random_rows(ids, CONTACTS, seed=0))]
        return _shortest(StructureSet(self.snapshot, ids.tolist(), ids.tolist(), []))

    def element_means(self, these: StructureSet) -> ElementMeans:
        """Structures as near duplicates are told, by all models together."""
        spreads = {side: spread_of(self.snapshot, side) for side in self.references}
        return element_means(these, spreads)


_cache: LastFew[Known] = LastFew(2)


def known(
    snapshot: Snapshot,
    sides: Sequence[ModelLayer],
    among: str | None,
    reference: str | None = None,
) -> Known:
    """What models know of a store, calibrated; the last few are kept in memory.

    reference: another store, by URI or by the name that its owner gives it.

    Raises: InvalidQuery if there are too few compositions, or for the condition; of a reference
    StoreNotFound, StoreUnreachable, ModelNotFound, LayerNotFound, CheckpointMismatch.
    """
    if reference is not None:
        for side in sides:
            other = reference_model(snapshot, reference, str(side)).snapshot
        snapshot = other
    key = snapshot.manifest.store, snapshot.id, tuple(sides), among, reference is not None
    if (kept := _cache.get(key)) is not None:
        return kept
    found = {side: _reference(snapshot, side, among) for side in sides}
    parts = [
        set(one.members["structure_id"][one.members["part"] == "calibration"])
        for one in found.values()
    ]
    ids = sorted(set.intersection(*parts))
    if len(ids) > HELD_OUT:
        ids = sorted(ids[row] for row in random_rows(ids, HELD_OUT, seed=0))
    held_out = measured(found, StructureSet(snapshot, ids, ids, []), are_members=True)
    return _cache.put(key, Known(snapshot, found, among, reference is not None, held_out))


def measured(
    found: dict[ModelLayer, Reference], these: StructureSet, *, are_members: bool
) -> Measured:
    """Structures held against the reference of each model.

    are_members: whether their ids are those of the references' store.
    """
    with progress.bar("comparing", len(these.ids) * len(found), "structures") as advance:
        by_model = []
        for side, reference in found.items():
            every = these.embedded(side, reference.seed)
            frames = []
            for start in range(0, len(every.ids), CHUNK):
                part = embedded_sets.subset(every, every.ids[start : start + CHUNK])
                frames.append(_by_one(reference, part, are_members))
                advance(len(part.ids))
            by_model.append([pd.concat(one) for one in zip(*frames, strict=True)])
    parts = [atoms for atoms, _ in by_model]
    gap = np.column_stack([structures["gap"].loc[these.ids] for _, structures in by_model])
    first = parts[0]
    owner = pd.Index(these.ids).get_indexer(pd.Index(first["structure_id"]))
    shared = geometry.disagreement([_names(one["neighbours"]) for one in parts])
    worst = np.column_stack([one["atypicality"] for one in parts])
    # Of several models the atom that is least likely to all of them together.
    unlikely = -np.log(np.column_stack([one["p"] for one in parts])).mean(axis=1)
    order = np.lexsort((first["site_index"], -worst[:, 0], -unlikely, owner))
    chosen = first.iloc[order[np.unique(owner[order], return_index=True)[1]]]
    frame = pd.DataFrame(
        {
            "structure_id": these.ids,
            "site_index": chosen["site_index"].to_numpy(),
            "element": np.array(chemical_symbols)[chosen["atomic_number"]],
            "nearest_id": chosen["nearest_id"].to_numpy(),
            "nearest_site": chosen["nearest_site"].to_numpy(),
            "nearest_distance": chosen["nearest_distance"].to_numpy(),
            "disagreement": pd.Series(shared).groupby(owner).max().to_numpy(),
            "shortest": _shortest(these),
        }
    )
    atypicality = pd.DataFrame(worst).groupby(owner).max().to_numpy()
    return Measured(frame, atypicality, gap, are_members)


def _by_one(
    reference: Reference, these: EmbeddedSet, are_members: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """By one model: a row an atom, and a row a structure (its index the id) with `gap`."""
    found = references.scores(reference, these, are_members=are_members)
    gap = np.empty(len(these.ids))
    for rows, _, distance in neighbourhoods(these.whole, reference.known.whole, NEAREST):
        gap[rows] = distance.mean(axis=1)
    return found.atoms, pd.DataFrame({"gap": gap}, index=these.ids)


def _names(neighbours: pd.Series) -> np.ndarray:
    """(n, SHARED) names of each atom's nearest typical atoms."""
    names = np.full((len(neighbours), SHARED), geometry.NOBODY)
    for row, found in enumerate(neighbours):
        names[row, : len(found)] = found
    return names


def _shortest(these: StructureSet) -> np.ndarray:
    crystals = these.crystals
    columns = (crystals[name] for name in ("numbers", "positions", "cell", "pbc"))
    return np.array([geometry.shortest_contact(*one) for one in zip(*columns, strict=True)])


def _reference(snapshot: Snapshot, side: ModelLayer, among: str | None) -> Reference:
    """The store's reference if it is that of `among`, else one of all that it holds."""
    stored = stored_references.stored(snapshot, side)
    if stored is not None and among in (None, stored.among):
        return stored
    return references.calibrated(*bounded_references.build_reference(snapshot, side, among=among))
