"""From a path, a name or Python objects to batches: which reader, which ids, which errors."""

import re
import zlib
from collections.abc import Iterable, Iterator
from gzip import BadGzipFile
from importlib import import_module
from pathlib import Path
from typing import Any

from platonic_store.errors import UnreadableSource
from platonic_store.structures.records import Crystal, Rejected, StructureBatch, one_line

FORMATS = {
    "cif": "CIF, one block or many (.cif, .cif.gz)",
    "poscar": "VASP POSCAR (POSCAR*, CONTCAR*, .vasp, .poscar)",
    "extxyz": "extended XYZ, one frame or many (.xyz, .extxyz, also .gz)",
    "asedb": "ASE database (.db)",
    "aselmdb": "ASE database of LMDB, as OMat24 and sAlex (.aselmdb)",
    "json": "OPTIMADE or pymatgen JSON, or frames, recognised by content (.json, .json.gz)",
    "frames": "training frames as MPtrj and MatPES publish them (.json, .jsonl, also .gz)",
    "pymatgen_json": "pymatgen Structure, ComputedStructureEntry, a list or dict of them",
    "optimade": "OPTIMADE response, list of structures, or one structure",
    "csv": "table with a column of CIF text, as MP-20 and CDVAE (.csv, .csv.gz)",
    "parquet": "table with a column cif or structure, or numbers, positions, cell (.parquet)",
}
_PATTERNS = {
    "cif": r".*\.cif(\.gz)?",
    "poscar": r"(poscar|contcar).*|.*\.(vasp|poscar)(\.gz)?",
    "extxyz": r".*\.(ext)?xyz(\.gz)?",
    "asedb": r".*\.db",
    "aselmdb": r".*\.aselmdb",
    "frames": r".*\.jsonl(\.gz)?",
    "json": r".*\.json(\.gz)?",
    "csv": r".*\.csv(\.gz)?",
    "parquet": r".*\.parquet",
}
_SUFFIX = re.compile(
    r"\.(cif|vasp|poscar|(ext)?xyz|db|aselmdb|jsonl?|csv|parquet)(\.gz)?$", re.IGNORECASE
)
BUILTIN = "builtin:aflow-prototypes"
KNOWN_FORMATS = f"name its format: one of {', '.join(FORMATS)}"

Record = Crystal | Rejected


def describe(source: Any) -> str:
    """A stable name of the source for provenance: resolved path, BUILTIN, or "<python objects>"."""
    if isinstance(source, str | Path):
        return BUILTIN if str(source) == BUILTIN else str(Path(source).expanduser().resolve())
    return "<python objects>"


def read(
    source: Any, *, format: str | None = None, batch_size: int = 512
) -> Iterator[StructureBatch]:
    """Stream a source of structures as Arrow batches, in the source's order.

    source: a file; a folder (all files in it of a known name, recursively, sorted);
    "builtin:aflow-prototypes"; a pymatgen Structure or ComputedStructureEntry, an ASE Atoms or a
    Crystal; an iterable of these or of (id, object); a dict id -> object.
    format: one of FORMATS; by default the one that the file's name says.
    batch_size: records (accepted and rejected together) a batch.

    A record that cannot be used is in a batch's `rejected` and does not end the stream.

    Raises: UnreadableSource for a path that is missing, empty, truncated or of an unknown format;
    at once where that is known, else after all good batches.
    """
    return _batches(records(source, format), batch_size)


def records(source: Any, format: str | None = None) -> Iterator[Record]:
    """What `read` batches, one by one: for each record a Crystal, or why it was rejected.

    Raises: UnreadableSource as `read` does.
    """
    return _checked(_records(source, format))


def _records(source: Any, format: str | None) -> Iterator[Record]:
    if format is not None and format not in FORMATS:
        raise UnreadableSource(f"unknown format {format!r}", KNOWN_FORMATS)
    if not isinstance(source, str | Path):
        from platonic_store.structures import objects

        return objects.records(source)
    if str(source).startswith("builtin:"):
        if str(source) != BUILTIN:
            raise UnreadableSource(f"no built-in source {source!s}", f"the one there is: {BUILTIN}")
        from platonic_store.structures import builtin

        return builtin.records()
    path = Path(source).expanduser()
    if not path.exists():
        raise UnreadableSource(f"{path} does not exist", "check the path")
    if path.is_dir():
        return _folder(path, format)
    format = format or _format_of(path)
    if format is None:
        raise UnreadableSource(f"the format of {path} cannot be told from its name", KNOWN_FORMATS)
    return _file(path, format, _stem(path, Path(path.name)))


