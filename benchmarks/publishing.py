"""For snapshots.py: what publishing costs at any size, with synthetic rows in the catalogue."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from platonic_store.arrow import vector_array
from platonic_store.storage import commits
from platonic_store.storage import tables as t
from platonic_store.storage.writer import Writer
from platonic_store.store import Store

MODELS = ("synthetic-0", "synthetic-1")
FEATURES, CHUNK, CALLS = 128, 256, 7
# As Materials Project's: hashes, formulas and properties of a similar entropy.
STRUCTURES = """
INSERT INTO structures BY NAME SELECT
    'mp-' || i AS id, md5(i::VARCHAR) AS content_hash,
    a || (1 + i % 7) || b || (1 + i % 5) AS formula, [a, b] AS elements,
    1 + (i % 20)::INTEGER AS nsites, 1 + (i % 12)::INTEGER AS distinct_sites,
    1000 * random() AS volume, 1 + (i % 230)::SMALLINT AS spacegroup,
    id AS material_id, formula AS pretty_formula, spacegroup AS "spacegroup.number",
    -4 * random() AS formation_energy_per_atom,
    CASE WHEN random() < 0.5 THEN 0 ELSE 8 * random() END AS band_gap,
    CASE WHEN random() < 0.5 THEN 0 ELSE 0.1 * random() END AS e_above_hull
FROM (
    SELECT i, chr((65 + i % 26)::INTEGER) AS a, chr((65 + i // 26 % 26)::INTEGER) || 'x' AS b
    FROM range({n}) AS numbers(i)
)
"""
COLUMNS = {
    "material_id": "VARCHAR",
    "pretty_formula": "VARCHAR",
    "spacegroup.number": "BIGINT",
    "formation_energy_per_atom": "DOUBLE",
    "band_gap": "DOUBLE",
    "e_above_hull": "DOUBLE",
}


class Published(NamedTuple):
    """Seconds of each publishing of one more chunk, and the catalogue's bytes a structure."""

    seconds: list[float]
    bytes_a_structure: float


def measure(folder: Path, structures: int) -> Published:
    """A store of so many synthetic structures, embedded by two models as far as its catalogue
    knows; then chunks of one model, each of which is published."""
    store = Store.open(folder / f"{structures}.store")
    with store._writing("synthetic rows", create=True) as writer:
        _fill(writer, structures)
        tables = [
            commits.ensure_vector_table(writer, MODELS[0], 1, level, FEATURES)
            for level in ("atom", "structure")
        ]
        writer.publish()
        seconds = [_publish_chunk(writer, tables, chunk) for chunk in range(CALLS)]
    size = store.snapshot().manifest.catalog.size
    return Published(seconds, size / structures)


def _fill(writer: Writer, structures: int) -> None:
    with writer.writing() as connection:
        for name, kind in COLUMNS.items():
            connection.execute(sa.text(f'ALTER TABLE structures ADD COLUMN "{name}" {kind}'))
        connection.exec_driver_sql(STRUCTURES.format(n=structures))
        connection.exec_driver_sql("INSERT INTO source_structures SELECT 1, id FROM structures")
        for number, model in enumerate(MODELS):
            connection.execute(
                sa.insert(t.models).values(
                    name=model,
                    family="synthetic",
                    checkpoint_sha256="0" * 64,
                    default_layer=0,
                    card={},
                )
            )
            chunk = f"{number} + 2 * (row_number() OVER () // {CHUNK})"
            connection.exec_driver_sql(
                f"INSERT INTO chunk_structures SELECT {chunk}, id FROM structures"
            )


def _publish_chunk(writer: Writer, tables: list[str], number: int) -> float:
    """Commit the embeddings of one more chunk; how long its publishing takes."""
    rng = np.random.default_rng(number)
    ids = [f"mp-{number * CHUNK + i}" for i in range(CHUNK)]
    atoms = np.repeat(ids, 10)
    zeros = np.zeros(len(atoms), dtype=int)
    keys = {"structure_id": atoms, "site_index": zeros, "atomic_number": zeros, "orbit": zeros}
    rows = [
        pa.table({**keys, "vector": _vectors(rng, len(atoms))}),
        pa.table({"structure_id": ids, "vector": _vectors(rng, len(ids))}),
    ]
    appends = [commits.TableAppend(*pair) for pair in zip(tables, rows, strict=True)]
    commits.commit_chunk(writer, 0, ids, appends)
    writer.publish()  # unless it was due at once
    return writer._publish_seconds


def _vectors(rng: np.random.Generator, rows: int) -> pa.Array:
    return vector_array(rng.standard_normal((rows, FEATURES), dtype=np.float32))
