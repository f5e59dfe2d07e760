"""Bulk rows outside the catalogue: sorted Parquet files, immutable and named by their content.

`crystals` holds a structure's atoms and cell in a row, `structure_predictions` and
`atom_predictions` what models predict of them, `structure_scores` and `atom_scores` how typical
they look to models, `structure_map` and `atom_map` where they lie on the map, and `layout_points`
what that was fitted to. `parameters` is what was fitted, by name: the targets of a space, a
projection, a layout. A table is the rows of all of its files without those that `deleted_rows`
notes; no key is in two of them.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from platonic_store.storage.sqltext import NO_BAR, literals

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_SCORES = [
    pa.field("atypicality", pa.float64()),
    pa.field("p", pa.float64()),
    pa.field("distance", pa.float64()),
    pa.field("density", pa.float64()),
    pa.field("residual", pa.float64()),
]
_SITE = [pa.field("site_index", pa.int32()), pa.field("atomic_number", pa.int16())]
_NEAREST = [
    pa.field("nearest_id", pa.string()),
    pa.field("nearest_site", pa.int32()),
    pa.field("nearest_distance", pa.float64()),
]
_SCORED = [pa.field("reference", pa.string()), pa.field("structure_id", pa.string())]
_PREDICTED = [
    pa.field("structure_id", pa.string()),
    pa.field("model", pa.string()),
    pa.field("run", pa.int64()),
]
_XY = [pa.field("x", pa.float32()), pa.field("y", pa.float32())]
# Of the consensus, the model `consensus`, the layer is NULL.
_MAPPED = [pa.field("model", pa.string()), pa.field("layer", pa.int32()), *_XY]

DELETED: Final = "deleted_rows"
# A file more of whose rows are deleted is written anew.
MOST_DELETED: Final = 0.1
SCHEMAS: dict[str, pa.Schema] = {
    # Lists are flat: `numbers` (N) and `orbits` (N), `positions` (3N, Cartesian Å), `cell` (9, Å,
    # rows are lattice vectors), `pbc` (3).
    "crystals": pa.schema(
        [
            pa.field("structure_id", pa.string()),
            pa.field("numbers", pa.list_(pa.int16())),
            pa.field("positions", pa.list_(pa.float64())),
            pa.field("cell", pa.list_(pa.float64())),
            pa.field("pbc", pa.list_(pa.bool_())),
            pa.field("orbits", pa.list_(pa.int32())),
        ]
    ),
    # `energy` in eV, of the whole structure; `run` says by which weights and versions. Forces in
    # eV/Å, Cartesian, of every site: those of equivalent sites differ by a rotation.
    "structure_predictions": pa.schema([*_PREDICTED, pa.field("energy", pa.float64())]),
    "atom_predictions": pa.schema(
        [_PREDICTED[0], _SITE[0], *_PREDICTED[1:]]
        + [pa.field(name, pa.float32()) for name in ("fx", "fy", "fz")]
    ),
    "structure_scores": pa.schema(
        [*_SCORED, *_SCORES, *_SITE, *_NEAREST, pa.field("neighbours", pa.list_(pa.string()))]
    ),
    "atom_scores": pa.schema(
        [*_SCORED, *_SITE, *_SCORES, *_NEAREST, pa.field("neighbours", pa.list_(pa.int64()))]
    ),
    "structure_map": pa.schema([pa.field("structure_id", pa.string()), *_MAPPED]),
    "atom_map": pa.schema([pa.field("structure_id", pa.string()), _SITE[0], *_MAPPED]),
    # `site_index` is NULL for a structure; `point` is where it was before the layout.
    "layout_points": pa.schema(
        [
            pa.field("level", pa.string()),
            pa.field("structure_id", pa.string()),
            _SITE[0],
            *_XY,
            pa.field("point", pa.list_(pa.float32())),
        ]
    ),
    "parameters": pa.schema([pa.field("name", pa.string()), pa.field("content", pa.binary())]),
    # Of which structures a file's rows are no longer there. `file` is its SHA-256. The last to be
    # published: files that are merged before lose what is noted of them.
    DELETED: pa.schema([pa.field("file", pa.string()), pa.field("structure_id", pa.string())]),
}
# The structure comes first, so that all that is known of one lies in one row group of a file.
KEYS = {
    "crystals": ["structure_id"],
    "structure_predictions": ["structure_id", "model"],
    "atom_predictions": ["structure_id", "model", "site_index"],
    "structure_scores": ["structure_id", "reference"],
    "atom_scores": ["structure_id", "reference", "site_index"],
    "structure_map": ["structure_id", "model", "layer"],
    "atom_map": ["structure_id", "site_index", "model", "layer"],
    "layout_points": ["structure_id", "level", "site_index"],
    "parameters": ["name"],
    DELETED: ["file", "structure_id"],
}
_ROW_GROUP = {
    "crystals": 2_048,
    "structure_predictions": 16_384,
    "atom_predictions": 65_536,
    "structure_scores": 16_384,
    "atom_scores": 16_384,
    "structure_map": 65_536,
    "atom_map": 65_536,
    "layout_points": 16_384,
    "parameters": 1,  # some have 30 MB, and one is read at a time
    DELETED: 65_536,
}
# Columns whose values come again and again, by their names in a Parquet file.
_DICTIONARY = {
    "crystals": [],
    "structure_predictions": ["structure_id", "model", "run"],
    "atom_predictions": ["structure_id", "site_index", "model", "run"],
    "structure_scores": [
        *("reference", "structure_id", "site_index", "atomic_number"),
        *("nearest_id", "nearest_site", "neighbours.list.element"),
    ],
    "atom_scores": [
        *("reference", "structure_id", "site_index", "atomic_number"),
        *("nearest_id", "nearest_site"),
    ],
    "structure_map": ["structure_id", "model", "layer"],
    "atom_map": ["structure_id", "site_index", "model", "layer"],
    "layout_points": ["level", "structure_id", "site_index"],
    "parameters": [],
    DELETED: ["file"],
}
_TYPES = {
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
}
_MERGE_MEMORY = "1GB"


def write(rows: pa.Table, table: str, folder: Path) -> Path:
    """Write rows, in any order and with no key twice, as one file `folder/TABLE/SHA256.parquet`.

    The same rows give the same bytes. Nothing is flushed to the disk.
    """
    ordered = rows.select(SCHEMAS[table].names).sort_by([(key, "ascending") for key in KEYS[table]])
    return _write(ordered.to_batches(), table, folder)


def merge(paths: list[Path], table: str, folder: Path, deleted: Sequence[Path] = ()) -> Path:
    """Write the rows of several files as one. Rows beyond some memory wait on the disk."""
    with _connect(folder) as connection:
        rows = select(table, paths, deleted)
        return _write(_sorted(connection, table, rows), table, folder)


def without(
    path: Path, table: str, condition: str, folder: Path, deleted: Sequence[Path] = ()
) -> Path | None:
    """The file again without the rows that meet an SQL condition.

    The same file if none does, None if all do.
    """
    kept = f"({condition}) IS NOT TRUE"
    rows = select(table, [path], deleted)
    with _connect(folder) as connection:
        counted = f"SELECT count(*), count(*) FILTER ({kept}) FROM ({rows})"
        before, after = connection.execute(counted).fetchone() or (0, 0)
        if before == after:
            return path
        found = _sorted(connection, table, f"FROM ({rows}) WHERE {kept}")
        return _write(found, table, folder) if after else None


def without_structures(
    path: Path, table: str, ids: pa.Array, folder: Path, deleted: Sequence[Path] = ()
) -> tuple[Path | None, pa.Table]:
    """The file again without some structures, None if nothing is left.

    Or the same file, and what `deleted_rows` is to note, as long as that is little.
    """
    from pyarrow import parquet

    rows = select(table, [path], deleted)
    with _connect(folder) as connection:
        connection.register("gone", pa.table({"structure_id": ids}))
        is_gone = (
            "SELECT DISTINCT ? AS file, structure_id "
            f"FROM ({rows}) SEMI JOIN gone USING (structure_id)"
        )
        found = connection.execute(is_gone, [path.stem]).to_arrow_table()
        if not len(found):
            return path, found
        left = f"FROM ({rows}) ANTI JOIN gone USING (structure_id)"
        (count,) = connection.execute(f"SELECT count(*) {left}").fetchone() or (0,)
        if count >= (1 - MOST_DELETED) * parquet.read_metadata(path).num_rows:
            return path, found
        written = _write(_sorted(connection, table, left), table, folder) if count else None
        return written, found.slice(0, 0)


def export(connection: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, Path]:
    """Write the bulk rows that a catalogue of revision 0005 holds: a file a table that has rows."""
    crystals = f"SELECT id AS structure_id, {', '.join(SCHEMAS['crystals'].names[1:])}"
    tables = {
        "crystals": f"{crystals} FROM structures",
        "structure_scores": "FROM structure_scores",
        "atom_scores": "FROM atom_scores",
    }
    return {
        table: _write(_sorted(connection, table, rows), table, folder)
        for table, rows in tables.items()
        if connection.execute(f"SELECT EXISTS({rows})").fetchone() == (True,)
    }


def in_order(
    paths: Sequence[Path], table: str, ids: pa.StringArray, deleted: Sequence[Path] = ()
) -> Iterator[pa.Table]:
    """Stream the rows of some structures, by id, from a table with a row a structure.

    ids: sorted. Each file is read once, but for the row groups without any of them; in memory are
    some row groups of each.
    """
    from pyarrow import parquet

    files = [parquet.ParquetFile(path) for path in paths]
    gone = [_deleted_of(path, deleted) for path in paths]
    try:
        waiting = SCHEMAS[table].empty_table()
        for first, last, file, group in sorted(_spans(files)):
            asked = ids[bisect_left(ids, first, key=_text) : bisect_right(ids, last, key=_text)]
            if not len(asked):
                continue
            is_done = pc.less(waiting["structure_id"], first)
            if pc.any(is_done).as_py():
                yield waiting.filter(is_done)
                waiting = waiting.filter(pc.invert(is_done))
            rows = files[file].read_row_group(group)
            found = rows["structure_id"]
            rows = rows.filter(pc.and_not(pc.is_in(found, asked), pc.is_in(found, gone[file])))
            waiting = pa.concat_tables([waiting, rows]).sort_by("structure_id")
        yield waiting
    finally:
        for one in files:
            one.close()


def _deleted_of(path: Path, deleted: Sequence[Path]) -> pa.StringArray:
    """The structures that are deleted of a file."""
    from pyarrow import parquet

    if not deleted:
        return pa.array([], pa.string())
    noted = parquet.read_table([*deleted], filters=[("file", "=", path.stem)])
    return noted["structure_id"].combine_chunks()


def _spans(files: "Sequence[ParquetFile]") -> Iterator[tuple[str, str, int, int]]:
    """The first and the last structure of each row group, its file's place, and its own."""
    for place, file in enumerate(files):
        column = file.schema_arrow.get_field_index("structure_id")
        for group in range(file.num_row_groups):
            known = file.metadata.row_group(group).column(column).statistics
            yield known.min, known.max, place, group


