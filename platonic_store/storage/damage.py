"""Files that are not what their manifest says, and how to come to a snapshot that can be read."""

from dataclasses import replace

from platonic_store import progress
from platonic_store.errors import StoreDamaged
from platonic_store.storage import manifest
from platonic_store.storage.lease import take
from platonic_store.storage.location import Location
from platonic_store.storage.manifest import Manifest, StoredFile, describe


def damaged(location: Location, snapshot: Manifest) -> list[StoredFile]:
    """The files that are gone, or whose size or checksum is another. It reads all of them."""
    files = snapshot.files()
    size = sum(file.size for file in files)
    found = []
    with progress.bar("checking every file", size / 1e6, "MB") as advance:
        for file in files:
            if not is_whole(location, file):
                found.append(file)
            advance(file.size / 1e6)
    return found


def is_whole(location: Location, file: StoredFile) -> bool:
    """Whether a file is there, and what its manifest says."""
    try:
        with location.fetched(file.path) as path:
            return describe(path, file.path) == file
    except FileNotFoundError:
        return False


def restore_newest(location: Location) -> list[str]:
    """See that the newest snapshot has a manifest and a catalogue that can be read.

    A damaged manifest is restored from its copy, or removed. Where the catalogue is damaged, the
    newest snapshot with one that is whole is published again.

    Returns what was done, a line each. Raises: StoreDamaged if no snapshot is left; StoreBusy.
    """
    if not manifest.ids(location):
        return []
    with take(location) as lease:
        done = _restore_manifest(location)
        ids = manifest.ids(location)
        if not ids:
            return done
        newest = manifest.load(location, ids[-1])
        if is_whole(location, newest.catalog):
            return done
        for id in reversed(ids[:-1]):
            try:
                earlier = manifest.load(location, id)
            except StoreDamaged:
                continue
            if not is_whole(location, earlier.catalog):
                continue
            made = replace(
                earlier,
                id=newest.id + 1,
                parent=newest.id,
                writer=lease.holder,
                created_at=manifest.now(),
                change=f"back to snapshot {id}: later catalogues are damaged",
            )
            manifest.create(location, made)
            manifest.note_newest(location, made)
            return [
                *done,
                f"the catalogue of snapshot {newest.id} is damaged; the store is as at snapshot "
                f"{id} again, and what was done since has to be done again",
            ]
        raise StoreDamaged(
            f"no snapshot of {location.uri} has a catalogue that is whole",
            "copy it from another place",
        )


def _restore_manifest(location: Location) -> list[str]:
    done: list[str] = []
    while ids := manifest.ids(location):
        id = ids[-1]
        try:
            manifest.load(location, id)
            return done
        except StoreDamaged:
            copy = manifest.noted(location)
            if copy is not None and copy.id == id:
                location.write(manifest.key(id), manifest.to_bytes(copy))
                done.append(f"the manifest of snapshot {id} was restored from its copy")
            else:
                location.delete([manifest.key(id)])
                done.append(f"the manifest of snapshot {id} was damaged, and with it lost")
    return done
