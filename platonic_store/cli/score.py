from typing import Annotated, Optional

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
    model: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--model", "-m", help="MODEL or MODEL@LAYER, several times; default: all."),
    ] = None,
    among: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help='SQL condition: what is the reference, e.g. "e_above_hull < 0.05".'),
    ] = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Which compositions set the scale of p-values."),
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Take a new reference of all that is here now.")
    ] = False,
    ray: RayOption = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Score how typical every crystal looks to models, and keep the scores for SQL."""
    import pandas as pd

    from platonic_store.questions.typicality import CAVEAT
    from platonic_store.store import Store

    done = Store.open(store).score(model or (), among=among, seed=seed, renew=renew, ray=ray)
    show(pd.DataFrame(done), format, out)
    say(CAVEAT)
