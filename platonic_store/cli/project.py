from typing import Annotated, Optional

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    OutOption,
    RayOption,
    StoreOption,
)
from platonic_store.cli.output import show


def run(
    model: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--model",
            "-m",
            help="MODEL or MODEL@LAYER, several times; default: all.",
        ),
    ] = None,
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="cosine (the paper's), centred, whitened or aligned; default: aligned, where two "
            "trained models are there, else whitened. alone: aligned by the models named only; "
            "then ask with --space alone."
        ),
    ] = None,
    anchors: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="An anchor set, or how it begins; default: the newest."),
    ] = None,
    ray: RayOption = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Bring models up to date in the shared space of a recipe and an anchor set."""
    import pandas as pd

    from platonic_store.store import Store

    done = Store.open(store).project(model or (), recipe=recipe, anchors=anchors, ray=ray)
    show(pd.DataFrame(done), format, out)
