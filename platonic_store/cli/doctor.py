import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    Format,
    FormatOption,
    OutOption,
    StoreOption,
)
from platonic_store.cli.output import complain, say, show


def run(
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Settle what a killed writer left, compact, and check the catalogue against the vectors."""
    import pandas as pd

    from platonic_store.store import Store

    found = Store.open(store).doctor()
    problems = found.pop("problems")
    show(pd.DataFrame([{**found, "problems": len(problems)}]), format, out)
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)
    say("all is well")
