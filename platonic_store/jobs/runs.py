"""A model's pass over structures: its row in the catalogue, and the commits of its chunks."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
import sqlalchemy as sa

from platonic_store.engines import Chunk
from platonic_store.errors import CheckpointMismatch
from platonic_store.runtimes.cards import Card, is_same_weights
from platonic_store.storage import commits, quarantine
from platonic_store.storage import tables as t
from platonic_store.storage.gaps import Wanted
from platonic_store.storage.ids import new_id
from platonic_store.storage.interrupts import uninterrupted
from platonic_store.storage.layout import Level, StoreDtype
from platonic_store.storage.writer import Writer

_log = logging.getLogger(__name__)


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


def renew_card(writer: Writer, card: Card) -> None:
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


def register_model(
    writer: Writer, card: Card, identity: dict[str, Any], added_at: datetime | None = None
) -> None:
    """Remember the model and its weights; embeddings of other weights may not join them.

    added_at: if it is new; by default now. The first of a store's models is asked by default.
    """
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
                    added_at=added_at or datetime.now(UTC),
                )
            )
        elif not is_same_weights(stored, identity, card):
            raise CheckpointMismatch(
                f"the store's {card.name} embeddings were made by weights {stored[:12]}…, this "
                f"{card.name} has {sha256[:12]}…",
                "use another store",
                "install the package version that shipped the first",
            )
        elif stored == identity.get("former_sha256"):
            connection.execute(
                sa.update(t.models)
                .where(t.models.c.name == card.name)
                .values(checkpoint_sha256=sha256)
            )


def begin_run(
    writer: Writer,
    source_id: int | None,
    wanted: Wanted,
    identity: dict[str, Any],
    rejected: int,
    store_dtype: StoreDtype | None = None,
) -> "Run":
    """Note in the catalogue that a model begins to run.

    rejected: how many structures it will not be given. store_dtype: see `Run`.
    """
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
    report = RunReport(run_id, wanted.model, 0, 0, rejected, 0.0, 0.0, 0.0)
    return Run(writer, report, source_id, store_dtype)


class Run:
    """One model's pass: commits chunks as they come, and keeps the run's row true.

    store_dtype: of the vectors; None: as a table has them, or float32 where there is none.
    """

    def __init__(
        self,
        writer: Writer,
        report: RunReport,
        source_id: int | None,
        store_dtype: StoreDtype | None,
    ):
        self.report = report
        self._writer, self._source_id, self._store_dtype = writer, source_id, store_dtype
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

    def table(self, layer: int, level: Level, dim: int) -> str:
        """The name of a vector table, which is made if there is none.

        Raises: InvalidQuery if it is there in another precision than asked for.
        """
        if (layer, level) not in self._tables:
            is_half = self._store_dtype == "float16"
            name = commits.ensure_vector_table(
                self._writer, self.report.model, layer, level, dim, half=is_half
            )
            if self._store_dtype is not None:
                commits.require_dtype(self._writer, name, self._store_dtype)
            self._tables[layer, level] = name
        return self._tables[layer, level]

    def refuse(self, structures: int) -> None:
        """Count structures that the model was not given; recorded with what comes next."""
        self.report = self.report._replace(rejected=self.report.rejected + structures)

    @uninterrupted()
    def commit(self, chunk: Chunk) -> None:
        """Commit a chunk with its rejections and predictions; published when it is due."""
        report = self.report._replace(
            structures=self.report.structures + len(chunk.structure_ids),
            sites=self.report.sites + chunk.sites,
            rejected=self.report.rejected + len(chunk.rejected),
            seconds_graph=self.report.seconds_graph + chunk.seconds_graph,
            seconds_forward=self.report.seconds_forward + chunk.seconds_forward,
        )
        rejected = [(id_, id_, reason) for id_, reason in chunk.rejected]

        def record(connection: sa.Connection) -> None:
            quarantine.clear(connection, report.model, set(chunk.structure_ids))
            quarantine.add(connection, self._source_id, report.model, rejected)
            self._update(connection, report)
            for table, rows in chunk.predictions.items():
                self._writer.add_rows(table, self._of_run(rows))

        if chunk.written is not None:
            ids, run = chunk.structure_ids, report.run
            commits.commit_written(self._writer, run, ids, chunk.written, record)
        else:
            with self._writer.writing() as connection:
                record(connection)
            self._writer.publish_if_due()
        self.report = report

    def _of_run(self, rows: pa.Table) -> pa.Table:
        model = pa.array([self.report.model] * len(rows), pa.string())
        run = pa.array([self.report.run] * len(rows), pa.int64())
        return rows.append_column("model", model).append_column("run", run)

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
