"""A store in an object store: the same as on a disk, mirrored in a local cache."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from store_fakes import content, crystals

from platonic_store.errors import InvalidQuery, SnapshotNotFound, StoreDamaged, StoreNotWritable
from platonic_store.storage import files
from platonic_store.store import Store

POOL = crystals(5)
READ = """
import sys
sys.path[:0] = {path}
from store_fakes import content
from platonic_store.store import Store
print(sorted(len(rows) for rows in content(Store.open(sys.argv[1])).values()))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PLATONIC_STORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def filled(fakes, bucket) -> Store:
    """Embedded by a fake model; nothing is in the cache."""
    store = Store.open(bucket.uri, storage_options=bucket.options)
    store.ingest(POOL, ["fake-a"])
    return opened(bucket)


def opened(bucket, **options) -> Store:
    return Store.open(bucket.uri, storage_options=bucket.options, **options)


def requests(bucket, call) -> list[tuple[str, str]]:
    """What a call asks of the object store: (method, path below the store)."""
    before = len(bucket.proxy.seen)
    call()
    root = f"/{bucket.name}/folder/test.store/"
    return [(method, path.removeprefix(root)) for method, path in bucket.proxy.seen[before:]]


def mirrored(cache: Path, pattern: str) -> list[Path]:
    return [path for path in cache.rglob(pattern) if path.is_file()]


def jobs(store: Store, anchors: Path) -> None:
    store.ingest({id_: POOL[id_] for id_ in ("c0", "c1", "c2")}, ["fake-a"])
    store.select_anchors(file=anchors)
    store.project(recipe="cosine")
    store.delete(["c2"])
    store.ingest({id_: POOL[id_] for id_ in ("c0", "c3", "c4")}, ["fake-a"])
    store.project(recipe="cosine")


def test_the_same_jobs_give_the_same_as_on_a_disk(fakes, bucket, tmp_path):
    remote, disk = opened(bucket), Store.open(tmp_path / "disk.store")
    anchors = tmp_path / "anchors.csv"
    anchors.write_text("structure_id,site_index\nc0,0\nc1,0\n")
    for store in (remote, disk):
        jobs(store, anchors)
    assert remote.doctor(deep=True)["problems"] == []
    expected = content(disk)
    assert content(remote) == expected
    assert content(opened(bucket)) == expected
    assert remote.similar("c1")["distance"].equals(disk.similar("c1")["distance"])
    environment = {**os.environ, **bucket.environment, "PLATONIC_STORE_CACHE": str(tmp_path / "b")}
    program = READ.format(path=[path for path in sys.path if path])
    command = [sys.executable, "-c", program, bucket.uri]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{sorted(len(rows) for rows in expected.values())}\n"


def test_scores_are_the_same_as_on_a_disk(fakes, bucket, tmp_path):
    pool = crystals(50)
    remote, disk = opened(bucket), Store.open(tmp_path / "disk.store")
    frames = []
    for store in (remote, disk):
        store.ingest(pool, ["fake-a"])
        store.score()
        frames.append(store.sql("SELECT * EXCLUDE (reference) FROM atom_typicality ORDER BY ALL"))
    assert len(frames[0])
    pd.testing.assert_frame_equal(*frames)


def test_earlier_snapshots_and_pins(filled, bucket):
    before = filled.snapshot().id
    filled.pin(before, "for the paper")
    filled.delete(["c0"])
    listed = opened(bucket).snapshots().set_index("snapshot")
    assert listed.index[0] > before
    assert listed.loc[before, "pinned"] == "for the paper"
    assert listed["structures"].loc[[listed.index[0], before]].tolist() == [4, 5]
    earlier = opened(bucket, at=before)
    assert len(earlier.sql("FROM structure")) == 5
    with pytest.raises(StoreNotWritable, match=f"at snapshot {before}, which never changes"):
        earlier.delete(["c1"])
    with pytest.raises(StoreNotWritable, match="read-only"):
        opened(bucket, read_only=True).unpin(before)
    with pytest.raises(SnapshotNotFound):
        opened(bucket, at=999)
    filled.unpin(before)
    assert not filled.snapshots()["pinned"].any()


def test_what_is_in_the_cache_is_not_read_again(filled, bucket):
    cold = requests(bucket, lambda: filled.similar("c1"))
    assert any(path.startswith("vectors/") for _, path in cold)
    assert [method for method, _ in requests(bucket, lambda: filled.similar("c1"))] == ["HEAD"]
    again = requests(bucket, lambda: opened(bucket).similar("c1"))
    assert len(again) <= 3
    assert all(path.startswith("manifests/") for _, path in again)


