"""Whether the parts of a snapshot agree: it finds what is wrong, and mends nothing."""

from collections import defaultdict

from platonic_store.storage.snapshot import Snapshot

# A line of text for everything that the catalogue's tables do not agree on among themselves.
_CONTRADICTIONS = (
    """
    SELECT format('{} embedded structures are not in the catalogue', count(*))
    FROM catalog.main.chunk_structures AS c
    ANTI JOIN catalog.main.structures AS s ON s.id = c.structure_id
    HAVING count(*) > 0
    """,
    """
    SELECT format('{} structures lack their crystal, or have several', count(*))
    FROM catalog.main.structures AS s
    LEFT JOIN (SELECT structure_id, count(*) AS n FROM crystals GROUP BY ALL) AS c
        ON c.structure_id = s.id
    WHERE c.n IS DISTINCT FROM 1
    HAVING count(*) > 0
    """,
    """
    SELECT format('{} has {} structures more than once', table_name, count(*))
    FROM (
        SELECT f.table_name, c.structure_id
        FROM catalog.main.table_appends AS f
        JOIN catalog.main.chunk_structures AS c USING (chunk_id)
        GROUP BY ALL HAVING count(*) > 1
    ) GROUP BY table_name
    """,
    """
    SELECT format('{} should have {} rows by its structures, and {} by its chunks', name, due, rows)
    FROM (
        SELECT v.name, sum(f.rows)::BIGINT AS rows, sum(c.due)::BIGINT AS due
        FROM catalog.main.table_appends AS f
        JOIN catalog.main.vector_tables AS v ON v.name = f.table_name
        -- A table that was thinned has some atoms alone.
        ANTI JOIN (SELECT model, layer, 'atom' AS level FROM catalog.main.covers) AS t
            ON (t.model, t.layer, t.level) = (v.model, v.layer, v.level)
        JOIN (
            SELECT c.chunk_id, level, sum(if(level = 'atom', s.nsites, 1)) AS due
            FROM catalog.main.chunk_structures AS c
            JOIN catalog.main.structures AS s ON s.id = c.structure_id,
            unnest(['atom', 'structure']) AS levels (level)
            GROUP BY ALL
        ) AS c ON c.chunk_id = f.chunk_id AND c.level = v.level
        GROUP BY v.name
    ) WHERE rows != due
    """,
    """
    SELECT format('{} structures that {} predicts are not in the catalogue', count(*), p.model)
    FROM structure_predictions AS p
    ANTI JOIN catalog.main.structures AS s ON s.id = p.structure_id
    GROUP BY p.model
    """,
    """
    SELECT format('{} structures have several energies by {}', count(*), model)
    FROM (
        SELECT structure_id, model FROM structure_predictions GROUP BY ALL HAVING count(*) > 1
    ) GROUP BY model
    """,
    """
    SELECT format('{} structures have forces by {} on too few or too many atoms', count(*), f.model)
    FROM (
        SELECT structure_id, model, count(*) AS rows, count(DISTINCT site_index) AS atoms
        FROM atom_predictions GROUP BY ALL
    ) AS f
    LEFT JOIN catalog.main.structures AS s ON s.id = f.structure_id
    WHERE f.rows IS DISTINCT FROM s.nsites OR f.atoms IS DISTINCT FROM s.nsites
    GROUP BY f.model
    """,
    """
    SELECT format('{} structures are scored against a reference that is not there', count(*))
    FROM structure_scores AS c ANTI JOIN catalog.main.reference_sets AS r ON r.id = c.reference
    HAVING count(*) > 0
    """,
    """
    SELECT format('{} of the structures scored against {} lack atoms', count(*), reference)
    FROM (
        SELECT reference, structure_id, count(*) AS atoms FROM atom_scores GROUP BY ALL
    ) AS a
    FULL JOIN structure_scores AS c USING (reference, structure_id)
    LEFT JOIN catalog.main.structures AS s ON s.id = structure_id
    WHERE c.atypicality IS NULL OR a.atoms IS DISTINCT FROM s.distinct_sites
    GROUP BY reference
    """,
    """
    SELECT format('{} of the structures that {} maps are not in the catalogue', count(*), m.model)
    FROM structure_map AS m ANTI JOIN catalog.main.structures AS s ON s.id = m.structure_id
    GROUP BY m.model
    """,
    """
    SELECT format('{} of the structures that {} maps lack atoms there', count(*), m.model)
    FROM (
        SELECT structure_id, model, layer, count(*) AS atoms FROM atom_map GROUP BY ALL
    ) AS m
    LEFT JOIN catalog.main.structures AS s ON s.id = m.structure_id
    WHERE m.atoms IS DISTINCT FROM s.distinct_sites
    GROUP BY m.model
    """,
)


def verify(snapshot: Snapshot) -> list[str]:
    """What does not hold between catalogue, bulk rows and vectors, a line each; empty when all is
    well."""
    problems = [line for sql in _CONTRADICTIONS for (line,) in snapshot.rows(sql)]
    expected: dict[str, dict[int, int]] = defaultdict(dict)
    for table, chunk, rows in snapshot.rows(
        "SELECT table_name, chunk_id, rows FROM catalog.main.table_appends"
    ):
        expected[table][chunk] = rows
    named = {table.name for table in snapshot.tables}
    problems += [f"{name} has rows and is no vector table" for name in expected.keys() - named]
    for name in sorted(named):
        problems += _damage(snapshot, name, expected[name])
    return problems


def _damage(snapshot: Snapshot, name: str, expected: dict[int, int]) -> list[str]:
    """What is wrong with a vector table."""
    try:
        present = snapshot.rows_by_chunk(name)
    except (OSError, ValueError, RuntimeError) as error:
        return [f"{name} cannot be read: {str(error).splitlines()[0]}"]
    if present == expected:
        return []
    return [
        f"{name} holds {sum(present.values())} rows, the catalogue expects {sum(expected.values())}"
    ]
