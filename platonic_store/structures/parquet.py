"""Parquet, batch by batch: CIF text, pymatgen JSON, or plain arrays."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from platonic_store.errors import UnreadableSource
from platonic_store.structures import cif, objects
from platonic_store.structures.records import Crystal, Rejected, crystal, one_line, pick_id

CHUNK = 512
ARRAYS = ("numbers", "positions", "cell")


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The crystals of a parquet file, row by row.

    They are in a column `cif` (text), or `structure` (pymatgen's dict, as JSON text or nested), or
    in `numbers`, `positions` (flat or (N, 3), Cartesian Å), `cell` (9 or 3×3, Å) and, if present,
    `pbc`, as in STRUCTURE_SCHEMA. Every other column is a property. Raises UnreadableSource where
    none of these is there.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        parse, used = row_parser(names, path)
        number = 0
        for batch in file.iter_batches(batch_size=CHUNK):
            for row in batch.to_pylist():
                number += 1
                properties = {name: value for name, value in row.items() if name not in used}
                id = pick_id(properties)
                try:
                    yield parse(row, id, properties)
                except Exception as error:
                    label = f"row {number} ({id})" if id else f"row {number}"
                    yield Rejected(label, id, one_line(error))


Parser = Callable[[dict[str, Any], str | None, dict[str, Any]], Crystal]


def row_parser(names: list[str], path: Path) -> tuple[Parser, tuple[str, ...]]:
    """The function that reads a row with these columns, and the columns that it reads.

    Raises: UnreadableSource where no column holds structures.
    """
    if "cif" in names:
        return (lambda row, id, rest: cif.parse(row["cif"], id, rest)), ("cif",)
    if "structure" in names:
        return _from_json, ("structure",)
    if set(ARRAYS) <= set(names):
        return _from_arrays, (*ARRAYS, "pbc")
    raise UnreadableSource(
        f"{path} has no column 'cif' or 'structure', nor the columns {', '.join(ARRAYS)} (it has: "
        f"{', '.join(names) or 'none'})",
        "rename the column that holds the structures",
    )


def _from_json(row: dict[str, Any], id: str | None, properties: dict[str, Any]) -> Crystal:
    value = row["structure"]
    document = json.loads(value) if isinstance(value, str) else value
    found = objects.from_pymatgen(objects.structure_from_dict(document), id)
    return found._replace(properties={**found.properties, **properties})


def _from_arrays(row: dict[str, Any], id: str | None, properties: dict[str, Any]) -> Crystal:
    pbc = row.get("pbc") or [True] * 3
    return crystal(id, row["numbers"], row["positions"], row["cell"], pbc, properties)