def _format_of(path: Path) -> str | None:
    name = path.name.lower()
    return next((fmt for fmt, form in _PATTERNS.items() if re.fullmatch(form, name)), None)


def _stem(path: Path, relative: Path) -> str | None:
    """The id of the structure in a file of one, by the file's name; None for a bare POSCAR."""
    bare = _SUFFIX.sub("", path.name)
    if re.fullmatch(r"(POSCAR|CONTCAR)(\.gz)?", bare, re.IGNORECASE):
        return relative.parent.as_posix() if relative.parent.name else None
    return (relative.parent / bare).as_posix()


def _folder(root: Path, format: str | None) -> Iterator[Record]:
    """Every file of a known format; one that cannot be read is a rejected record."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    chosen = [(path, format or _format_of(path)) for path in files]
    readable = [(path, found) for path, found in chosen if found]
    if not readable:
        raise UnreadableSource(
            f"{root} has no readable file in it", f"readable are: {'; '.join(FORMATS.values())}"
        )
    return _each_file(root, readable)


def _each_file(root: Path, files: list[tuple[Path, str]]) -> Iterator[Record]:
    for path, format in files:
        relative = path.relative_to(root)
        try:
            for record in _file(path, format, _stem(path, relative)):
                if isinstance(record, Rejected):
                    record = record._replace(record=f"{relative.as_posix()}: {record.record}")
                yield record
        except UnreadableSource as error:
            yield Rejected(relative.as_posix(), None, one_line(error))


def _file(path: Path, format: str, stem: str | None) -> Iterator[Record]:
    """One file's records. Raises: UnreadableSource."""
    if path.stat().st_size == 0:
        raise UnreadableSource(f"{path} is empty", "give a file with structures")
    reader = import_module(f"platonic_store.structures.{format}")
    return _with_clear_errors(reader.records(path, stem), path, format)


def _with_clear_errors(records: Iterator[Record], path: Path, format: str) -> Iterator[Record]:
    """The records; an error of their reader becomes an UnreadableSource that says after which."""
    count, last = 0, ""
    try:
        for record in records:
            count += 1
            last = f" ({record.id})" if record.id else ""
            yield record
    except UnreadableSource:
        raise
    except (EOFError, zlib.error) as error:
        raise UnreadableSource(
            f"{path} is truncated after record {count}{last}; the {count} before were read",
            "fetch the file again and repeat",
        ) from error
    except BadGzipFile as error:
        raise UnreadableSource(
            f"{path} is not gzip, though its name says so", "rename it"
        ) from error
    except Exception as error:
        raise UnreadableSource(
            f"{path} cannot be read as {format} after record {count}{last}: {one_line(error)}",
            "fix the file",
            KNOWN_FORMATS,
        ) from error
    if count == 0:
        raise UnreadableSource(f"{path} is empty: it has no records", "give a file with structures")


def _batches(records: Iterable[Record], batch_size: int) -> Iterator[StructureBatch]:
    from platonic_store.structures.assemble import assemble

    crystals: list[Crystal] = []
    rejected: list[Rejected] = []
    failure: UnreadableSource | None = None
    try:
        for number, record in enumerate(records, 1):
            if isinstance(record, Rejected):
                rejected.append(record)
            else:
                crystals.append(record)
            if number % batch_size == 0:
                yield assemble(crystals, rejected)
                crystals, rejected = [], []
    except UnreadableSource as error:
        failure = error
    if crystals or rejected:
        yield assemble(crystals, rejected)
    if failure:
        raise failure


def _checked(records: Iterable[Record]) -> Iterator[Record]:
    """The records; crystals that no model could embed become Rejected."""
    from platonic_store.structures.checks import fault

    for number, record in enumerate(records, 1):
        reason = None if isinstance(record, Rejected) else fault(record)
        if reason is None:
            yield record
        else:
            label = f"record {number} ({record.id})" if record.id else f"record {number}"
            yield Rejected(label, record.id, reason)
