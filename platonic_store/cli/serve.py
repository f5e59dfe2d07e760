from typing import Annotated, Optional

import typer

from platonic_store.cli.options import DEFAULT_STORE, AtOption, ReferencesOption, references
from platonic_store.service.settings import Settings


def run(
    store: Annotated[
        str, typer.Argument(envvar="PLATONIC_STORE", help="The store: a folder or URL.")
    ] = DEFAULT_STORE,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = Settings.host,
    port: Annotated[int, typer.Option(help="Its port.", min=1, max=65535)] = Settings.port,
    token: Annotated[
        Optional[str],  # noqa: UP045 — typer reads it
        typer.Option(envvar="PLATONIC_STORE_TOKEN", help="Answer only those who have this token."),
    ] = None,
    public: Annotated[
        int,
        typer.Option(
            "--public", count=True, help="Let anybody read who reaches the host; say it twice."
        ),
    ] = 0,
    sql: Annotated[bool, typer.Option("--sql", help="Answer read-only SQL at /api/sql.")] = False,
    models: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Models that embed uploads, with commas between; by default all that are ready."
        ),
    ] = None,
    no_models: Annotated[bool, typer.Option("--no-models", help="Embed no uploads.")] = False,
    cors: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="An origin whose pages may read answers; once for each."),
    ] = None,
    allow_host: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A further name of this host, as a proxy's; once for each."),
    ] = None,
    reference: ReferencesOption = None,
    at: AtOption = None,
) -> None:
    """Serve the store over HTTP: the explorer, the API and its documentation."""
    from platonic_store.errors import InvalidQuery
    from platonic_store.progress import is_quiet
    from platonic_store.service.run import serve
    from platonic_store.store import Store

    if public == 1:
        raise InvalidQuery("anybody could read this store", "say `--public` twice if they may")
    settings = Settings(
        host=host,
        port=port,
        token=token,
        public=public > 1,
        sql=sql,
        models=() if no_models else _names(models),
        cors=tuple(cors or ()),
        hosts=tuple(allow_host or ()),
    )
    opened = Store.open(store, at=at, references=references(reference))
    serve(opened, settings, access_log=not is_quiet())


def _names(models: Optional[str]) -> tuple[str, ...] | None:  # noqa: UP045
    return None if models is None else tuple(one for one in models.split(",") if one)
