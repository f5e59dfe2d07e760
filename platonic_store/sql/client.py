"""A script with which the plain DuckDB client opens a store."""

import importlib
from pathlib import Path
from urllib.parse import urlsplit

from platonic_store.errors import InvalidQuery
from platonic_store.resources import folder
from platonic_store.storage import bulk, lookup, views
from platonic_store.storage.layer_sets import text_of
from platonic_store.storage.location import Location
from platonic_store.storage.revision import REVISION
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import literals, quote

# Credentials, region and endpoint come from the environment of the client. Its answer, a table
# with "true", would come before those of queries.
_S3_SECRET = """\
.output /dev/null
CREATE OR REPLACE SECRET platonic_store (
    TYPE s3, PROVIDER config, SCOPE {scope},
    KEY_ID getenv('AWS_ACCESS_KEY_ID'),
    SECRET getenv('AWS_SECRET_ACCESS_KEY'),
    SESSION_TOKEN getenv('AWS_SESSION_TOKEN'),
    REGION coalesce(
        nullif(getenv('AWS_REGION'), ''), nullif(getenv('AWS_DEFAULT_REGION'), ''), 'us-east-1'
    ),
    ENDPOINT coalesce(
        nullif(regexp_replace(getenv('AWS_ENDPOINT_URL'), '^https?://', ''), ''), 's3.amazonaws.com'
    ),
    URL_STYLE if(getenv('AWS_ENDPOINT_URL') = '', 'vhost', 'path'),
    USE_SSL NOT starts_with(getenv('AWS_ENDPOINT_URL'), 'http://')
);
.output
"""
_NO_VECTORS = """\
-- Lance cannot read vectors from a web server. What reads them does not work here: embedding and
-- similar_…; all views do, and typicality and outliers.
"""


def init_script(snapshot: Snapshot, location: Location) -> str:
    """SQL with which the plain DuckDB client opens a snapshot where it is; see docs/sql.md.

    Raises: InvalidQuery for a store that the client cannot read.
    """
    scheme = urlsplit(location.uri).scheme if location.folder is None else "file"
    if scheme not in ("file", "s3", "http", "https"):
        raise InvalidQuery(
            f"the plain DuckDB client cannot read {scheme}:// stores", "copy it to a disk"
        )
    parts = [_load("httpfs")] if scheme != "file" else []
    parts += [_S3_SECRET.format(scope=literals([location.uri]))] if scheme == "s3" else []
    catalog, rows = _files(snapshot, location)
    parts += [f"ATTACH {literals([catalog])} AS catalog (READ_ONLY);"]
    parts += [_vectors(snapshot, location) if location.writable else _NO_VECTORS]
    parts += [views.script(rows), _choices(snapshot)]
    return "\n".join([*parts, (folder("queries") / "client.sql").read_text()])


def _files(snapshot: Snapshot, location: Location) -> tuple[str, dict[str, list[str]]]:
    """The catalogue, and the files of each table of bulk rows: local paths, or URLs."""
    manifest, catalog = snapshot.manifest, str(snapshot.path.resolve())
    if location.folder is not None:
        return catalog, snapshot.row_files
    if manifest.revision == REVISION:  # else it was brought to this one in the cache
        catalog = f"{location.uri}/{manifest.catalog.path}"
    rows = {
        table: [f"{location.uri}/{file.path}" for file in manifest.rows.get(table, [])]
        for table in bulk.SCHEMAS
    }
    return catalog, rows


def _vectors(snapshot: Snapshot, location: Location) -> str:
    """SQL that makes the database `vectors`, a table or view a vector table."""
    if location.folder is not None:
        path = (location.folder / "vectors").resolve()
        return f"{_load('lance')}\nATTACH {literals([str(path)])} AS vectors (TYPE lance);"
    views = (
        f"CREATE VIEW vectors.main.{quote(table.name)} AS "
        f"FROM {literals([location.lance_uri(table.name)])};"
        for table in snapshot.tables
    )
    return "\n".join([_load("lance"), "ATTACH ':memory:' AS vectors;", *views])


def _load(extension: str) -> str:
    """SQL that loads a DuckDB extension from its package `duckdb_extension_NAME`."""
    package = importlib.import_module(f"duckdb_extension_{extension}")
    file = next(Path(str(package.__file__)).parent.rglob("*.duckdb_extension"))
    return f"LOAD {literals([str(file)])};"


def _choices(snapshot: Snapshot) -> str:
    """The defaults of this store as macros: a table function's name must fold to a constant."""
    models = {name: lookup.model_layer(snapshot, name).layer for name in list(snapshot.models)}
    taken = {
        (space, model): text_of(lookup.side_in(snapshot, space, model).layer)
        for space, _, projected in snapshot.spaces
        for model in projected
    }
    spaces = snapshot.rows("SELECT id, recipe FROM catalog.main.spaces ORDER BY created_at")
    newest = {recipe: id_ for id_, recipe in spaces}
    layers = "".join(f" WHEN '{name}' THEN {layer}" for name, layer in models.items())
    recipes = "".join(f" WHEN '{recipe}' THEN '{id_}'" for recipe, id_ in newest.items())
    sides = "".join(
        f" WHEN {literals([space])} || ' ' || {literals([model])} THEN '{text}'"
        for (space, model), text in taken.items()
    )
    first = f"'{next(iter(models))}'" if models else "NULL"
    shared = [id_ for id_, recipe in spaces if recipe != lookup.ALONE]
    last = f"'{shared[-1]}'" if shared else "NULL"
    return (
        f"CREATE OR REPLACE MACRO model_or_first(model) AS coalesce(model, {first});\n"
        "CREATE OR REPLACE MACRO default_layer(model) AS "
        f"CASE model{layers} WHEN NULL THEN 0 END;\n"
        "CREATE OR REPLACE MACRO space_layers(space, model) AS "
        f"CASE space || ' ' || model{sides} WHEN NULL THEN '' END;\n"
        f"CREATE OR REPLACE MACRO space_id(space) AS CASE coalesce(space, {last})"
        f"{recipes} WHEN NULL THEN NULL ELSE coalesce(space, {last}) END;"
    )
