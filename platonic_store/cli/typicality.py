from typing import Annotated, Literal, Optional

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    LayerOption,
    OutOption,
    StoreOption,
)
from platonic_store.cli.output import say, show


def run(
    query: Annotated[str, typer.Argument(help="An id of the store, or a structure file.")],
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", "-m", help="The model that looks; default: the store's first."),
    ] = None,
    level: Annotated[
        Literal["structure", "atom"], typer.Option(help="It as a whole, or its atoms.")
    ] = "structure",
    layer: LayerOption = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """How unlike what a model has seen here one crystal looks. Typicality is not confidence."""
    from platonic_store.questions.typicality import CAVEAT
    from platonic_store.store import Store

    found = Store.open(store).typicality(query, model=model, layer=layer, level=level)
    show(found, format, out)
    say(CAVEAT)
