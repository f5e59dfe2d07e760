"""A model of a store, run here for a question: by the weights that made what is stored."""

from typing import TYPE_CHECKING

from platonic_store.errors import CheckpointMismatch
from platonic_store.storage.snapshot import Snapshot

if TYPE_CHECKING:
    from platonic_store.runtimes.workers import WorkerPool


def pool_of(
    snapshot: Snapshot, model: str, layers: tuple[int, ...], *, workers: int | None = None
) -> "WorkerPool":
    """Workers of a model that have loaded it. To be closed by who gets them.

    Raises: CheckpointMismatch, and what running a model raises.
    """
    from platonic_store.runtimes.cards import is_same_weights
    from platonic_store.runtimes.preparation import prepare
    from platonic_store.runtimes.workers import WorkerPool

    (runnable,) = prepare([model])
    ((known,),) = snapshot.rows("SELECT checkpoint_sha256 FROM model WHERE name = ?", [model])
    pool = WorkerPool(runnable.card, layers, python=runnable.python, workers=workers)
    try:
        if not is_same_weights(known, pool.identity, runnable.card):
            raise CheckpointMismatch(f"the weights of {model} here are not those of the store")
    except BaseException:
        pool.close()
        raise
    return pool
