"""Records in the order of their ids, however many there are: crystals wait in a file."""

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from platonic_store.errors import UnreadableSource
from platonic_store.structures.assemble import scalar
from platonic_store.structures.records import Crystal, Rejected, content_hash


def by_id(records: Iterable[Crystal | Rejected], folder: Path) -> Iterator[Crystal | Rejected]:
    """All records: what was rejected at once, then the crystals, those of one id as they came.

    A crystal without an id is named by its content, as in a store. folder: for the file.

    Raises: UnreadableSource at the end, if that ended the records.
    """
    failures: list[UnreadableSource] = []
    places: list[tuple[str, int]] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            for record in records:
                if isinstance(record, Rejected):
                    yield record
                else:
                    places.append((record.id or content_hash(record), file.tell()))
                    _keep(record, file)
        except UnreadableSource as error:
            failures.append(error)
        for _, place in sorted(places):
            file.seek(place)
            yield _kept(file)
    for failure in failures:
        raise failure


def _keep(crystal: Crystal, file: IO[bytes]) -> None:
    arrays = crystal.numbers, crystal.positions, crystal.cell, crystal.pbc
    fields = [np.ascontiguousarray(array).tobytes() for array in arrays]
    properties = {name: scalar(value) for name, value in crystal.properties.items()}
    pickle.dump((crystal.id, *fields, properties), file, protocol=5)


def _kept(file: IO[bytes]) -> Crystal:
    id_, numbers, positions, cell, pbc, properties = pickle.load(file)
    return Crystal(
        id_,
        np.frombuffer(numbers, np.int16),
        np.frombuffer(positions, np.float64).reshape(-1, 3),
        np.frombuffer(cell, np.float64).reshape(3, 3),
        np.frombuffer(pbc, bool),
        properties,
    )
