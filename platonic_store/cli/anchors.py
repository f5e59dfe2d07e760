from pathlib import Path
from typing import Annotated, Optional

import typer

from platonic_store.cli.options import (
    DEFAULT_STORE,
    AtOption,
    Format,
    FormatOption,
    OutOption,
    StoreOption,
)
from platonic_store.cli.output import say, show

app = typer.Typer(no_args_is_help=True, help="Anchor atoms: the ruler that all models share.")


@app.command("select")
def select(
    method: Annotated[str, typer.Option(help="random, direct, maml or farthest.")] = "random",
    k: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            "-k", min=2, help="How many; default: a third of the distinct atoms, 8,192 at most."
        ),
    ] = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--model", "-m", help="Choose in the embeddings of this MODEL or MODEL@LAYER."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="For `--method random`.")] = 0,
    file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Take the anchors listed here (columns structure_id, site_index)."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Choose and keep a set of anchor atoms."""
    import pandas as pd

    from platonic_store.store import Store

    chosen = Store.open(store).select_anchors(method, k, model=model, seed=seed, file=file)
    row = {"anchor_set": chosen.id, "method": chosen.method, "k": chosen.k}
    show(pd.DataFrame([row]), format, out)
    say("next: platonic-store project")


@app.command("list")
def list_sets(
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """The anchor sets of the store."""
    from platonic_store.store import Store

    show(
        Store.open(store, at=at).sql_arrow(
            "SELECT anchor_set, any_value(method) AS method, count(*) AS k, "
            "any_value(model) AS model, any_value(layer) AS layer, "
            "count(DISTINCT element) AS elements, any_value(created_at) AS created_at "
            "FROM anchor GROUP BY anchor_set ORDER BY created_at"
        ),
        format,
        out,
    )
