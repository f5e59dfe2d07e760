"""A source ingested on a cluster of two nodes into an S3 store while a node is killed, and on one
machine: the same rows?

    python benchmarks/cluster_ingest.py mp20_val.csv.gz --structures 300

The cluster is of this machine (`ray.cluster_utils.Cluster`: a head that does no work, two nodes of
one core, one of which is killed), the S3 server moto's. Needs the packages of
`pip install 'platonic-store[dev,models,ray]'`.
"""

import argparse
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from benchmarks.s3_server import bucket
from platonic_store.engines import CHUNK_SECONDS, on_cluster
from platonic_store.storage import commits
from platonic_store.storage.layout import key_names
from platonic_store.store import Store

MODELS = ["sevennet-0", "chgnet-0.3.0", "control:composition"]
# What both must say alike: all but ids of runs and chunks, and times.
TABLES = {
    "structures": "SELECT * EXCLUDE (added_at) FROM catalog.main.structures ORDER BY id",
    "quarantine": "SELECT record, structure_id, model, reason FROM quarantine ORDER BY ALL",
    "chunked": "SELECT DISTINCT structure_id FROM catalog.main.chunk_structures ORDER BY ALL",
    "runs": "SELECT model, layers, outputs, state, structures, sites, rejected FROM run ORDER BY 1",
}


@contextmanager
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made: Any = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        yield made
    finally:
        made.shutdown()


@contextmanager
def after_commits(count: int, act: Callable[[], object]) -> Iterator[None]:
    """Do something beside the ingest, when so many chunks have been committed."""
    done = 0
    commit_written: Any = commits.commit_written

    def commit(*given: Any) -> None:
        nonlocal done
        commit_written(*given)
        done += 1
        if done == count:
            threading.Thread(target=act).start()

    with patch.object(commits, "commit_written", commit):
        yield
    print(f"{done} chunks were committed; the node was killed after {count}")
    assert done > count, "the node was killed too late: smaller chunks, or more structures"


def vectors(store: Store) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
    """The keys and vectors of every table, sorted by key."""
    found = {}
    snapshot = store.snapshot()
    for table in snapshot.tables:
        points = snapshot.points(table)
        keys = points.keys.select([n for n in key_names(table.level) if n != "chunk_id"])
        frame: pd.DataFrame = keys.to_pandas()
        order = frame.sort_values(list(frame.columns)).index.to_numpy()
        assert not frame.duplicated().any(), f"{table.name} has rows twice"
        found[table.name] = frame.loc[order].reset_index(drop=True), points.vectors[order]
    return found


def compare(many: Store, one: Store) -> list[dict[str, object]]:
    """A row a vector table. Raises AssertionError where keys, or rows of the catalogue, differ."""
    for name, query in TABLES.items():
        with many.snapshot() as of_many, one.snapshot() as of_one:
            assert of_many.rows(query) == of_one.rows(query), f"{name} differ"
    rows: list[dict[str, object]] = []
    there_vectors, here_vectors = vectors(many), vectors(one)
    assert there_vectors.keys() == here_vectors.keys()
    for name, (keys, there) in there_vectors.items():
        assert keys.equals(here_vectors[name][0]), f"keys of {name} differ"
        here = here_vectors[name][1]
        equal = (there.view(np.uint32) == here.view(np.uint32)).all(axis=1)
        lengths = np.linalg.norm(here, axis=1)
        far = np.linalg.norm(there - here, axis=1) / np.where(lengths, lengths, 1)
        row = {"table": name, "rows": len(here), "bit for bit": int(equal.sum())}
        rows.append(row | {"largest difference": float(far.max(initial=0))})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="a table of CIF text, as MP-20's")
    parser.add_argument("--structures", type=int, help="the first so many; default: all")
    parser.add_argument("--model", action="append", help=f"default: {', '.join(MODELS)}")
    parser.add_argument("--chunk-seconds", type=float, default=CHUNK_SECONDS)
    parser.add_argument("--one", type=Path, help="one machine's store; made if it is not there")
    parser.add_argument("--kill-after", type=int, default=2, help="chunks")
    given = parser.parse_args()
    # Ray's processes are forked, and become other programs at once.
    warnings.filterwarnings("ignore", "lance is not fork-safe")
    models = given.model or MODELS
    first_edges = min(on_cluster.FIRST_EDGES, 4000 * given.chunk_seconds)
    with (
        patch.multiple(on_cluster, CHUNK_SECONDS=given.chunk_seconds, FIRST_EDGES=first_edges),
        TemporaryDirectory() as folder,
        bucket() as options,
        cluster() as made,
    ):
        os.environ.setdefault("PLATONIC_STORE_CACHE", f"{folder}/cache")
        source = Path(folder) / "source.csv"
        pd.read_csv(given.source, nrows=given.structures).to_csv(source, index=False)
        one = Store.open(given.one or f"{folder}/one.store")
        started = time.monotonic()
        one.ingest(source, models)
        print(f"one machine: {time.monotonic() - started:.0f} s")
        nodes = [made.add_node(num_cpus=1) for _ in range(2)]

        def lose_a_node() -> None:
            made.remove_node(nodes[0], allow_graceful=False)
            print("a node was killed", flush=True)

        many = Store.open("s3://bucket/many.store", storage_options=options)
        started = time.monotonic()
        with after_commits(given.kill_after, lose_a_node):
            _, runs = many.ingest(source, models, ray=made.address)
        print(f"the cluster: {time.monotonic() - started:.0f} s")
        print(pd.DataFrame(runs).to_string(index=False))
        print(pd.DataFrame(compare(many, one)).to_string(index=False))
        problems = many.doctor(deep=True)["problems"]
        assert not problems, problems
        print("keys, structures, properties, quarantine and runs are the same; nothing is twice")


if __name__ == "__main__":
    main()
