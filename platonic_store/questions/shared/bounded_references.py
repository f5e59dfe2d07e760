"""References made of what a model has embedded, and bounded in a large store.

Of each element so many typical atoms, so many typical and so many calibrating structures, those
whose content has the smallest hash. So time grows with the rows to be scored, and no longer with
their square.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from platonic_store.errors import InvalidQuery
from platonic_store.geometry import typicality as geometry
from platonic_store.questions.shared.embedded_sets import (
    EmbeddedSet,
    build_set,
    composition,
    hash_number,
    load_some,
    part_of,
    vector_tables,
)
from platonic_store.questions.shared.pairing import distinct_keys
from platonic_store.questions.shared.references import Reference, assembled
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

MOST_ATOMS = 4_096  # typical ones of an element
MOST_STRUCTURES = 32_768  # typical ones, among which a structure's neighbours are
MOST_CALIBRATING = 65_536  # structures


def build_reference(
    snapshot: Snapshot, side: ModelLayer, *, among: str | None = None, seed: int = 0
) -> tuple[Reference, EmbeddedSet]:
    """A reference set of what the model has embedded, and what calibrates it; not yet calibrated.

    among: an SQL condition on the columns of `structure`: which structures may be part of it.

    Raises: InvalidQuery if there are too few compositions.
    """
    table = lookup.vector_table(snapshot, side, "structure")
    ids = np.sort(np.concatenate([part["structure_id"] for part in distinct_keys(snapshot, table)]))
    content = content_of(snapshot, seed).loc[ids]
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
    known = typical_set(snapshot, side, typical, content)
    hashes = dict(zip(content.index, content["content_hash"], strict=True))
    reference = assembled(side, known, members, hashes, {}, among=among, seed=seed)
    these = load_some(snapshot, side, calibrating, _composition_of(content))
    return replace(reference, is_bounded=True), these


def content_of(snapshot: Snapshot, seed: int) -> pd.DataFrame:
    """Of each structure by its id: `content_hash`, `composition`, and `number`, which draws it."""
    found = snapshot.frame("SELECT id, content_hash, formula FROM catalog.main.structures")
    return found.assign(
        composition=[composition(formula, seed) for formula in found["formula"]],
        number=[hash_number(f"{seed}\0{content}") for content in found["content_hash"]],
    ).set_index("id")


def _composition_of(content: pd.DataFrame) -> dict[str, int]:
    return dict(zip(content.index, content["composition"], strict=True))


def typical_set(
    snapshot: Snapshot, side: ModelLayer, ids: np.ndarray, content: pd.DataFrame
) -> EmbeddedSet:
    """What others are compared with: of some structures those, and those atoms of each element,
    whose hashes are smallest.

    ids: sorted.
    """
    tables = vector_tables(snapshot, side)
    index = pd.Index(ids)
    numbers = content["number"].to_numpy()[content.index.get_indexer(index)]
    rows = []
    for table, most in zip(tables, (MOST_STRUCTURES, MOST_ATOMS), strict=True):
        kept: list[pd.DataFrame] = []
        for keys in distinct_keys(snapshot, table):
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
