"""A writer in a process of its own, to be killed.

Options: crystals (how many), seed, kill_at (the point at which it kills itself, None: none),
in_process, quirk, job ("pipeline", "ingest"), eager (publish every chunk). It prints what it has
done: "ready", "ok MODEL ID…" for what is published, "deleting ID…", "killed STEP", "error …",
"done".
"""

import os
import signal
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import kill_points
import store_fakes

from platonic_store.errors import PlatonicError
from platonic_store.storage import bulk, commits, writer
from platonic_store.store import Store


def acknowledge() -> None:
    """Say which structures are published, as soon as they are."""
    committed: list[tuple[str, ...]] = []
    commit_written, publish = commits.commit_written, writer.Writer.publish

    def commit(to, run_id, structure_ids, chunk, record):
        committed.append((chunk.tables[0].table.split(".")[0], *structure_ids))
        commit_written(to, run_id, structure_ids, chunk, record)

    def published(self, *arguments, **options):
        publish(self, *arguments, **options)
        while committed:
            print("ok", *committed.pop(), flush=True)

    commits.commit_written, writer.Writer.publish = commit, published


def die_at(point: int) -> None:
    count = 0

    def reached(what: str) -> None:
        nonlocal count
        count += 1
        if count == point:
            print("killed", what, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    kill_points.install(reached)


def main(path: Path, options: dict[str, Any], said: Connection) -> None:
    os.dup2(said.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    store_fakes.know_fakes(
        options.get("quirk", ""), small_chunks=True, in_process=options["in_process"]
    )
    bulk.MOST_DELETED = 0.5  # its files have a few rows
    acknowledge()
    if options.get("eager"):
        writer.PUBLISH_SHARE = 1e9
    if kill_at := options.get("kill_at"):
        die_at(kill_at)
    pool = store_fakes.crystals(options["crystals"], options.get("seed", 0))
    print("ready", flush=True)
    try:
        if options.get("job", "pipeline") == "pipeline":
            store_fakes.pipeline(Store.open(path), pool, path.parent)
        else:
            Store.open(path).ingest(pool, store_fakes.MODELS, batch_atoms=16)
    except PlatonicError as error:
        print("error", type(error).__name__, error, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", flush=True)
        sys.exit(130)
    print("done", flush=True)


# Forked from a process that has imported what is slow to import, and has no threads yet.
_context = get_context("forkserver")
_context.set_forkserver_preload(
    [
        "ase",
        "platonic_store.jobs.project",
        "platonic_store.sql",
        "platonic_store.structures",
    ]
)


class Driver(_context.Process):
    """A running driver; `stdout` is what it says."""

    def __init__(self, path: Path, **options: Any):
        receives, sends = _context.Pipe(duplex=False)
        super().__init__(target=main, args=(path, options, sends))
        self.start()
        sends.close()
        self.stdout = os.fdopen(os.dup(receives.fileno()))
        receives.close()
