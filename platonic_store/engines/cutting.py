"""A stream of structures cut into chunks of about equal work."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from platonic_store.runtimes.batching import rebatch


class Piece(NamedTuple):
    """Structures for one chunk. orbits: a list a structure, as in the catalogue."""

    structures: pa.RecordBatch
    orbits: pa.Array
    edges: float

    @property
    def ids(self) -> list[str]:
        ids: list[str] = self.structures["id"].to_pylist()
        return ids

    @property
    def sites(self) -> int:
        return int(sizes(self.structures).sum())


def sizes(structures: pa.RecordBatch) -> np.ndarray:
    """(n,) int64 how many atoms each structure has."""
    found: np.ndarray = structures["numbers"].value_lengths().to_numpy(zero_copy_only=False)
    return found.astype(np.int64)


def edges(structures: pa.RecordBatch, cutoff: float) -> np.ndarray:
    """(n,) about how many pairs of atoms within the cutoff (Å) each structure has.

    By the mean density: that of a crystal's cell, 0.1 atoms/Å³ (of a dense solid) where there is
    none, and at most all pairs.
    """
    atoms = sizes(structures)
    cells = structures["cell"].flatten().to_numpy().reshape(-1, 3, 3)
    is_crystal = structures["pbc"].flatten().to_numpy(zero_copy_only=False).reshape(-1, 3).all(1)
    volume = np.where(is_crystal, np.abs(np.linalg.det(cells)), atoms / 0.1)
    around = atoms / np.maximum(volume, 1e-3) * 4 / 3 * np.pi * cutoff**3
    return np.where(is_crystal, atoms * around, atoms * np.minimum(around, atoms - 1))


def pieces(
    structures: Iterable[pa.RecordBatch],
    cutoff: float,
    request_atoms: Callable[[], int],
    most: Callable[[], tuple[float, int]],
) -> Iterator[Piece]:
    """Cut between the requests that a pool would make of the whole stream.

    So a model sees the same batches as on one machine. request_atoms: of a request. most: edges and
    atoms of a piece, which has at least one request.
    """
    orbits: deque[pa.Array] = deque()

    def noted() -> Iterator[pa.RecordBatch]:
        for batch in structures:
            orbits.append(batch["orbits"])
            yield batch

    waiting: list[pa.RecordBatch] = []
    work, atoms = 0.0, 0
    for request in rebatch(noted(), request_atoms):
        more, larger = float(edges(request, cutoff).sum()), int(sizes(request).sum())
        if waiting and (work + more > most()[0] or atoms + larger > most()[1]):
            yield _piece(waiting, orbits, work)
            waiting, work, atoms = [], 0.0, 0
        waiting.append(request)
        work, atoms = work + more, atoms + larger
    if waiting:
        yield _piece(waiting, orbits, work)


def halves(piece: Piece) -> list[Piece]:
    """A piece of several structures as two."""
    rows = len(piece.ids)
    places = pa.array(range(rows), pa.int64())
    return [
        Piece(piece.structures.take(some), piece.orbits.take(some), piece.edges / 2)
        for some in (places[: rows // 2], places[rows // 2 :])
    ]


def _piece(requests: list[pa.RecordBatch], orbits: deque[pa.Array], work: float) -> Piece:
    structures = _copied(pa.Table.from_batches(requests)).to_batches()[0]
    lists: list[pa.Array] = []
    left = structures.num_rows
    while left:
        first = orbits.popleft()
        lists.append(first[:left])
        if len(first) > left:
            orbits.appendleft(first[left:])
        left -= len(lists[-1])
    return Piece(structures, pa.concat_arrays(lists), work)


def _copied(table: pa.Table) -> pa.Table:
    """Without the rest of the buffers that it is a slice of: they would travel with it."""
    return table.take(pa.array(range(len(table)), pa.int64())).combine_chunks()
