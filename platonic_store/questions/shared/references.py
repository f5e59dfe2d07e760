"""Reference sets: what is typical of a store for a model, and the scores of all else against it.

The compositions of a store are split by the hash of their formula. Two thirds are typical: other
structures are compared with their atoms. One third calibrates: how often a score as large as theirs
occurs is a p-value. No structure is compared with its own composition, wherever that is, so that a
file, a stored structure and one of the reference set are all scored alike.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from platonic_store.errors import InvalidQuery
from platonic_store.geometry import typicality as geometry
from platonic_store.geometry.typicality import Atoms
from platonic_store.storage import lookup
from platonic_store.storage.layout import Points
from platonic_store.storage.snapshot import ModelLayer, Snapshot

SETTINGS = {
    "neighbours": geometry.NEIGHBOURS,
    "ridge": geometry.RIDGE,
    "calibration": "one composition in three",
}
NEAREST_STRUCTURES = 10
CACHED = 4  # reference sets in memory, for the next question


class EmbeddedSet(NamedTuple):
    """Structures as a model embeds them: those to score, or those that others are compared with.

    ids: (n,) strings, sorted. whole: their pooled vectors, all of element 0. sites: a row for each
    distinct site, sorted, with `structure_id`, `site_index`; atoms: the same sites' vectors.
    """

    ids: np.ndarray
    whole: Atoms
    sites: pd.DataFrame
    atoms: Atoms


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores of the calibration's structures (m,), and of its atoms (n,) with their elements."""

    structures: np.ndarray
    atoms: np.ndarray
    elements: np.ndarray

    def to_bytes(self) -> bytes:
        buffer = BytesIO()
        np.savez(buffer, **vars(self))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            return cls(**arrays)


@dataclass(frozen=True, eq=False)
class Reference:
    """What a model's embeddings are compared with.

    members: structure_id and part ("typical" or "calibration"). known: the typical ones.
    calibration: None until `calibrated`.
    """

    id: str
    model: str
    layer: int
    seed: int
    among: str | None
    members: pd.DataFrame
    known: EmbeddedSet
    calibration: Calibration | None = None

    @cached_property
    def names(self) -> np.ndarray:
        """(n,) int64 that name the typical sites, in every model's reference alike."""
        sites = self.known.sites
        keys = zip(sites["structure_id"], sites["site_index"], strict=True)
        return np.array([_number(f"{id_}\0{site}") for id_, site in keys], dtype=np.int64)

    @property
    def scales(self) -> Calibration:
        if self.calibration is None:
            raise RuntimeError(f"reference {self.id} is not calibrated")
        return self.calibration


class Scored(NamedTuple):
    """One model's scores brought up to date."""

    reference: str
    model: str
    layer: int
    new_structures: int


class Scores(NamedTuple):
    """Rows of `structure_scores` and `atom_scores`, without `reference`."""

    structures: pd.DataFrame
    atoms: pd.DataFrame


_cache: OrderedDict[tuple[str, str], Reference] = OrderedDict()
_cache_lock = threading.Lock()


def cache_put(key: tuple[str, str], reference: Reference) -> Reference:
    """Keep a calibrated reference set in memory; the last few are kept."""
    with _cache_lock:
        _cache[key] = reference
        while len(_cache) > CACHED:
            _cache.popitem(last=False)
    return reference


def cache_get(key: tuple[str, str]) -> Reference | None:
    """The reference set in memory under this key."""
    with _cache_lock:
        return _cache.get(key)


def composition(formula: str, seed: int) -> int:
    """A number that stands for a formula; which part it is of depends on nothing else."""
    return _number(f"{seed}\0{formula}")


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)


def part_of(group: int) -> str:
    return "typical" if group % 3 else "calibration"


def load_set(snapshot: Snapshot, side: ModelLayer, seed: int) -> EmbeddedSet:
    """All that the model has embedded in the store, in canonical order."""
    whole = snapshot.points(lookup.vector_table(snapshot, side, "structure"))
    atoms = snapshot.points(lookup.vector_table(snapshot, side, "atom"))
    formulas = dict(snapshot.rows("SELECT id, formula FROM catalog.main.structures"))
    groups = {id_: composition(formula, seed) for id_, formula in formulas.items()}
    return build_set(whole, atoms, groups)


def build_set(whole: Points, atoms: Points, groups: dict[str, int]) -> EmbeddedSet:
    """Points of both levels, sorted, equivalent sites once, with the composition of each."""
    order = np.argsort(whole.column("structure_id"), kind="stable")
    ids = whole.column("structure_id")[order]
    compositions = np.array([groups[id_] for id_ in ids], dtype=np.int64)
    rows = np.flatnonzero(atoms.is_distinct)
    sites = atoms.keys.select(["structure_id", "site_index", "atomic_number"]).take(rows)
    sites = sites.to_pandas().sort_values(["structure_id", "site_index"])
    rows, sites = rows[sites.index], sites.reset_index(drop=True)
    owner = np.searchsorted(ids, sites["structure_id"])
    elements = sites["atomic_number"].to_numpy(dtype=np.int64)
    return EmbeddedSet(
        ids,
        Atoms(whole.vectors[order], np.zeros(len(ids), dtype=np.int64), compositions),
        sites,
        Atoms(atoms.vectors[rows], elements, compositions[owner]),
    )


def subset(these: EmbeddedSet, ids: np.ndarray) -> EmbeddedSet:
    """Of some structures those whose ids are given."""
    is_one = pd.Index(these.ids).isin(ids)
    is_site = these.sites["structure_id"].isin(ids).to_numpy()
    return EmbeddedSet(
        these.ids[is_one],
        these.whole.take(is_one),
        these.sites[is_site].reset_index(drop=True),
        these.atoms.take(is_site),
    )


