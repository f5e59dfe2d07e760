from typing import TYPE_CHECKING, Annotated, Optional

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    AtOption,
    ColumnsOption,
    Format,
    FormatOption,
    OutOption,
    ReferencesOption,
    StoreOption,
    references,
)
from platonic_store.cli.output import show

if TYPE_CHECKING:
    import pyarrow as pa


def run(
    query: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="SQL over structure, site, model, run …, or @NAME of the cookbook."),
    ] = None,
    set: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", help="NAME=VALUE, a variable of the query; once for each."),
    ] = None,
    list: Annotated[
        bool, typer.Option("--list", help="List the queries of the cookbook and their variables.")
    ] = False,
    init: Annotated[
        bool,
        typer.Option("--init", help="Print a script for the plain `duckdb` client."),
    ] = False,
    allow_files: Annotated[
        bool, typer.Option("--allow-files", help="Let the SQL read and write other files.")
    ] = False,
    reference: ReferencesOption = None,
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    columns: ColumnsOption = None,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Run read-only SQL over the store, or a named query of the cookbook."""
    from platonic_store.errors import InvalidQuery
    from platonic_store.store import Store

    if (query is not None) + list + init != 1:
        raise InvalidQuery(
            'give a query such as "SELECT structure_id, formula FROM structure", or '
            "@near-duplicates, or --list, or --init"
        )
    if list:
        show(_listed(), format, out)
        return
    opened = Store.open(store, at=at, references=references(reference))
    if query is not None:
        answer = opened.sql_arrow(query, variables=_variables(set), allow_files=allow_files)
        show(answer, format, out, columns=columns)
    elif out is not None:
        out.write_text(opened.init_sql())
    else:
        print(opened.init_sql())


def _variables(settings: Optional[list[str]]) -> dict[str, str]:  # noqa: UP045
    from platonic_store.errors import InvalidQuery

    pairs = [setting.partition("=") for setting in settings or ()]
    for name, separator, _ in pairs:
        if not separator or not name:
            raise InvalidQuery(f"--set {name}: write --set NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _listed() -> "pa.Table":
    import pyarrow as pa

    from platonic_store.sql import cookbook

    rows = [
        {
            "query": f"@{entry.name}",
            "answers": entry.title,
            "variables": ", ".join(
                name if one.default is None else f"{name}={one.default}"
                for name, one in entry.variables.items()
            ),
            "needs": ", ".join(entry.needs),
        }
        for entry in cookbook.entries()
    ]
    return pa.Table.from_pylist(rows)
