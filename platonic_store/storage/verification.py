"""Whether the catalogue and the vector tables agree: it finds what is wrong, and mends nothing."""

from collections import defaultdict

import sqlalchemy as sa

from platonic_store.storage import tables as t
from platonic_store.storage.catalog import Catalog
from platonic_store.storage.vectors import Vectors

# A line of text for everything that the catalogue's tables do not agree on among themselves.
_CONTRADICTIONS = (
    """
    SELECT format('{} embedded structures are not in the catalogue', count(*))
    FROM chunk_structures ANTI JOIN structures ON structures.id = chunk_structures.structure_id
    HAVING count(*) > 0
    """,
    """
    SELECT format('{} has {} structures more than once', table_name, count(*))
    FROM (
        SELECT f.table_name, c.structure_id
        FROM table_appends AS f JOIN chunk_structures AS c USING (chunk_id)
        WHERE f.committed GROUP BY ALL HAVING count(*) > 1
    ) GROUP BY table_name
    """,
    """
    SELECT format('{} should have {} rows by its structures, and {} by its chunks', name, due, rows)
    FROM (
        SELECT v.name, sum(f.rows)::BIGINT AS rows, sum(c.due)::BIGINT AS due
        FROM table_appends AS f
        JOIN vector_tables AS v ON v.name = f.table_name
        JOIN (
            SELECT c.chunk_id, level, sum(if(level = 'atom', s.nsites, 1)) AS due
            FROM chunk_structures AS c JOIN structures AS s ON s.id = c.structure_id,
            unnest(['atom', 'structure']) AS levels (level)
            GROUP BY ALL
        ) AS c ON c.chunk_id = f.chunk_id AND c.level = v.level
        WHERE f.committed GROUP BY v.name
    ) WHERE rows != due
    """,
    """
    SELECT format('{} structures are scored against a reference that is not there', count(*))
    FROM structure_scores AS c ANTI JOIN reference_sets AS r ON r.id = c.reference
    HAVING count(*) > 0
    """,
    """
    SELECT format('{} of the structures scored against {} lack atoms', count(*), reference)
    FROM (
        SELECT reference, structure_id, count(*) AS atoms FROM atom_scores GROUP BY ALL
    ) AS a
    FULL JOIN structure_scores AS c USING (reference, structure_id)
    LEFT JOIN structures AS s ON s.id = structure_id
    WHERE c.atypicality IS NULL OR a.atoms IS DISTINCT FROM len(list_distinct(s.orbits))
    GROUP BY reference
    """,
)


def verify(catalog: Catalog, vectors: Vectors) -> list[str]:
    """What does not hold between catalogue and vectors, a line each; empty when all is well."""
    with catalog.reading() as connection:
        tables = connection.execute(sa.select(t.vector_tables)).all()
        appends = connection.execute(
            sa.select(t.table_appends).where(t.table_appends.c.committed)
        ).all()
        problems = [
            line for sql in _CONTRADICTIONS for line in connection.scalars(sa.text(sql)).all()
        ]
    expected: dict[str, dict[int, int]] = defaultdict(dict)
    for append in appends:
        expected[append.table_name][append.chunk_id] = append.rows
    for table in tables:
        problems += _damage(vectors, table.name, table.version, expected[table.name])
    return problems


def _damage(vectors: Vectors, name: str, committed: int, expected: dict[int, int]) -> list[str]:
    """What is wrong with a table as readers see it, or as the next commit would build on it."""
    try:
        for version in sorted({committed, vectors.latest(name)}):
            present = vectors.rows_by_chunk(name, version)
            if present != expected:
                return [
                    f"{name} holds {sum(present.values())} rows at version {version}, "
                    f"the catalogue expects {sum(expected.values())}"
                ]
    except (OSError, ValueError, RuntimeError) as error:
        return [f"{name} cannot be read: {str(error).splitlines()[0]}"]
    return []
