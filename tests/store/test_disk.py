"""A full disk and a read-only one: one clear line, nothing lost, and queries that still answer."""

import subprocess
from pathlib import Path

import pytest
from store_fakes import content, crystals, embedded, know_fakes

from platonic_store.errors import StoreNotWritable
from platonic_store.store import Store


@pytest.fixture
def disk(tmp_path, fakes):
    """Mounts a small file system; permission bits do not bind root, and tests may be root."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a tmpfs is not permitted here")
        return folder

    yield mount
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_full_disk_loses_nothing_that_was_committed(disk, monkeypatch):
    folder = disk("size=24m")
    know_fakes(small_chunks=True, in_process=True, patch=monkeypatch.setattr)
    store = Store.open(folder / "full.store")
    pool = crystals(60)
    store.ingest({id_: pool[id_] for id_ in list(pool)[:5]}, ["fake-a"])
    ballast = folder / "ballast"
    for room in (600_000, 300_000, 60_000, 8_000):
        ballast.write_bytes(b"")
        # Leave a little room, less from time to time: it runs out in other places.
        free = _free(folder)
        with ballast.open("wb") as file:
            file.write(b"x" * max(0, free - room))
        before = embedded(store, "fake-a")
        with pytest.raises(StoreNotWritable, match="no space left") as full:
            store.ingest(pool, ["fake-a", "fake-b"], layers="all", batch_atoms=16)
        one_line(full)
        assert before <= embedded(Store.open(store.path), "fake-a")
    ballast.unlink()
    monkeypatch.undo()  # chunks of the usual size from here on
    know_fakes(in_process=True, patch=monkeypatch.setattr)
    roomy = disk("remount", "size=200m")
    assert roomy == folder
    store = Store.open(store.path)
    assert store.doctor()["problems"] == []
    store.ingest(pool, ["fake-a", "fake-b"], layers="all")
    other = Store.open(folder / "well.store")
    other.ingest(pool, ["fake-a", "fake-b"], layers="all")
    assert content(store) == content(other)


def _free(folder: Path) -> int:
    import os

    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def test_a_read_only_store_answers_and_is_not_written(disk):
    folder = disk("size=50m")
    pool = crystals(40)
    store = Store.open(folder / "read-only.store")
    store.ingest(pool, ["fake-a", "fake-b"])
    store.select_anchors(k=5)
    store.project()
    expected, hits = content(store), store.similar("c3", across="fake-b")
    disk("remount", "ro")
    store = Store.open(store.path)
    assert content(store) == expected
    assert store.similar("c3", across="fake-b").equals(hits)
    assert len(store.sql("SELECT * FROM similar_structures('c3', k := 3)")) == 3
    assert store.outliers(k=2).shape[0] == 2
    assert "ATTACH" in store.init_sql()
    for write in (
        lambda: store.ingest(crystals(3, seed=2), ["fake-a"]),
        lambda: store.delete(["c9"]),
        lambda: store.select_anchors(k=4),
        store.project,
        store.doctor,
        lambda: Store.open(folder / "new.store").ingest(pool),
    ):
        with pytest.raises(StoreNotWritable, match=r"(?i)read-only") as refused:
            write()
        one_line(refused)