def _text(id_: pa.StringScalar) -> str:
    text: str = id_.as_py()
    return text


def to_merge(sizes: list[int]) -> int:
    """How many of the newest files to merge into one; 0 if none.

    sizes: of the files, in bytes or rows, the oldest first. After the merge each file is more than
    twice as large as the next, so n appends leave O(log n) files.
    """
    pairs = enumerate(pairwise(sizes))
    start = next((i for i, (size, after) in pairs if size <= 2 * after), None)
    if start is None:
        return 0
    while start > 0 and sizes[start - 1] <= 2 * sum(sizes[start:]):
        start -= 1
    return len(sizes) - start


def view(table: str, paths: Sequence[str | Path], deleted: Sequence[str | Path] = ()) -> str:
    """SQL that makes a view of the table's rows in its files, which may be https URLs."""
    return f"CREATE OR REPLACE VIEW {table} AS {select(table, paths, deleted)}"


def select(table: str, paths: Sequence[str | Path], deleted: Sequence[str | Path] = ()) -> str:
    """SQL of the table's rows in its files, in the types of its schema even where there is none.

    deleted: the files of `deleted_rows`.
    """
    schema = SCHEMAS[table]
    if not paths:
        nulls = (f"CAST(NULL AS {_type(field.type)}) AS {field.name}" for field in schema)
        return f"SELECT {', '.join(nulls)} WHERE false"
    rows = f"SELECT {', '.join(schema.names)} FROM read_parquet([{literals(map(str, paths))}], "
    if not deleted or KEYS[table][0] != "structure_id":
        return f"{rows}hive_partitioning = false)"
    return (
        f"{rows}hive_partitioning = false, filename = true) AS r "
        f"ANTI JOIN ({select(DELETED, deleted)}) AS d "
        "ON d.structure_id = r.structure_id AND d.file = parse_filename(r.filename, true)"
    )


