"""Copies of a store: between a disk and an object store, resumed, brought up to date, verified."""

import shutil

import pytest
from store_fakes import content, crystals

from platonic_store.errors import StoreDamaged, StoreNotFound, StoreNotWritable, StoreUnreachable
from platonic_store.store import Store

POOL = crystals(4)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLATONIC_STORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def filled(store) -> Store:
    store.ingest(POOL, ["fake-a"])
    return store


def copied(store: Store, bucket) -> int:
    return store.copy(bucket.uri, storage_options=bucket.options)


def opened(bucket) -> Store:
    return Store.open(bucket.uri, storage_options=bucket.options)


def test_to_an_object_store_and_back(filled, bucket, tmp_path):
    expected = content(filled)
    sent = copied(filled, bucket)
    assert sent == len(filled.snapshot().manifest.files())
    there = opened(bucket)
    assert content(there) == expected
    assert there.snapshot().id == filled.snapshot().id
    there.copy(tmp_path / "back.store")
    back = Store.open(tmp_path / "back.store")
    assert content(back) == expected
    for store in (there, back):
        store.ingest({"new": crystals(1, seed=3)["c0"]}, ["fake-a"])
        assert store.doctor(deep=True)["problems"] == []
    assert content(there) == content(back) != expected


def test_a_copy_is_brought_up_to_date_by_what_is_new(filled, bucket):
    first = copied(filled, bucket)
    assert copied(filled, bucket) == 0
    filled.ingest({"new": crystals(1, seed=3)["c0"]})
    assert 0 < copied(filled, bucket) < first
    assert content(opened(bucket)) == content(filled)
    assert len(opened(bucket).sql("FROM structure")) == 5
    filled.delete(["new"])
    copied(filled, bucket)
    assert opened(bucket).doctor(deep=True)["problems"] == []


def test_a_copy_that_is_cut_off_is_no_store_and_resumes(filled, bucket):
    bucket.proxy.answer(403, "PUT", "/data/", times=100)
    with pytest.raises(StoreUnreachable):
        copied(filled, bucket)
    with pytest.raises(StoreNotFound):
        opened(bucket).snapshot()
    bucket.proxy.forget()
    assert copied(filled, bucket) < len(filled.snapshot().manifest.files())
    assert content(opened(bucket)) == content(filled)


@pytest.mark.parametrize("pattern", ["catalog/*.duckdb", "rows/*/*.parquet", "vectors/*/data/*"])
def test_a_flipped_byte_is_not_copied(filled, tmp_path, pattern):
    named = {file.path for file in filled.snapshot().manifest.files()}
    (damaged, *_) = [
        path
        for path in filled.path.glob(pattern)
        if path.relative_to(filled.path).as_posix() in named
    ]
    data = bytearray(damaged.read_bytes())
    data[-10] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(StoreDamaged, match=damaged.name):
        filled.copy(tmp_path / "copy.store")
    with pytest.raises(StoreNotFound):
        Store.open(tmp_path / "copy.store").snapshot()


def test_a_flipped_byte_in_an_object_store_is_not_copied(filled, bucket, tmp_path):
    copied(filled, bucket)
    location = opened(bucket).location
    (entry, *_) = [entry for entry in location.names("vectors/") if "/data/" in entry.key]
    data = bytearray(location.read(entry.key))
    data[-10] ^= 1
    location.write(entry.key, bytes(data))
    with pytest.raises(StoreDamaged, match="is not what its manifest says"):
        opened(bucket).copy(tmp_path / "copy.store")


def test_it_overwrites_no_other_store_and_no_other_history(filled, tmp_path):
    other = Store.open(tmp_path / "other.store")
    other.ingest(crystals(2, seed=5))
    with pytest.raises(StoreNotWritable, match="holds another store"):
        filled.copy(other.path)
    assert len(other.sql("FROM structure")) == 2
    with pytest.raises(StoreNotWritable, match="is what is to be copied"):
        filled.copy(filled.path / ".." / filled.path.name)
    filled.copy(tmp_path / "copy.store")
    copy = Store.open(tmp_path / "copy.store")
    copy.delete(["c0"])
    for _ in range(3):
        filled.ingest({"new": crystals(1, seed=3)["c0"]})
        with pytest.raises(StoreNotWritable, match="which was not copied from before"):
            filled.copy(copy.path)
        filled.delete(["new"])
    assert len(copy.sql("FROM structure")) == 3
    (tmp_path / "things").mkdir()
    shutil.copy(__file__, tmp_path / "things")
    with pytest.raises(StoreNotFound, match="a folder of other things"):
        filled.copy(tmp_path / "things")


def test_an_earlier_snapshot_is_copied(filled, tmp_path):
    before = filled.snapshot().id
    filled.delete(["c0"])
    Store.open(filled.path, at=before).copy(tmp_path / "copy.store")
    copy = Store.open(tmp_path / "copy.store")
    assert len(copy.sql("FROM structure")) == 4
    assert copy.snapshot().id == before
    filled.copy(copy.path)
    assert content(copy) == content(filled)
