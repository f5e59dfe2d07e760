"""A state of a store as it was published: a value, which never changes and needs no closing."""

import json
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import duckdb
import numpy as np
import pyarrow as pa

from platonic_store.errors import Call, StoreDamaged
from platonic_store.storage import bulk, views
from platonic_store.storage.files import Files
from platonic_store.storage.layer_sets import layers_of, text_of
from platonic_store.storage.layout import Level, Points
from platonic_store.storage.manifest import Manifest
from platonic_store.storage.nearest_rows import Accept
from platonic_store.storage.sqltext import literals, one_line
from platonic_store.storage.vector_index import Measured
from platonic_store.storage.vectors import Vectors
from platonic_store.storage.watch import check, watched

if TYPE_CHECKING:
    import pandas as pd

# Structures whose descriptions are kept in memory: about 60 MB with 25 columns.
DESCRIBED_IN_MEMORY = 100_000
# What DuckDB says of a file of rows that is damaged, or of a missing one where it is confined.
_UNREADABLE = (duckdb.IOException, duckdb.InvalidInputException, duckdb.PermissionException)


class VectorTable(NamedTuple):
    """A Lance table of a snapshot."""

    name: str
    space: str | None
    model: str
    layer: int
    level: Level
    dim: int
    rows: int

    @property
    def side(self) -> "ModelLayer":
        return ModelLayer(self.model, self.layer)

    @property
    def nbytes(self) -> int:
        return 4 * self.rows * self.dim


class StoredModel(NamedTuple):
    """What the catalogue knows of a model, beside its card.

    default_layers: the set that a space takes of it, if these are there.
    """

    kind: str
    default_layer: int
    aliases: list[str]
    default_layers: list[int]


class ModelLayer(NamedTuple):
    """A model and one of its layers, written `sevennet-0@2`; in a space also a set, `@0+1`.

    layer: the layer's index, or the set's number; see `layer_sets`.
    """

    model: str
    layer: int

    def __str__(self) -> str:
        return f"{self.model}@{text_of(self.layer)}"

    @property
    def layers(self) -> "list[ModelLayer]":
        """Each layer by itself."""
        return [ModelLayer(self.model, layer) for layer in layers_of(self.layer)]


