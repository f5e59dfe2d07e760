from typing import Annotated

import typer

from platonic_store.cli.options import DEFAULT_STORE, StoreOption
from platonic_store.cli.output import say


def run(
    ids: Annotated[list[str], typer.Argument(help="Ids of structures.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Delete structures with all their embeddings."""
    from platonic_store.store import Store

    Store.open(store).delete(ids)
    say(f"deleted {len(ids)} structures")
