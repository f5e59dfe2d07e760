"""A snapshot copied to another place, whole and verified."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from platonic_store import progress
from platonic_store.errors import Call, StoreDamaged, StoreNotWritable
from platonic_store.storage import manifest
from platonic_store.storage.lease import take
from platonic_store.storage.location import Location
from platonic_store.storage.manifest import Manifest, StoredFile, describe


def copy(source: Location, wanted: Manifest, target: Location) -> int:
    """Copy a snapshot; the manifest comes last, so that the copy is there whole or not at all.

    Files that arrived before are not sent again: the same call resumes, and brings a copy up to
    date. Returns how many files were sent.

    Raises: StoreNotWritable if the target holds another store, or a newer state of this one;
    StoreDamaged if a file of the source is not what its manifest says; StoreBusy.
    """
    target.require_conditional_create()
    with take(target):
        newest = _copied_before(target, wanted)
        if newest is not None and newest.id == wanted.id:
            return 0
        missing = _missing(target, newest, wanted)
        size = sum(file.size for file in missing)
        with progress.bar(f"copying to {target.uri}", size / 1e6, "MB") as advance:
            _send(source, target, missing, advance)
        # Its parent is not there.
        made = replace(wanted, parent=newest.id if newest else None, is_copy=True)
        if not manifest.create(target, made):
            raise StoreNotWritable(f"another writer has published in {target.uri}")
        manifest.note_newest(target, made)
    return len(missing)


def _copied_before(target: Location, wanted: Manifest) -> Manifest | None:
    """The newest snapshot of the same store in the target, None if that is empty."""
    ids = manifest.ids(target)
    if not ids:
        return None
    there = manifest.load(target, ids[-1])
    if there.store != wanted.store:
        raise StoreNotWritable(f"{target.uri} holds another store", "name another place")
    if there.id == wanted.id and not there.is_copy:
        raise StoreNotWritable(f"{target.uri} is what is to be copied", "name another place")
    if there.id > wanted.id or not there.is_copy:
        raise StoreNotWritable(
            f"{target.uri} is at snapshot {there.id}, which was not copied from before {wanted.id}",
            "name another place",
        )
    return there


def _missing(target: Location, newest: Manifest | None, wanted: Manifest) -> list[StoredFile]:
    """The files that are to be sent."""
    known = {*newest.files()} if newest else set()
    there = {entry.key: entry.size for entry in target.names("")}
    return [
        file
        for file in wanted.files()
        if there.get(file.path) != file.size
        # The versions of a table that was made anew have the numbers of the old one's.
        or ("/_versions/" in file.path and file not in known)
    ]


def _send(
    source: Location,
    target: Location,
    files: list[StoredFile],
    advance: Callable[[float], None],
) -> None:
    for file in files:
        is_sent = False
        with suppress(FileNotFoundError), source.fetched(file.path) as path:
            if describe(path, file.path) == file:
                target.upload(file.path, path)
                is_sent = True
        if not is_sent:
            raise StoreDamaged(
                f"{file.path} of {source.uri} is not what its manifest says",
                Call("doctor", deep=True, repair=True),
            )
        advance(file.size / 1e6)
