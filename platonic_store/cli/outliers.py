from typing import Annotated, Literal, Optional

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    LayerOption,
    OutOption,
    StoreOption,
)
from platonic_store.cli.output import say, show


def run(
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", "-m", help="The model that looks; default: the store's first."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 20,
    level: Annotated[
        Literal["structure", "atom"], typer.Option(help="Which: crystals or their atoms.")
    ] = "structure",
    layer: LayerOption = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """The least typical crystals of the store, to a model's eye. Typicality is not confidence."""
    from platonic_store.questions.typicality import CAVEAT
    from platonic_store.store import Store

    show(Store.open(store).outliers(model=model, layer=layer, k=k, level=level), format, out)
    say(CAVEAT)
