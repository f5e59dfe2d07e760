"""Durability: what a snapshot names is on the disk before it is published."""

import os
from pathlib import Path

import pytest
from store_fakes import crystals

from platonic_store.storage import manifest
from platonic_store.store import Store


@pytest.fixture
def flushed(monkeypatch) -> dict[int, list[Path]]:
    """The inodes of what was flushed, as files are renamed later, with their names at that time."""
    found: dict[int, list[Path]] = {}
    fsync = os.fsync

    def noted(handle):
        name = Path(f"/proc/self/fd/{handle}").readlink()
        found.setdefault(os.fstat(handle).st_ino, []).append(name)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "sync", lambda: pytest.fail("it flushes every disk of the machine"))
    return found


@pytest.fixture
def published(monkeypatch, flushed) -> list[set[int]]:
    """What had been flushed whenever a manifest was about to be created."""
    found: list[set[int]] = []
    create = manifest.create

    def noted(location, made):
        found.append({*flushed})
        return create(location, made)

    monkeypatch.setattr(manifest, "create", noted)
    return found


def inodes(paths) -> set[int]:
    return {path.stat().st_ino for path in paths}


def test_all_that_a_snapshot_names_is_flushed_before_and_once(store, flushed, published):
    store.ingest(crystals(6), ["fake-a"])
    store.ingest(crystals(8), ["fake-a"])
    store.delete(["c7"])
    store.doctor()
    named: set[Path] = set()
    for id, before in enumerate(published, 1):
        files = Store.open(store.path, at=id).snapshot().manifest.files()
        named |= {store.path / file.path for file in files}
        assert inodes(named) <= before
        # Nor are their names lost, or those of the folders above them.
        above = {folder for path in named for folder in path.parents}
        assert inodes(above - {*store.path.parents}) <= before
    assert len(named) > 20
    assert inodes([store.path / "manifests"]) <= set(flushed)
    every = [name for names in flushed.values() for name in names]
    vectors = [path for path in named if "vectors" in path.parts]
    assert {every.count(path) for path in vectors} == {1}, "each of them once"


def test_what_was_written_before_a_failed_publishing_is_flushed(store, flushed, monkeypatch):
    store.ingest(crystals(6), ["fake-a"])
    with store._writing("publish twice") as writer:
        with writer.writing():
            rows = store.snapshot()._vectors._open("fake-a.1.atom").to_table()
            writer.append("fake-a.1.atom", rows)
        with monkeypatch.context() as patched:
            patched.setattr(manifest, "create", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                writer.publish()
        flushed.clear()
        writer.publish()
    files = store.snapshot().manifest.vectors["fake-a.1.atom"].files
    before = Store.open(store.path, at=store.snapshot().id - 1).snapshot().manifest
    new = [file.path for file in {*files} - {*before.vectors["fake-a.1.atom"].files}]
    assert any(path.endswith(".lance") for path in new)
    assert inodes(store.path / path for path in new) <= set(flushed)


def _interrupt(*_):
    raise KeyboardInterrupt
