"""A session of the one writer of a store: its lease, its private folder, its working catalogue."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from platonic_store.errors import Call, StoreDamaged
from platonic_store.storage import disk, legacy, manifest, migrate
from platonic_store.storage import tables as t
from platonic_store.storage.catalog import fetch_arrow
from platonic_store.storage.lease import Lease, take
from platonic_store.storage.location import Location
from platonic_store.storage.manifest import Manifest, describe
from platonic_store.storage.reader import Reader
from platonic_store.storage.revision import REVISION
from platonic_store.storage.writer import Writer

_log = logging.getLogger(__name__)


@contextmanager
def writing_to(reader: Reader, change: str) -> Iterator[Writer]:
    """Be the one writer of a store, which is made if there is none, to the end of the block.

    Its catalogue is brought to this program's revision. What is committed within the block is
    published at its end, if not before.

    change: what it does, in a line, for the list of snapshots.

    Raises: StoreBusy, StoreNotWritable, StoreTooNew, LeaseLost.
    """
    location = reader.location
    location.require_conditional_create()
    with (
        take(location) as lease,
        legacy.guarded(location),
        _private_folder(location, lease) as folder,
    ):
        with disk.refusals(location.uri):
            writer = Writer(reader, lease, folder, _prepared(reader, folder), change)
        try:
            _end_interrupted_runs(writer)
            _move_parameters(writer)
            if location.folder is not None and legacy.is_left(location.folder):
                writer.publish()
                legacy.retire(location.folder)
            yield writer
        except Exception:
            lease.require()  # its files may be gone with it
            raise
        finally:
            try:
                writer.publish()
                writer.clean_up()
            finally:
                writer.close()


@contextmanager
def _private_folder(location: Location, lease: Lease) -> Iterator[Path]:
    """A folder for one writer's files: where it can be, on the disk of the store."""
    if location.folder is None:
        with tempfile.TemporaryDirectory(prefix="platonic-store-") as name:
            yield Path(name)
        return
    working = location.folder / "working"
    shutil.rmtree(working, ignore_errors=True)  # what killed writers left
    # Its own: one whose lease has lapsed may wake, write, and clear up behind itself.
    own = working / lease.holder
    own.mkdir(parents=True)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        with suppress(OSError):  # of a successor's
            working.rmdir()


def _prepared(reader: Reader, folder: Path) -> Manifest:
    """Put a working catalogue of this program's revision into a folder: a copy of the newest.

    Returns the manifest to begin with.
    """
    (folder / "rows").mkdir()
    working = folder / "catalog.duckdb"
    newest = reader.newest_manifest()
    if newest is None:
        newest = legacy.adopted(reader.location, folder) or manifest.empty()
    else:
        reader.files.require_known(newest)
        shutil.copyfile(reader.files.path(newest, newest.catalog), working)
        if describe(working, newest.catalog.path) != newest.catalog:
            raise StoreDamaged(
                f"the catalogue of snapshot {newest.id} of {reader.location.uri} is damaged",
                Call("doctor", deep=True, repair=True),
            )
    if newest.revision != REVISION:
        migrate.upgrade_file(working)
    return newest


def _end_interrupted_runs(writer: Writer) -> None:
    is_running = t.runs.c.state == "running"
    with writer.reading() as connection:
        count = connection.scalar(sa.select(sa.func.count()).where(is_running))
    if count:
        with writer.writing() as connection:
            connection.execute(sa.update(t.runs).where(is_running).values(state="interrupted"))
        _log.info("%d runs had been interrupted", count)


def _move_parameters(writer: Writer) -> None:
    """Make bulk rows of what older catalogues held."""
    with writer.reading() as connection:
        left = "SELECT name, content FROM older_parameters"
        rows = fetch_arrow(connection, left)
    if rows.num_rows:
        with writer.writing() as connection:
            writer.add_rows("parameters", rows)
            connection.exec_driver_sql("DELETE FROM older_parameters")
