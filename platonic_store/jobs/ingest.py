"""Ingest: crystals into the catalogue, then each model over what it has not embedded yet.

Everything is done in chunks that are committed as they come. To run the same command again is
therefore both the way to resume and a no-op.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from platonic_store import progress
from platonic_store.engines import Engine, Lacking
from platonic_store.engines.cluster import Cluster
from platonic_store.engines.local import LocalEngine
from platonic_store.errors import Call, ConflictingStructure, UnreadableSource
from platonic_store.jobs.runs import RunReport, begin_run, register_model, renew_card
from platonic_store.runtimes.cards import Card, layers_wanted, outputs_wanted
from platonic_store.runtimes.forkserver import Forkserver
from platonic_store.runtimes.preparation import ModelElsewhere, RunnableModel
from platonic_store.storage import records
from platonic_store.storage.records import Wanted
from platonic_store.storage.writer import Writer
from platonic_store.structures import StructureBatch, describe, read


class SourceReport(NamedTuple):
    """What became of the records of a source."""

    source: str
    new: int
    known: int
    rejected: int


def read_source(
    writer: Writer, source: Any, format: str | None, cluster: Cluster | None = None
) -> tuple[int, SourceReport]:
    """Stream a source into the catalogue. cluster: whose nodes read it, as far as they can.

    Raises: UnreadableSource if nothing, or not everything, could be read (what could is kept);
    ConflictingStructure if ids arrived again with another content (the rest is kept).
    """
    uri = describe(source)
    source_id = records.begin_source(writer, uri)
    counts = np.zeros(3, dtype=int)
    conflicts: list[str] = []
    reasons: list[str] = []
    with progress.counting(f"reading {Path(uri).name}", "structures") as advance:
        for batch in _reader(cluster)(source, format=format, batch_size=2048):
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


def _reader(cluster: Cluster | None) -> Callable[..., Iterator[StructureBatch]]:
    if cluster is None:
        return read
    from platonic_store.engines.reading import read_by_tasks

    return read_by_tasks


class Asked(NamedTuple):
    """What is asked of models.

    outputs: "energy", or "energy,forces", which are stored beside embeddings. cluster: whose nodes
    do it, in place of this machine.
    """

    layers: str = "default"
    outputs: str = ""
    device: str = "auto"
    batch_atoms: int | None = None
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

    models: each with what forks its workers. Those of the first start while the source is read.

    Raises: as `read_source` and `embed`.
    """
    pair, source_id, report = next(models, None), None, None
    with ExitStack() as stack:

        def started() -> Engine | None:
            if pair is None or asked.cluster is not None or asked.outputs:
                return None
            model, server = pair
            return stack.enter_context(_engine(writer, model, asked.of(model.card), asked, server))

        engine = started()
        if source is not None:
            source_id, report = read_source(writer, source, format, asked.cluster)
        runs = []
        while pair is not None:
            run, tables = _embed(writer, pair[0], source_id, asked, pair[1], engine)
            runs.append(run)
            pair = next(models, None)
            engine = started()
            if run.run:
                writer.publish(maintained=tables)
    return report, runs


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
) -> tuple[RunReport, list[str]]:
    """As `embed`, and nothing is published at its end: the vector tables that wait for it.

    server: what forks this machine's workers. engine: of this model, if it is started already.
    """
    card, wanted = model.card, asked.of(model.card)
    rejected = records.quarantine_unsupported_elements(
        writer, source_id, card.name, wanted.elements
    )
    gaps = records.gaps(writer, source_id, wanted)
    renew_card(writer, card)
    if not gaps:
        return RunReport(0, card.name, 0, 0, rejected, 0.0, 0.0, 0.0), []
    if all(gap.outputs == wanted.outputs for gap in gaps):
        wanted = wanted._replace(outputs=[])  # only layers are lacking
        gaps = records.gaps(writer, source_id, wanted)
    with engine or _engine(writer, model, wanted, asked, server) as engine:
        register_model(writer, card, engine.identity)
        run = begin_run(writer, source_id, wanted, engine.identity, rejected)
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
                engine.embed(structures, lacking, run.table, run.commit, advance)
    return run.report, run.tables


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
