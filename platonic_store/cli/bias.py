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
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", "-m", help="MODEL or MODEL@LAYER; default: the store's first."),
    ] = None,
    by: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="element, group, spacegroup, crystal_system, dimensionality; or all."),
    ] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="Pairs that it merges and all others tell apart.")
    ] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours, or pairs with --merged.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the sample and the null.")] = 0,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Where one model's neighbourhoods differ from all others', with effect size and null."""
    from platonic_store.questions.bias import BY, CAVEAT
    from platonic_store.store import Store

    opened = Store.open(store)
    if merged:
        frame = opened.merged(model, k=k, seed=seed)
    else:
        frame = opened.bias(model, by=tuple(by or BY), k=k, seed=seed)
    show(frame, format, out)
    say(CAVEAT)
