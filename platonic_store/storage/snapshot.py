"""A state of a store as it was published: a value, which never changes and needs no closing."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import duckdb
import pandas as pd
from ase.data import chemical_symbols

from platonic_store.resources import folder
from platonic_store.storage.catalog import Catalog
from platonic_store.storage.sqltext import literals
from platonic_store.storage.vectors import Level, Points, Vectors


class VectorTable(NamedTuple):
    """A Lance table and the version of it that is committed."""

    name: str
    space: str | None
    model: str
    layer: int
    level: Level
    dim: int
    version: int
    rows: int

    @property
    def nbytes(self) -> int:
        return 4 * self.rows * self.dim


class StoredModel(NamedTuple):
    """What the catalogue knows of a model, beside its card."""

    kind: str
    default_layer: int
    aliases: list[str]


class ModelLayer(NamedTuple):
    """A model and one of its layers, written `sevennet-0@2`."""

    model: str
    layer: int

    def __str__(self) -> str:
        return f"{self.model}@{self.layer}"


class Snapshot:
    """What queries read: SQL over the catalogue, and the vector tables at their versions.

    `id` is the number of the published state, `path` its file. Threads may share it. It is closed
    when the last reference to it goes; `with` is for those who like to see where they use one.
    """

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, vectors: Vectors):
        self.id = int(path.stem) if path.stem.isdigit() else 0
        self.path = path
        self.connection = connection
        self.vectors = vectors
        connection.execute(element_symbol_macro())
        connection.execute((folder("queries") / "views.sql").read_text())
        self.tables = [
            VectorTable(*row)
            for row in self.rows(
                """
                SELECT v.*, coalesce(sum(a.rows), 0)::BIGINT
                FROM catalog.main.vector_tables AS v
                LEFT JOIN catalog.main.table_appends AS a ON a.table_name = v.name AND a.committed
                GROUP BY ALL ORDER BY v.name
                """
            )
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rows(self, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        return self.cursor().execute(sql, parameters or []).fetchall()

    def frame(self, sql: str, parameters: list[Any] | None = None) -> pd.DataFrame:
        return _frame(self.cursor().execute(sql, parameters or []))

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own: SQL functions and other threads query at the same time."""
        return self.connection.cursor()

    @cached_property
    def models(self) -> dict[str, StoredModel]:
        """The models with embeddings here by name, in the order in which they came."""
        rows = self.rows(
            "SELECT name, kind, default_layer, card->>'aliases' FROM catalog.main.models "
            "ORDER BY added_at"
        )
        return {
            name: StoredModel(kind, layer, json.loads(aliases or "[]"))
            for name, kind, layer, aliases in rows
        }

    @property
    def trained_models(self) -> list[str]:
        """The names of `models` without the controls, which have learnt nothing."""
        return [name for name, model in self.models.items() if model.kind == "trained"]

    def points(self, table: VectorTable, condition: str | None = None) -> Points:
        return self.vectors.points(table.name, table.version, table.level, condition)

    def of_structure(self, table: VectorTable, id_: str) -> Points:
        """The rows of one structure."""
        return self.vectors.of_structure(table.name, table.version, table.level, id_)

    def has_structure(self, id_: str) -> bool:
        return bool(self.rows("SELECT 1 FROM catalog.main.structures WHERE id = ?", [id_]))

    def describe(self, ids: list[str]) -> pd.DataFrame:
        """The `structure` rows of some ids."""
        # Literals, because DuckDB would read all properties to join them with a parameter.
        return self.frame(f"FROM structure WHERE structure_id IN ({literals(ids) or 'NULL'})")


def _frame(result: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    frame: pd.DataFrame = result.to_arrow_table().to_pandas()
    return frame


_newest: WeakKeyDictionary[Catalog, tuple[tuple[int, int], Snapshot]] = WeakKeyDictionary()
_newest_lock = threading.Lock()


def newest(catalog: Catalog, vectors: Vectors) -> Snapshot:
    """The newest published state: the same `Snapshot` until another state is published.

    Raises: StoreNotFound, StoreTooNew, StoreBusy, StoreNotWritable; see `Catalog.published`.
    """
    with _newest_lock:
        known = _newest.get(catalog)
        if known is None or known[0] != _identity(catalog.published()):
            snapshot = open_newest(catalog, vectors)
            known = _identity(snapshot.path), snapshot
            _newest[catalog] = known
        return known[1]


def open_newest(catalog: Catalog, vectors: Vectors, *, allow_files: bool = False) -> Snapshot:
    """The newest published state, in a DuckDB instance that nobody else has.

    It reaches no other files, no network and no Python objects unless `allow_files`.

    Raises: as `newest`.
    """
    path, connection = catalog.attached()
    snapshot = Snapshot(path, connection, vectors)
    if not allow_files:
        _confine(connection)
    return snapshot


@contextmanager
def take(catalog: Catalog, vectors: Vectors, *, allow_files: bool = False) -> Iterator[Snapshot]:
    """As `open_newest`, closed at the end of the block."""
    snapshot = open_newest(catalog, vectors, allow_files=allow_files)
    with snapshot.connection:
        yield snapshot


def _confine(connection: duckdb.DuckDBPyConnection) -> None:
    """Let the instance read and write no file, for good, but what is attached.

    DuckDB allows a folder for temporary files, if there is one, to be written to by anybody.
    """
    connection.execute(
        "SET temp_directory = ''; SET python_enable_replacements = false; "
        "SET enable_external_access = false; SET lock_configuration = true"
    )


def _identity(path: Path) -> tuple[int, int]:
    """Of a file, and not of another that was made in the same place; (0, 0) of one that is gone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_ino, found.st_ctime_ns


def element_symbol_macro() -> str:
    """SQL that defines `element_symbol(atomic_number)`."""
    symbols = ", ".join(f"'{symbol}'" for symbol in chemical_symbols[1:])
    return f"CREATE OR REPLACE MACRO element_symbol(z) AS ([{symbols}])[z]"
