"""Reference sets: what is typical of a store for a model, and the scores of all else against it.

The compositions of a store are split by the hash of their formula. Two thirds are typical: other
structures are compared with their atoms. One third calibrates: how often a score as large as theirs
occurs is a p-value. No structure is compared with its own composition, wherever that is, so that a
file, a stored structure and one of the reference set are all scored alike.

A reference is made by `bounded_references` and read by `stored_references`.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property, partial
from io import BytesIO
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from platonic_store.errors import InvalidQuery
from platonic_store.geometry import typicality as geometry
from platonic_store.geometry.neighbours import nearest_to_one, row_lengths
from platonic_store.questions.shared.embedded_sets import EmbeddedSet, hash_number, subset
from platonic_store.runtimes.threads import ahead
from platonic_store.storage.snapshot import ModelLayer

SETTINGS = {
    "neighbours": geometry.NEIGHBOURS,
    "ridge": geometry.RIDGE,
    "calibration": "one composition in three",
}
NEAREST_STRUCTURES = 10
PART = 4_096  # structures that calibrate, scored at once


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
    of `bounded_references`, as it is since version 0.2.
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
        """Its calibration. Raises: RuntimeError before it is `calibrated`."""
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


def _site_names(sites: pd.DataFrame) -> np.ndarray:
    keys = zip(sites["structure_id"], sites["site_index"], strict=True)
    return np.array([hash_number(f"{id_}\0{site}") for id_, site in keys], dtype=np.int64)


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
    ids = these.ids[pd.Index(these.ids).isin(reference.members["structure_id"][is_one])]
    parts = (subset(these, ids[start : start + PART]) for start in range(0, len(ids), PART))
    found = [
        part.sites[["structure_id", "atomic_number"]].assign(atypicality=scored.atypicality)
        for part, scored in ahead(partial(_scored, reference), parts)
    ]
    atoms = pd.concat(found)
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


def _scored(reference: Reference, these: EmbeddedSet) -> geometry.Scores:
    try:
        return geometry.score(these.atoms, reference.known.atoms)
    except ValueError as error:
        raise InvalidQuery(f"{reference.model}: {error}", "ingest more") from None


def _measured(reference: Reference, these: EmbeddedSet) -> pd.DataFrame:
    known, found = reference.known, _scored(reference, these)
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
