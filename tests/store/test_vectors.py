"""The Lance tables: versions, deletion, and an index that finds what brute force finds."""

from datetime import timedelta
from pathlib import Path

import duckdb
import duckdb_extension_lance
import numpy as np
import pyarrow as pa
import pytest

from platonic_store.arrow import vector_array
from platonic_store.storage import vectors as module
from platonic_store.storage.sqltext import literals
from platonic_store.storage.vectors import NPROBES, REFINE, Vectors, schema

DIM = 32
# With partitions of a fourth of their size, so many that not all of them are probed.
PARTITION_ROWS = module.PARTITION_ROWS // 4
ROWS = 100_000
TAIL = 10_000
QUERIES = 30
NAME = "synthetic.0.atom"


def rows(vectors: np.ndarray, chunk: int, start: int = 0) -> pa.Table:
    """Atoms with these vectors, two sites a structure; every other site stands for two."""
    site = np.arange(start, start + len(vectors))
    columns = {
        "structure_id": [f"s{i}" for i in site // 2],
        "site_index": site % 2,
        "atomic_number": np.full(len(site), 6),
        "orbit": np.where(site // 2 % 2, site % 2, 0),
        "chunk_id": np.full(len(site), chunk),
        "vector": vector_array(vectors),
    }
    return pa.table(columns).cast(schema("atom", vectors.shape[1]))


@pytest.fixture
def tables(tmp_path) -> Vectors:
    (tmp_path / "vectors").mkdir()
    return Vectors(tmp_path / "vectors")


def test_a_reader_sees_its_version_and_no_other(tables):
    rng = np.random.default_rng(0)
    tables.create("t", "atom", 4)
    first = tables.append("t", rows(rng.normal(size=(6, 4)), 1))
    second = tables.append("t", rows(rng.normal(size=(4, 4)), 2, start=6))
    assert tables.rows_by_chunk("t", first) == {1: 6}
    assert tables.rows_by_chunk("t", second) == tables.rows_by_chunk("t") == {1: 6, 2: 4}
    third = tables.delete("t", "structure_id = 's0'")
    assert tables.rows_by_chunk("t", third) == {1: 4, 2: 4}
    assert len(tables.points("t", second, "atom").vectors) == 10
    assert len(tables.points("t", first, "atom", "site_index = 1").vectors) == 3
    empty = tables.delete("t", "true")
    assert tables.points("t", empty, "atom").vectors.shape == (0, 4)
    assert len(tables.points("t", first, "atom").vectors) == 6
    assert tables.latest("t") == empty


def test_the_cache_is_bounded(tables, monkeypatch):
    monkeypatch.setattr(module, "CACHE_BYTES", 3000)
    tables.create("t", "atom", 4)
    for chunk in range(40):
        version = tables.append("t", rows(np.ones((10, 4)), chunk, start=10 * chunk))
        assert len(tables.points("t", version, "atom").vectors) == 10 * (chunk + 1)
        assert sum(points.vectors.nbytes for points in tables._cache.values()) <= 3000


def test_a_table_beyond_the_cache_is_neither_kept_nor_drives_out_others(tables, monkeypatch):
    monkeypatch.setattr(module, "CACHE_BYTES", 1000)
    versions = {}
    for name, count in (("small", 10), ("large", 100)):
        tables.create(name, "atom", 4)
        versions[name] = tables.append(name, rows(np.ones((count, 4)), 1))
    small = tables.points("small", versions["small"], "atom")
    assert not tables.fits_cache(100 * 4 * 4)
    assert len(tables.points("large", versions["large"], "atom").vectors) == 100
    assert tables.points("small", versions["small"], "atom") is small
    assert list(tables._cache) == [("small", versions["small"])]


@pytest.mark.parametrize("level", ["atom", "structure"])
def test_lance_filters_and_reads_no_table_whole(tables, monkeypatch, level):
    monkeypatch.setattr(module, "CACHE_BYTES", 1000)
    monkeypatch.setattr(tables, "points", lambda *_: pytest.fail("read whole"))
    data = np.random.default_rng(0).normal(size=(500, DIM)).astype(np.float32)
    table = rows(data, 1)
    if level == "structure":
        table = table.select(["structure_id", "chunk_id", "vector"])
    tables.create("t", level, DIM)
    version = tables.append("t", table)
    site = np.arange(500)
    speaks = (site // 2 % 2 == 1) | (site % 2 == 0) if level == "atom" else site >= 0
    for wanted in ({3, 4, 9}, set(range(0, 250, 7))):
        condition = f"structure_id IN ({literals(f's{i}' for i in wanted)})"
        may = np.isin(site // 2, list(wanted)) & speaks
        hits = tables.nearest_indexed("t", version, data[0], 10, level, condition).to_pandas()
        expected = np.sort(1 - (unit(data[may]) @ unit(data[:1]).T)[:, 0])[:10]
        assert np.allclose(hits["_distance"], expected, atol=1e-5)
    either = "structure_id = 's1' OR structure_id = 's2'"
    hits = tables.nearest_indexed("t", version, data[0], 10, level, either).to_pandas()
    assert set(hits["structure_id"]) == {"s1", "s2"}
    assert level == "structure" or (hits["site_index"] == hits["orbit"]).all()


def test_versions_are_kept_until_no_reader_can_be_on_them(tables, monkeypatch):
    tables.create("t", "atom", 4)
    for chunk in range(5):
        version = tables.append("t", rows(np.ones((10, 4)), chunk, start=10 * chunk))
    # However long ago it was written: it was the newest version until now.
    monkeypatch.setattr(module, "_MARGIN", timedelta())
    compacted = tables.maintain("t")
    assert compacted > version
    assert tables.rows_by_chunk("t", version) == tables.rows_by_chunk("t", compacted)
    tables.forget_old_versions("t")
    assert tables.rows_by_chunk("t", version), "not the newest for a moment only"
    monkeypatch.setattr(module, "KEEP_VERSIONS", timedelta())
    tables.forget_old_versions("t")
    assert sum(tables.rows_by_chunk("t", compacted).values()) == 50
    with pytest.raises((OSError, ValueError, RuntimeError)):
        tables.rows_by_chunk("t", version)


@pytest.fixture(scope="module")
def synthetic() -> tuple[np.ndarray, np.ndarray]:
    """Vectors around 2,000 centres, as atoms gather around environments, and queries near some."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(2000, DIM))
    near = centres[rng.integers(2000, size=ROWS + TAIL)]
    data = (near + 0.5 * rng.normal(size=near.shape)).astype(np.float32)
    chosen = rng.choice(len(data), QUERIES, replace=False)
    queries = data[chosen] + 0.1 * rng.normal(size=(QUERIES, DIM))
    return data, queries.astype(np.float32)


@pytest.fixture(scope="module")
def indexed(synthetic, tmp_path_factory) -> Vectors:
    """One table with an index; a tenth came after the index was first made."""
    data, _ = synthetic
    folder = tmp_path_factory.mktemp("indexed")
    tables = Vectors(folder)
    tables.create(NAME, "atom", DIM)
    tables.append(NAME, rows(data[:ROWS], 1))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "PARTITION_ROWS", PARTITION_ROWS)
        tables.maintain(NAME)
    tables.append(NAME, rows(data[ROWS:], 2, start=ROWS))
    return tables


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def exact(data: np.ndarray, queries: np.ndarray, among: np.ndarray) -> np.ndarray:
    similarity = unit(queries) @ unit(data).T
    similarity[:, ~among] = -np.inf
    return np.argpartition(-similarity, 10, axis=1)[:, :10]


def recall(found: list[list[int]], expected: np.ndarray) -> float:
    hits = [len(set(f) & set(e)) for f, e in zip(found, expected.tolist(), strict=True)]
    return sum(hits) / expected.size


def test_recall_of_the_index_through_python(indexed, synthetic):
    """Atoms that stand for others alone: site_index = orbit, before the nearest are chosen."""
    data, queries = synthetic
    site = np.arange(len(data))
    speaks = (site // 2 % 2 == 1) | (site % 2 == 0)
    expected = exact(data, queries, speaks)
    for state in ("with a tail that is not indexed", "after maintenance"):
        version = indexed.latest(NAME)
        found = []
        for query in queries:
            hits = indexed.nearest_indexed(NAME, version, query, 10, "atom").to_pandas()
            assert len(hits) == 10
            numbers = 2 * hits["structure_id"].str[1:].astype(int) + hits["site_index"]
            found.append(numbers.tolist())
            distances = 1 - (unit(data[numbers]) @ unit(query[None]).T)[:, 0]
            assert np.allclose(hits["_distance"], distances, atol=1e-5)
        reached = recall(found, expected)
        print(f"recall@10 through Python, {state}: {reached:.4f}")
        assert reached >= 0.99, state
        indexed.maintain(NAME)
    # A condition that few rows meet: they may all be in partitions that are far.
    some = np.random.default_rng(2).choice(len(data) // 2, 200, replace=False)
    among = speaks & np.isin(np.arange(len(data)) // 2, some)
    condition = f"structure_id IN ({literals(f's{i}' for i in some)})"
    found = []
    for query in queries:
        hits = indexed.nearest_indexed(NAME, version, query, 10, "atom", condition).to_pandas()
        found.append((2 * hits["structure_id"].str[1:].astype(int) + hits["site_index"]).tolist())
    assert all(len(one) == 10 for one in found)
    reached = recall(found, exact(data, queries, among))
    print(f"recall@10 among {among.sum()} atoms: {reached:.4f}")
    assert reached >= 0.99
    table = indexed._open(NAME)
    (index,) = table.describe_indices()
    assert index.num_rows_indexed == table.count_rows()


def test_recall_of_the_index_through_duckdb(indexed, synthetic):
    data, queries = synthetic
    expected = exact(data, queries, np.ones(len(data), dtype=bool))
    extension = next(Path(duckdb_extension_lance.__file__).parent.rglob("*.duckdb_extension"))
    with duckdb.connect() as connection:
        connection.load_extension(str(extension))
        connection.execute(f"ATTACH '{indexed.folder}' AS vectors (TYPE lance)")
        found = [
            connection.execute(
                "SELECT 2 * structure_id[2:]::INT + site_index "
                f"FROM lance_vector_search('vectors.main.\"{NAME}\"', 'vector', ?::FLOAT[{DIM}], "
                f"k := 10, nprobs := {NPROBES}, refine_factor := {REFINE}) ORDER BY _distance",
                [query.tolist()],
            ).fetchall()
            for query in queries
        ]
    reached = recall([[number for (number,) in hits] for hits in found], expected)
    print(f"recall@10 through the DuckDB extension: {reached:.4f}")
    assert reached >= 0.99
