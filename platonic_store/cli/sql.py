from typing import Annotated, Optional

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    OutOption,
    StoreOption,
)
from platonic_store.cli.output import show


def run(
    query: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="SQL over structure, site, model, run, quarantine, anchor …"),
    ] = None,
    init: Annotated[
        bool,
        typer.Option("--init", help="Print a script for the plain `duckdb` client."),
    ] = False,
    allow_files: Annotated[
        bool, typer.Option("--allow-files", help="Let the SQL read and write other files.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Run read-only SQL over the store."""
    from platonic_store.errors import InvalidQuery
    from platonic_store.store import Store

    if (query is None) != init:
        raise InvalidQuery('give a query such as "SELECT id, formula FROM structure", or --init')
    opened = Store.open(store)
    if query is not None:
        show(opened.sql(query, allow_files=allow_files), format, out)
    elif out is not None:
        out.write_text(opened.init_sql())
    else:
        print(opened.init_sql())
