"""A state of a store as it was published: a value, which never changes and needs no closing."""

import difflib
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

from platonic_store.errors import (
    AnchorsNotFound,
    Call,
    InvalidQuery,
    LayerNotFound,
    ModelNotFound,
    StructureNotFound,
)
from platonic_store.geometry.projection import Projection
from platonic_store.resources import folder
from platonic_store.storage.catalog import Catalog
from platonic_store.storage.sqltext import literals, one_line, require_condition
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


class _Model(NamedTuple):
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
    def _models(self) -> dict[str, _Model]:
        """By name, in the order in which they came."""
        rows = self.rows(
            "SELECT name, kind, default_layer, card->>'aliases' FROM catalog.main.models "
            "ORDER BY added_at"
        )
        return {
            name: _Model(kind, layer, json.loads(aliases or "[]"))
            for name, kind, layer, aliases in rows
        }

    def models(self) -> list[str]:
        """Models with embeddings here, the first one first."""
        return list(self._models)

    def trained_models(self) -> list[str]:
        """As `models`, without the controls, which have learnt nothing."""
        return [name for name, model in self._models.items() if model.kind == "trained"]

    def model(self, name: str | None) -> str:
        """The model of that name or alias, in upper or lower case; the first one if None.

        Raises: ModelNotFound.
        """
        if not self._models:
            raise ModelNotFound(
                "the store holds no embeddings yet", Call("ingest", "SOURCE", models=["sevennet-0"])
            )
        if name is None:
            return next(iter(self._models))
        names = {alias.lower(): own for own, one in self._models.items() for alias in one.aliases}
        names |= {own.lower(): own for own in self._models}
        if name.lower() in names:
            return names[name.lower()]
        close = difflib.get_close_matches(name.lower(), names, n=1)
        raise ModelNotFound(
            f"the store has no embeddings by {name} (it has {', '.join(self._models)})",
            *(f"you may mean {names[one]}" for one in close),
            Call("ingest", models=[name]),
        )

    def layer(self, model: str, layer: int | None) -> int:
        """`layer`, or the model's default layer where it is stored, else its first stored one.

        Raises: LayerNotFound.
        """
        stored = sorted({t.layer for t in self.tables if t.model == model and t.space is None})
        if layer is None:
            default = self._models[model].default_layer
            return default if default in stored or not stored else stored[0]
        if layer not in stored:
            raise LayerNotFound(
                f"the store has layers {stored} of {model}, not {layer}",
                Call("ingest", models=[model], layers=str(layer)),
            )
        return layer

    def model_layer(self, text: str | None) -> ModelLayer:
        """The model and layer that `MODEL@LAYER` names; without a layer the default one.

        Raises: ModelNotFound, LayerNotFound, InvalidQuery.
        """
        name, _, layer = (text or "").partition("@")
        if layer and not layer.isdigit():
            raise InvalidQuery(f"{text}: a layer is a number", f"write it as in {name}@0")
        model = self.model(name or None)
        return ModelLayer(model, self.layer(model, int(layer) if layer else None))

    def embeddings(self, model: str, layer: int, level: Level) -> VectorTable:
        """The table of a model's own embeddings."""
        return self._table(None, model, layer, level)

    def coordinates(self, space: str, model: str, layer: int | None, level: Level) -> VectorTable:
        """The table of a model's coordinates in a shared space."""
        if layer is None:
            layer = self.layer(model, None)
        return self._table(space, model, layer, level)

    def pooled(self, table: VectorTable) -> VectorTable:
        """The table of the structures whose atoms are in `table`."""
        return self._table(table.space, table.model, table.layer, "structure")

    def _table(self, space: str | None, model: str, layer: int, level: Level) -> VectorTable:
        for table in self.tables:
            if (table.space, table.model, table.layer, table.level) == (space, model, layer, level):
                return table
        if space is None:
            raise LayerNotFound(
                f"the store has no layer {layer} of {model}",
                Call("ingest", models=[model], layers=str(layer)),
            )
        raise _not_projected(space, model, layer)

    def points(self, table: VectorTable, condition: str | None = None) -> Points:
        return self.vectors.points(table.name, table.version, table.level, condition)

    def of_structure(self, table: VectorTable, id_: str) -> Points:
        """The rows of one structure."""
        return self.vectors.of_structure(table.name, table.version, table.level, id_)

    def space(self, name: str | None, models: list[str]) -> str:
        """The newest space, of that id or recipe if named, into which all models are projected."""
        spaces = self.rows(
            "SELECT s.id, s.recipe, list(DISTINCT p.model) FROM catalog.main.spaces AS s "
            "JOIN catalog.main.projections AS p ON p.space = s.id "
            "GROUP BY s.id, s.recipe, s.created_at ORDER BY s.created_at DESC"
        )
        for id_, recipe, projected in spaces:
            if name in (None, id_, recipe) and set(models) <= set(projected):
                return str(id_)
        known = ", ".join(id_ for id_, *_ in spaces) or "none"
        raise AnchorsNotFound(
            f"no shared space{f' {name}' if name else ''} holds {' and '.join(models)} "
            f"(spaces here: {known})",
            Call("select_anchors"),
            Call("project"),
        )

    def projection(self, space: str, model: str, layer: int) -> Projection:
        """What turns the model's embeddings into coordinates of the space."""
        rows = self.rows(
            "SELECT parameters FROM catalog.main.projections "
            "WHERE space = ? AND model = ? AND layer = ?",
            [space, model, layer],
        )
        if not rows:
            raise _not_projected(space, model, layer)
        return Projection.from_bytes(rows[0][0])

    def has_structure(self, id_: str) -> bool:
        return bool(self.rows("SELECT 1 FROM catalog.main.structures WHERE id = ?", [id_]))

    def require_structure(self, id_: str) -> None:
        """Raises: StructureNotFound, naming ids that look alike."""
        if self.has_structure(id_):
            return
        alike = self.rows(
            "SELECT id FROM catalog.main.structures "
            "ORDER BY jaro_winkler_similarity(lower(id), lower(?)) DESC, id LIMIT 3",
            [id_],
        )
        names = ", ".join(row[0] for row in alike)
        raise StructureNotFound(
            f"no structure {id_!r} in the store"
            + (f"; the closest ids are {names}" if names else " (it is empty)"),
            Call("sql", "SELECT structure_id, formula FROM structure"),
        )

    def matching(self, condition: str, level: Level) -> pd.DataFrame:
        """Keys of the structures or sites for which an SQL condition holds.

        Raises: InvalidQuery with what DuckDB says of the condition.
        """
        if level == "structure":
            sql = f"SELECT structure_id FROM structure WHERE ({condition}\n)"
        else:
            sql = (
                "SELECT structure_id, site_index FROM site JOIN structure USING (structure_id) "
                f"WHERE ({condition}\n)"
            )
        cursor = self.cursor()
        require_condition(cursor, condition)
        try:
            return _frame(cursor.execute(sql))
        except duckdb.Error as error:
            raise InvalidQuery(
                f"the condition {condition!r} is not understood: {one_line(error)}"
            ) from None

    def describe(self, ids: list[str]) -> pd.DataFrame:
        """The `structure` rows of some ids."""
        # Literals, because DuckDB would read all properties to join them with a parameter.
        return self.frame(f"FROM structure WHERE structure_id IN ({literals(ids) or 'NULL'})")


def _frame(result: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    frame: pd.DataFrame = result.to_arrow_table().to_pandas()
    return frame


def _not_projected(space: str, model: str, layer: int) -> AnchorsNotFound:
    return AnchorsNotFound(
        f"layer {layer} of {model} is not projected into {space}",
        Call("project", models=[f"{model}@{layer}"]),
    )


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
