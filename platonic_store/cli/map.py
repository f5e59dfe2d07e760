from typing import Annotated

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    OutOption,
    RayOption,
    StoreOption,
)
from platonic_store.cli.output import say, show


def run(
    renew: Annotated[
        bool, typer.Option("--renew", help="Fit the layout again, to all that is here now.")
    ] = False,
    ray: RayOption = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Lay all crystals and all atoms out on a map that all models share, and keep it for SQL."""
    import pandas as pd

    from platonic_store.jobs.map import CAVEAT
    from platonic_store.store import Store

    done = Store.open(store).map(renew=renew, ray=ray)
    show(pd.DataFrame(done), format, out)
    say(CAVEAT)
