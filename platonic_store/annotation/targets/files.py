"""What the targets that are files share: they are replaced whole, or not at all."""

import gzip
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from platonic_store.annotation.provenance import now
from platonic_store.annotation.targets import Record
from platonic_store.errors import Call, InvalidTarget
from platonic_store.structures import Rejected, sources


def structure_records(path: Path, format: str, id: str | None, by_id: bool) -> Iterator[Record]:
    """A record for each structure of a file, named by the property `id`, if one is given.

    Raises: InvalidTarget if a record has no such property.
    """
    for number, crystal in enumerate(sources.records(path, format)):
        name = crystal.id
        if id is not None and not isinstance(crystal, Rejected):
            if crystal.properties.get(id) is None:
                known = ", ".join(list(crystal.properties)[:12])
                raise InvalidTarget(
                    f"record {number + 1} of {path} has no {id!r} (it has: {known})",
                    Call("annotate", "TARGET", id="COLUMN"),
                )
            name = str(crystal.properties[id])
        yield Record(number, name, None if by_id else crystal)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that replaces it at the end of the block, when it is on the disk.

    Raises: InvalidTarget if it cannot be written there.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        if path.exists():
            shutil.copymode(path, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise InvalidTarget(
            f"cannot write {path}: {error.strerror or error}",
            Call("annotate", "TARGET", out="COPY"),
        ) from None
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def text_to(partial: Path, path: Path) -> Iterator[TextIO]:
    """A text stream into `partial`, gzipped where `path` says so; the same bytes every time."""
    with partial.open("wb") as raw:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as zipped, _text(zipped) as file:
                yield file
        else:
            with _text(raw) as file:
                yield file


def text_from(path: Path) -> TextIO:
    """A text stream that `text_to` can write again to the byte, whatever the encoding was."""
    is_zipped = path.suffix.lower() == ".gz"
    return _text(gzip.GzipFile(path) if is_zipped else path.open("rb"))


def _text(stream: Any) -> TextIO:
    return io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")


def write_provenance(path: Path, provenance: dict[str, Any]) -> None:
    """Write NAME.platonic.json beside a file that has no place for the run's provenance."""
    beside = path.with_name(f"{path.name}.platonic.json")
    known = json.loads(beside.read_text()) if beside.exists() else {}
    if known.get("run") != provenance["run"]:
        with replacing(beside) as partial:
            partial.write_text(json.dumps({**provenance, "at": now()}, indent=2) + "\n")
