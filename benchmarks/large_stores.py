"""For scale.py and changes.py: times, some structures, and the files of a store by kind."""

import time
from collections import Counter
from collections.abc import Callable, Iterable

from platonic_store.storage.manifest import StoredFile
from platonic_store.storage.snapshot import Snapshot
from platonic_store.store import Store


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of a call: wall, and CPU of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def some_ids(store: Store, count: int) -> list[str]:
    """Structures at random, the same ones each time."""
    sql = f"SELECT structure_id FROM structure ORDER BY hash(structure_id) LIMIT {count}"
    ids: list[str] = store.sql(sql)["structure_id"].tolist()
    return ids


def megabytes(snapshot: Snapshot, files: Iterable[StoredFile]) -> str:
    """What some files of a snapshot take by kind, and in all."""
    spaces = {f"{table.name}.lance": table.space for table in snapshot.tables}
    sizes: Counter[str] = Counter()
    for file in files:
        folder, name, *rest = file.path.split("/")
        kind = name if folder == "rows" else folder
        if folder == "vectors":
            kind = "embeddings" if spaces[name] is None else "coordinates"
            kind += ", index" if rest[0] == "_indices" else ""
        sizes[kind] += file.size
    sizes["in all"] = sizes.total()
    return "; ".join(f"{kind} {size / 1e6:.1f}" for kind, size in sizes.most_common())
