from typing import Annotated, Literal, Optional

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    LayerOption,
    OutOption,
    SpaceOption,
    StoreOption,
)
from platonic_store.cli.output import show


def run(
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", "-m", help="The model that looks; default: the store's first."),
    ] = None,
    across: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Answer from this model's side, through the shared space."),
    ] = None,
    level: Annotated[
        Literal["structure", "atom"], typer.Option(help="Whose neighbours.")
    ] = "structure",
    k: Annotated[int, typer.Option("-k", min=1, help="How many of each.")] = 5,
    where: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help='Answers meet this SQL condition, e.g. "band_gap > 1".'),
    ] = None,
    layer: LayerOption = None,
    space: SpaceOption = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """The nearest neighbours of every crystal (or atom), in one go."""
    from platonic_store.store import Store

    found = Store.open(store).neighbours(
        model=model, across=across, level=level, k=k, where=where, layer=layer, space=space
    )
    show(found, format, out)
