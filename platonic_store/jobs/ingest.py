"""Ingest: crystals into the catalogue, then each model over what it has not embedded yet.

Everything is done in chunks that are committed as they come. To run the same command again is
therefore both the way to resume and a no-op.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
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
from platonic_store.runtimes.cards import Card, layers_wanted, outputs_wanted
from platonic_store.runtimes.forkserver import Forkserver
from platonic_store.runtimes.preparation import RunnableModel
from platonic_store.runtimes.workers import Embedded, WorkerPool
from platonic_store.storage import commits, records
from platonic_store.storage import tables as t
from platonic_store.storage.commits import TableAppend
from platonic_store.storage.ids import new_id
from platonic_store.storage.interrupts import uninterrupted
from platonic_store.storage.layout import Level
from platonic_store.storage.records import Wanted
from platonic_store.storage.writer import Writer
from platonic_store.structures import describe, read

_log = logging.getLogger(__name__)

# What a kill can cost: no more than this much work, or memory, is ever unacknowledged.
CHUNK_SECONDS = 15.0
CHUNK_BYTES = 64 << 20


class SourceReport(NamedTuple):
    """What became of the records of a source."""

    source: str
    new: int
    known: int
    rejected: int


class Lacking(NamedTuple):
    """What is to be stored of a worker's answers: layers, and outputs."""

    layers: list[int]
    outputs: list[str]


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


def read_source(writer: Writer, source: Any, format: str | None) -> tuple[int, SourceReport]:
    """Stream a source into the catalogue.

    Raises: UnreadableSource if nothing, or not everything, could be read (what could is kept);
    ConflictingStructure if ids arrived again with another content (the rest is kept).
    """
    uri = describe(source)
    source_id = records.begin_source(writer, uri)
    counts = np.zeros(3, dtype=int)
    conflicts: list[str] = []
    reasons: list[str] = []
    with progress.counting(f"reading {Path(uri).name}", "structures") as advance:
        for batch in read(source, format=format, batch_size=2048):
            added = records.add_batch(writer, source_id, batch)
            writer.publish_if_due()
            counts += (added.new, added.known, added.rejected)
            conflicts += added.conflicts
            reasons += [f"{r.record}: {r.reason}" for r in batch.rejected[:1]]
            advance(len(batch.structures))
    records.end_source(writer, source_id)
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
    writer: Writer,
    model: RunnableModel,
    *,
    source_id: int | None = None,
    layers: str = "default",
    outputs: str = "",
    device: str = "auto",
    batch_atoms: int | None = None,
    server: Forkserver | None = None,
) -> RunReport:
    """Run a model over the structures of a source (of all, if None) that lack what it is to give.

    server: forks the workers; it may have begun before.

    outputs: "energy", or "energy,forces", which are stored beside embeddings.

    Raises: LayerNotFound, InvalidQuery, WorkerFailed, CheckpointMismatch.
    """
    card = model.card
    wanted = Wanted(
        card.name,
        [*layers_wanted(card, layers)],
        [*outputs_wanted(card, outputs)],
        [*card.elements],
    )
    rejected = records.quarantine_unsupported_elements(
        writer, source_id, card.name, wanted.elements
    )
    gaps = records.gaps(writer, source_id, wanted)
    _renew_card(writer, card)
    if not gaps:
        return RunReport(0, card.name, 0, 0, rejected, 0.0, 0.0, 0.0)
    if all(gap.outputs == wanted.outputs for gap in gaps):
        wanted = wanted._replace(outputs=[])  # only layers are lacking
        gaps = records.gaps(writer, source_id, wanted)
    with WorkerPool(
        card,
        tuple(wanted.layers),
        outputs=tuple(wanted.outputs),
        python=model.python,
        device=device,
        batch_atoms=batch_atoms,
        server=server,
    ) as pool:
        _register_model(writer, card, pool.identity)
        run_id = _begin_run(writer, source_id, wanted, pool.identity)
        run = _Run(writer, run_id, card.name, source_id, rejected)
        with (
            run.recorded(),
            progress.bar(
                f"embedding with {card.name}", sum(gap.sites for gap in gaps), "atoms"
            ) as advance,
        ):
            for gap in gaps:
                structures = records.structures_of_gap(writer, source_id, wanted, gap)
                lacking = Lacking(
                    [layer for layer in wanted.layers if layer not in gap.layers],
                    [output for output in wanted.outputs if output not in gap.outputs],
                )
                run.commit_all(pool.embed(structures), lacking, advance)
    writer.publish(maintained=run.tables)
    return run.report


