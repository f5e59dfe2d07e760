"""What it costs to change a large store: `changes.py STORE --like LIKE`, as scale.py made it.

Appends a hundredth twice, brings the models up to date in their newest space, if there is one, and
deletes a hundredth. Of each: time, what was written, by kind, and
how many rows no index knows afterwards.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.large_stores import megabytes, some_ids, timed
from benchmarks.synthetic_store import add_block, real_templates
from platonic_store.storage.layout import table_name
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.vectors import Vectors
from platonic_store.store import Store


def append(store: Store, like: Path, start: int, count: int) -> None:
    """Structures `sSTART` to `sSTART+COUNT` by every model, as a job appends them."""
    models = list(store.snapshot().models)
    templates = real_templates(like, len(models))
    names = [
        {level: table_name(model, 0, level) for level in ("atom", "structure")} for model in models
    ]
    rng = np.random.default_rng(start)
    with store._writing("append") as writer:
        add_block(writer, rng, templates, names, start, count)
        writer.publish(maintained=[name for one in names for name in one.values()])


def written(before: Snapshot, after: Snapshot) -> str:
    """Megabytes of the files that a snapshot names and another does not, by kind."""
    known = {file.path for file in before.manifest.files()}
    text: str = megabytes(after, [one for one in after.manifest.files() if one.path not in known])
    return text


def unindexed(snapshot: Snapshot) -> float:
    """The largest share of a table's rows that an index of it lacks."""
    vectors: Vectors = snapshot._vectors
    tables = (vectors._open(table.name) for table in snapshot.tables)
    shares = [
        1 - index.num_rows_indexed / table.count_rows()
        for table in tables
        for index in table.describe_indices()
    ]
    return max(shares, default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--like", type=Path, required=True, help="as the store was made")
    asked = parser.parse_args()
    store = Store.open(asked.store)
    count = store.snapshot().count
    few = count // 100
    anchors = {*store.sql("SELECT structure_id FROM anchor")["structure_id"]}
    ids = [id_ for id_ in some_ids(store, few + len(anchors)) if id_ not in anchors][:few]
    recipe = next((recipe for _, recipe, _ in store.snapshot().spaces), "cosine")
    steps: dict[str, Callable[[], object]] = {
        "append 1 %": lambda: append(store, asked.like, count, few),
        "append 1 % again": lambda: append(store, asked.like, count + few, few),
        "project what is new": lambda: anchors and store.project(recipe=recipe),
        "delete 1 %": lambda: store.delete(ids),
    }
    table = Table("job", "wall, s", "CPU, s", "written, MB", "not indexed")
    for name, step in steps.items():
        before = store.snapshot()
        wall, cpu = timed(step)
        after = store.snapshot()
        row = f"{wall:.1f}", f"{cpu:.1f}", written(before, after), f"{unindexed(after):.2%}"
        print(name, *row, sep=" | ", flush=True)
        table.add_row(name, *row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
