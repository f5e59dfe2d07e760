"""Structures that are sent: kept for a while under `upload:HASH`, which every question accepts."""

import asyncio
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from platonic_store.errors import (
    Call,
    NotEmbedded,
    PlatonicError,
    ServiceBusy,
    StructureNotFound,
    UnreadableSource,
)
from platonic_store.questions.shared.inputs import (
    UPLOAD,
    ExternalStructure,
    NotYetEmbedded,
    UploadedBatch,
)
from platonic_store.service.embedding import Layers, Models
from platonic_store.service.reading import Parser
from platonic_store.service.settings import Settings
from platonic_store.service.work import Work
from platonic_store.storage.snapshot import ModelLayer

ARRIVING: Final = 16  # uploads that arrive at the same time
BATCHES: Final = 8  # that are kept
WAITING: Final = 32  # uploads that wait to be read


class Upload:
    """A structure (one row of STRUCTURE_SCHEMA) and what models say of it, as they say it."""

    def __init__(self, structure: pa.RecordBatch, name: str):
        self.id = UPLOAD + structure["content_hash"][0].as_py()
        self.name = name
        self.nsites: int = structure["nsites"][0].as_py()
        place = structure.schema.get_field_index("id")
        column = pa.array([self.id], pa.string())
        self.structure = structure.set_column(place, structure.schema.field(place), column)
        self.embedded: dict[str, Future[Layers]] = {}
        self.refused: dict[str, str] = {}

    @property
    def row(self) -> dict[str, Any]:
        """The structure's row."""
        row: dict[str, Any] = self.structure.to_pylist()[0]
        return row

    def as_json(self) -> dict[str, Any]:
        """The structure (lattice and positions in Å, Cartesian) and how far its models are."""
        row = self.row
        states = {model: _state(future) for model, future in self.embedded.items()}
        return {
            "id": self.id,
            "name": self.name,
            "formula": row["formula"],
            "nsites": row["nsites"],
            "spacegroup": row["spacegroup"],
            "structure": {
                "lattice": np.reshape(row["cell"], (3, 3)).tolist(),
                "pbc": row["pbc"],
                "numbers": row["numbers"],
                "positions": np.reshape(row["positions"], (-1, 3)).tolist(),
            },
            "embedded": states | {model: f"error: {why}" for model, why in self.refused.items()},
        }


class Batch(NamedTuple):
    """Structures that were sent together: their names and uploads, and what could not be read."""

    id: str
    names: list[str]
    uploads: list[Upload]
    rejected: list[tuple[str, str]]

    def as_json(self) -> dict[str, Any]:
        """What it holds, and how many of its structures each model has embedded or rejected."""
        states = [upload.as_json()["embedded"] for upload in self.uploads]
        models = dict.fromkeys(model for state in states for model in state)
        return {
            "id": self.id,
            "structures": [
                {"name": name, "id": upload.id}
                for name, upload in zip(self.names, self.uploads, strict=True)
            ],
            "rejected": [{"name": name, "reason": reason} for name, reason in self.rejected],
            "embedded": {
                model: {
                    "done": sum(state.get(model) == "done" for state in states),
                    "rejected": sum(state.get(model, "").startswith("error") for state in states),
                }
                for model in models
            },
        }


def _state(future: "Future[Layers]") -> str:
    if not future.done():
        return "running" if future.running() else "waiting"
    error = None if future.cancelled() else future.exception()
    if future.cancelled() or error is not None:
        return f"error: {error or 'the service is ending'}"
    return "done"