def stored(snapshot: Snapshot, side: ModelLayer) -> Reference | None:
    """The model's reference in the store, if there is one."""
    rows = snapshot.rows(
        "SELECT id, seed, among, calibration FROM catalog.main.reference_sets "
        "WHERE model = ? AND layer = ?",
        list(side),
    )
    if not rows:
        return None
    id_, seed, among, calibration = rows[0]
    key = snapshot.manifest.store, id_
    if known := cache_get(key):
        return known
    members = snapshot.frame(
        "SELECT structure_id, part FROM catalog.main.reference_structures "
        "WHERE reference = ? ORDER BY structure_id",
        [id_],
    )
    typical = members["structure_id"][members["part"] == "typical"].to_numpy()
    typical_set = subset(load_set(snapshot, side, seed), typical)
    scales = Calibration.from_bytes(calibration)
    return cache_put(key, Reference(id_, *side, seed, among, members, typical_set, scales))


def build_reference(
    snapshot: Snapshot, side: ModelLayer, *, among: str | None = None, seed: int = 0
) -> tuple[Reference, EmbeddedSet]:
    """A reference set of all that the model has embedded, and that itself; not yet calibrated.

    among: an SQL condition on the columns of `structure`: which structures may be part of it.

    Raises: InvalidQuery if there are too few compositions.
    """
    these = load_set(snapshot, side, seed)
    members = pd.DataFrame({"structure_id": these.ids})
    members["part"] = [part_of(int(group)) for group in these.whole.groups]
    if among is not None:
        meeting = lookup.matching(snapshot, among, "structure")["structure_id"]
        members = members[members["structure_id"].isin(meeting)]
    for part in ("typical", "calibration"):
        if (members["part"] == part).sum() <= geometry.FEWEST:
            raise InvalidQuery(
                f"too few compositions by {side.model}{f' where {among}' if among else ''} to say "
                "what is typical",
                "ingest more",
            )
    hashes = dict(snapshot.rows("SELECT id, content_hash FROM catalog.main.structures"))
    known = subset(these, members["structure_id"][members["part"] == "typical"].to_numpy())
    return assembled(side, known, members, hashes, {}, among=among, seed=seed), these


def assembled(
    side: ModelLayer,
    known: EmbeddedSet,
    members: pd.DataFrame,
    hashes: dict[str, str],
    more: dict[str, float],
    *,
    among: str | None = None,
    seed: int = 0,
) -> Reference:
    """A reference of these parts, named by their content. more: settings beside `SETTINGS`."""
    content = "\n".join(f"{id_}\t{hashes[id_]}" for id_ in members["structure_id"])
    settings = json.dumps([*side, seed, SETTINGS | more, content])
    id_ = hashlib.sha256(settings.encode()).hexdigest()[:12]
    return Reference(id_, *side, seed, among, members, known)


def calibrated(reference: Reference, these: EmbeddedSet) -> Reference:
    """The reference with the scores of its calibration structures, which `these` hold."""
    is_one = reference.members["part"] == "calibration"
    rest = subset(these, reference.members["structure_id"][is_one].to_numpy())
    atoms = _measured(reference, rest)
    return replace(
        reference,
        calibration=Calibration(
            atoms.groupby("structure_id")["atypicality"].max().to_numpy(),
            atoms["atypicality"].to_numpy(),
            atoms["atomic_number"].to_numpy(),
        ),
    )


def scores(reference: Reference, these: EmbeddedSet, *, are_members: bool = True) -> Scores:
    """Score structures: a frame of them, by their least typical atoms, and one of their atoms.

    are_members: whether an id among the reference's names a structure of the reference.

    Raises: InvalidQuery if the reference has too few other compositions.
    """
    scales = reference.scales
    atoms = _measured(reference, these)
    part = reference.members.set_index("structure_id")["part"]
    if not are_members:
        part = part.iloc[:0]
    is_member = atoms["structure_id"].map(part).eq("calibration")
    atoms["p"] = geometry.conformal_p_by_class(
        atoms["atypicality"],
        atoms["atomic_number"],
        scales.atoms,
        scales.elements,
        is_member,
    )
    worst = atoms.loc[atoms.groupby("structure_id")["atypicality"].idxmax()]
    worst = worst.reset_index(drop=True)
    worst["p"] = geometry.conformal_p(
        worst["atypicality"],
        scales.structures,
        worst["structure_id"].map(part).eq("calibration"),
    )
    worst["neighbours"] = _neighbours(reference, these)
    return Scores(worst, atoms)


def _measured(reference: Reference, these: EmbeddedSet) -> pd.DataFrame:
    known = reference.known
    try:
        found = geometry.score(these.atoms, known.atoms)
    except ValueError as error:
        raise InvalidQuery(f"{reference.model}: {error}", "ingest more") from None
    near = known.sites.iloc[found.nearest[:, 0]]
    return these.sites[["structure_id", "site_index", "atomic_number"]].assign(
        atypicality=found.atypicality,
        distance=found.distance,
        density=found.density,
        residual=found.residual,
        nearest_id=near["structure_id"].to_numpy(),
        nearest_site=near["site_index"].to_numpy(),
        nearest_distance=found.nearest_distance,
        neighbours=[reference.names[row[row >= 0]] for row in found.nearest],
    )


def _neighbours(reference: Reference, these: EmbeddedSet) -> list[list[str]]:
    """For each structure the ids of the typical ones most like it, nearest first."""
    found: list[list[str]] = [[]] * len(these.ids)
    known = reference.known
    for rows, index, _ in geometry.neighbourhoods(these.whole, known.whole, NEAREST_STRUCTURES):
        for row, ids in zip(rows, known.ids[index].tolist(), strict=True):
            found[row] = ids
    return found
