from typing import Annotated

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
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every file and check its sum.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what is damaged: embed again, project again.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Compact, remove what no snapshot needs, and check the catalogue against the vectors."""
    import pandas as pd

    from platonic_store.store import Store

    found = Store.open(store).doctor(deep=deep, repair=repair)
    problems, mended = found.pop("problems"), found.pop("mended")
    counts = {**found, "problems": len(problems), "mended": len(mended)}
    show(pd.DataFrame([counts]), format, out)
    for line in mended:
        say(line)
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)
    say("all is well")
