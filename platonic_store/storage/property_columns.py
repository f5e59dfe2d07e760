"""What sources say of structures, in columns of `structures` whose types grow with them."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from platonic_store.storage import tables as t
from platonic_store.storage.bulk import SCHEMAS
from platonic_store.storage.catalog import fetch_arrow, registered
from platonic_store.storage.sqltext import quote

# Wider types hold all values of narrower ones; anything else meets in VARCHAR.
_WIDER = {("BIGINT", "DOUBLE"), ("BOOLEAN", "BIGINT"), ("BOOLEAN", "DOUBLE")}
_DUCKDB_TYPE = {
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.string(): "VARCHAR",
}
# Names that the views give to what the store itself knows of a structure or a site.
_OWN_NAMES = {
    *(column.name for column in t.structures.columns),
    *SCHEMAS["crystals"].names,
    *("site_index", "atomic_number", "element", "x", "y", "z"),
    *("orbit", "multiplicity", "nelements", "rank", "distance"),
}


def new_properties(connection: sa.Connection, rows: pa.RecordBatch, ids: set[str]) -> pa.Table:
    """Of some structures, by `id`, the properties with a value that is not there."""
    table = pa.Table.from_batches([rows])
    seen: set[str] = set()
    mask = []
    for id_ in table["id"].to_pylist():
        mask.append(id_ in ids and id_ not in seen)
        seen.add(id_)
    table = table.filter(pa.array(mask, pa.bool_()))
    columns = {"id": table["id"]}
    for name in table.column_names:
        if name != "id" and not pa.types.is_null(table[name].type):
            columns[_property_name(name, columns)] = table[name]
    table = pa.table(columns)
    stored = {name.lower() for name, *_ in connection.execute(sa.text("DESCRIBE structures"))}
    names = [name for name in table.column_names if name.lower() in stored]
    if len(names) < len(columns):
        return table
    gained = (f"i.{quote(name)} IS NOT NULL AND s.{quote(name)} IS NULL" for name in names)
    with registered(connection, incoming=table):
        return fetch_arrow(
            connection,
            "SELECT i.* FROM incoming AS i LEFT JOIN structures AS s ON s.id = i.id "
            f"WHERE {' OR '.join(gained)}",
        )


def add_structures(connection: sa.Connection, new: pa.RecordBatch, properties: pa.Table) -> None:
    """Add new structures, and properties of these and others; a value that is there stays."""
    if len(properties):
        _widen_table(
            connection, dict(zip(properties.column_names, properties.columns, strict=True))
        )
    else:
        properties = properties.select(["id"])
    with registered(connection, incoming=new, said=properties) as raw:
        raw.execute("INSERT INTO structures BY NAME FROM incoming LEFT JOIN said USING (id)")
    is_new = pc.is_in(properties["id"], new["id"])
    _add_to_known(connection, properties.filter(pc.invert(is_new)))


def _add_to_known(connection: sa.Connection, properties: pa.Table) -> None:
    if not len(properties) or properties.num_columns == 1:
        return
    described = connection.execute(sa.text("DESCRIBE structures")).all()
    types = {name.lower(): kind for name, kind, *_ in described}
    added = ", ".join(
        f"{name} = coalesce(s.{name}, CAST(k.{name} AS {types[column.lower()]}))"
        for column in properties.column_names[1:]
        for name in [quote(column)]
    )
    with registered(connection, known=properties) as raw:
        raw.execute(f"UPDATE structures AS s SET {added} FROM known AS k WHERE s.id = k.id")


def _property_name(name: str, taken: Iterable[str]) -> str:
    """DuckDB's names ignore case, and the store's own columns keep theirs."""
    name = f"source_{name}" if name.lower() in _OWN_NAMES else name
    spellings = {other.lower() for other in taken}
    while name.lower() in spellings:
        name += "_"
    return name


def _widen_table(connection: sa.Connection, columns: dict[str, pa.ChunkedArray]) -> None:
    """Give `structures` the columns that are new, and the wider type where two sources differ."""
    described = connection.execute(sa.text("DESCRIBE structures")).all()
    present = {name.lower(): (name, kind) for name, kind, *_ in described}
    for name, values in columns.items():
        kind = _DUCKDB_TYPE.get(values.type, "VARCHAR")
        if name.lower() not in present:
            connection.execute(sa.text(f"ALTER TABLE structures ADD COLUMN {quote(name)} {kind}"))
            continue
        stored_name, stored = present[name.lower()]
        if stored != kind and (kind, stored) not in _WIDER:
            wider = kind if (stored, kind) in _WIDER else "VARCHAR"
            if wider != stored:
                connection.execute(
                    sa.text(f"ALTER TABLE structures ALTER {quote(stored_name)} TYPE {wider}")
                )
