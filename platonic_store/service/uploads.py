"""Structures that are sent: kept for a while under `upload:HASH`, which every question accepts."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pyarrow as pa

from platonic_store.errors import NotEmbedded, PlatonicError, ServiceBusy, StructureNotFound
from platonic_store.questions.shared.inputs import (
    GUEST,
    ExternalStructure,
    GuestBatch,
    NotYetEmbedded,
)
from platonic_store.service.embedding import Layers, Models
from platonic_store.service.reading import Parser
from platonic_store.service.settings import Settings
from platonic_store.service.work import Work
from platonic_store.storage.snapshot import ModelLayer

ARRIVING: Final = 16  # uploads that arrive at the same time
WAITING: Final = 32  # uploads that wait to be read


class Upload:
    """A structure (one row of STRUCTURE_SCHEMA) and what models say of it, as they say it."""

    def __init__(self, structure: pa.RecordBatch, name: str):
        self.id = GUEST + structure["content_hash"][0].as_py()
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
        if self._reading >= WAITING:
            raise ServiceBusy("as many structures wait to be read as can", "try again later")
        self._reading += 1
        try:
            structure = await asyncio.to_thread(self._parser.read, body, content_type, name)
        finally:
            self._reading -= 1
        upload = Upload(structure, name)
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
                raise StructureNotFound(f"{id[:80]} is not kept, or no longer", "send it again")
            self._kept.move_to_end(id)
            return self._kept[id]

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
        if side.layer not in layers:
            raise NotEmbedded(
                f"layer {side.layer} of {side.model} came into the store after the service began",
                "start the service again",
            )
        row = upload.row
        return ExternalStructure(layers[side.layer], np.array(row["numbers"]), row["formula"])

    def numbers(self, id: str) -> list[int]:
        """The atomic numbers of an upload. Raises: StructureNotFound."""
        numbers: list[int] = self.get(id).row["numbers"]
        return numbers

    def batch(self, id: str) -> GuestBatch:
        """One upload as a batch. Raises: StructureNotFound."""
        upload = self.get(id)
        return GuestBatch([upload.name], pa.Table.from_batches([upload.structure]), [])

    def __len__(self) -> int:
        return len(self._kept)

    def close(self) -> None:
        """End the processes that read and embed."""
        self._parser.close()
        self.models.close()


def _is_worth_another_try(future: "Future[Layers]") -> bool:
    from platonic_store.errors import UnreadableSource

    error = None if future.cancelled() else future.exception()
    return isinstance(error, PlatonicError) and not isinstance(error, UnreadableSource)
