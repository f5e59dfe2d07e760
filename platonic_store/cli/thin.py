from typing import Annotated, Optional

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    OutOption,
    StoreOption,
)
from platonic_store.cli.output import say, show


def run(
    uri: Annotated[str, typer.Argument(help="The new store: a folder, s3://, gs://, az://.")],
    model: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--model", "-m", help="MODEL or MODEL@LAYER, several times; default: all."),
    ] = None,
    radius: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Keep no atom within this cosine distance of a kept one.", min=0),
    ] = None,
    keep: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Or the share of the atoms to keep, such as 0.1.", min=0, max=1),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Make a reference of so few atoms that all others are near one, and say what was lost."""
    import pandas as pd

    from platonic_store.store import Store

    done = Store.open(store).thin(uri, model or (), radius=radius, keep=keep)
    show(pd.DataFrame(done), format, out)
    say(f"ask with it: platonic-store coverage ID --reference {uri}")