def _write(batches: Iterable[pa.RecordBatch], table: str, folder: Path) -> Path:
    """Write ordered rows under their content's name."""
    from pyarrow import parquet

    schema = SCHEMAS[table]
    folder = folder / table
    folder.mkdir(parents=True, exist_ok=True)
    unnamed = folder / f"{uuid4().hex}.tmp"
    with parquet.ParquetWriter(
        unnamed,
        schema,
        compression="zstd",
        use_dictionary=_DICTIONARY[table] or False,
        write_statistics=KEYS[table],
    ) as writer:
        for group in _groups(batches, _ROW_GROUP[table]):
            writer.write_table(group.cast(schema))
    with unnamed.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    path = folder / f"{sha256}.parquet"
    if path.exists():  # which may be flushed to the disk already
        unnamed.unlink()
    else:
        unnamed.rename(path)
    return path


def _groups(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` rows, of one chunk each, whatever the batches were."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= rows:
            table = pa.Table.from_batches(waiting)
            whole = table.num_rows - table.num_rows % rows
            for start in range(0, whole, rows):
                yield table.slice(start, rows).combine_chunks()
            waiting = table.slice(whole).to_batches()
    if waiting:
        yield pa.Table.from_batches(waiting).combine_chunks()


def _sorted(connection: duckdb.DuckDBPyConnection, table: str, rows: str) -> pa.RecordBatchReader:
    columns, keys = ", ".join(SCHEMAS[table].names), ", ".join(KEYS[table])
    ordered = f"SELECT {columns} FROM ({rows}) ORDER BY {keys}"
    return connection.execute(ordered).to_arrow_reader(_ROW_GROUP[table])


def _connect(folder: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        config={"memory_limit": _MERGE_MEMORY, "temp_directory": str(folder / "sorting")}
    )
    return connection.execute(NO_BAR)


def _type(type_: pa.DataType) -> str:
    if pa.types.is_list(type_):
        return f"{_TYPES[type_.value_type]}[]"
    return _TYPES[type_]
