"""An answer as JSON, CSV, an Arrow stream or Parquet, and which of them a request wants."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.types as kinds

from platonic_store.errors import InvalidQuery
from platonic_store.json_values import plain


class Head(NamedTuple):
    """What an answer says beside its rows. next: the address of the next page."""

    question: str
    snapshot: int
    caveat: str = ""
    next: str | None = None


class NotAcceptable(InvalidQuery):
    """No format that the service has is one that the request accepts."""


def json_bytes(table: pa.Table, head: Head) -> bytes:
    """An object with the head, `columns` and `rows`, an object a row."""
    columns = [
        {"name": field.name, "type": str(field.type)} | metadata(field) for field in table.schema
    ]
    body = {
        "question": head.question,
        "snapshot": head.snapshot,
        "columns": columns,
        "rows": rows(table),
        "caveat": head.caveat,
        "next": head.next,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows as JSON has them: no number is infinite or not a number."""
    names = table.column_names
    columns = [_plain_column(column) for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def metadata(field: pa.Field) -> dict[str, str]:
    """A column's meaning and unit."""
    known = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    return {"meaning": known.get("meaning", ""), "unit": known.get("unit", "")}


def _plain_column(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    kind = column.type
    if kinds.is_integer(kind) or kinds.is_string(kind) or kinds.is_boolean(kind):
        return values
    return [plain(value) for value in values]


def csv_bytes(table: pa.Table, head: Head) -> bytes:
    """A line a row, after the names of the columns; a list is JSON text."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(table.column_names)
    columns = [[_cell(value) for value in _plain_column(column)] for column in table.columns]
    lines.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value


def arrow_bytes(table: pa.Table, head: Head) -> bytes:
    """An Arrow IPC stream."""
    table = _with_head(table, head)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet_bytes(table: pa.Table, head: Head) -> bytes:
    """A Parquet file."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(_with_head(table, head), sink, compression="zstd")
    return sink.getvalue()


def _with_head(table: pa.Table, head: Head) -> pa.Table:
    said = {name: str(value) for name, value in head._asdict().items() if value is not None}
    return table.replace_schema_metadata(said)


class Format(NamedTuple):
    """A format by the suffix of its address, its media type, and what writes it."""

    suffix: str
    media_type: str
    write: Callable[[pa.Table, Head], bytes]


FORMATS = (
    Format("json", "application/json", json_bytes),
    Format("csv", "text/csv", csv_bytes),
    Format("arrow", "application/vnd.apache.arrow.stream", arrow_bytes),
    Format("parquet", "application/vnd.apache.parquet", parquet_bytes),
)


def named(suffix: str) -> Format:
    """Raises: KeyError."""
    return {format.suffix: format for format in FORMATS}[suffix]


def accepted(header: str | None) -> Format:
    """The format that an `Accept` header likes most; JSON where all are the same.

    Raises: NotAcceptable.
    """
    if not header or header.strip() == "*/*":
        return FORMATS[0]
    ranges = [_range(text) for text in header.split(",")]
    if any(kind == "text/html" for kind, _ in ranges):
        return FORMATS[0]  # a person at a browser
    best = max(FORMATS, key=lambda format: _quality(format.media_type, ranges))
    if _quality(best.media_type, ranges) <= 0:
        known = ", ".join(format.media_type for format in FORMATS)
        raise NotAcceptable(f"no answer is {header[:80]}", f"accept one of {known}")
    return best


def _range(text: str) -> tuple[str, float]:
    """A media range and its quality."""
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    try:
        return kind, float(quality)
    except ValueError:
        return kind, 0.0


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """By the most specific range that fits."""
    wild = f"{media_type.partition('/')[0]}/*"
    for wanted in (media_type, wild, "*/*"):
        found = [quality for kind, quality in ranges if kind == wanted]
        if found:
            return found[0]
    return 0.0