def test_only_what_is_new_is_read(filled, bucket):
    filled.similar("c1")
    opened(bucket).ingest({"new": crystals(1, seed=3)["c0"]}, ["fake-a"])
    found = requests(bucket, lambda: filled.similar("new"))
    data = [path for _, path in found if "/data/" in path]
    assert len(data) <= 1, "of structures, what was appended"
    assert len(filled.similar("new")) == 5


@pytest.mark.parametrize("pattern", ["*.duckdb", "*.manifest"])
def test_a_damaged_file_in_the_cache_is_read_anew(filled, bucket, cache, pattern):
    expected = content(filled)
    for path in mirrored(cache, pattern):
        damage(path)
    assert content(opened(bucket)) == expected


@pytest.mark.parametrize("pattern", ["*.duckdb", "*.manifest", "*.parquet", "*.lance"])
def test_a_truncated_or_lost_file_in_the_cache_is_read_anew(filled, bucket, cache, pattern):
    expected = content(filled)
    shortened, *lost = mirrored(cache, pattern)
    shortened.write_bytes(shortened.read_bytes()[:-1])
    for path in lost:
        path.unlink()
    assert content(opened(bucket)) == expected


@pytest.mark.parametrize("folder", ["catalog", "rows", "vectors"])
def test_a_damaged_file_in_the_store_is_noticed(filled, bucket, cache, tmp_path, folder):
    location = filled.location
    for entry in location.names(f"{folder}/"):
        location.download(entry.key, tmp_path / "file")
        damage(tmp_path / "file")
        location.upload(entry.key, tmp_path / "file")
    with pytest.raises(StoreDamaged, match=f"^{folder}/.* is not what its manifest says"):
        content(filled)
    location.delete(entry.key for entry in location.names(f"{folder}/"))
    with pytest.raises(StoreDamaged, match=f"^{folder}/.* is not what its manifest says"):
        content(opened(bucket))
    assert not mirrored(cache, f"stores/*/{folder}/**/*")


def damage(path: Path) -> None:
    """Flip one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_tables_that_the_cache_may_not_hold_are_read_where_they_are(
    filled, bucket, cache, monkeypatch
):
    monkeypatch.setenv("PLATONIC_STORE_CACHE_GB", "1e-6")
    assert len(filled.similar("c1")) == 4
    assert mirrored(cache, "*.duckdb")
    assert not mirrored(cache, "*.lance")


def test_what_was_not_used_for_longest_makes_room(filled, bucket, cache, monkeypatch):
    filled.similar("c1")
    (table,) = mirrored(cache, "*.lance")
    used = mirrored(cache, "*.duckdb") + mirrored(cache, "*.parquet")
    monkeypatch.setenv("PLATONIC_STORE_CACHE_GB", "1e-6")
    opened(bucket).ingest({"new": crystals(1, seed=3)["c0"]})
    filled.sql("FROM structure")
    assert table.exists(), "it was used a moment ago"
    for path in [table, *used]:
        os.utime(path, (time.time() - 4000,) * 2)
    # Of this module alone: the loops of services in other threads wait by the true clock.
    late = SimpleNamespace(monotonic=lambda: 1e9, time=time.time)
    monkeypatch.setattr(files, "time", late)
    filled.snapshot()
    opened(bucket).ingest({"newer": crystals(1, seed=4)["c0"]})
    filled.sql("FROM structure")
    assert not table.exists()


def test_copies_that_went_different_ways_do_not_share_vectors(filled, bucket, tmp_path):
    filled.copy(tmp_path / "copy.store")
    copy = Store.open(tmp_path / "copy.store")
    other = crystals(1, seed=9)["c0"]
    filled.ingest({"new": POOL["c1"]}, ["fake-a"])
    copy.ingest({"new": other}, ["fake-a"])
    key = None, "fake-a", 1, "structure"
    first, second = content(filled)[key], content(copy)[key]
    assert first[("new",)] == first[("c1",)]
    assert second[("new",)] != second[("c1",)]


@pytest.mark.parametrize("text", ["abc", "-3", "nan"])
def test_a_limit_that_is_no_size_is_refused(text):
    with pytest.raises(InvalidQuery, match="not a number"):
        files.limit_bytes({"PLATONIC_STORE_CACHE_GB": text})
