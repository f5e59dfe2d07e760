"""What a reference store holds of a model's training data: atoms, their scale, and a census.

Of a store that was thinned the scale and the census are those of all that it was made from.
"""

from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from platonic_store.errors import InvalidQuery
from platonic_store.geometry import coverage as geometry
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.coordination import coordination_numbers
from platonic_store.geometry.coverage import Scale
from platonic_store.questions.shared import embedded_sets
from platonic_store.questions.shared.embedded_sets import EmbeddedSet
from platonic_store.questions.shared.last_few import LastFew
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.sqltext import literals

CALIBRATED = 5_000  # structures, at most, that set the scale
MOST_NEIGHBOURS = 64  # that the census distinguishes
_FEW = 1_000  # ids, for which crystals are read by their names
_PAGE = 2_048


class TrainingSet(NamedTuple):
    """What coverage is measured against.

    census: (119, MOST_NEIGHBOURS + 1) int64, atoms by element and coordination number.
    """

    known: EmbeddedSet
    formulas: dict[str, str]
    scale: Scale
    census: np.ndarray


class Background(NamedTuple):
    """What of a training set is kept beside its atoms."""

    scale: Scale
    census: np.ndarray

    def to_bytes(self) -> bytes:
        buffer = BytesIO()
        np.savez_compressed(buffer, census=self.census, **self.scale._asdict())
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            return cls(Scale(*(arrays[name] for name in Scale._fields)), arrays["census"])


_cache: LastFew[TrainingSet] = LastFew(2)


def training_set(snapshot: Snapshot, side: ModelLayer) -> TrainingSet:
    """All that a model has embedded in a store, and how far apart its compositions are.

    It is kept in memory for the next question. Raises: InvalidQuery for too few compositions.
    """
    table = lookup.vector_table(snapshot, side, "atom")
    key = f"{snapshot.checksum(table)} {snapshot.manifest.catalog.sha256}"
    return _cache.get(key) or _cache.put(key, _read(snapshot, side))


def _read(snapshot: Snapshot, side: ModelLayer) -> TrainingSet:
    known = embedded_sets.load_set(snapshot, side, 0)
    formulas = dict(snapshot.rows("SELECT id, formula FROM catalog.main.structures"))
    background = kept_background(snapshot, side)
    if background is None:
        chosen = calibration_ids(known.ids, known.whole.groups)
        scale = measure_scale(embedded_sets.subset(known, chosen), known)
        background = Background(scale, census(snapshot))
    return TrainingSet(known, formulas, *background)


def is_thinned(snapshot: Snapshot, side: ModelLayer) -> bool:
    """Whether a store has some atoms alone of what a layer has embedded."""
    sql = "SELECT 1 FROM catalog.main.covers WHERE model = ? AND layer = ?"
    return bool(snapshot.rows(sql, list(side)))


def kept_background(snapshot: Snapshot, side: ModelLayer) -> Background | None:
    """That of what a store was thinned from; None for a store that was not."""
    content = lookup.parameters(snapshot, lookup.cover_name(side))
    return None if content is None else Background.from_bytes(content)


def calibration_ids(ids: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The structures of one composition in three, or of those so many that they are enough."""
    is_one = [embedded_sets.part_of(int(group)) == "calibration" for group in groups]
    mine = ids[np.array(is_one, dtype=bool)]
    some = random_rows(mine.tolist(), min(CALIBRATED, len(mine)), seed=0)
    return np.asarray(mine[np.sort(some)])


def measure_scale(these: EmbeddedSet, known: EmbeddedSet) -> Scale:
    """How far atoms are from the known ones of other compositions.

    Raises: InvalidQuery for too few of those.
    """
    if not len(these.ids):
        raise InvalidQuery("a reference needs more compositions to say what is far", "ingest more")
    try:
        far = geometry.nearest_known(these.atoms, known.atoms, elsewhere=True).far
    except ValueError as error:
        raise InvalidQuery(f"the reference: {error}", "ingest more") from None
    owner = np.searchsorted(these.ids, these.sites["structure_id"])
    return geometry.scale_of(far, these.atoms.elements, owner)


def census(snapshot: Snapshot) -> np.ndarray:
    """How many atoms of each element have how many neighbours, over all crystals of a store."""
    counts = np.zeros((119, MOST_NEIGHBOURS + 1), dtype=np.int64)
    for batch in crystals(snapshot):
        for row in batch.to_pylist():
            numbers = np.array(row["numbers"])
            np.add.at(counts, (numbers, coordination(row)), 1)
    return counts


def coordination(row: Mapping[Any, Any]) -> np.ndarray:
    """The coordination number of each atom of a crystal, (n,)."""
    found = coordination_numbers(row["numbers"], row["positions"], row["cell"], row["pbc"])
    return np.minimum(found, MOST_NEIGHBOURS)


def coordinations(snapshot: Snapshot, ids: list[str]) -> dict[str, np.ndarray]:
    """By id, the coordination number of each atom of some crystals, (n,)."""
    rows = (row for batch in crystals(snapshot, ids) for row in batch.to_pylist())
    return {row["structure_id"]: coordination(row) for row in rows}


def crystals(snapshot: Snapshot, ids: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The crystals of a store, or some, in batches."""
    some, parameters = "", []
    if ids is not None and len(ids) <= _FEW:
        some = f"WHERE structure_id IN ({literals(ids) or 'NULL'})"
    elif ids is not None:
        some, parameters = "WHERE structure_id IN (SELECT unnest(?))", [ids]
    sql = f"SELECT structure_id, numbers, positions, cell, pbc FROM crystals {some}"
    yield from snapshot.execute(sql, parameters).to_arrow_reader(_PAGE)
