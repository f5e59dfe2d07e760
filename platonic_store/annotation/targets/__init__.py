"""What can be annotated: files and tables, each as records that are read and then written to.

One module a kind of target, all with the same three methods (`Target`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from platonic_store.errors import Call, InvalidTarget
from platonic_store.structures.records import ID_NAMES, Crystal, Rejected

PREFIX = "platonic_"  # of every column that is ours, and of none of the user's
Kind = Literal["text", "number", "neighbours"]
Columns = Mapping[str, Kind]
Key = Any  # a row's number, or its primary key as a tuple
Answer = Callable[[Sequence[Key]], list[dict[str, Any]]]
BATCH = 512  # records that are read, answered and written at once
T = TypeVar("T")


class Record(NamedTuple):
    """One record of the user's: its id there, and its structure (or why it has none)."""

    key: Key
    id: str | None
    crystal: Crystal | Rejected | None


class Target(Protocol):
    """A user's file or table, opened for annotation."""

    name: str

    def records(self) -> Iterator[Record]:
        """The records, in an order that is always the same."""

    def done(self, run: str) -> AbstractSet[Key]:
        """The records that carry the answers of this run already."""

    def write(
        self, keys: Sequence[Key], columns: Columns, answer: Answer, provenance: dict[str, Any]
    ) -> None:
        """Write into these records what `answer` returns: a dict of all `columns` for each key.

        `answer` is called with some hundred keys at once. What is already under the names of the
        columns is replaced; all that is the user's own stays as it is.
        """


_FILES = {
    (".csv", ".csv.gz"): "csv",
    (".parquet",): "parquet",
    (".xyz", ".extxyz", ".xyz.gz", ".extxyz.gz"): "extxyz",
    (".db",): "asedb",
    (".json", ".json.gz"): "pymatgen_json",
}


def open_target(
    target: str | Path,
    *,
    out: str | Path | None,
    id: str | None,
    table: str | None,
    by_id: bool,
) -> Target:
    """The target behind a path, or behind an SQLAlchemy URL with its table.

    by_id: records are matched by their ids alone; their structures, if any, are not read.

    Raises: InvalidTarget.
    """
    if "://" in str(target):
        from platonic_store.annotation.targets import database

        return database.open_table(str(target), out=out, id=id, table=table, by_id=by_id)
    path = Path(target).expanduser()
    if not path.is_file():
        raise InvalidTarget(
            f"{path} is not a file", "check the path", "name a database by its URL, URL#TABLE"
        )
    if out is not None and "://" in str(out):
        raise InvalidTarget(
            f"{path} is a file, but its copy is to be a database", "name a file for the copy"
        )
    if table is not None:
        raise InvalidTarget(
            f"{path} is a file and has no tables", "name a database by its URL, URL#TABLE"
        )
    name = path.name.lower()
    kind = next((kind for ends, kind in _FILES.items() if name.endswith(ends)), None)
    if kind is None:
        known = ", ".join(end for ends in _FILES for end in ends)
        raise InvalidTarget(
            f"{path} is of no kind that can be annotated",
            f"name a file ({known})",
            "the URL of a database (sqlite:///my.db#table, postgresql+psycopg://host/db#table)",
        )
    module = import_module(f"platonic_store.annotation.targets.{kind}")
    opened: Target = module.Target(path, Path(out).expanduser() if out else path, id, by_id)
    return opened


def id_column(columns: Sequence[str], given: str | None, has_structures: bool, where: str) -> str:
    """The column of ids: the one given, else the first of the usual names, else "".

    Raises: InvalidTarget if the one given is not there, or if there is neither one nor structures.
    """
    if given is not None and given not in columns:
        raise InvalidTarget(
            f"{where} has no column {given!r} (it has: {_listed(columns)})",
            Call("annotate", "TARGET", id="COLUMN"),
        )
    guessed = next((name for name in ID_NAMES if name in columns), "")
    if given is None and not guessed and not has_structures:
        raise InvalidTarget(
            f"{where} has no column of ids with a usual name ({', '.join(ID_NAMES)}), nor "
            f"structures in a column `cif` (it has: {_listed(columns)})",
            Call("annotate", "TARGET", id="COLUMN"),
        )
    return given or guessed


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:12]) + (" …" if len(columns) > 12 else "")


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """The items, BATCH at a time."""
    stream = iter(items)
    while part := list(islice(stream, BATCH)):
        yield part
