"""ASE databases (SQLite), row by row."""

from collections.abc import Iterator
from pathlib import Path

from platonic_store.structures import objects
from platonic_store.structures.quiet import quiet
from platonic_store.structures.records import Crystal, Rejected, one_line, pick_id


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The rows of the database in the order of their number.

    Key-value pairs, the row's data (as JSON text where nested) and its calculator's results are
    properties. Named by a key among the usual ids, else by the row's unique_id.
    """
    from ase.db import connect

    for row in connect(path, type="db").select():
        id = pick_id(row.key_value_pairs) or row.unique_id
        try:
            with quiet():
                atoms = row.toatoms()
            found = objects.from_ase(atoms, id)
            properties = {**found.properties, **row.key_value_pairs, **row.data}
            yield found._replace(properties=properties)
        except Exception as error:
            yield Rejected(f"row {row.id} ({id})", id, one_line(error))