def _renew_card(writer: Writer, card: Card) -> None:
    """Keep the card of a model that is there as it is now: an older one says less."""
    kept = _kept(card)
    with writer.reading() as connection:
        stored = connection.scalar(sa.select(t.models.c.card).filter_by(name=card.name))
    if stored is not None and stored.keys() != kept.keys():
        with writer.writing() as connection:
            connection.execute(
                sa.update(t.models).where(t.models.c.name == card.name).values(card=kept)
            )


def _kept(card: Card) -> dict[str, Any]:
    """The card without what is of this machine."""
    return card.as_dict() | {"folder": None, "checkpoint": None}


def _register_model(writer: Writer, card: Card, identity: dict[str, Any]) -> None:
    """Remember the model and its weights; embeddings of other weights may not join them."""
    sha256 = identity["checkpoint_sha256"]
    with writer.writing() as connection:
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
                    kind=card.kind,
                    card=_kept(card),
                )
            )
        elif stored != sha256:
            raise CheckpointMismatch(
                f"the store's {card.name} embeddings were made by weights {stored[:12]}…, this "
                f"{card.name} has {sha256[:12]}…",
                "use another store",
                "install the package version that shipped the first",
            )


def _begin_run(
    writer: Writer, source_id: int | None, wanted: Wanted, identity: dict[str, Any]
) -> int:
    """Note in the catalogue that a model begins to run; returns the run's id."""
    with writer.writing() as connection:
        run_id = new_id()
        connection.execute(
            sa.insert(t.runs).values(
                id=run_id,
                model=wanted.model,
                source_id=source_id,
                layers=wanted.layers,
                outputs=wanted.outputs or None,
                state="running",
                checkpoint_sha256=identity["checkpoint_sha256"],
                device=identity["device"],
                dtype=identity["dtype"],
                identity=identity,
            )
        )
    gives = [*(f"layer {layer}" for layer in wanted.layers), *wanted.outputs]
    _log.info("run %d: %s on %s: %s", run_id, wanted.model, identity["device"], ", ".join(gives))
    return run_id