class Snapshot:
    """What queries read: SQL over the catalogue, and the vector tables.

    `id` is its number, `path` its catalogue's file on this machine, `row_files` those of its bulk
    rows. Threads may share it. It is
    closed when the last reference to it goes; `with` is for those who like to see where they use
    one.
    """

    def __init__(
        self,
        manifest: Manifest,
        files: Files,
        *,
        allow_files: bool = False,
        memory: str | None = None,
        references: "Mapping[str, Snapshot] | None" = None,
    ):
        """It reaches no other files, no network and no Python objects unless `allow_files`.

        references: other stores that questions may compare with, by the names of their owner.
        memory: what DuckDB may take at most, such as "2GB"; by default 80 % of the machine's.
        """
        self.id, self.manifest = manifest.id, manifest
        self.references = dict(references or {})
        self.path = files.catalog(manifest)
        self.connection = duckdb.connect()
        self._vectors = Vectors(files, manifest)
        if memory is not None:
            self.connection.execute(f"SET memory_limit = {literals([memory])}")
        self.connection.execute(f"ATTACH {literals([str(self.path)])} AS catalog (READ_ONLY)")
        self.connection.execute("SET parquet_metadata_cache = true")  # no file ever changes
        self.row_files = {
            table: [str(path.resolve()) for path in files.paths(manifest, named)]
            for table, named in ((table, manifest.rows.get(table, [])) for table in bulk.SCHEMAS)
        }
        self._made: set[str] = set()  # names of the views that somebody has asked for
        self._making = threading.Lock()
        if not allow_files:
            _confine(self.connection, [path for paths in self.row_files.values() for path in paths])
        self._is_described = False
        known = self.rows("FROM catalog.main.vector_tables ORDER BY name")
        self.tables = [VectorTable._make((*row, manifest.vectors[row[0]].rows)) for row in known]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rows(self, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        return self.execute(sql, parameters).fetchall()

    def frame(self, sql: str, parameters: list[Any] | None = None) -> "pd.DataFrame":
        return _frame(self.execute(sql, parameters))

    def execute(self, sql: str, parameters: list[Any] | None = None) -> duckdb.DuckDBPyConnection:
        """The result of a query, on a connection of its own. Raises: as `cursor`."""
        return self.cursor(sql).execute(sql, parameters or [])

    def cursor(self, sql: str | None = None) -> duckdb.DuckDBPyConnection:
        """A connection of its own: SQL functions and other threads query at the same time.

        It knows the views that a query names, or all: to make them all takes longer than to open
        the catalogue.

        Raises: OutOfTime where a `Watch` was stopped; StoreDamaged.
        """
        cursor = watched(self.connection.cursor())
        with self._making:
            for name in views.named(sql):
                if name not in self._made:
                    self._make_view(cursor, name)
        return cursor

    def _make_view(self, cursor: duckdb.DuckDBPyConnection, name: str) -> None:
        try:
            cursor.execute(views.statement(name, self.row_files))
        except _UNREADABLE as error:
            raise StoreDamaged(
                f"{name} of snapshot {self.id} cannot be read: {one_line(error)}",
                Call("doctor", deep=True, repair=True),
            ) from None
        self._made.add(name)

    @cached_property
    def models(self) -> dict[str, StoredModel]:
        """The models with embeddings here by name, in the order in which they came."""
        rows = self.rows(
            "SELECT name, kind, default_layer, card->>'aliases', card->>'default_layers' "
            "FROM catalog.main.models ORDER BY added_at"
        )
        return {
            name: StoredModel(
                kind, layer, json.loads(aliases or "[]"), json.loads(layers or "[]") or [layer]
            )
            for name, kind, layer, aliases, layers in rows
        }

    @cached_property
    def spaces(self) -> list[tuple[str, str, list[str]]]:
        """Id, recipe and projected models of each shared space, the newest first."""
        return self.rows(
            "SELECT s.id, s.recipe, list(DISTINCT p.model) FROM catalog.main.spaces AS s "
            "JOIN catalog.main.projections AS p ON p.space = s.id "
            "GROUP BY s.id, s.recipe, s.created_at ORDER BY s.created_at DESC"
        )

    @property
    def trained_models(self) -> list[str]:
        """The names of `models` without the controls, which are no potentials."""
        return [name for name, model in self.models.items() if model.kind == "trained"]

    def points(self, table: VectorTable, condition: str | None = None) -> Points:
        check()
        return self._vectors.points(table.name, table.level, condition)

    def dtype(self, table: VectorTable) -> np.dtype[Any]:
        """The precision in which the table's vectors are stored."""
        return self._vectors.dtype(table.name)

    def stream(self, table: VectorTable, condition: str | None = None) -> Iterator[Points]:
        """The rows of a table that need not fit in memory, some at a time."""
        for batch in self._vectors.stream(table.name, table.level, condition):
            check()
            yield batch

    def of_structure(self, table: VectorTable, id_: str) -> Points:
        """The rows of one structure."""
        return self._vectors.of_structure(table.name, table.level, id_)

    def of_structures(self, table: VectorTable, ids: list[str]) -> Points:
        """The rows of some structures."""
        check()
        return self._vectors.of_structures(table.name, table.level, ids)

    def checksum(self, table: VectorTable) -> str:
        """Of the table's content."""
        return self._vectors.checksum(table.name)

    def keys(self, table: VectorTable) -> Iterator[pa.RecordBatch]:
        """The keys of all rows, streamed in the table's order."""
        return self._vectors.keys(table.name, table.level)

    def points_at(self, table: VectorTable, rows: np.ndarray) -> Points:
        """Some rows by their place in the table's order."""
        return self._vectors.at(table.name, table.level, rows)

    def keys_of_structures(self, table: VectorTable, ids: list[str]) -> pa.Table:
        """The keys of the rows of some structures, in any order."""
        return self._vectors.keys_of_structures(table.name, table.level, ids)

    def nearest_indexed(
        self,
        table: VectorTable,
        vector: np.ndarray,
        k: int,
        accept: Accept | None = None,
        among: int = 0,
        *,
        is_row: bool = False,
    ) -> pa.Table | None:
        """The k nearest rows by the table's index; see `nearest_rows`."""
        check()
        args = table.name, vector, k, table.level, accept, among
        return self._vectors.nearest_indexed(*args, is_row=is_row)

    def has_hubs(self, table: VectorTable) -> bool:
        """Whether the table's rows have hub scores."""
        return self._vectors.has_hubs(table.name)

    def nearest_among(
        self, table: VectorTable, vector: np.ndarray, k: int, condition: str
    ) -> pa.Table:
        """The k nearest of the rows that meet a condition of Lance's on the key columns."""
        check()
        return self._vectors.nearest_among(table.name, vector, k, table.level, condition)

    def search(self, table: VectorTable) -> Measured:
        """How a table is searched by its index, and the recall that was measured so."""
        return self._vectors.measured(table.name)

    def rows_by_chunk(self, name: str) -> dict[int, int]:
        """How many rows each chunk has in a vector table."""
        return self._vectors.rows_by_chunk(name)

    def has_structure(self, id_: str) -> bool:
        if "_structures" in self.__dict__:
            return id_ in self._structures[1]
        return bool(self.rows("SELECT 1 FROM catalog.main.structures WHERE id = ?", [id_]))

    def describe(self, ids: list[str]) -> "pd.DataFrame":
        """The `structure` rows of some ids, one for each, in their order."""
        frame: pd.DataFrame = self.described(ids).to_pandas()
        return frame

    def described(self, ids: list[str]) -> pa.Table:
        """`describe` as an Arrow table."""
        if self._is_described and self.count <= DESCRIBED_IN_MEMORY:
            import pandas as pd

            known, index = self._structures
            return known.take(index.get_indexer(pd.Index(ids)))
        import pyarrow.compute as pc

        self._is_described = True
        # Literals, because DuckDB would read all properties to join them with a parameter.
        some = literals(dict.fromkeys(ids)) or "NULL"
        found = self.execute(f"FROM structure WHERE structure_id IN ({some})")
        table = found.to_arrow_table()
        place = table["structure_id"].combine_chunks()
        return table.take(pc.index_in(pa.array(ids, pa.string()), place))

    @cached_property
    def _structures(self) -> "tuple[pa.Table, pd.Index[Any]]":
        """The view `structure` with its ids: who asks twice will ask often."""
        import pandas as pd

        table = self.execute("FROM structure").to_arrow_table().combine_chunks()
        return table, pd.Index(table["structure_id"].to_pandas())

    @cached_property
    def count(self) -> int:
        """Of the structures."""
        ((count,),) = self.rows("SELECT count(*) FROM catalog.main.structures")
        return int(count)


def _frame(result: duckdb.DuckDBPyConnection) -> "pd.DataFrame":
    frame: pd.DataFrame = result.to_arrow_table().to_pandas()
    return frame


def _confine(connection: duckdb.DuckDBPyConnection, paths: list[str]) -> None:
    """Let the instance read no files but these, and write none, for good.

    DuckDB allows a folder for temporary files, if there is one, to be written to by anybody.
    """
    connection.execute(
        f"SET temp_directory = ''; SET allowed_paths = [{literals(paths)}]; "
        "SET python_enable_replacements = false; SET enable_external_access = false; "
        "SET lock_configuration = true"
    )
