from typing import Annotated

import typer

from platonic_store.cli.options import DEFAULT_STORE, AtOption, ReferencesOption, references


def run(
    store: Annotated[
        str, typer.Argument(envvar="PLATONIC_STORE", help="The store: a folder or URL.")
    ] = DEFAULT_STORE,
    sql: Annotated[bool, typer.Option("--sql", help="Add a tool for read-only SQL.")] = False,
    page: Annotated[
        str, typer.Option("--page", help="Where `serve` shows the store; answers link to it.")
    ] = "http://127.0.0.1:8480",
    reference: ReferencesOption = None,
    at: AtOption = None,
) -> None:
    """Answer an agent over stdin and stdout; `serve` does so over HTTP, at /mcp."""
    import anyio

    from platonic_store.service.mcp import stdio
    from platonic_store.service.settings import Settings
    from platonic_store.store import Store

    opened = Store.open(store, at=at, references=references(reference))
    opened.snapshot()
    anyio.run(stdio, opened, Settings(sql=sql, seconds=300), page.rstrip("/"))
