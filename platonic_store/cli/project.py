from typing import Annotated, Optional

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    LayerOption,
    OutOption,
    StoreOption,
)
from platonic_store.cli.output import show


def run(
    model: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--model", "-m", help="Project this model; may be given several times."),
    ] = None,
    all_models: Annotated[bool, typer.Option("--all", help="Project every model.")] = False,
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="cosine (the paper's), centred, whitened or aligned; default: aligned, where two "
            "trained models are there, else whitened."
        ),
    ] = None,
    anchors: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="An anchor set, or how it begins; default: the newest."),
    ] = None,
    layer: LayerOption = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Bring models up to date in the shared space of a recipe and an anchor set."""
    import pandas as pd

    from platonic_store.errors import InvalidQuery
    from platonic_store.store import Store

    if bool(model) == all_models:
        raise InvalidQuery("say which: `--all`, or `--model NAME`")
    done = Store.open(store).project(model or (), recipe=recipe, anchors=anchors, layer=layer)
    show(pd.DataFrame(done), format, out)
