"""Reference sets: what is typical of a store for a model, and the scores of all else against it.

The compositions of a store are split by the hash of their formula. Two thirds are typical: other
structures are compared with their atoms. One third calibrates: how often a score as large as theirs
occurs is a p-value. No structure is compared with its own composition, wherever that is, so that a
file, a stored structure and one of the reference set are all scored alike.

In a large store they are bounded: of each element so many typical atoms, so many typical and so
many calibrating structures, those whose content has the smallest hash. So time grows with the rows
to be scored, and no longer with their square.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from platonic_store.arrow import vector_array, vector_matrix
from platonic_store.errors import InvalidQuery
from platonic_store.geometry import typicality as geometry
from platonic_store.geometry.neighbours import nearest_to_one, row_lengths
from platonic_store.geometry.typicality import Atoms
from platonic_store.questions.shared import kept_references
from platonic_store.questions.shared.kept_references import Kept
from platonic_store.questions.shared.pairing import speaking
from platonic_store.storage import lookup
from platonic_store.storage.layout import Points
from platonic_store.storage.snapshot import ModelLayer, Snapshot, VectorTable

SETTINGS = {
    "neighbours": geometry.NEIGHBOURS,
    "ridge": geometry.RIDGE,
    "calibration": "one composition in three",
}
NEAREST_STRUCTURES = 10
MOST_ATOMS = 4_096  # typical ones of an element
MOST_STRUCTURES = 32_768  # typical ones, among which a structure's neighbours are
MOST_CALIBRATING = 65_536  # structures
PART = "AND part = 'calibration'"
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

    members: structure_id and part ("typical" or "calibration"); of one whose typical ones are kept
    apart only those that calibrate. known: the typical ones.
    calibration: None until `calibrated`. is_bounded: whether what is known was chosen by the bounds
    of this module, as it is since version 0.2.
    """

    id: str
    model: str
    layer: int
    seed: int
    among: str | None
    members: pd.DataFrame
    known: EmbeddedSet
    calibration: Calibration | None = None
    is_bounded: bool = False

    @cached_property
    def names(self) -> np.ndarray:
        """(n,) int64 that name the typical sites, in every model's reference alike."""
        return _site_names(self.known.sites)

    def names_of(self, rows: np.ndarray) -> list[Any]:
        """The names of some typical sites: of each row (n, k) of their places, where not −1."""
        if "names" in self.__dict__ or rows.size > len(self.known.sites) // 8:
            return [self.names[row[row >= 0]] for row in rows]
        used = np.unique(rows[rows >= 0])
        names = _site_names(self.known.sites.iloc[used])
        return [names[np.searchsorted(used, row[row >= 0])] for row in rows]

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n,) of the vectors of the typical structures."""
        return row_lengths(self.known.whole.vectors)

    @cached_property
    def parts(self) -> "pd.Series[str]":
        """The part of each member, by its id."""
        return self.members.set_index("structure_id")["part"]

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


def _site_names(sites: pd.DataFrame) -> np.ndarray:
    keys = zip(sites["structure_id"], sites["site_index"], strict=True)
    return np.array([_number(f"{id_}\0{site}") for id_, site in keys], dtype=np.int64)


def part_of(group: int) -> str:
    return "typical" if group % 3 else "calibration"


def load_set(snapshot: Snapshot, side: ModelLayer, seed: int) -> EmbeddedSet:
    """All that the model has embedded in the store, in canonical order."""
    whole = snapshot.points(lookup.vector_table(snapshot, side, "structure"))
    atoms = snapshot.points(lookup.vector_table(snapshot, side, "atom"))
    return build_set(whole, atoms, compositions(snapshot, seed))


def load_some(
    snapshot: Snapshot, side: ModelLayer, ids: Iterable[str], groups: dict[str, int]
) -> EmbeddedSet:
    """Some structures of the store, of which no more is read; groups: as of `compositions`."""
    some = list(ids)
    whole, atoms = (snapshot.of_structures(table, some) for table in _tables(snapshot, side))
    return build_set(whole, atoms, groups)


def _tables(snapshot: Snapshot, side: ModelLayer) -> list[VectorTable]:
    """Of structures and of atoms."""
    return [lookup.vector_table(snapshot, side, level) for level in ("structure", "atom")]


def compositions(snapshot: Snapshot, seed: int) -> dict[str, int]:
    """The composition of each structure in the store, as a number."""
    formulas = snapshot.rows("SELECT id, formula FROM catalog.main.structures")
    return {id_: composition(formula, seed) for id_, formula in formulas}


def build_set(whole: Points, atoms: Points, groups: dict[str, int]) -> EmbeddedSet:
    """Points of both levels, sorted, equivalent sites once, with the composition of each."""
    order = np.argsort(whole.column("structure_id"), kind="stable")
    ids = whole.column("structure_id")[order]
    rows = np.flatnonzero(atoms.is_distinct)
    sites = atoms.keys.select(["structure_id", "site_index", "atomic_number"]).take(rows)
    sites = sites.to_pandas().sort_values(["structure_id", "site_index"])
    rows, sites = rows[sites.index], sites.reset_index(drop=True)
    owner, owners = pd.factorize(sites["structure_id"])
    elements = sites["atomic_number"].to_numpy(dtype=np.int64)
    return EmbeddedSet(
        ids,
        Atoms(whole.vectors[order], np.zeros(len(ids), dtype=np.int64), _groups(ids, groups)),
        sites,
        Atoms(atoms.vectors[rows], elements, _groups(owners, groups)[owner]),
    )


def _groups(ids: Iterable[str], groups: dict[str, int]) -> np.ndarray:
    return np.array([groups[id_] for id_ in ids], dtype=np.int64)


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
        "SELECT id, seed, among, settings->>'bounded' = 'true' "
        "FROM catalog.main.reference_sets WHERE model = ? AND layer = ?",
        list(side),
    )
    if not rows:
        return None
    id_, seed, among, is_bounded = rows[0]
    key = snapshot.manifest.store, id_
    if known := cache_get(key):
        return known
    kept = kept_references.read(snapshot, id_)
    members = snapshot.frame(
        "SELECT structure_id, part FROM catalog.main.reference_structures "
        f"WHERE reference = ? {'' if kept is None else PART} ORDER BY structure_id",
        [id_],
    )
    typical = members["structure_id"][members["part"] == "typical"].to_numpy()
    if kept is not None:
        compared = _of_kept(kept)
    elif is_bounded:
        compared = _typical(snapshot, side, typical, _content(snapshot, seed))
    else:
        compared = subset(load_set(snapshot, side, seed), typical)
    found = Reference(id_, *side, seed, among, members, compared, None, bool(is_bounded))
    calibration = lookup.parameters(snapshot, lookup.calibration_name(id_))
    if calibration is not None:
        found = replace(found, calibration=Calibration.from_bytes(calibration))
    else:  # it was damaged
        ids = members["structure_id"][members["part"] == "calibration"].to_numpy()
        found = calibrated(found, load_some(snapshot, side, ids, compositions(snapshot, seed)))
    return cache_put(key, found)


def to_keep(reference: Reference) -> Kept:
    """What of a reference is kept apart."""
    known = reference.known
    structures = pa.table({"structure_id": pa.array(known.ids, pa.string())})
    atoms = pa.Table.from_pandas(known.sites, preserve_index=False)
    tables = []
    for table, these in ((structures, known.whole), (atoms, known.atoms)):
        table = table.append_column("group", pa.array(these.groups))
        tables.append(table.append_column("vector", vector_array(these.vectors)))
    return Kept(*tables)


def _of_kept(kept: Kept) -> EmbeddedSet:
    structures, atoms = kept
    vectors = [vector_matrix(table["vector"]) for table in kept]
    sites = atoms.drop_columns(["group", "vector"]).to_pandas()
    elements = sites["atomic_number"].to_numpy(dtype=np.int64)
    return EmbeddedSet(
        structures["structure_id"].to_pandas().to_numpy(),
        Atoms(vectors[0], np.zeros(len(structures), np.int64), structures["group"].to_numpy()),
        sites,
        Atoms(vectors[1], elements, atoms["group"].to_numpy()),
    )


def build_reference(
    snapshot: Snapshot, side: ModelLayer, *, among: str | None = None, seed: int = 0
) -> tuple[Reference, EmbeddedSet]:
    """A reference set of what the model has embedded, and what calibrates it; not yet calibrated.

    among: an SQL condition on the columns of `structure`: which structures may be part of it.

    Raises: InvalidQuery if there are too few compositions.
    """
    table = lookup.vector_table(snapshot, side, "structure")
    ids = np.sort(np.concatenate([part["structure_id"] for part in speaking(snapshot, table)]))
    content = _content(snapshot, seed).loc[ids]
    members = pd.DataFrame({"structure_id": ids})
    members["part"] = [part_of(int(group)) for group in content["composition"]]
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
    is_calibrating = members["part"] == "calibration"
    numbers = content["number"].to_numpy()[members.index]
    order = members.index[is_calibrating][np.argsort(numbers[is_calibrating], kind="stable")]
    members = members.drop(index=order[MOST_CALIBRATING:])
    typical, calibrating = (
        members["structure_id"][members["part"] == part].to_numpy()
        for part in ("typical", "calibration")
    )
    known = _typical(snapshot, side, typical, content)
    hashes = dict(zip(content.index, content["content_hash"], strict=True))
    reference = assembled(side, known, members, hashes, {}, among=among, seed=seed)
    these = load_some(snapshot, side, calibrating, _composition_of(content))
    return replace(reference, is_bounded=True), these


def _content(snapshot: Snapshot, seed: int) -> pd.DataFrame:
    """Of each structure by its id: `content_hash`, `composition`, and `number`, which draws it."""
    found = snapshot.frame("SELECT id, content_hash, formula FROM catalog.main.structures")
    return found.assign(
        composition=[composition(formula, seed) for formula in found["formula"]],
        number=[_number(f"{seed}\0{content}") for content in found["content_hash"]],
    ).set_index("id")


def _composition_of(content: pd.DataFrame) -> dict[str, int]:
    return dict(zip(content.index, content["composition"], strict=True))


def _typical(
    snapshot: Snapshot, side: ModelLayer, ids: np.ndarray, content: pd.DataFrame
) -> EmbeddedSet:
    """What others are compared with: of some structures those, and those atoms of each element,
    whose hashes are smallest.

    ids: sorted.
    """
    tables = _tables(snapshot, side)
    index = pd.Index(ids)
    numbers = content["number"].to_numpy()[content.index.get_indexer(index)]
    rows = []
    for table, most in zip(tables, (MOST_STRUCTURES, MOST_ATOMS), strict=True):
        kept: list[pd.DataFrame] = []
        for keys in speaking(snapshot, table):
            place = index.get_indexer(pd.Index(keys["structure_id"]))
            keys = keys[place >= 0].reset_index(drop=True)
            site = keys["site_index"].to_numpy() if "site_index" in keys else np.array([0])
            keys["number"] = _mixed(numbers[place[place >= 0]], site)
            kept = [_smallest(pd.concat([*kept, keys]), most)]
        rows.append(np.sort(kept[0]["row_0"].to_numpy()))
    whole, atoms = (snapshot.points_at(*one) for one in zip(tables, rows, strict=True))
    return build_set(whole, atoms, _composition_of(content))


def _smallest(keys: pd.DataFrame, most: int) -> pd.DataFrame:
    """The rows (of each element, if they have one) with the smallest numbers."""
    if "atomic_number" not in keys:
        return keys.sort_values(["number", "structure_id"])[:most]
    if keys["atomic_number"].value_counts().max() <= most:
        return keys
    keys = keys.sort_values(["number", "structure_id", "site_index"])
    return keys[keys.groupby("atomic_number").cumcount() < most]


def _mixed(numbers: np.ndarray, site: np.ndarray) -> np.ndarray:
    """(n,) uint64: a hash of a structure's number and a site (splitmix64)."""
    mixed = numbers.astype(np.int64).view(np.uint64) + (
        (site.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    )
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    drawn: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return drawn


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
    part = reference.parts if are_members else reference.parts.iloc[:0]
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
        neighbours=reference.names_of(found.nearest),
    )


def _neighbours(reference: Reference, these: EmbeddedSet) -> list[list[str]]:
    """For each structure the ids of the typical ones most like it, nearest first."""
    found: list[list[str]] = [[]] * len(these.ids)
    known = reference.known
    if len(these.ids) == 1:
        is_other = known.whole.groups != these.whole.groups[0]
        if is_other.sum() >= geometry.FEWEST:
            one = these.whole.vectors[0], known.whole.vectors, reference.lengths
            return [known.ids[nearest_to_one(*one, NEAREST_STRUCTURES, is_other)[0]].tolist()]
    for rows, index, _ in geometry.neighbourhoods(these.whole, known.whole, NEAREST_STRUCTURES):
        for row, ids in zip(rows, known.ids[index].tolist(), strict=True):
            found[row] = ids
    return found
