"""Tables as csv: every cell keeps its text, and our columns come after the user's."""

import csv
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, TextIO

from platonic_store.annotation.targets import (
    PREFIX,
    Answer,
    Columns,
    Key,
    Record,
    batches,
    files,
    id_column,
)
from platonic_store.errors import InvalidTarget
from platonic_store.structures import sources


class Target:
    """A csv with a header, plain or gzipped; structures in a column `cif`, if it has one."""

    def __init__(self, path: Path, out: Path, id: str | None, by_id: bool):
        self.name, self.path, self.out = path.name, path, out
        csv.field_size_limit(sys.maxsize)
        with files.text_from(path) as file:
            names = [name.strip() for name in next(_rows(file, self.path), [])]
        names = [name.removeprefix("\ufeff") for name in names]
        self.has_structures = "cif" in names and not by_id
        name = id_column(names, id, self.has_structures, str(path))
        self.id = names.index(name) if name else None

    def records(self) -> Iterator[Record]:
        crystals = sources.records(self.path, "csv") if self.has_structures else repeat(None)
        with files.text_from(self.path) as file:
            rows = _rows(file, self.path)
            width = len(next(rows))
            for number, (row, crystal) in enumerate(zip(rows, crystals, strict=False)):
                if len(row) > width:
                    raise InvalidTarget(
                        f"row {number + 1} of {self.path} has {len(row)} fields where the header "
                        f"has {width}",
                        "fix the row",
                    )
                named = self.id is not None and self.id < len(row) and row[self.id].strip()
                yield Record(number, named or None, crystal)

    def done(self, run: str) -> frozenset[Key]:
        return frozenset()

    def write(
        self, keys: Sequence[Key], columns: Columns, answer: Answer, provenance: dict[str, Any]
    ) -> None:
        with (
            files.replacing(self.out) as partial,
            files.text_from(self.path) as source,
            files.text_to(partial, self.out) as file,
        ):
            writer = csv.writer(file, lineterminator=_line_end(source))
            rows = _rows(source, self.path)
            header = next(rows)
            own = [i for i, name in enumerate(header) if not name.startswith(PREFIX)]
            writer.writerow([*(header[i] for i in own), *columns])
            for part in batches(zip(keys, rows, strict=True)):
                found = answer([key for key, _ in part])
                for (_, row), answers in zip(part, found, strict=True):
                    cells = row + [""] * (len(header) - len(row))
                    ours = [_cell(answers[name]) for name in columns]
                    # An empty line stays one.
                    writer.writerow([*(cells[i] for i in own), *ours] if row else [])
        files.write_provenance(self.out, provenance)


def _rows(file: TextIO, path: Path) -> Iterator[list[str]]:
    try:
        yield from csv.reader(file, strict=True)
    except (csv.Error, EOFError, OSError, zlib.error) as error:
        raise InvalidTarget(f"{path} cannot be read as csv: {error}", "fix the file") from None


def _line_end(file: TextIO) -> str:
    first = file.readline()
    file.seek(0)
    return "\r\n" if first.endswith("\r\n") else "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, list) else str(value)
