from pathlib import Path
from typing import Annotated, Optional

import typer

from platonic_store.cli.options import DEFAULT_STORE, AtOption, SpaceOption, StoreOption
from platonic_store.cli.output import say


def run(
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("report.html"),
    model: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--model", "-m", help="MODEL or MODEL@LAYER, several times; default: all."),
    ] = None,
    space: SpaceOption = None,
    seed: Annotated[int, typer.Option(help="Of samples, nulls and bootstraps.")] = 0,
    reference: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A store whose coverage is shown, such as a training set: path or URL."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
) -> None:
    """The whole study of a store as one HTML page, and its numbers as parquet beside it."""
    from platonic_store.store import Store

    opened = Store.open(store, at=at)
    page = opened.report(out, models=model, space=space, seed=seed, reference=reference)
    say(f"wrote {page} and {page.with_name(page.stem + '_data')}/")