class _Run:
    """One model's pass: commits embeddings in chunks as they come, and keeps the run's row true."""

    def __init__(
        self,
        writer: Writer,
        run_id: int,
        model: str,
        source_id: int | None,
        rejected: int,
    ):
        self.report = RunReport(run_id, model, 0, 0, rejected, 0.0, 0.0, 0.0)
        self._writer, self._source_id = writer, source_id
        self._started = time.monotonic()
        self._tables: dict[tuple[int, Level], str] = {}

    @property
    def tables(self) -> list[str]:
        """The names of the vector tables that it wrote to."""
        return list(self._tables.values())

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Note in the catalogue how the run ended."""
        state = "failed"
        try:
            yield
            state = "finished"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        finally:
            with self._writer.writing() as connection:
                self._update(connection, self.report, state=state, finished_at=sa.func.now())
            _log.info("run %d %s: %s", self.report.run, state, self.report)

    def commit_all(
        self,
        answers: Iterable[Embedded],
        lacking: Lacking,
        advance: Callable[[float], None],
    ) -> None:
        """Commit what is lacking of all answers, of those gathered so far even when stopped."""
        chunk: list[Embedded] = []
        since = time.monotonic()
        try:
            for answer in answers:
                chunk.append(answer)
                size = sum(part.table.nbytes for part in chunk)
                if size > CHUNK_BYTES or time.monotonic() - since > CHUNK_SECONDS:
                    self._commit(chunk, lacking)
                    since = time.monotonic()
                advance(answer.table.num_rows + self._sites_of(answer.rejected))
        except KeyboardInterrupt:
            self._commit(chunk, lacking)
            raise
        self._commit(chunk, lacking)

    def _sites_of(self, rejected: list[tuple[str, str]]) -> int:
        if not rejected:
            return 0
        return len(records.sites(self._writer, [id_ for id_, _ in rejected]))

    @uninterrupted()
    def _commit(self, chunk: list[Embedded], lacking: Lacking) -> None:
        """Commit what has gathered in `chunk`, and empty it."""
        if not chunk:
            return
        atoms = pa.Table.from_batches([part.table for part in chunk])
        ids = atoms["id"].to_numpy()
        is_first = np.r_[True, ids[1:] != ids[:-1]][: len(ids)]
        structure_ids = ids[is_first].tolist()
        rejected = [(id_, id_, reason) for part in chunk for id_, reason in part.rejected]
        report = self.report._replace(
            structures=self.report.structures + len(structure_ids),
            sites=self.report.sites + len(ids),
            rejected=self.report.rejected + len(rejected),
            seconds_graph=self.report.seconds_graph + sum(part.seconds_graph for part in chunk),
            seconds_forward=self.report.seconds_forward
            + sum(part.seconds_forward for part in chunk),
        )

        def record(connection: sa.Connection) -> None:
            records.clear_quarantine(connection, report.model, set(structure_ids))
            records.quarantine(connection, self._source_id, report.model, rejected)
            self._update(connection, report)
            for table, rows in self._predictions(atoms, is_first, lacking.outputs):
                self._writer.add_rows(table, rows)

        if structure_ids and lacking.layers:
            commits.commit_chunk(
                self._writer,
                report.run,
                structure_ids,
                self._appends(atoms, structure_ids, np.cumsum(is_first) - 1, lacking.layers),
                record,
            )
        else:
            with self._writer.writing() as connection:
                record(connection)
            self._writer.publish_if_due()
        self.report = report
        chunk.clear()

    def _appends(
        self, atoms: pa.Table, structure_ids: list[str], structure: np.ndarray, layers: list[int]
    ) -> list[TableAppend]:
        """Rows for all tables. structure: (n,) which of the structures each atom belongs to."""
        sites = records.sites(self._writer, structure_ids)
        keys = {"structure_id": atoms["id"], "site_index": atoms["site_index"]}
        keys |= {name: sites[name] for name in sites.column_names}
        appends = []
        for layer in layers:
            vectors = vector_matrix(atoms[f"layer_{layer}"])
            rows = pa.table({**keys, "vector": vector_array(vectors)})
            appends.append(TableAppend(self._table(layer, "atom", vectors.shape[1]), rows))
            means = vector_array(mean_by_structure(vectors, structure))
            rows = pa.table({"structure_id": structure_ids, "vector": means})
            appends.append(TableAppend(self._table(layer, "structure", vectors.shape[1]), rows))
        return appends

    def _predictions(
        self, atoms: pa.Table, is_first: np.ndarray, outputs: list[str]
    ) -> Iterator[tuple[str, pa.Table]]:
        """Bulk rows of energies and forces. is_first: (n,) of the atoms, each structure's first."""
        keys = {
            "structure_id": atoms["id"],
            "model": pa.array([self.report.model] * len(atoms), pa.string()),
            "run": pa.array([self.report.run] * len(atoms), pa.int64()),
        }
        if "energy" in outputs:
            rows = pa.table({**keys, "energy": atoms["energy"]})
            yield "structure_predictions", rows.filter(pa.array(is_first, pa.bool_()))
        if "forces" in outputs:
            components = dict(
                zip(("fx", "fy", "fz"), vector_matrix(atoms["forces"]).T, strict=True)
            )
            yield (
                "atom_predictions",
                pa.table({**keys, "site_index": atoms["site_index"], **components}),
            )

    def _table(self, layer: int, level: Level, dim: int) -> str:
        if (layer, level) not in self._tables:
            self._tables[layer, level] = commits.ensure_vector_table(
                self._writer, self.report.model, layer, level, dim
            )
        return self._tables[layer, level]

    def _update(self, connection: sa.Connection, report: RunReport, **values: Any) -> None:
        self.report = self.report._replace(seconds_wall=time.monotonic() - self._started)
        connection.execute(
            sa.update(t.runs)
            .where(t.runs.c.id == report.run)
            .values(
                structures=report.structures,
                sites=report.sites,
                rejected=report.rejected,
                seconds_graph=report.seconds_graph,
                seconds_forward=report.seconds_forward,
                seconds_wall=self.report.seconds_wall,
                **values,
            )
        )
