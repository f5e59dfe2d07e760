"""From a path, a name or Python objects to batches: which reader, which ids, which errors."""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from gzip import BadGzipFile
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

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


class Group(NamedTuple):
    """Records of one batch, before symmetry and hash are added."""

    crystals: list[Crystal]
    rejected: list[Rejected]


class Part(NamedTuple):
    """A file of a folder that is a source."""

    root: Path
    path: Path
    format: str


Assembled = Callable[[Iterable[Group]], Iterator[StructureBatch]]


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
    return batched(records(source, format), batch_size)


def parts(source: Any, format: str | None = None) -> list[Part]:
    """The files of a folder that `read` reads, in its order; none of another source.

    Raises: UnreadableSource.
    """
    is_place = isinstance(source, str | Path) and not str(source).startswith("builtin:")
    path = Path(source).expanduser() if is_place else None
    return _parts(path, format) if path is not None and path.is_dir() else []


def records(source: Any, format: str | None = None) -> Iterator[Record]:
    """What `read` batches, one by one: for each record a Crystal, or why it was rejected.

    Raises: UnreadableSource as `read` does.
    """
    if files := parts(source, format):
        return records_in(files)
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


def _parts(root: Path, format: str | None) -> list[Part]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    chosen = [(path, format or _format_of(path)) for path in files]
    readable = [Part(root, path, found) for path, found in chosen if found]
    if not readable:
        raise UnreadableSource(
            f"{root} has no readable file in it", f"readable are: {'; '.join(FORMATS.values())}"
        )
    return readable


def records_in(parts: Iterable[Part]) -> Iterator[Record]:
    """Every record of some files; a file that cannot be read is a rejected record."""
    for root, path, format in parts:
        relative = path.relative_to(root)
        try:
            for record in _checked(_file(path, format, _stem(path, relative))):
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


def batched(
    records: Iterable[Record], batch_size: int, assembled: Assembled | None = None
) -> Iterator[StructureBatch]:
    """As `read`, of records.

    assembled: makes batches of groups, in their order; by default `assemble` in this process.

    Raises: UnreadableSource, if that ends the records, after all batches.
    """
    failures: list[UnreadableSource] = []
    yield from (assembled or _assembled)(_groups(records, batch_size, failures))
    for failure in failures:
        raise failure


def _assembled(groups: Iterable[Group]) -> Iterator[StructureBatch]:
    from platonic_store.structures.assemble import assemble

    return (assemble(*group) for group in groups)


def _groups(
    records: Iterable[Record], batch_size: int, failures: list[UnreadableSource]
) -> Iterator[Group]:
    """Records in groups; what ends them before their end is put by until all are used."""
    group = Group([], [])
    try:
        for number, record in enumerate(records, 1):
            if isinstance(record, Rejected):
                group.rejected.append(record)
            else:
                group.crystals.append(record)
            if number % batch_size == 0:
                yield group
                group = Group([], [])
    except UnreadableSource as error:
        failures.append(error)
    if group.crystals or group.rejected:
        yield group


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
