"""SQL over a store: in process for `Store.sql`, and as a script for any DuckDB client.

Both know the same views and functions. In process they are answered by Python and accept
subqueries and columns as arguments; the script's are plain SQL over DuckDB's Lance extension.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from platonic_store.catalog import literals
from platonic_store.errors import InvalidQuery, NotEmbedded, PlatonicError
from platonic_store.resources import folder
from platonic_store.search import find, vector
from platonic_store.snapshot import Snapshot, element_symbol_macro, one_line

_HIT = pa.struct(
    [
        ("rank", pa.int64()),
        ("distance", pa.float64()),
        ("id", pa.string()),
        ("site_index", pa.int32()),
    ]
)


def run(snapshot: Snapshot, query: str, *, allow_files: bool = False) -> pa.Table:
    """The result of read-only SQL; see `Store.sql`."""
    with _functions(snapshot) as raised:
        if not allow_files:
            # Other files, other databases and the network: all out of reach, for good.
            snapshot.connection.execute(
                "SET python_enable_replacements = false; SET enable_external_access = false; "
                "SET lock_configuration = true"
            )
        try:
            result = snapshot.connection.execute(query)
            return _named_apart(result.to_arrow_table()) if result.description else pa.table({})
        except duckdb.Error as error:
            if raised:
                raise raised[0] from None
            raise InvalidQuery(f"SQL: {one_line(error)}") from None


def _named_apart(table: pa.Table) -> pa.Table:
    """A second `id` of a join becomes `id_1`: frames and files want names apart."""
    names: list[str] = []
    for name in table.column_names:
        repeats = sum(other == name or other.startswith(f"{name}_") for other in names)
        names.append(f"{name}_{repeats}" if name in names else name)
    return table.rename_columns(names)


@contextmanager
def _functions(snapshot: Snapshot) -> Iterator[list[PlatonicError]]:
    """Register the functions; gives the list in which they leave what they raise."""
    raised: list[PlatonicError] = []

    def answer(function: Callable, kind: pa.DataType, columns: tuple) -> pa.Array:
        try:
            rows = zip(*(column.to_pylist() for column in columns), strict=True)
            return pa.array([_or_null(function, snapshot, *row) for row in rows], type=kind)
        except PlatonicError as error:
            raised.append(error)
            raise

    # DuckDB counts the parameters of what it is given, so each is spelt out.
    def similar(query, site, model, layer, across, space, k, condition):
        arguments = (query, site, model, layer, across, space, k, condition)
        return answer(_similar, pa.list_(_HIT), arguments)

    def embedding(query, site, model, layer, space):
        return answer(_embedding, pa.list_(pa.float32()), (query, site, model, layer, space))

    text, integer = "VARCHAR", "INTEGER"
    functions: tuple[tuple[str, Callable[..., Any], list, str], ...] = (
        (
            "_similar",
            similar,
            [text, integer, text, integer, text, text, integer, text],
            "STRUCT(rank BIGINT, distance DOUBLE, id VARCHAR, site_index INTEGER)[]",
        ),
        ("_embedding", embedding, [text, integer, text, integer, text], "FLOAT[]"),
    )
    for name, function, parameters, returns in functions:
        snapshot.connection.create_function(
            name,
            function,
            parameters,
            returns,
            type="arrow",  # type: ignore[call-overload]
            null_handling="special",
        )
    snapshot.connection.execute((folder("queries") / "functions.sql").read_text())
    yield raised


def _or_null(function: Callable, snapshot: Snapshot, query: str | None, *arguments: Any) -> Any:
    """SQL asks for whole columns: what has no vector has no answer, and the rest have theirs."""
    if query is None:
        return None
    try:
        return function(snapshot, _query(snapshot, query), *arguments)
    except NotEmbedded:
        return None


def _query(snapshot: Snapshot, text: str) -> str | np.ndarray:
    """An id as it is, or a vector that SQL handed over as text."""
    if text.startswith("[") and not snapshot.has_structure(text):
        return np.array(text[1:-1].split(","), dtype=np.float32)
    # SQL names what is in the store; only `similar` on the command line reads files.
    snapshot.require_structure(text)
    return text


def _similar(
    snapshot: Snapshot,
    query: str | np.ndarray,
    site: int | None,
    model: str | None,
    layer: int | None,
    across: str | None,
    space: str | None,
    k: int,
    condition: str | None,
) -> list[dict]:
    hits = find(
        snapshot,
        query,
        model=model,
        layer=layer,
        across=across,
        space=space,
        site=site,
        k=k,
        where=condition,
    )
    return hits.to_dict("records")


def _embedding(
    snapshot: Snapshot,
    query: str | np.ndarray,
    site: int | None,
    model: str | None,
    layer: int | None,
    space: str | None,
) -> list[float]:
    found = vector(snapshot, query, model=model, layer=layer, space=space, site=site)
    return found.tolist()


def init_script(snapshot: Snapshot, path: Path) -> str:
    """SQL with which the plain DuckDB client opens the store; see docs/sql.md."""
    import duckdb_extension_lance

    extension = next(Path(duckdb_extension_lance.__file__).parent.rglob("*.duckdb_extension"))
    names = {"catalog": path / "catalog.duckdb", "vectors": path / "vectors", "lance": extension}
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
    models = {name: snapshot.layer(name, None) for name in snapshot.models()}
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
