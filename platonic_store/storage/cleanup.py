"""Which snapshots are kept, and the removal of files that no kept snapshot names."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from platonic_store.errors import StoreDamaged
from platonic_store.storage import history, manifest
from platonic_store.storage.location import Location
from platonic_store.storage.manifest import Manifest

_log = logging.getLogger(__name__)

# A snapshot is retired when so many came after it, and the first of them so long ago. Its files go
# when it was retired so long ago too: a reader may have opened it just before.
KEEP_NUMBER: Final = 10
KEEP_AGE: Final = timedelta(hours=1)
_RETIRED: Final = "retired"
# A worker may have written a file, to be named by a manifest later.
UNNAMED_AGE: Final = timedelta(days=1)
_FOLDERS: Final = ("catalog", "rows", "vectors", "partial")
# What Lance itself writes anew, named by no version of a table.
_HINT: Final = "latest_version_hint.json"


def clean_up(location: Location, *, thoroughly: bool = False) -> int:
    """Retire snapshots that are no longer kept; remove the files of those retired long ago.

    For the one writer. thoroughly: look through the whole store for files that nothing names too.

    Returns how many files went.
    """
    times = manifest.times(location)
    # By the store's own clock: the writer's lease was renewed just now.
    before = max(entry.modified for entry in location.names("lease/")) - KEEP_AGE
    outdated = _outdated(times, before) - history.pinned(location).keys()
    retired = location.names(f"{_RETIRED}/")
    old = {entry.key for entry in retired if entry.modified < before}
    if not outdated and not old and not thoroughly:
        return 0
    try:
        kept = {id: manifest.load(location, id) for id in times}
        gone = {entry.key: _read(location, entry.key) for entry in retired}
    except StoreDamaged:  # what it named cannot be told
        return 0
    # First the manifests, so that nobody opens what is about to go.
    for id in outdated:
        location.write(f"{_RETIRED}/{id:08}.json", manifest.to_bytes(kept[id]))
        location.delete([manifest.key(id)])
    young = [one for key, one in gone.items() if key not in old]
    named = {file.path for one in [*kept.values(), *young] for file in one.files()}
    files = {file.path for key in old for file in gone[key].files()} - named
    if thoroughly:
        files |= set(_unnamed(location, named))
    location.delete(sorted(files))
    location.delete(sorted(old))
    _log.info("retired %d snapshots, removed %d files", len(outdated), len(files))
    return len(files)


def _read(location: Location, key: str) -> Manifest:
    return manifest.from_bytes(location.read(key), key)


def _outdated(times: dict[int, datetime], before: datetime) -> set[int]:
    """The numbers of the snapshots that so many others have followed, the first before a time."""
    old = {id for id, successor in pairwise(times) if times[successor] < before}
    return old - set(list(times)[-KEEP_NUMBER:])


def _unnamed(location: Location, named: set[str]) -> Iterable[str]:
    """Files that no snapshot names and that nobody is about to."""
    before = datetime.now(UTC) - UNNAMED_AGE
    for folder in _FOLDERS:
        for entry in location.names(f"{folder}/"):
            is_young = entry.modified > before
            if entry.key not in named and not is_young and not entry.key.endswith(_HINT):
                yield entry.key
