"""Parquet, row group by row group; schema, metadata and compression stay."""

import json
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from platonic_store.annotation.provenance import now
from platonic_store.annotation.targets import (
    BATCH,
    PREFIX,
    Answer,
    Columns,
    Key,
    Record,
    files,
    id_column,
)
from platonic_store.errors import InvalidTarget, UnreadableSource
from platonic_store.structures import sources

_TYPES = {
    "text": pa.string(),
    "number": pa.float64(),
    "neighbours": pa.list_(pa.struct([("id", pa.string()), ("distance", pa.float64())])),
}
METADATA = b"platonic_store"


class Target:
    """A parquet file; structures as `ingest` reads them from parquet, if it has any."""

    def __init__(self, path: Path, out: Path, id: str | None, by_id: bool):
        self.name, self.path, self.out = path.name, path, out
        try:
            names = pq.read_schema(path).names
        except (pa.ArrowInvalid, OSError) as error:
            raise InvalidTarget(
                f"{path} cannot be read as parquet: {error}", "fix the file"
            ) from None
        self.has_structures = _holds_structures(path) and not by_id
        self.id = id_column(names, id, self.has_structures, str(path))

    def records(self) -> Iterator[Record]:
        crystals = sources.records(self.path, "parquet") if self.has_structures else repeat(None)
        for number, (name, crystal) in enumerate(zip(self._names(), crystals, strict=False)):
            yield Record(number, name, crystal)

    def _names(self) -> Iterator[str | None]:
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(BATCH, columns=[self.id] if self.id else []):
                values = batch[self.id].to_pylist() if self.id else [None] * batch.num_rows
                yield from (None if value is None else str(value) for value in values)

    def done(self, run: str) -> frozenset[Key]:
        return frozenset()

    def write(
        self, keys: Sequence[Key], columns: Columns, answer: Answer, provenance: dict[str, Any]
    ) -> None:
        added = pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])
        with files.replacing(self.out) as partial, pq.ParquetFile(self.path) as file:
            own = [name for name in file.schema_arrow.names if not name.startswith(PREFIX)]
            kept = file.schema_arrow
            schema = pa.schema(
                [*(kept.field(name) for name in own), *added],
                metadata={**(kept.metadata or {}), METADATA: self._metadata(provenance)},
            )
            start = 0
            with pq.ParquetWriter(partial, schema, compression=_compression(file)) as writer:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=own)
                    part = keys[start : start + len(table)]
                    answers = pa.Table.from_pylist(answer(part), schema=added)
                    whole = [*table.columns, *answers.columns]
                    writer.write_table(pa.table(whole, schema=schema))
                    start += len(table)

    def _metadata(self, provenance: dict[str, Any]) -> bytes:
        """The provenance with its time, which is that of the first run of this id."""
        known = pq.read_schema(self.out).metadata if self.out.exists() else None
        before = json.loads((known or {}).get(METADATA, b"{}"))
        at = before["at"] if before.get("run") == provenance["run"] else now()
        return json.dumps({**provenance, "at": at}).encode()


def _holds_structures(path: Path) -> bool:
    from platonic_store.structures.parquet import row_parser

    try:
        row_parser(pq.read_schema(path).names, path)
    except UnreadableSource:
        return False
    return True


def _compression(file: pq.ParquetFile) -> str:
    if not file.num_row_groups or not file.metadata.num_columns:
        return "snappy"
    codec: str = file.metadata.row_group(0).column(0).compression.lower()
    return {"uncompressed": "none"}.get(codec, codec)
