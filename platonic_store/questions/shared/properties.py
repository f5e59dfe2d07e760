"""The properties of structures that a store knows."""

from platonic_store.storage.snapshot import Snapshot

NUMERIC_TYPES = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT",
    "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE",
)  # fmt: skip


def property_types(snapshot: Snapshot) -> dict[str, str]:
    """Column of the view `structure` → its DuckDB type."""
    return dict(snapshot.rows("SELECT column_name, column_type FROM (DESCRIBE structure)"))


def numeric_properties(snapshot: Snapshot) -> list[str]:
    """The numeric columns of the view `structure`."""
    types = property_types(snapshot)
    return [name for name, kind in types.items() if kind in NUMERIC_TYPES or "DECIMAL" in kind]
