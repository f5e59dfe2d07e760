"""From answers to a chunk: rows are assembled, and fragments written where the store is."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from platonic_store.engines import Chunk, Lacking, TableOf, rows
from platonic_store.runtimes.process import Embedded
from platonic_store.storage.commits import TableAppend, write_chunk
from platonic_store.storage.location import Location


def chunk_of(
    answers: Sequence[Embedded],
    lacking: Lacking,
    location: Location,
    table_of: TableOf,
    sites_of: Callable[[list[str]], pa.Table],
    *,
    described: bool = False,
) -> Chunk:
    """Write the vectors of at least one answer beside their tables.

    sites_of: atomic_number and orbit of every site of some structures, in their order.
    described: see `write_chunk`.

    Raises: StoreNotWritable, StoreUnreachable.
    """
    answered = rows.gather(answers)
    written = None
    if answered.structure_ids and lacking.layers:
        tables = rows.vectors(answered, sites_of(answered.structure_ids), lacking.layers)
        appends = [
            TableAppend(table_of(layer, level, table["vector"].type.list_size), table)
            for (layer, level), table in tables.items()
        ]
        written = write_chunk(location, appends, described=described)
    return Chunk(
        answered.structure_ids,
        len(answered.atoms),
        answered.rejected,
        written,
        rows.predictions(answered, lacking.outputs),
        sum(answer.seconds_graph for answer in answers),
        sum(answer.seconds_forward for answer in answers),
    )
