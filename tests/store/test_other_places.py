"""A store that is asked where it is: published by http, by the command line, the plain client."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from s3 import KEY, SECRET
from store_fakes import content, crystals

from platonic_store.arrow import vector_array
from platonic_store.errors import SnapshotNotFound, StoreNotFound, StoreNotWritable
from platonic_store.storage import bulk, lance_tables, vector_index
from platonic_store.storage.layout import schema
from platonic_store.storage.locate import locate
from platonic_store.store import Store

POOL = crystals(50)
COMMAND = [sys.executable, "-c", "from platonic_store.cli import main; main()"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLATONIC_STORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def filled(store, monkeypatch) -> Store:
    """With four structures, and one that is deleted, in the same files."""
    monkeypatch.setattr(bulk, "MOST_DELETED", 0.5)
    store.ingest({id_: POOL[id_] for id_ in list(POOL)[:5]})
    store.ingest(models=["fake-a"])
    store.delete(["c4"])
    assert store.snapshot().row_files[bulk.DELETED]
    return store


@pytest.fixture
def published(filled, web) -> str:
    """The URL of a copy on a web server."""
    folder, proxy = web
    filled.copy(folder / "copy.store")
    return f"{proxy.url}/copy.store"


def test_a_published_store_answers_by_http(store, web):
    store.ingest(POOL, ["fake-a"])
    store.score()
    folder, proxy = web
    store.copy(folder / "copy.store")
    there = Store.open(f"{proxy.url}/copy.store")
    assert there.similar("c1").equals(store.similar("c1"))
    assert there.typicality("c1").equals(store.typicality("c1"))
    scores = "SELECT structure_id, p FROM typicality ORDER BY ALL"
    assert there.sql(scores).equals(store.sql(scores))
    assert content(there) == content(store)
    before = len(proxy.seen)
    there.similar("c2")
    assert [method for method, _ in proxy.seen[before:]] == ["HEAD"]


def test_a_published_store_is_read_only(published):
    there = Store.open(published)
    for job in (
        lambda: there.ingest(POOL, ["fake-a"]),
        lambda: there.delete(["c0"]),
        there.score,
        there.doctor,
        lambda: there.pin(1),
        lambda: there.unpin(1),
    ):
        with pytest.raises(StoreNotWritable, match="is a web server, which can only be read") as no:
            job()
        assert "\n" not in str(no.value)
    assert len(there.sql("FROM structure")) == 4


def test_snapshots_that_follow_each_other_are_found_by_http(filled, web):
    folder, proxy = web
    shutil.copytree(filled.path, folder / "copy.store")
    there = Store.open(f"{proxy.url}/copy.store")
    listed = filled.snapshots()
    assert there.snapshots().drop(columns="pinned").equals(listed.drop(columns="pinned"))
    first = Store.open(f"{proxy.url}/copy.store", at=int(listed["snapshot"].iloc[-1]))
    assert len(first.sql("FROM structure")) == 5, "before one was deleted"
    assert first.sql("FROM model").empty
    with pytest.raises(SnapshotNotFound):
        Store.open(f"{proxy.url}/copy.store", at=999)
    with pytest.raises(StoreNotFound):
        Store.open(f"{proxy.url}/nothing.store").sql("FROM structure")


def command(*words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *words], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_the_command_asks_by_http(published):
    done = command("similar", "c1", "--store", published, "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    done = command("delete", "c1", "--store", published)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "can only be read" in done.stderr


def test_the_command_asks_an_object_store(filled, bucket):
    filled.copy(bucket.uri, storage_options=bucket.options)
    query = "SELECT count(*) AS n FROM site"
    words = ["sql", query, "--store", bucket.uri, "--format", "csv"]
    done = command(*words, **bucket.environment)
    assert done.stdout == f"n\n{len(filled.sql('FROM site'))}\n", done.stderr
    done = command(*words, **bucket.environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert SECRET not in done.stderr


def test_an_index_is_made_on_an_object_store(bucket, monkeypatch):
    """The lists of its rows are kept on this machine meanwhile."""
    monkeypatch.setattr(vector_index, "INDEX_FROM_ROWS", 1_000)
    location = locate(bucket.uri, bucket.options)
    uri, options = location.lance_uri("t"), location.lance_options
    data = np.random.default_rng(0).normal(size=(1_000, 8)).astype(np.float32)
    columns = {
        "structure_id": [f"s{i}" for i in range(len(data))],
        "chunk_id": np.ones(len(data), dtype=np.int64),
        "vector": vector_array(data),
    }
    rows = pa.table(columns).cast(schema("structure", 8, half=True))
    version = lance_tables.create(uri, rows.schema, options)
    written = lance_tables.write_fragments(uri, rows, options)
    version = lance_tables.commit(uri, version, written, [], options).version
    found = lance_tables.maintain(uri, version, options)
    assert vector_index.measured(found).recall >= 0.99
    assert all(index.num_rows_indexed == len(data) for index in found.describe_indices())


def client(script: Path, **environment: str) -> subprocess.Popen:
    """The real DuckDB client, which has run a script."""
    beside = shutil.which("duckdb", path=Path(sys.executable).parent)
    program = beside or shutil.which("duckdb")
    if program is None:
        pytest.skip("no duckdb client: pip install duckdb-cli==1.5.5")
    return subprocess.Popen(
        [program, "-unsigned", "-init", str(script), "-csv", "-noheader"],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen, query: str) -> list[str]:
    """What the client prints of a query, after which it ends."""
    with process:
        out, err = process.communicate(query, timeout=60)
    assert process.returncode == 0, err
    return out.split()


def test_the_plain_client_stays_attached_while_a_store_is_written(filled, tmp_path):
    (tmp_path / "init.sql").write_text(filled.init_sql())
    query = "SELECT count(*) FROM structure;\nFROM (SELECT count(*) FROM site);\n"
    sites = len(filled.sql("FROM site"))
    with client(tmp_path / "init.sql") as process:
        process.stdin.write(query)
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(2)] == ["4\n", f"{sites}\n"]
        filled.ingest(dict(list(POOL.items())[:6]), ["fake-a"])
        filled.delete(["c0"])
        assert said(process, query) == ["4", str(sites)]


def test_the_plain_client_reads_an_object_store(filled, bucket, tmp_path):
    filled.copy(bucket.uri, storage_options=bucket.options)
    there = Store.open(bucket.uri, storage_options=bucket.options)
    script = there.init_sql()
    assert str(tmp_path) not in script
    assert not any(value in script for value in (KEY, SECRET))
    (tmp_path / "init.sql").write_text(script)
    query = (
        "SELECT count(*) FROM site; SELECT structure_id FROM similar_structures('c1') ORDER BY rank"
    )
    expected = filled.similar("c1")["structure_id"].tolist()
    process = client(tmp_path / "init.sql", **bucket.environment)
    assert said(process, query) == [str(len(filled.sql("FROM site"))), *expected]


def test_the_plain_client_reads_a_published_store(published, filled, tmp_path):
    script = Store.open(published).init_sql()
    assert str(tmp_path) not in script
    (tmp_path / "init.sql").write_text(script)
    query = (
        "SELECT count(*) FROM site; SELECT name FROM model; SELECT count(*) FROM typicality('c1')"
    )
    process = client(tmp_path / "init.sql")
    assert said(process, query) == [str(len(filled.sql("FROM site"))), "fake-a", "0"]
