from typing import Annotated, Optional

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
    expression: Annotated[
        str,
        typer.Argument(
            help='Ids, formulas, elements or files: "CaTiO3 - Ca + Sr", "mp-1 - mp-2 + mp-3".'
        ),
    ],
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", "-m", help="The model that looks; default: the store's first."),
    ] = None,
    across: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Answer from this model's side, through the shared space."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 10,
    where: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help='SQL condition on the answers, e.g. "e_above_hull < 0.05".'),
    ] = None,
    layer: LayerOption = None,
    space: SpaceOption = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """The crystals nearest to a sum of crystals: what is to SrTiO3 as CaZrO3 is to CaTiO3?"""
    from platonic_store.store import Store

    found = Store.open(store).analogy(
        expression, model=model, across=across, k=k, where=where, layer=layer, space=space
    )
    show(found, format, out)
