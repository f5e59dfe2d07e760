"""Ingest: crystals into the catalogue, then each model over what it has not embedded yet.

Everything is done in chunks that are committed as they come. To run the same command again is
therefore both the way to resume and a no-op.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from platonic_store import progress
from platonic_store.engines import Engine, Lacking
from platonic_store.engines.cluster import Cluster
from platonic_store.engines.local import LocalEngine
from platonic_store.errors import Call, ConflictingStructure, UnreadableSource
from platonic_store.jobs.runs import RunReport, begin_run, register_model, renew_card
from platonic_store.runtimes.cards import layers_wanted, outputs_wanted
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


def embed(
    writer: Writer,
    model: RunnableModel | ModelElsewhere,
    *,
    source_id: int | None = None,
    layers: str = "default",
    outputs: str = "",
    device: str = "auto",
    batch_atoms: int | None = None,
    cluster: Cluster | None = None,
    server: Forkserver | None = None,
) -> RunReport:
    """Run a model over the structures of a source (of all, if None) that lack what it is to give.

    outputs: "energy", or "energy,forces", which are stored beside embeddings. cluster: whose nodes
    do it, in place of this machine. server: what forks this machine's workers.

    Raises: LayerNotFound, InvalidQuery, WorkerFailed, CheckpointMismatch, ClusterNotReady.
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
    renew_card(writer, card)
    if not gaps:
        return RunReport(0, card.name, 0, 0, rejected, 0.0, 0.0, 0.0)
    if all(gap.outputs == wanted.outputs for gap in gaps):
        wanted = wanted._replace(outputs=[])  # only layers are lacking
        gaps = records.gaps(writer, source_id, wanted)
    with _engine(writer, model, wanted, cluster, device, batch_atoms, server) as engine:
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
    writer.publish(maintained=run.tables)
    return run.report


def _engine(
    writer: Writer,
    model: RunnableModel | ModelElsewhere,
    wanted: Wanted,
    cluster: Cluster | None,
    device: str,
    batch_atoms: int | None,
    server: Forkserver | None,
) -> Engine:
    if isinstance(model, RunnableModel):
        return LocalEngine(
            writer, model, wanted, device=device, batch_atoms=batch_atoms, server=server
        )
    from platonic_store.engines.on_cluster import ClusterEngine

    assert cluster is not None
    return ClusterEngine(writer, model, wanted, cluster, device=device, batch_atoms=batch_atoms)
