"""A script with which the plain DuckDB client opens a store."""

from pathlib import Path

from platonic_store.resources import folder
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot, element_symbol_macro
from platonic_store.storage.sqltext import literals


def init_script(snapshot: Snapshot, path: Path) -> str:
    """SQL with which the plain DuckDB client opens the store; see docs/sql.md."""
    import duckdb_extension_lance

    extension = next(Path(duckdb_extension_lance.__file__).parent.rglob("*.duckdb_extension"))
    names = {"catalog": snapshot.path.resolve(), "vectors": path / "vectors", "lance": extension}
    quoted = {name: literals([str(value)]) for name, value in names.items()}
    views, functions = (
        (folder("queries") / name).read_text() for name in ("views.sql", "client.sql")
    )
    return (
        f"LOAD {quoted['lance']};\n"
        f"ATTACH {quoted['catalog']} AS catalog (READ_ONLY);\n"
        f"ATTACH {quoted['vectors']} AS vectors (TYPE lance);\n"
        f"{element_symbol_macro()};\n{views}\n{_choices(snapshot)}\n{functions}"
    )


def _choices(snapshot: Snapshot) -> str:
    """The defaults of this store as macros: a table function's name must fold to a constant."""
    models = {name: lookup.model_layer(snapshot, name).layer for name in list(snapshot.models)}
    spaces = snapshot.rows("SELECT id, recipe FROM catalog.main.spaces ORDER BY created_at")
    newest = {recipe: id_ for id_, recipe in spaces}
    layers = "".join(f" WHEN '{name}' THEN {layer}" for name, layer in models.items())
    recipes = "".join(f" WHEN '{recipe}' THEN '{id_}'" for recipe, id_ in newest.items())
    first = f"'{next(iter(models))}'" if models else "NULL"
    last = f"'{spaces[-1][0]}'" if spaces else "NULL"
    return (
        f"CREATE OR REPLACE MACRO model_or_first(model) AS coalesce(model, {first});\n"
        "CREATE OR REPLACE MACRO default_layer(model) AS "
        f"CASE model{layers} WHEN NULL THEN 0 END;\n"
        f"CREATE OR REPLACE MACRO space_id(space) AS "
        f"CASE coalesce(space, {last}){recipes} ELSE coalesce(space, {last}) END;"
    )
