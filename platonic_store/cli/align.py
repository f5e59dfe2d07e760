from pathlib import Path
from typing import Annotated, Optional

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    OutOption,
    SpaceOption,
    StoreOption,
)
from platonic_store.cli.output import say, show


def run(
    models: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Models, or MODEL@LAYER; default: all of the store."),
    ] = None,
    atoms: Annotated[int, typer.Option(min=20, help="Atoms to compare, at most.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the sample, the shuffles and the halves.")] = 0,
    picture: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Draw the matrices as heat maps into this file (.png, .svg or .pdf)."),
    ] = None,
    space: SpaceOption = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """How alike models see the same atoms, by several measures, each beside its null."""
    from platonic_store.store import Store

    found = Store.open(store).align(models, space=space, atoms=atoms, seed=seed)
    if picture is not None:
        from platonic_store.plots.heat_map import draw

        draw(found, picture)
        say(f"wrote {picture}")
    show(found, format, out)
