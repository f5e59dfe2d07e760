from typing import Annotated

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

SnapshotArgument = Annotated[int, typer.Argument(help="The number of a snapshot.")]


def run(
    store: StoreOption = DEFAULT_STORE,
    format: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """List the states of the store that are kept: number, when, what changed."""
    from platonic_store.store import Store

    show(Store.open(store).snapshots(), format, out)


def pin(
    snapshot: SnapshotArgument,
    note: Annotated[str, typer.Option("--note", help="Why it is kept.")] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Keep a snapshot for ever."""
    from platonic_store.store import Store

    Store.open(store).pin(snapshot, note)
    say(f"snapshot {snapshot} is kept")


def unpin(snapshot: SnapshotArgument, store: StoreOption = DEFAULT_STORE) -> None:
    """Let a pinned snapshot go in its time."""
    from platonic_store.store import Store

    Store.open(store).unpin(snapshot)
    say(f"snapshot {snapshot} is no longer pinned")


def copy(
    source: Annotated[str, typer.Argument(help="A store, by folder or URL.")],
    target: Annotated[str, typer.Argument(help="Where to: a folder or URL.")],
    at: AtOption = None,
) -> None:
    """Copy one snapshot of a store to another place, whole and verified; the same again resumes."""
    from platonic_store.store import Store

    opened = Store.open(source, at=at)
    files = opened.copy(target)
    say(f"{target} is at snapshot {opened.snapshot().id}, {files} files sent")
