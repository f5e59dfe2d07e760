"""Ingest: crystals into the catalogue, and each model over what it has not embedded yet.

Everything is done in chunks that are committed as they come. To run the same command again is
therefore both the way to resume and a no-op.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

from platonic_store import progress
from platonic_store.engines import Engine, Lacking
from platonic_store.engines.cluster import Cluster
from platonic_store.engines.local import LocalEngine
from platonic_store.jobs.reading import Arriving, Reading, SourceReport
from platonic_store.jobs.runs import RunReport, begin_run, register_model, renew_card
from platonic_store.runtimes.cards import Card, layers_wanted, outputs_wanted
from platonic_store.runtimes.forkserver import Forkserver
from platonic_store.runtimes.preparation import ModelElsewhere, RunnableModel
from platonic_store.storage import quarantine
from platonic_store.storage.gaps import Gap, Wanted, find_gaps, structures_of_gap
from platonic_store.storage.layout import StoreDtype
from platonic_store.storage.writer import Writer


class Asked(NamedTuple):
    """What is asked of models.

    outputs: "energy", or "energy,forces", which are stored beside embeddings. store_dtype: of
    embeddings; None: as the model's others are stored, or float32. cluster: whose nodes do it, in
    place of this machine.
    """

    layers: str = "default"
    outputs: str = ""
    device: str = "auto"
    batch_atoms: int | None = None
    store_dtype: StoreDtype | None = None
    cluster: Cluster | None = None

    def of(self, card: Card) -> Wanted:
        """Raises: LayerNotFound, InvalidQuery."""
        layers, outputs = layers_wanted(card, self.layers), outputs_wanted(card, self.outputs)
        return Wanted(card.name, [*layers], [*outputs], [*card.elements])


AnyModel = RunnableModel | ModelElsewhere


def ingest(
    writer: Writer,
    source: Any,
    format: str | None,
    models: Iterator[tuple[AnyModel, Forkserver | None]],
    asked: Asked,
) -> tuple[SourceReport | None, list[RunReport]]:
    """Read a source (None: what the store holds), whose structures the models then embed.

    models: each with what forks its workers. Those of the first start at once, and it embeds what
    is new while the source is read.

    Raises: as `Reading.structures` and `embed`.
    """
    pair = next(models, None)
    reading = arriving = None
    with ExitStack() as stack:

        def started() -> Engine | None:
            if pair is None or asked.cluster is not None or asked.outputs:
                return None
            model, server = pair
            return stack.enter_context(_engine(writer, model, asked.of(model.card), asked, server))

        engine = started()
        if source is not None:
            reading = Reading(writer, source, format, asked.cluster)
            is_beside = pair is not None and asked.cluster is None
            arriving = reading.structures(asked.of(pair[0].card) if pair and is_beside else None)
            if arriving is not None:
                stack.enter_context(closing(arriving.structures))
        runs = []
        while pair is not None:
            source_id = None if reading is None else reading.id
            run, tables = _embed(writer, pair[0], source_id, asked, pair[1], engine, arriving)
            runs.append(run)
            pair, arriving = next(models, None), None
            engine = started()
            if run.run:
                writer.publish(maintained=tables)
    return None if reading is None else reading.report, runs


def embed(writer: Writer, model: AnyModel, source_id: int | None, asked: Asked) -> RunReport:
    """Run a model over the structures of a source (of all, if None) that lack what it is to give.

    Raises: LayerNotFound, InvalidQuery, WorkerFailed, CheckpointMismatch, ClusterNotReady.
    """
    report, tables = _embed(writer, model, source_id, asked)
    if report.run:
        writer.publish(maintained=tables)
    return report


def _embed(
    writer: Writer,
    model: AnyModel,
    source_id: int | None,
    asked: Asked,
    server: Forkserver | None = None,
    engine: Engine | None = None,
    arriving: Arriving | None = None,
) -> tuple[RunReport, list[str]]:
    """As `embed`, and nothing is published at its end: the vector tables that wait for it.

    server: what forks this machine's workers. engine: of this model, if it is started already.
    arriving: structures of the source that come while it is read, and lack all; the others follow.
    """
    card, wanted = model.card, asked.of(model.card)
    renew_card(writer, card)
    rejected, gaps = 0, list[Gap]()
    if arriving is None:
        rejected, gaps = _gaps(writer, source_id, wanted)
        if not gaps:
            return RunReport(0, card.name, 0, 0, rejected, 0.0, 0.0, 0.0), []
        if all(gap.outputs == wanted.outputs for gap in gaps):
            wanted = wanted._replace(outputs=[])  # only layers are lacking
            gaps = find_gaps(writer, source_id, wanted)
    sites = arriving.sites if arriving else sum(gap.sites for gap in gaps)
    with (
        engine or _engine(writer, model, wanted, asked, server) as engine,
        progress.bar(f"embedding with {card.name}", sites, "atoms") as advance,
    ):
        progress.note("starting workers")
        register_model(writer, card, engine.identity)
        run = begin_run(writer, source_id, wanted, engine.identity, rejected, asked.store_dtype)
        with run.recorded():
            if arriving is not None:
                everything = Lacking(wanted.layers, wanted.outputs)
                engine.embed(arriving.structures, everything, run.table, run.commit, advance)
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
                engine.embed(structures, lacking, run.table, run.commit, advance)
    return run.report, run.tables


def _gaps(writer: Writer, source_id: int | None, wanted: Wanted) -> tuple[int, list[Gap]]:
    """How many structures are new in quarantine, for their elements, and what the others lack."""
    rejected = quarantine.add_unsupported(writer, source_id, wanted.model, wanted.elements)
    return rejected, find_gaps(writer, source_id, wanted)


def _engine(
    writer: Writer,
    model: AnyModel,
    wanted: Wanted,
    asked: Asked,
    server: Forkserver | None,
) -> Engine:
    device, batch_atoms = asked.device, asked.batch_atoms
    if isinstance(model, RunnableModel):
        return LocalEngine(
            writer, model, wanted, device=device, batch_atoms=batch_atoms, server=server
        )
    from platonic_store.engines.on_cluster import ClusterEngine

    assert asked.cluster is not None
    return ClusterEngine(
        writer, model, wanted, asked.cluster, device=device, batch_atoms=batch_atoms
    )
