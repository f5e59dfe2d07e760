"""What runs a model over structures and writes what it says: processes of this machine, a cluster.

An engine answers structures with chunks, whose vectors are in fragments that no manifest names yet.
The job commits them (`jobs/runs.py`). Where the work was done is seen nowhere in a store.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from platonic_store.storage.commits import WrittenChunk
from platonic_store.storage.layout import Level

# What a kill can cost of one pool's work, and what of it may be in memory.
CHUNK_SECONDS = 15.0
CHUNK_BYTES = 64 << 20

# The name of the vector table for (layer, level, dim), made if there is none.
TableOf = Callable[[int, Level, int], str]


class Lacking(NamedTuple):
    """What is to be stored of a model's answers: layers, and outputs."""

    layers: list[int]
    outputs: list[str]


class Chunk(NamedTuple):
    """What a model made of some structures; nothing of it is committed.

    written: their vectors, None where all were rejected or no layer was lacking. predictions: rows
    by bulk table, without model and run. rejected: structure id, reason.
    """

    structure_ids: list[str]
    sites: int
    rejected: list[tuple[str, str]]
    written: WrittenChunk | None
    predictions: dict[str, pa.Table]
    seconds_graph: float
    seconds_forward: float


class Engine(AbstractContextManager["Engine"], Protocol):
    """A model that runs, or is about to."""

    @property
    def identity(self) -> dict[str, Any]:
        """A worker's first message, see `WorkerPool`; waits for it. Raises: WorkerFailed."""

    def embed(
        self,
        structures: Iterable[pa.RecordBatch],
        lacking: Lacking,
        table_of: TableOf,
        commit: Callable[[Chunk], None],
        advance: Callable[[float], None],
        when_idle: Callable[[], None] = lambda: None,
    ) -> None:
        """Run the model over structures, and hand over each chunk when it is done, once.

        structures: id, numbers, positions, cell, pbc and orbits. advance: called with the sites
        done. when_idle: may be called once the last structures are under way and there is room for
        other work. What was done when Ctrl-C comes, or the structures end early, is handed over as
        well.

        Raises: WorkerFailed, StoreUnreachable, and what ends the structures: UnreadableSource,
        ConflictingStructure.
        """