class Uploads:
    """The newest that were sent."""

    def __init__(self, work: Work, models: Models, settings: Settings):
        self.work, self.models, self.settings = work, models, settings
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._batches: OrderedDict[str, Batch] = OrderedDict()
        self._lock = threading.Lock()
        self._parser = Parser(settings)
        self._reading = self._arriving = 0

    def start(self) -> None:
        """Begin what takes a while to be ready."""
        self._parser.start()
        self.models.start()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """While the body of a request is in memory. Raises: ServiceBusy."""
        if self._arriving >= ARRIVING:
            raise ServiceBusy("as many structures arrive as can be taken", "try again later")
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1

    async def add(self, body: bytes, content_type: str, name: str) -> Upload:
        """Read what was sent, and keep it. The same content is the same upload.

        Raises: UnreadableSource, ServiceBusy.
        """
        with self._reading_one():
            structure = await asyncio.to_thread(self._parser.read, body, content_type, name)
        return self._keep(Upload(structure, name))

    async def add_batch(self, body: bytes, content_type: str, name: str) -> Batch:
        """Read the structures that were sent together, and keep each of them.

        Raises: UnreadableSource, ServiceBusy.
        """
        with self._reading_one():
            found = await asyncio.to_thread(self._parser.read_many, body, content_type, name)
        rows = found.structures
        atoms = sum(rows["nsites"].to_pylist())
        if atoms > self.settings.kept_atoms:
            raise UnreadableSource(
                f"they have {atoms:,} atoms together, and may have {self.settings.kept_atoms:,}",
                Call("screen", "FILE"),
            )
        names = rows["id"].to_pylist()
        if len(names) == 1:
            names = [name or names[0]]
        uploads = [
            self._keep(Upload(rows.slice(row, 1), names[row])) for row in range(rows.num_rows)
        ]
        digest = hashlib.sha256("\n".join(one.id for one in uploads).encode()).hexdigest()[:32]
        batch = Batch(f"{UPLOAD}batch-{digest}", names, uploads, found.rejected)
        with self._lock:
            self._batches[batch.id] = batch
            while len(self._batches) > BATCHES:
                self._batches.popitem(last=False)
        return batch

    @contextmanager
    def _reading_one(self) -> Iterator[None]:
        if self._reading >= WAITING:
            raise ServiceBusy("as many structures wait to be read as can", "try again later")
        self._reading += 1
        try:
            yield
        finally:
            self._reading -= 1

    def _keep(self, upload: Upload) -> Upload:
        with self._lock:
            upload = self._kept.setdefault(upload.id, upload)
            self._kept.move_to_end(upload.id)
            while self._are_too_many():
                self._kept.popitem(last=False)
        return upload

    def _are_too_many(self) -> bool:
        atoms = sum(upload.nsites for upload in self._kept.values())
        return len(self._kept) > self.settings.uploads or atoms > self.settings.kept_atoms

    def get(self, id: str) -> Upload:
        """Raises: StructureNotFound."""
        with self._lock:
            if id not in self._kept:
                raise _not_kept(id)
            self._kept.move_to_end(id)
            return self._kept[id]

    def get_batch(self, id: str) -> Batch:
        """Raises: StructureNotFound."""
        with self._lock:
            if id not in self._batches:
                raise _not_kept(id)
            return self._batches[id]

    def embed(self, upload: Upload, model: str) -> "Future[Layers]":
        """A model's answer. What failed otherwise than by the structure is tried again.

        Raises: NotEmbedded.
        """
        with self._lock:
            known = upload.embedded.get(model)
            if known is None or (known.done() and _is_worth_another_try(known)):
                known = self.models.embed(model, upload.structure)
                upload.embedded[model] = known
            return known

    def embed_all(self, upload: Upload) -> None:
        """Have every model of the store that runs here embed it."""
        for model in [*self.models.names, *self.models.reasons]:
            try:
                self.embed(upload, model)
            except NotEmbedded as error:
                upload.refused[model] = str(error)

    def embedded(self, id: str, side: ModelLayer) -> ExternalStructure:
        """An upload as a layer of a model embeds it.

        Raises: StructureNotFound, NotEmbedded, NotYetEmbedded, and what running a model raises.
        """
        upload = self.get(id)
        future = self.embed(upload, side.model)
        if not future.done():
            raise NotYetEmbedded(future)
        layers = future.result()
        wanted = [one.layer for one in side.layers]
        if not {*wanted} <= layers.keys():
            raise NotEmbedded(
                f"{side} came into the store after the service began",
                "start the service again",
            )
        atoms = np.hstack([layers[layer] for layer in wanted])
        return ExternalStructure.of(atoms, upload.row)

    def numbers(self, id: str) -> list[int]:
        """The atomic numbers of an upload. Raises: StructureNotFound."""
        numbers: list[int] = self.get(id).row["numbers"]
        return numbers

    def batch(self, id: str) -> UploadedBatch:
        """A batch, or one upload as such. Raises: StructureNotFound."""
        if id.startswith(f"{UPLOAD}batch-"):
            batch = self.get_batch(id)
            names, uploads, rejected = batch.names, batch.uploads, batch.rejected
        else:
            upload = self.get(id)
            names, uploads, rejected = [upload.name], [upload], []
        rows = pa.Table.from_batches([upload.structure for upload in uploads])
        return UploadedBatch(names, rows, rejected)

    def __len__(self) -> int:
        return len(self._kept)

    def close(self) -> None:
        """End the processes that read and embed."""
        self._parser.close()
        self.models.close()


def _not_kept(id: str) -> StructureNotFound:
    return StructureNotFound(f"{id[:80]} is not kept, or no longer", "send it again")


def _is_worth_another_try(future: "Future[Layers]") -> bool:
    error = None if future.cancelled() else future.exception()
    return isinstance(error, PlatonicError) and not isinstance(error, UnreadableSource)
