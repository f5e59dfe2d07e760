"""Ingest: crystals into the catalogue, and each model over what it has not embedded yet.

Everything is done in chunks that are committed as they come. To run the same command again is
therefore both the way to resume and a no-op.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from platonic_store import progress
from platonic_store.engines import Lacking
from platonic_store.jobs.reading import Arriving, Reading, SourceReport
from platonic_store.jobs.runs import RunReport, begin_run, register_model, renew_card
from platonic_store.jobs.turns import AnyModel, Asked, Turn, Turns, engine_of
from platonic_store.runtimes.forkserver import Forkserver
from platonic_store.storage import quarantine
from platonic_store.storage.gaps import Gap, Wanted, find_gaps, structures_of_gap
from platonic_store.storage.writer import Writer


class _Work(NamedTuple):
    """What a model has to do. arriving: what is to come of a source; gaps: of what is there.

    rejected: structures that are new in quarantine. is_begun: the first of a gap are under way.
    """

    turn: Turn
    wanted: Wanted
    rejected: int
    gaps: list[Gap]
    arriving: Arriving | None = None
    is_begun: bool = False


def ingest(
    writer: Writer,
    source: Any,
    format: str | None,
    models: Iterator[tuple[AnyModel, Forkserver | None]],
    asked: Asked,
) -> tuple[SourceReport | None, list[RunReport]]:
    """Read a source (None: what the store holds), whose structures the models then embed.

    models: each with what forks its workers. Of the first two, the one that is ready first embeds
    what is new while the source is read. The next begins when a worker has nothing left to do.

    Raises: as `Reading.structures` and `embed`.
    """
    reading = arriving = None
    runs, begun = dict[int, RunReport](), list[_Work]()
    with ExitStack() as stack:
        turns = Turns(writer, models, asked, stack)

        def begin_next() -> None:
            turn = None if begun else turns.next_ready()
            if turn is not None:
                work = _work(writer, turn, source_id, asked)
                begun.append(_begun(writer, work, source_id, begin_next))

        turns.let_in(2)
        if source is not None:
            reading = Reading(writer, source, format, asked.cluster)
            arriving = reading.structures(turns.able_to_begin, turns.first_ready)
            if arriving is not None:
                stack.enter_context(closing(arriving.structures))
                turns.put_first(arriving.place)
        source_id = None if reading is None else reading.id
        while turns or begun:
            work = begun.pop() if begun else _work(writer, turns.next(), source_id, asked, arriving)
            arriving = None
            run, tables = _embed(writer, work, source_id, asked, begin_next)
            runs[work.turn.place] = run
            turns.let_in(1)
            begin_next()
            if run.run:
                writer.publish(maintained=tables)
    return None if reading is None else reading.report, [runs[place] for place in sorted(runs)]


def embed(writer: Writer, model: AnyModel, source_id: int | None, asked: Asked) -> RunReport:
    """Run a model over the structures of a source (of all, if None) that lack what it is to give.

    Raises: LayerNotFound, InvalidQuery, WorkerFailed, CheckpointMismatch, ClusterNotReady.
    """
    work = _work(writer, Turn(0, model, datetime.now(UTC)), source_id, asked)
    report, tables = _embed(writer, work, source_id, asked)
    if report.run:
        writer.publish(maintained=tables)
    return report


def _work(
    writer: Writer,
    turn: Turn,
    source_id: int | None,
    asked: Asked,
    arriving: Arriving | None = None,
) -> _Work:
    """arriving: structures of the source that come while it is read, and lack all."""
    wanted = asked.of(turn.model.card)
    renew_card(writer, turn.model.card)
    if arriving is not None:
        return _Work(turn, wanted, 0, [], arriving)
    rejected, gaps = _gaps(writer, source_id, wanted)
    if gaps and all(gap.outputs == wanted.outputs for gap in gaps):
        wanted = wanted._replace(outputs=[])  # only layers are lacking
        gaps = find_gaps(writer, source_id, wanted)
    return _Work(turn, wanted, rejected, gaps)


def _begun(
    writer: Writer, work: _Work, source_id: int | None, when_idle: Callable[[], None]
) -> _Work:
    """Have the workers of an engine that is ready begin with what there is to do."""
    if not work.gaps or work.turn.engine is None or work.turn.engine.ready.exception():
        return work
    structures = structures_of_gap(writer, source_id, work.wanted, work.gaps[0])
    work.turn.engine.begin(structures, when_idle)
    return work._replace(is_begun=True)


def _embed(
    writer: Writer,
    work: _Work,
    source_id: int | None,
    asked: Asked,
    when_idle: Callable[[], None] = lambda: None,
) -> tuple[RunReport, list[str]]:
    """Do a model's work; nothing is published at its end: the vector tables that wait for it."""
    turn, wanted, rejected, gaps, arriving, is_begun = work
    card = turn.model.card
    if not gaps and arriving is None:
        return RunReport(0, card.name, 0, 0, rejected, 0.0, 0.0, 0.0), []
    sites = arriving.sites if arriving else sum(gap.sites for gap in gaps)
    with (
        turn.engine or engine_of(writer, turn, wanted, asked) as engine,
        progress.bar(f"embedding with {card.name}", sites, "atoms") as advance,
    ):
        progress.note("starting workers")
        register_model(writer, card, engine.identity, turn.named_at)
        run = begin_run(writer, source_id, wanted, engine.identity, rejected, asked.store_dtype)

        def pass_over(structures: Iterable[pa.RecordBatch], lacking: Lacking) -> None:
            engine.embed(structures, lacking, run.table, run.commit, advance, when_idle)

        with run.recorded():
            if arriving is not None:
                pass_over(arriving.structures, Lacking(wanted.layers, wanted.outputs))
                rejected, gaps = _gaps(writer, source_id, wanted)
                run.refuse(rejected)
                gaps = [gap for gap in gaps if gap.layers or gap.outputs]  # others were tried
                progress.expect_more(sum(gap.sites for gap in gaps))
            for gap in gaps:
                structures = structures_of_gap(writer, source_id, wanted, gap)
                lacking = Lacking(
                    [layer for layer in wanted.layers if layer not in gap.layers],
                    [output for output in wanted.outputs if output not in gap.outputs],
                )
                pass_over(() if is_begun else structures, lacking)
                is_begun = False
    return run.report, run.tables


def _gaps(writer: Writer, source_id: int | None, wanted: Wanted) -> tuple[int, list[Gap]]:
    """How many structures are new in quarantine, for their elements, and what the others lack."""
    rejected = quarantine.add_unsupported(writer, source_id, wanted.model, wanted.elements)
    return rejected, find_gaps(writer, source_id, wanted)
