"""A source read into the catalogue, while a model embeds what has come of it.

A model is given its structures in the order of their ids, of which its batches are cut: a last bit
may depend on what is in a batch, and should not on the source's order. So where one waits, the
source is parsed to its end first, a fifth of the work; symmetry, hashes and the catalogue come
beside the embedding.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from platonic_store import progress
from platonic_store.engines.cluster import Cluster
from platonic_store.errors import Call, ConflictingStructure, UnreadableSource
from platonic_store.storage import gaps, records
from platonic_store.storage.gaps import Wanted
from platonic_store.storage.writer import Writer
from platonic_store.structures import StructureBatch, describe
from platonic_store.structures.records import Crystal, Rejected
from platonic_store.structures.sources import Group, batched
from platonic_store.structures.sources import records as records_of

BATCH = 1024
AHEAD = 4  # batches


class SourceReport(NamedTuple):
    """What became of the records of a source."""

    source: str
    new: int
    known: int
    rejected: int


class Arriving(NamedTuple):
    """Structures on their way to the model at a place. sites: of all that there may be."""

    place: int
    structures: Generator[pa.RecordBatch, None, None]
    sites: int


class Reading:
    """A source that is being read. id: its own, in the catalogue."""

    def __init__(self, writer: Writer, source: Any, format: str | None, cluster: Cluster | None):
        self._writer, self._source, self._format = writer, source, format
        self._cluster, self._uri = cluster, describe(source)
        self._counts, self._conflicts = np.zeros(3, dtype=int), list[str]()
        self._reason, self._sites = "", 0
        self.id = records.begin_source(writer, self._uri)

    @property
    def report(self) -> SourceReport:
        """Of what has come so far."""
        return SourceReport(self._uri, *self._counts.tolist())

    def structures(
        self, models: Mapping[int, Wanted], choose: Callable[[list[int]], int]
    ) -> Arriving | None:
        """Those of which a model has made nothing of what is wanted; None: no such structure.

        models: those that may take them, by place. choose: of the places of those that have made
        nothing of a structure, the one that takes all.

        They are in the catalogue when they come, and with the last of them all of the source is.

        Raises, now or later: UnreadableSource if nothing, or not everything, could be read (what
        could is kept); ConflictingStructure if ids arrived again with another content (the rest is
        kept).
        """
        with progress.counting(f"reading {Path(self._uri).name}", "structures") as advance:
            found = self._lacking(dict(models), choose, advance)
            first = next(found, None)
        if first is None:
            return None
        rest = (structures for _, structures in found)
        return Arriving(first[0], _with(first[1], rest), self._sites)

    def _lacking(
        self,
        models: dict[int, Wanted],
        choose: Callable[[list[int]], int],
        advance: progress.Advance,
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        sites = 0
        for batch in self._batches(bool(models), advance):
            added = records.add_batch(self._writer, self.id, batch)
            self._writer.publish_if_due()
            self._counts += (added.new, added.known, added.rejected)
            self._conflicts += added.conflicts
            for record in batch.rejected[:1]:
                self._reason = self._reason or f"{record.record}: {record.reason}"
            rest = {
                place: structures
                for place, wanted in models.items()
                if (structures := gaps.untouched(self._writer, wanted, added))
            }
            if rest:
                place = choose([*rest])
                models = {place: models[place]}
                sites += sum(rest[place]["nsites"].to_pylist())
                yield place, rest[place]
        records.end_source(self._writer, self.id)
        if sites:
            progress.expect_more(sites - self._sites)
        self._require_sound()

    def _batches(self, in_order: bool, advance: progress.Advance) -> Iterator[StructureBatch]:
        if self._cluster is None:
            given, assembled = records_of(self._source, self._format), _assembled
        else:
            from platonic_store.engines.reading import assembled_by_tasks, records_by_tasks

            given, assembled = records_by_tasks(self._source, self._format), assembled_by_tasks
        found = self._counted(given, advance)
        if in_order:
            from platonic_store.structures.ordered import by_id

            found = by_id(found, self._writer.folder)
        yield from batched(found, BATCH, assembled)

    def _counted(
        self, found: Iterable[Crystal | Rejected], advance: progress.Advance
    ) -> Iterator[Crystal | Rejected]:
        for record in found:
            if isinstance(record, Crystal):
                self._sites += len(record.numbers)
                advance(1)
            yield record

    def _require_sound(self) -> None:
        if conflicts := sorted(set(self._conflicts)):
            raise ConflictingStructure(
                f"{len(self._conflicts)} records of {self._uri} have the id of a stored structure "
                f"but another content ({', '.join(conflicts[:3])}…); all other records were kept",
                "rename them",
                Call("delete", conflicts[:1]),
            )
        if not self._counts[:2].any():
            why = self._reason or "it holds no records"
            raise UnreadableSource(f"nothing in {self._uri} can be embedded; {why}")


def _assembled(groups: Iterable[Group]) -> Iterator[StructureBatch]:
    """By a thread, some ahead of who uses them: there is time while workers start."""
    from platonic_store.structures.assemble import assemble

    waiting: deque[Future[StructureBatch]] = deque()
    pool = ThreadPoolExecutor(1)
    try:
        for group in groups:
            waiting.append(pool.submit(assemble, *group))
            while waiting and (waiting[0].done() or len(waiting) > AHEAD):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _with(
    first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]
) -> Generator[pa.RecordBatch, None, None]:
    yield first
    yield from rest
