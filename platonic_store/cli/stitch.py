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
from platonic_store.cli.output import show


def run(
    from_: Annotated[
        str, typer.Option("--from", help="Whose view is read: a model, or MODEL@LAYER.")
    ],
    to: Annotated[str, typer.Option("--to", help="Who reads it: a model, or MODEL@LAYER.")],
    property: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--property", help="A numeric property, e.g. formation_energy_per_atom."),
    ] = None,
    head: Annotated[
        bool, typer.Option("--head", help="Instead, the energy by --to's own energy head.")
    ] = False,
    space: SpaceOption = None,
    seed: Annotated[int, typer.Option(help="Of the folds and the resamples.")] = 0,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """What one model's readout of a property makes of another model's view, never seen."""
    from platonic_store.errors import InvalidQuery
    from platonic_store.store import Store

    opened = Store.open(store)
    if property is not None and not head:
        found = opened.stitch(from_, to, property, space=space, seed=seed)
    elif head and property is None:
        found = opened.stitch_head(from_, to, space=space, seed=seed)
    else:
        raise InvalidQuery("read what? `--property NAME`, or `--head` for the energy")
    show(found, format, out)
