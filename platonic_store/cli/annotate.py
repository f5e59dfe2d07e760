from typing import Annotated, Optional

import typer

from platonic_store.cli.options import DEFAULT_STORE, StoreOption
from platonic_store.cli.output import say


def run(
    target: Annotated[
        str,
        typer.Argument(
            help="csv, parquet, extxyz, ASE db, pymatgen JSON, or a database's URL#table."
        ),
    ],
    models: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--models", "--model", "-m", help="MODEL or MODEL@LAYER, several with commas; or all."
        ),
    ] = None,
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Write a copy (a file, or URL#table) and leave the target as it is."),
    ] = None,
    id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The column that names the structures; default: a usual name."),
    ] = None,
    table: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The table, where the database's URL does not name it."),
    ] = None,
    by_id: Annotated[
        bool, typer.Option("--by-id", help="The ids are the store's: match by them, embed nothing.")
    ] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="How many neighbours.")] = 10,
    within: Annotated[
        float, typer.Option(min=0, help="Distance of near duplicates, as of near-duplicates.")
    ] = 0.005,
    reference: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A store of what the models were trained on: is this covered by it?"),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write into your own file or database what the store says of its records.

    Nearest neighbours, near duplicates, clusters, atypicality, disagreement between models.
    Typicality is not confidence. The same command again changes nothing, or goes on.
    """
    from platonic_store.store import Store

    names = [name for value in models or () for name in value.split(",")]
    done = Store.open(store).annotate(
        target,
        models=[] if names == ["all"] else names,
        out=out,
        id=id,
        table=table,
        by_id=by_id,
        k=k,
        within=within,
        reference=reference,
    )
    say(
        f"{done.target}: {done.written:,} of {done.records:,} records written, "
        f"{done.records - done.written:,} had it already (run {done.run})"
    )
    if done.answered < done.records:
        say(f"{done.records - done.answered:,} lack something: their platonic_reason says what")
