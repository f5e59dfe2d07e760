from pathlib import Path
from typing import Annotated, Optional

import typer

from platonic_store.cli.options import DEFAULT_STORE, AtOption, StoreOption
from platonic_store.cli.output import say
from platonic_store.exports import FORMATS


def run(
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            help=f"The file. Its name ends in what it is: {', '.join(FORMATS)}.",
        ),
    ],
    model: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--model", "-m", help="MODEL or MODEL@LAYER, several times; default: all on the map."
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
) -> None:
    """Write crystals, maps and scores as a file that another tool opens."""
    from platonic_store.store import Store

    say(f"wrote {Store.open(store, at=at).export(to, models=model or ())}")
