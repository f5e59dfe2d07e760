"""A store of version 0.1 or of a working copy before snapshots, taken over as it was committed."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import duckdb

from platonic_store.errors import StoreBusy, StoreTooNew
from platonic_store.storage import bulk, lance_tables, manifest
from platonic_store.storage.location import Location
from platonic_store.storage.manifest import Manifest, describe
from platonic_store.storage.revision import REVISION

_log = logging.getLogger(__name__)

# The last revision of the one mutable file, with all rows in it.
_LAST: Final = "0005"
_CATALOG: Final = "catalog.duckdb"
_LOCK: Final = "writer.lock"


def is_legacy(folder: Path) -> bool:
    """Whether a folder holds a store that was not taken over yet."""
    if not (folder / _CATALOG).exists():
        return False
    # A writer that was killed may have made their folder and no manifest.
    return not any((folder / manifest.FOLDER).glob("*.json"))


@contextmanager
def guarded(location: Location) -> Iterator[None]:
    """Keep older programs from writing to a store that is taken over, to the end of the block.

    Raises: StoreBusy if one does at the moment.
    """
    folder = location.folder
    if folder is None or not is_legacy(folder):
        yield
        return
    import filelock  # which only this needs

    lock = filelock.FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise StoreBusy(
            f"an older version of the program is writing to {folder}",
            "do the same again when it is done",
        ) from None
    try:
        yield
    finally:
        lock.release()


def adopted(location: Location, working: Path) -> Manifest | None:
    """Make the first manifest of an older store, which stays as it is until that is committed.

    What was pending when its last writer stopped is left out: it was not acknowledged.

    working: a writer's private folder; the catalogue is put there, its bulk rows into `rows`.

    Raises: StoreTooNew.
    """
    import sqlalchemy as sa  # which reading a store need not wait for

    from platonic_store.storage.migrate import upgrade

    if location.folder is None or not is_legacy(location.folder):
        return None
    catalog = working / _CATALOG
    _require_known(location.folder / _CATALOG)
    for name in (_CATALOG, f"{_CATALOG}.wal"):
        if (location.folder / name).exists():
            shutil.copyfile(location.folder / name, working / name)
    engine = sa.create_engine(f"duckdb:///{catalog}")
    with engine.begin() as connection:
        upgrade(connection, _LAST)
        named = connection.execute(sa.text("SELECT name, version FROM vector_tables")).all()
        raw: Any = connection.connection.driver_connection
        written = bulk.export(raw, working / "rows")
    engine.dispose()
    rows = {}
    for table, path in written.items():
        key = f"rows/{table}/{path.name}"
        location.upload(key, path)
        rows[table] = [describe(path, key)]
    vectors = {}
    for name, version in named:
        opened = lance_tables.open_table(location.lance_uri(name), version)
        vectors[name] = lance_tables.inventory(location, name, opened, {})
    _log.info("took over the older store at %s", location.uri)
    return replace(manifest.empty(), revision=_LAST, rows=rows, vectors=vectors)


def _require_known(catalog: Path) -> None:
    with duckdb.connect(str(catalog), read_only=True) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except duckdb.CatalogException:
            row = None
    if row and row[0] > _LAST:
        raise StoreTooNew(
            f"the store at {catalog.parent} was made by a newer platonic-store (catalogue "
            f"revision {row[0]}, this program knows {REVISION})",
            "install the newest platonic-store",
        )


def is_left(folder: Path) -> bool:
    """Whether there is anything for `retire` to remove."""
    return (folder / _LOCK).exists()


def retire(folder: Path) -> None:
    """Remove what an older store has left, once its first manifest is committed.

    Older programs find a catalogue that is too new for them.
    """
    shutil.rmtree(folder / "published", ignore_errors=True)
    for name in (_CATALOG, f"{_CATALOG}.wal", "catalog.lock", "catalog.turnstile"):
        (folder / name).unlink(missing_ok=True)
    with duckdb.connect(str(folder / _CATALOG)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", [REVISION])
    (folder / _LOCK).unlink()
