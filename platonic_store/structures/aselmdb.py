"""ASE's LMDB databases, in which OMat24 and sAlex are published, row by row."""

from collections.abc import Iterator
from pathlib import Path

from platonic_store.errors import UnreadableSource
from platonic_store.structures import objects
from platonic_store.structures.quiet import quiet
from platonic_store.structures.records import Crystal, Rejected, one_line, pick_id


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The rows of the database in the order of their number.

    Numbers and text (key-value pairs, data, the energy) are properties; arrays (forces, stress) are
    left out. Named by a usual id or `sid`, else by the row's unique_id. Raises UnreadableSource
    without the package that reads LMDB.
    """
    from ase.db import connect

    try:
        database = connect(path, type="aselmdb", use_lock_file=False, readonly=True)
    except ImportError:
        raise UnreadableSource(
            f"{path} is an LMDB database, for which a package is missing",
            "pip install 'platonic-store[aselmdb]'",
        ) from None
    for row in database.select():
        values = {**row.data, **row.key_value_pairs}
        id = pick_id(values, "sid") or row.unique_id
        try:
            with quiet():
                atoms = row.toatoms()
            found = objects.from_ase(atoms, id)
            plain = {
                name: value
                for name, value in {**found.properties, **values}.items()
                if isinstance(value, str | int | float | bool)
            }
            yield found._replace(properties=plain)
        except Exception as error:
            yield Rejected(f"row {row.id} ({id})", id, one_line(error))
