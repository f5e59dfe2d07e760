"""What the driver of a cluster costs as a store grows, and how many actors it can feed.

    python benchmarks/cluster.py --folder stores                        # 10⁵ and 10⁶: minutes
    python benchmarks/cluster.py --folder stores --structures 10000000  # half an hour, 20 GB

Catalogue, crystals, fragments, manifests and the code that makes them are real; structures and the
embedder are synthetic (ten atoms, 128 features, one layer). Measured is the driver's own CPU time:
to cut a page of structures, to commit a chunk that an actor has written, to publish. From it
follows what share of the driver 1, 8 and 64 actors take, and by straight lines through the measured
sizes what larger stores would.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.publishing import COLUMNS, FEATURES, STRUCTURES
from platonic_store.arrow import vector_array
from platonic_store.engines import CHUNK_BYTES, CHUNK_SECONDS
from platonic_store.engines.cutting import pieces
from platonic_store.storage import commits, gaps, manifest
from platonic_store.storage.commits import WrittenChunk
from platonic_store.storage.gaps import Wanted
from platonic_store.storage.writer import PUBLISH_SECONDS, Writer
from platonic_store.store import Store

MODEL, ATOMS = "synthetic", 10
# Atoms a second of an actor: SevenNet-0 on one core, and on a GPU as the aims of issue 13 have it.
RATES = {"a core": 500, "a GPU": 100_000}
ACTORS = (1, 8, 64)
CHUNKS, PAGES, PUBLISHINGS = 20, 48, 3


class Measured(NamedTuple):
    """Of a store of so many structures: CPU seconds of all of the driver's threads, bytes.

    CPU time, because other work on a machine does not change it much; on a machine of its own the
    driver takes at most about as long, and waits for its disk or object store besides.
    """

    structures: int
    listing: float  # what is lacking, once a run
    cutting: float  # a structure
    committing: float  # a chunk
    publishing: float
    catalogue: float  # bytes a structure
    manifest: int  # bytes
    memory: float  # GiB, the peak of this process


def fill(writer: Writer, structures: int) -> None:
    """Half of the structures are embedded, as far as the catalogue knows."""
    with writer.writing() as connection:
        for name, kind in COLUMNS.items():
            connection.exec_driver_sql(f'ALTER TABLE structures ADD COLUMN "{name}" {kind}')
        connection.exec_driver_sql(STRUCTURES.format(n=structures))
        connection.exec_driver_sql(f"UPDATE structures SET elements = ['Cu'], nsites = {ATOMS}")
        connection.exec_driver_sql("INSERT INTO source_structures SELECT 1, id FROM structures")
        connection.exec_driver_sql(
            "INSERT INTO chunk_structures SELECT row_number() OVER () // 1024, id FROM structures "
            f"LIMIT {structures // 2}"
        )
        connection.exec_driver_sql(
            "INSERT INTO table_appends SELECT DISTINCT name, chunk_id, 1024 "
            "FROM chunk_structures, vector_tables"
        )
        connection.exec_driver_sql(
            "INSERT INTO chunks SELECT DISTINCT chunk_id, 0 FROM chunk_structures"
        )
    for start in range(0, structures, 100_000):
        with writer.writing():
            writer.add_rows("crystals", crystals(start, min(100_000, structures - start)))


def crystals(start: int, rows: int) -> pa.Table:
    rng = np.random.default_rng(start)
    numbers = np.full((rows, ATOMS), 29, np.int16)
    return pa.table(
        {
            "structure_id": [f"mp-{start + row}" for row in range(rows)],
            "numbers": list(numbers),
            "positions": list(rng.uniform(0, 5, (rows, 3 * ATOMS))),
            "cell": [(5 * np.eye(3)).ravel()] * rows,
            "pbc": [[True] * 3] * rows,
            "orbits": list(np.zeros((rows, ATOMS), np.int32)),
        }
    )


def written(writer: Writer, tables: list[str], number: int, structures: int) -> WrittenChunk:
    """What an actor would have written and described."""
    rng = np.random.default_rng(number)
    ids = [f"mp-{number * structures + row}" for row in range(structures)]
    zeros = np.zeros(ATOMS * structures, dtype=int)
    keys = {"structure_id": np.repeat(ids, ATOMS), "site_index": zeros}
    keys |= {"atomic_number": zeros, "orbit": zeros}
    atoms = pa.table({**keys, "vector": vectors(rng, ATOMS * structures)})
    means = pa.table({"structure_id": ids, "vector": vectors(rng, structures)})
    appends = [commits.TableAppend(*pair) for pair in zip(tables, (atoms, means), strict=True)]
    return commits.write_chunk(writer.location, appends, described=True)


def vectors(rng: np.random.Generator, rows: int) -> pa.Array:
    return vector_array(rng.standard_normal((rows, FEATURES), dtype=np.float32))


def cut(writer: Writer, pages: int) -> Iterator[int]:
    """The sizes of the first pieces of what is lacking; the first is the time to list it."""
    wanted = Wanted(MODEL, [0], [], [29])
    (gap,) = gaps.find_gaps(writer, None, wanted)
    batches = gaps.structures_of_gap(writer, None, wanted, gap)
    most = (1e12, 1024 * ATOMS)
    for number, piece in enumerate(pieces(batches, 5.0, lambda: 512, lambda: most), 1):
        yield len(piece.ids)
        if number > pages:
            return


def measure(folder: Path, structures: int) -> Measured:
    store = Store.open(folder / f"cluster-{structures}.store")
    with store._writing("synthetic rows", create=True) as writer:
        tables = [
            commits.ensure_vector_table(writer, MODEL, 0, level, FEATURES)
            for level in ("atom", "structure")
        ]
        fill(writer, structures)
        writer.publish()
        begun = time.process_time()
        cutting = cut(writer, PAGES)
        next(cutting)
        listed = time.process_time()
        found = sum(cutting)
        cutting_seconds = (time.process_time() - listed) / found
        committing, publishing = [], []
        for number in range(PUBLISHINGS):
            chunks = [written(writer, tables, number * CHUNKS + one, 64) for one in range(CHUNKS)]
            writer._published_at = time.monotonic()  # or it may be due
            for chunk in chunks:
                ids = [f"new-{chunk.id}-{row}" for row in range(64)]
                start = time.process_time()
                commits.commit_written(writer, 0, ids, chunk)
                committing.append(time.process_time() - start)
            start = time.process_time()
            writer.publish()
            publishing.append(time.process_time() - start)
    newest = store.snapshot().manifest
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    return Measured(
        structures,
        listed - begun,
        cutting_seconds,
        float(np.median(committing)),
        float(np.median(publishing)),
        newest.catalog.size / structures,
        len(manifest.to_bytes(newest)),
        peak,
    )


def straight(measured: list[Measured], structures: int) -> Measured:
    """By a straight line through the last two sizes; per structure and chunk as at the largest."""
    before, last = measured[-2:]

    def line(first: float, second: float) -> float:
        slope = (second - first) / (last.structures - before.structures)
        return max(second, second + slope * (structures - last.structures))

    return last._replace(
        structures=structures,
        listing=line(before.listing, last.listing),
        cutting=line(before.cutting, last.cutting),
        committing=line(before.committing, last.committing),
        publishing=line(before.publishing, last.publishing),
        memory=line(before.memory, last.memory),
    )


def shares(one: Measured) -> dict[str, str]:
    """Of the driver's time, by rate and actors; over 100 % it cannot keep up.

    It publishes once a minute, and commits a chunk for every CHUNK_SECONDS of an actor, or for
    every 64 MiB.
    """
    found = {}
    for name, rate in RATES.items():
        atoms = min(rate * CHUNK_SECONDS, CHUNK_BYTES / (4 * FEATURES))
        for actors in ACTORS:
            work = actors * rate * (one.cutting / ATOMS + one.committing / atoms)
            share = work + one.publishing / max(PUBLISH_SECONDS, one.publishing)
            found[f"{actors} × {name}"] = f"{share:.1%}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--structures", type=int, action="append")
    given = parser.parse_args()
    sizes = sorted({100_000, 1_000_000, *(given.structures or ())})
    measured = []
    for size in sizes:
        measured.append(measure(given.folder, size))
        print(measured[-1], flush=True)
    larger = [10**n for n in (7, 8) if 10**n > sizes[-1]]
    rows = [(one, "measured") for one in measured]
    rows += [(straight(measured, size), "extrapolated") for size in larger]
    print(pd.DataFrame([one._asdict() | {"how": how} for one, how in rows]).to_string(index=False))
    table = [{"structures": one.structures, "how": how} | shares(one) for one, how in rows]
    print(pd.DataFrame(table).to_string(index=False))


if __name__ == "__main__":
    main()
