"""Tables of CIF text (MP-20, CDVAE, Perov-5 …): csv with a `cif` column, plain or gzipped."""

import csv
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from platonic_store.errors import UnreadableSource
from platonic_store.structures import cif
from platonic_store.structures.files import open_text
from platonic_store.structures.records import ID_NAMES, Crystal, Rejected, one_line, pick_id

CHUNK = 512
NULLS = {"", "nan", "NaN", "None", "null", "NULL", "<NA>", "N/A"}


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The crystals of a csv, row by row.

    Every column but `cif` becomes a property: int, float, bool or str, the first that fits all
    values of the column within 512 rows (columns that name an id stay strings); the unnamed column
    that pandas writes is called "index".

    Raises: UnreadableSource if there is no column `cif`, EOFError if the file ends within a row.
    """
    csv.field_size_limit(sys.maxsize)
    with open_text(path) as file:
        rows = csv.reader(file, strict=True)
        header = [name.strip() or "index" for name in next(rows, [])]
        header = [name.removeprefix("\ufeff") for name in header]
        if not header:
            return
        if "cif" not in header:
            raise UnreadableSource(
                f"{path} has no column 'cif' (it has: {', '.join(header) or 'none'})",
                "rename the column that holds the CIF text to 'cif'",
            )
        start = 1
        while True:
            chunk, failure = _take(rows)
            yield from _chunk(header, chunk, start)
            if failure:
                raise failure
            if not chunk:
                return
            start += len(chunk)


def _take(rows: Iterator[list[str]]) -> tuple[list[list[str]], Exception | None]:
    """Up to CHUNK rows, and the error that ended them early."""
    taken: list[list[str]] = []
    try:
        for row in islice(rows, CHUNK):
            taken.append(row)
    except csv.Error as error:
        return taken, EOFError(str(error)) if "end of data" in str(error) else ValueError(error)
    except Exception as error:
        return taken, error
    return taken, None


def _chunk(header: list[str], rows: list[list[str]], start: int) -> Iterator[Crystal | Rejected]:
    whole = [row for row in rows if len(row) == len(header)]
    columns = {
        name: [_text(value) for value in values] if name in ID_NAMES else typed(list(values))
        for name, values in zip(header, zip(*whole, strict=True), strict=False)
        if name != "cif"
    }
    tables = (
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=False)
    )
    if not columns:
        tables = ({} for _ in whole)
    where = header.index("cif")
    for number, row in enumerate(rows, start):
        if len(row) != len(header):
            reason = f"{len(row)} fields where the header has {len(header)}"
            yield Rejected(f"row {number}", None, reason)
            continue
        properties = next(tables)
        id = pick_id(properties)
        try:
            yield cif.parse(row[where], id, properties)
        except Exception as error:
            label = f"row {number} ({id})" if id else f"row {number}"
            yield Rejected(label, id, one_line(error))


def _text(value: str) -> str | None:
    return None if value in NULLS else value


def typed(texts: list[str]) -> list[Any]:
    """The values as int, else float, else bool, else str: the first that fits them all.

    pyarrow.csv would type whole columns, and dates too, but gives no rows of a truncated file.
    """
    values = [_text(text) for text in texts]
    for kind in (pa.int64(), pa.float64()):
        try:
            return list(pc.cast(pa.array(values, type=pa.string()), kind).to_pylist())
        except pa.ArrowInvalid:
            continue
    if set(values) <= {"True", "False", "true", "false", None}:
        return [value and value.lower() == "true" for value in values]
    return values
