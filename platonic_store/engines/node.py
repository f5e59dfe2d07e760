"""What runs on a node of a cluster: a model with its workers, which writes what it makes itself."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platonic_store import resources
from platonic_store.engines import Chunk, Lacking
from platonic_store.engines.cutting import Piece
from platonic_store.engines.written import chunk_of
from platonic_store.errors import StoreNotWritable
from platonic_store.runtimes import checkpoints
from platonic_store.runtimes.cards import Card
from platonic_store.runtimes.workers import WorkerPool
from platonic_store.storage.layout import Level
from platonic_store.storage.location import Location


class Assignment(NamedTuple):
    """What an actor is to run.

    card: of the driver, where its licence was accepted and its weights checked. families: the
    folder of the driver that holds the families that come with platonic-store. python: the user's
    own, which is to be on every node. witness: a file that the store has.
    """

    card: Card
    families: str
    python: Path | None
    layers: tuple[int, ...]
    outputs: tuple[str, ...]
    device: str
    batch_atoms: int | None
    workers: int
    location: Location
    witness: str


class Embedder:
    """An actor: embeds pieces with the workers of one pool, and writes chunks.

    Two calls may be under way: one embeds while the other writes.
    """

    def __init__(self, assignment: Assignment):
        self._assignment = assignment
        self._embedding = threading.Lock()
        self._pool: WorkerPool | None = None

    def start(self) -> dict[str, Any]:
        """Load the model, whose environment is made first where this node has none.

        Returns the workers' identity. Raises: EnvironmentNotReady, WeightsNotFound,
        CheckpointMismatch, WorkerFailed, StoreNotWritable, StoreUnreachable.
        """
        given = self._assignment
        if not given.location.exists(given.witness):
            raise StoreNotWritable(
                f"a node of the cluster does not see the store at {given.location.uri}",
                "keep it on a file system that all nodes share, or in an object store",
            )
        self._pool = WorkerPool(
            card_here(given.card, given.families),
            given.layers,
            outputs=given.outputs,
            python=given.python,
            device=given.device,
            batch_atoms=given.batch_atoms,
            workers=given.workers,
        )
        return self._pool.identity

    def embed(self, piece: Piece, lacking: Lacking, tables: dict[tuple[int, Level], str]) -> Chunk:
        """Raises: WorkerFailed, StoreNotWritable, StoreUnreachable."""
        assert self._pool is not None
        with self._embedding:
            answers = list(self._pool.embed([piece.structures]))
        return chunk_of(
            answers,
            lacking,
            self._assignment.location,
            lambda layer, level, _: tables[layer, level],
            lambda ids: sites(piece, ids),
            described=True,
        )


def card_here(card: Card, families: str) -> Card:
    """A card of the driver, with the folders and files of this machine.

    Raises: WeightsNotFound, CheckpointMismatch.
    """
    folder = Path(card.folder)
    if folder.is_relative_to(families):
        here = resources.folder("ingest") / "families"
        card = replace(card, folder=str(here / folder.relative_to(families)))
    if card.checkpoint is None:
        return card
    given = Path(card.checkpoint) if Path(card.checkpoint).exists() else None
    trusted = [card.checkpoint_sha256] if card.checkpoint_sha256 else []
    return checkpoints.resolve_checkpoint(replace(card, checkpoint=None), given, trusted)


def sites(piece: Piece, ids: list[str]) -> pa.Table:
    """The atomic_number and orbit of every site of some structures of a piece, in their order."""
    places = pc.index_in(pa.array(ids, pa.string()), piece.structures["id"])
    numbers, orbits = piece.structures["numbers"].take(places), piece.orbits.take(places)
    return pa.table({"atomic_number": numbers.flatten(), "orbit": orbits.flatten()})


def passport() -> dict[str, str]:
    """The versions by which two nodes must agree."""
    import hashlib
    from importlib.metadata import version

    names = ("platonic-store", "pylance", "pyarrow")
    found = {name: version(name) for name in names}
    digest = hashlib.sha256()
    for path in sorted(resources.folder("ingest").rglob("*.py")):
        digest.update(path.read_bytes())
    return found | {"its workers": digest.hexdigest()[:12]}


def unexpected(chunk: Chunk, piece: Piece) -> str | None:
    """What of a chunk is not what the piece asks for, in words; None where all is."""
    asked = dict(zip(piece.ids, np.diff(piece.structures["numbers"].offsets).tolist(), strict=True))
    answered = [*chunk.structure_ids, *(id_ for id_, _ in chunk.rejected)]
    if sorted(answered) != sorted(asked):
        return f"{len(answered)} structures were answered, {len(asked)} asked for"
    expected = sum(asked[id_] for id_ in chunk.structure_ids)
    if chunk.sites != expected:
        return f"{chunk.sites} atoms were answered, {expected} asked for"
    for table in chunk.written.tables if chunk.written else ():
        rows = expected if table.table.endswith(".atom") else len(chunk.structure_ids)
        written = sum(fragment.physical_rows for fragment in table.fragments)
        if not rows == table.rows == written:
            return f"{table.table} has {written} rows in place of {rows}"
        files = {Path(file.path).name: file.size for file in table.files}
        told = {
            Path(file.path).name: file.file_size_bytes
            for fragment in table.fragments
            for file in fragment.files
        }
        if files != told:
            return f"the files of {table.table} are not as they were written"
    return None
