"""Ingest: crystals into the catalogue, then each model over what it has not embedded yet.

Everything is done in chunks that are committed as they come. To run the same command again is
therefore both the way to resume and a no-op.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from platonic_store import progress
from platonic_store.arrow import vector_array, vector_matrix
from platonic_store.errors import (
    Call,
    CheckpointMismatch,
    ConflictingStructure,
    UnreadableSource,
)
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.runtimes.cards import Card, layers_wanted
from platonic_store.runtimes.preparation import RunnableModel
from platonic_store.runtimes.workers import Embedded, WorkerPool
from platonic_store.storage import commits, records
from platonic_store.storage import tables as t
from platonic_store.storage.catalog import Catalog, next_id
from platonic_store.storage.vectors import Vectors
from platonic_store.structures import describe, read

# What a kill can cost: no more than this much work, or memory, is ever unacknowledged.
CHUNK_SECONDS = 15.0
CHUNK_BYTES = 64 << 20


class SourceReport(NamedTuple):
    """What became of the records of a source."""

    source: str
    new: int
    known: int
    rejected: int


class RunReport(NamedTuple):
    """What one model did with a source."""

    run: int
    model: str
    structures: int
    sites: int
    rejected: int
    seconds_graph: float
    seconds_forward: float
    seconds_wall: float


def read_source(catalog: Catalog, source: Any, format: str | None) -> tuple[int, SourceReport]:
    """Stream a source into the catalogue.

    Raises: UnreadableSource if nothing, or not everything, could be read (what could is kept);
    ConflictingStructure if ids arrived again with another content (the rest is kept).
    """
    uri = describe(source)
    source_id = records.begin_source(catalog, uri)
    counts = np.zeros(3, dtype=int)
    conflicts: list[str] = []
    reasons: list[str] = []
    with progress.counting(f"reading {Path(uri).name}", "structures") as advance:
        for batch in read(source, format=format, batch_size=2048):
            added = records.add_batch(catalog, source_id, batch)
            counts += (added.new, added.known, added.rejected)
            conflicts += added.conflicts
            reasons += [f"{r.record}: {r.reason}" for r in batch.rejected[:1]]
            advance(len(batch.structures))
    report = SourceReport(uri, *counts.tolist())
    if conflicts:
        raise ConflictingStructure(
            f"{len(conflicts)} records of {uri} have the id of a stored structure but another "
            f"content ({', '.join(sorted(set(conflicts))[:3])}…); all other records were kept",
            "rename them",
            Call("delete", sorted(set(conflicts))[:1]),
        )
    if not report.new and not report.known:
        raise UnreadableSource(
            f"nothing in {uri} can be embedded; {reasons[0] if reasons else 'it holds no records'}"
        )
    return source_id, report


def embed(
    catalog: Catalog,
    vectors: Vectors,
    model: RunnableModel,
    *,
    source_id: int | None = None,
    layers: str = "default",
    device: str = "auto",
    batch_atoms: int | None = None,
) -> RunReport:
    """Run a model over the structures of a source (of all, if None) that it has not embedded.

    Raises: LayerNotFound, WorkerFailed, CheckpointMismatch.
    """
    card = model.card
    wanted = list(layers_wanted(card, layers))
    elements = list(card.elements)
    strangers = records.reject_strangers(catalog, source_id, card.name, elements)
    gaps = records.missing_layers(catalog, source_id, card.name, wanted, elements)
    if not gaps:
        return RunReport(0, card.name, 0, 0, strangers, 0.0, 0.0, 0.0)
    with WorkerPool(
        card, tuple(wanted), python=model.python, device=device, batch_atoms=batch_atoms
    ) as pool:
        _register_model(catalog, card, pool.identity)
        run = _Run(catalog, vectors, card, pool.identity, wanted, source_id, strangers)
        with (
            run.recorded(),
            progress.bar(
                f"embedding with {card.name}", sum(gap.sites for gap in gaps), "atoms"
            ) as advance,
        ):
            for gap in gaps:
                run.layers = [layer for layer in wanted if layer not in gap.present]
                for embedded in pool.embed(run.pages(gap.present)):
                    advance(run.add(embedded))
                run.flush()
    commits.maintain(catalog, vectors, run.tables)
    return run.report()


def _register_model(catalog: Catalog, card: Card, identity: dict) -> None:
    """Remember the model and its weights; embeddings of other weights may not join them."""
    sha256 = identity["checkpoint_sha256"]
    with catalog.writing() as connection:
        stored = connection.scalar(
            sa.select(t.models.c.checkpoint_sha256).filter_by(name=card.name)
        )
        if stored is None:
            connection.execute(
                sa.insert(t.models).values(
                    name=card.name,
                    family=card.family,
                    checkpoint_sha256=sha256,
                    default_layer=card.default_layer,
                    kind="control" if card.name.startswith("control:") else "trained",
                    card=card.as_dict() | {"folder": None, "checkpoint": None},  # of this machine
                )
            )
        elif stored != sha256:
            raise CheckpointMismatch(
                f"the store's {card.name} embeddings were made by weights {stored[:12]}…, this "
                f"{card.name} has {sha256[:12]}…: use another store, or install the package "
                "version that shipped the first"
            )


class _Run:
    """One model's pass: gathers embeddings, commits them in chunks, keeps the run's row true."""

    def __init__(
        self,
        catalog: Catalog,
        vectors: Vectors,
        card: Card,
        identity: dict,
        layers: list[int],
        source_id: int | None,
        rejected: int,
    ):
        self.catalog, self.vectors = catalog, vectors
        self.model, self.source_id, self.wanted = card.name, source_id, layers
        self._elements = list(card.elements)
        self.layers = layers
        self.tables: set[str] = set()
        self._buffer: list[Embedded] = []
        self._orbits: dict[str, list[int]] = {}
        self._numbers: dict[str, list[int]] = {}
        self._since = self._started = time.monotonic()
        self._structures = self._sites = 0
        self._rejected = rejected
        self._graph = self._forward = 0.0
        with catalog.writing() as connection:
            self.id = next_id(connection, t.runs)
            connection.execute(
                sa.insert(t.runs).values(
                    id=self.id,
                    model=card.name,
                    source_id=source_id,
                    layers=layers,
                    state="running",
                    checkpoint_sha256=identity["checkpoint_sha256"],
                    device=identity["device"],
                    dtype=identity["dtype"],
                    identity=identity,
                )
            )

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Note in the catalogue how the run ended; what is gathered is kept even when stopped."""
        state = "failed"
        try:
            yield
            state = "finished"
        except KeyboardInterrupt:
            state = "interrupted"
            self.flush()
            raise
        finally:
            with self.catalog.writing() as connection:
                self._update(connection, state=state, finished_at=sa.func.now())

    def pages(self, present: list[int]) -> Iterator[pa.RecordBatch]:
        """The structures to embed, remembering what the worker has no need to know."""
        for page in records.missing_structures(
            self.catalog, self.source_id, self.model, self.wanted, self._elements, present
        ):
            ids = page["id"].to_pylist()
            self._orbits.update(zip(ids, page["orbits"].to_pylist(), strict=True))
            self._numbers.update(zip(ids, page["numbers"].to_pylist(), strict=True))
            yield page.drop_columns(["orbits"])

    def add(self, embedded: Embedded) -> int:
        """Take a worker's answer; commit if enough has gathered. Returns the sites dealt with."""
        self._graph += embedded.seconds_graph
        self._forward += embedded.seconds_forward
        self._buffer.append(embedded)
        size = sum(part.table.nbytes for part in self._buffer)
        if size > CHUNK_BYTES or time.monotonic() - self._since > CHUNK_SECONDS:
            self.flush()
        rejected_sites = sum(len(self._numbers.get(id_, ())) for id_, _ in embedded.rejected)
        return embedded.table.num_rows + rejected_sites

    @commits.uninterrupted()
    def flush(self) -> None:
        """Commit what has gathered."""
        buffer, self._buffer = self._buffer, []
        self._since = time.monotonic()
        rejected = [item for part in buffer for item in part.rejected]
        tables = [part.table for part in buffer if part.table.num_rows]
        if tables:
            self._commit(pa.Table.from_batches(tables))
        for part in buffer:
            for id_ in {*part.table["id"].to_pylist(), *(id_ for id_, _ in part.rejected)}:
                self._orbits.pop(id_, None)
                self._numbers.pop(id_, None)
        self._rejected += len(rejected)
        with self.catalog.writing() as connection:
            reasons = [(id_, id_, reason) for id_, reason in rejected]
            records.release(
                connection, self.model, {id_ for t in tables for id_ in t["id"].to_pylist()}
            )
            records.quarantine(connection, self.source_id, self.model, reasons)
            self._update(connection)
        self.catalog.publish()

    def _commit(self, table: pa.Table) -> None:
        ids = table["id"].to_numpy()
        is_first = np.r_[True, ids[1:] != ids[:-1]]
        structure_ids = ids[is_first].tolist()
        keys = {
            "structure_id": table["id"],
            "site_index": table["site_index"],
            "atomic_number": pa.array(
                np.concatenate([self._numbers[id_] for id_ in structure_ids]), pa.int16()
            ),
            "orbit": pa.array(
                np.concatenate([self._orbits[id_] for id_ in structure_ids]), pa.int32()
            ),
        }
        fills = []
        for layer in self.layers:
            atoms = vector_matrix(table[f"layer_{layer}"])
            pooled = mean_by_structure(atoms, np.cumsum(is_first) - 1)
            fills.append(
                self._fill(layer, "atom", pa.table({**keys, "vector": vector_array(atoms)}))
            )
            rows = pa.table({"structure_id": structure_ids, "vector": vector_array(pooled)})
            fills.append(self._fill(layer, "structure", rows))
        commits.commit_chunk(self.catalog, self.vectors, self.id, structure_ids, fills)
        self._structures += len(structure_ids)
        self._sites += table.num_rows

    def _fill(self, layer: int, level: Any, rows: pa.Table) -> commits.Fill:
        dim = rows["vector"].type.list_size
        name = commits.ensure_vector_table(
            self.catalog, self.vectors, self.model, layer, level, dim
        )
        self.tables.add(name)
        return commits.Fill(name, rows)

    def _update(self, connection: sa.Connection, **values: Any) -> None:
        report = self.report()._asdict()
        counts = {name: report[name] for name in report if name not in ("run", "model")}
        connection.execute(
            sa.update(t.runs).where(t.runs.c.id == self.id).values(**counts, **values)
        )

    def report(self) -> RunReport:
        return RunReport(
            self.id,
            self.model,
            self._structures,
            self._sites,
            self._rejected,
            self._graph,
            self._forward,
            time.monotonic() - self._started,
        )
