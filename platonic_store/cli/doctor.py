import typer

from platonic_store.cli.options import DEFAULT_STORE, StoreOption
from platonic_store.cli.output import complain, say


def run(store: StoreOption = DEFAULT_STORE) -> None:
    """Settle what a killed writer left, compact, and check the catalogue against the vectors."""
    from platonic_store.store import Store

    found = Store.open(store).doctor()
    problems = found.pop("problems")
    for name, count in found.items():
        if count:
            say(f"{name}: {count}")
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)
    say("all is well")
