from typing import Annotated

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    OutOption,
    SpaceOption,
    StoreOption,
)
from platonic_store.cli.output import show


def run(
    a: Annotated[str, typer.Argument(help="A model, or MODEL@LAYER.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    atoms: Annotated[int, typer.Option(min=2, help="Atoms of a cloud, at most.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the choice among more atoms.")] = 0,
    space: SpaceOption = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """What it takes to move one model's atoms onto another's, element by element."""
    from platonic_store.store import Store

    found = Store.open(store).transport(a, b, space=space, atoms=atoms, seed=seed)
    show(found, format, out)
