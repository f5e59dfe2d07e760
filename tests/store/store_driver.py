"""A writer in a process of its own, to be killed: `python store_driver.py STORE '<options>'`

Options, JSON: crystals (how many), seed, kill_at (the point at which it kills itself, null: none),
in_process, quirk, job ("pipeline", "ingest"). It prints what it has done: "ready", "point N",
"ok MODEL ID…" for each committed chunk, "deleting ID…", "error …", "done".
"""

import json
import os
import signal
import sys
from pathlib import Path

import kill_points
import store_fakes

from platonic_store.errors import PlatonicError
from platonic_store.storage import commits
from platonic_store.store import Store


def acknowledge() -> None:
    """Say which structures are committed, as soon as they are."""
    commit_chunk = commits.commit_chunk

    def commit(catalog, vectors, run_id, structure_ids, appends, record):
        chunk = commit_chunk(catalog, vectors, run_id, structure_ids, appends, record)
        print("ok", appends[0].table.split(".")[0], *structure_ids, flush=True)
        return chunk

    commits.commit_chunk = commit


def die_at(point: int | None) -> None:
    count = 0

    def reached(what: str) -> None:
        nonlocal count
        count += 1
        if count == point:
            print("killed", what, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        print("point", count, flush=True)

    kill_points.install(reached)


def main() -> None:
    path, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    store_fakes.know_fakes(
        options.get("quirk", ""), small_chunks=True, in_process=options["in_process"]
    )
    acknowledge()
    die_at(options.get("kill_at"))
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


if __name__ == "__main__":
    main()
