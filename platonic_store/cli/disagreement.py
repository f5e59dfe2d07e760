from typing import Annotated

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
    k: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 20,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """The crystals on whose likes the models agree least, and the models' consensus on them."""
    from platonic_store.questions.typicality import CAVEAT
    from platonic_store.store import Store

    show(Store.open(store).disagreement(k=k), format, out)
    say(CAVEAT)
