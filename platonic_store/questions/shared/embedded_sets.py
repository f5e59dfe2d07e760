"""Structures as a model embeds them, with their compositions, by which sets are compared.

A composition is a number, the hash of a reduced formula and a seed.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from platonic_store.geometry.typicality import Atoms
from platonic_store.storage import lookup
from platonic_store.storage.layout import Points
from platonic_store.storage.snapshot import ModelLayer, Snapshot, VectorTable


class EmbeddedSet(NamedTuple):
    """Structures as a model embeds them: those to score, or those that others are compared with.

    ids: (n,) strings, sorted. whole: their pooled vectors, all of element 0. sites: a row for each
    distinct site, sorted, with `structure_id`, `site_index`; atoms: the same sites' vectors.
    """

    ids: np.ndarray
    whole: Atoms
    sites: pd.DataFrame
    atoms: Atoms


def composition(formula: str, seed: int) -> int:
    """A number that stands for a formula; which part it is of depends on nothing else."""
    return hash_number(f"{seed}\0{formula}")


def hash_number(name: str) -> int:
    """A signed number of 64 bits that stands for a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)


def part_of(group: int) -> str:
    """The part of a reference that a composition is of."""
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
    whole, atoms = (snapshot.of_structures(table, some) for table in vector_tables(snapshot, side))
    return build_set(whole, atoms, groups)


def vector_tables(snapshot: Snapshot, side: ModelLayer) -> list[VectorTable]:
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
