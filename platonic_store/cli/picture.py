from pathlib import Path
from typing import Annotated

import typer

from platonic_store.cli.options import DEFAULT_STORE, AtOption, SpaceOption, StoreOption
from platonic_store.cli.output import say


def run(
    out: Annotated[
        Path, typer.Option("--out", help="The folder for map.png and map.html.")
    ] = Path(),
    space: SpaceOption = None,
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
) -> None:
    """Draw the shared space: a panel a model, the same axes, atoms coloured by chemistry."""
    from platonic_store.store import Store

    for path in Store.open(store, at=at).picture(out, space=space):
        say(f"wrote {path}")
