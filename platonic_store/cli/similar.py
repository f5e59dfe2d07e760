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
    query: Annotated[str, typer.Argument(help="An id of the store, or a structure file.")],
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", "-m", help="The model that looks; default: the store's first."),
    ] = None,
    across: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Answer from this model's side, through the shared space."),
    ] = None,
    site: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Search atoms like this site (counted from 0), not structures."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 10,
    where: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help='SQL condition, e.g. "band_gap > 1 AND nelements = 2".'),
    ] = None,
    distance: Annotated[
        str,
        typer.Option(help="Of structures: cosine (of their means), or transport (of their atoms)."),
    ] = "cosine",
    layer: LayerOption = None,
    space: SpaceOption = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """The crystals (or atoms) most alike to one, to a model's eye or across two models."""
    from platonic_store.store import Store

    found = Store.open(store).similar(
        query,
        model=model,
        across=across,
        site=site,
        k=k,
        where=where,
        distance=distance,  # type: ignore[arg-type]
        layer=layer,
        space=space,
    )
    show(found, format, out)
