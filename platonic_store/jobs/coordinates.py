"""Coordinates of a chunk's atoms and structures, computed in parts of which none needs another."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from platonic_store.arrow import vector_array
from platonic_store.geometry.hubs import Sample, hubness
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.geometry.projection import Projection, project
from platonic_store.storage.layout import HUB, Level, Points

AT_ONCE = 8_192  # atoms of a part, about


class Given(NamedTuple):
    """What all parts share: the projection, what hubs are measured by, the tables' columns."""

    fitted: Projection
    sample: Mapping[Level, Sample] | None
    schemas: Mapping[Level, pa.Schema]


class Part(NamedTuple):
    """Whole structures of a chunk, their atoms in the order of structures and sites.

    owner: (n,) integers 0…s-1, the structure of each atom.
    """

    chunk: int
    points: Points
    owner: np.ndarray


def parts_of(chunk: int, points: Points) -> Iterator[Part]:
    """The parts of a chunk, in order. points: its atoms, in any order."""
    import pyarrow.compute as pc

    ids = points.keys["structure_id"].combine_chunks().dictionary_encode()
    structure = pc.rank(ids.dictionary).to_numpy().astype(np.int64)[ids.indices.to_numpy()] - 1
    order = np.lexsort((points.column("site_index"), structure))
    owner = structure[order]
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    ends = np.append(starts, len(order))
    wanted = np.append(np.arange(0, len(order), AT_ONCE), len(order))
    for first, end in pairwise(np.unique(ends[np.searchsorted(ends, wanted)])):
        rows = slice(first, end)
        yield Part(chunk, points.take(order[rows]), owner[rows] - owner[first])


def project_part(given: Given, part: Part) -> dict[Level, pa.RecordBatch]:
    """Rows of a part's atoms, and of its structures: the mean over their atoms."""
    keys, owner = part.points.keys, part.owner
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    orbit = starts[owner] + part.points.column("orbit")
    coordinates = _coordinates(given.fitted, part.points.vectors, orbit)
    of_structures = keys.select(["structure_id"]).take(starts)
    return {
        "atom": _rows(given, "atom", part.chunk, keys, coordinates),
        "structure": _rows(
            given, "structure", part.chunk, of_structures, mean_by_structure(coordinates, owner)
        ),
    }


def _coordinates(fitted: Projection, vectors: np.ndarray, orbit: np.ndarray) -> np.ndarray:
    """`project`, once for equivalent atoms whose vectors are the same, as most are in half
    precision.

    orbit: (n,) the row of the first of the sites that are equivalent to an atom's.
    """
    row = np.arange(len(vectors))
    orbit = np.minimum(orbit, len(vectors) - 1)  # of a structure that is here in part
    is_same = (orbit[orbit] == orbit) & (vectors == vectors[orbit]).all(axis=1)
    is_first = ~is_same | (orbit == row)
    coordinates: np.ndarray = project(fitted, vectors[is_first])
    if len(coordinates) < len(vectors):
        place = np.cumsum(is_first) - 1
        coordinates = coordinates[place[np.where(is_same, orbit, row)]]
    return coordinates


def _rows(
    given: Given, level: Level, chunk: int, keys: pa.Table, vectors: np.ndarray
) -> pa.RecordBatch:
    columns = {name: keys[name] for name in keys.column_names}
    columns["chunk_id"] = pa.array(np.full(len(keys), chunk))
    columns["vector"] = vector_array(vectors)
    if given.sample is not None:
        columns[HUB] = pa.array(hubness(vectors, given.sample[level]))
    target = given.schemas[level]
    return pa.table(columns).select(target.names).cast(target).combine_chunks().to_batches()[0]
