"""Which chunks of a model's embeddings a space lacks, where it takes one layer or several.

A set's coordinates carry the chunks of its first layer. Another layer may have come later, in other
chunks: then the structures say which of its rows belong together.
"""

import logging

import sqlalchemy as sa

from platonic_store.storage import tables as t
from platonic_store.storage.layout import Level, table_name
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.sqltext import literals
from platonic_store.storage.writer import Writer

_GROUP_ROWS = 200_000
_log = logging.getLogger(__name__)


def missing_chunks(
    writer: Writer, side: ModelLayer, target: str
) -> list[dict[Level, dict[int, int]]]:
    """The side's chunks that the target lacks: groups of {level: {chunk: rows}}.

    Chunks with a structure that one of the layers has not embedded wait until it has.
    """
    first, *others = (table_name(*one, "atom") for one in side.layers)
    pooled = table_name(*side.layers[0], "structure")
    with writer.reading() as connection:
        appends = connection.execute(sa.select(t.table_appends)).all()
        rows = {
            name: {one.chunk_id: one.rows for one in appends if one.table_name == name}
            for name in (first, pooled, target)
        }
        waiting = {chunk for name in others for chunk in _incomplete(connection, first, name)}
    if waiting:
        _log.warning("%s: %d chunks lack a layer and are not projected", side, len(waiting))
    groups: list[dict[Level, dict[int, int]]] = []
    for chunk in sorted(rows[first].keys() - rows[target].keys() - waiting):
        if not groups or sum(groups[-1]["atom"].values()) > _GROUP_ROWS:
            groups.append({"atom": {}, "structure": {}})
        groups[-1]["atom"][chunk] = rows[first][chunk]
        groups[-1]["structure"][chunk] = rows[pooled][chunk]
    return groups


def _incomplete(connection: sa.Connection, first: str, other: str) -> list[int]:
    """The chunks of a table with structures that another table lacks."""
    held = (
        "SELECT c.chunk_id, c.structure_id FROM chunk_structures AS c "
        "JOIN table_appends AS a USING (chunk_id) WHERE a.table_name = {}"
    )
    found = connection.exec_driver_sql(
        f"SELECT DISTINCT chunk_id FROM ({held.format(literals([first]))}) "
        f"ANTI JOIN ({held.format(literals([other]))}) AS o USING (structure_id)"
    )
    return [chunk for (chunk,) in found]


def rows_of_chunk(snapshot: Snapshot, side: ModelLayer, chunk: int) -> str:
    """A condition of Lance's on the rows of a chunk's structures in all layers of a side."""
    names = [table_name(*one, "atom") for one in side.layers]
    ((here,),) = snapshot.rows(
        "SELECT count(*) FROM catalog.main.table_appends "
        "WHERE chunk_id = ? AND list_contains(?, table_name)",
        [chunk, names],
    )
    if here == len(names):
        return f"chunk_id = {chunk}"
    rows = snapshot.rows(
        "SELECT structure_id FROM catalog.main.chunk_structures WHERE chunk_id = ?", [chunk]
    )
    return f"structure_id IN ({literals(id_ for (id_,) in rows)})"
