"""Vectors in half precision: asked for once, answered as ever, and no number is lost unnoticed."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from store_fakes import crystals

from platonic_store.arrow import vector_array, vector_matrix
from platonic_store.errors import InvalidQuery
from platonic_store.geometry.projection import fit
from platonic_store.geometry.projection import project as projected
from platonic_store.jobs import coordinates
from platonic_store.questions.shared import distinct_rows
from platonic_store.storage import commits
from platonic_store.storage.layout import Points, schema
from platonic_store.store import Store

POOL = crystals(40)


@pytest.fixture
def both(store, tmp_path):
    """The same structures in single and in half precision."""
    half = Store.open(tmp_path / "half.store")
    store.ingest(POOL, ["fake-a"])
    half.ingest(POOL, ["fake-a"], store_dtype="float16")
    return store, half


def test_half_precision_is_stored_and_answers_alike(both):
    single, half = both
    tables = [one.snapshot().tables for one in both]
    sizes = []
    for store, some in zip(both, tables, strict=True):
        files = (store.snapshot().manifest.vectors[one.name].files for one in some)
        sizes.append(sum(file.size for one in files for file in one))
    assert sizes[1] < sizes[0]
    for one, other in zip(*tables, strict=True):
        exact, rounded = (
            store.snapshot().points(table).vectors
            for store, table in ((single, one), (half, other))
        )
        assert rounded.dtype == np.float32
        np.testing.assert_array_equal(rounded, exact.astype(np.float16).astype(np.float32))
    for id_ in list(POOL)[:5]:
        exact, rounded = (store.similar(id_, k=3) for store in both)
        np.testing.assert_allclose(rounded["distance"], exact["distance"], atol=1e-3)
    more = crystals(45)
    half.ingest(more, ["fake-a"])  # goes on as it began
    assert len(half.similar(list(more)[-1], k=3)) == 3


def test_neighbours_of_a_large_table_are_found_without_single_precision(both, monkeypatch):
    _, half = both
    found = half.neighbours(level="atom", k=3)
    monkeypatch.setattr(distinct_rows, "WHOLE_BYTES", 0)  # all are large
    snapshot = half.snapshot()
    (table,) = (one for one in snapshot.tables if one.level == "atom")
    assert distinct_rows.distinct_rows(snapshot, table).vectors.dtype == np.float16
    pd.testing.assert_frame_equal(half.neighbours(level="atom", k=3), found)


def test_a_precision_never_changes(both):
    for store, other in zip(both, ("float16", "float32"), strict=True):
        with pytest.raises(InvalidQuery, match="stored in"):
            store.ingest(crystals(45), ["fake-a"], store_dtype=other)
    with pytest.raises(InvalidQuery, match="no precision"):
        both[0].ingest(POOL, ["fake-a"], store_dtype="float8")


def test_what_half_precision_cannot_hold_is_refused(both):
    with both[1]._writing("test") as writer:
        name = next(name for name in writer.vector_tables if name.endswith("structure"))
        dim = writer.schema_of(name).field("vector").type.list_size
        row = pa.table({"structure_id": ["x"], "vector": vector_array(np.full((1, dim), 7e4))})
        with pytest.raises(InvalidQuery, match="beyond float16"):
            commits.commit_chunk(writer, 0, ["x"], [commits.TableAppend(name, row)])


@pytest.mark.parametrize("kept", [slice(None), slice(1, None)], ids=["whole", "in part"])
def test_equivalent_atoms_with_the_same_vector_are_projected_once(kept, monkeypatch):
    """And have the coordinates that they have by themselves, whatever shares their part."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(9, 4)).astype(np.float32)
    orbit = np.array([0, 0, 2, 2, 0, 1, 1, 1, 3])
    vectors[[1, 6]] = vectors[[0, 5]]  # the third and the eighth differ from what they are like
    keys = {
        "structure_id": pa.array(["a"] * 4 + ["b"] * 5),
        "site_index": pa.array([0, 1, 2, 3, 0, 1, 2, 3, 4], pa.int32()),
        "atomic_number": pa.array([6] * 9, pa.int16()),
        "orbit": pa.array(orbit, pa.int32()),
    }
    order = rng.permutation(9)[kept]
    points = Points(pa.table(keys).take(order), vectors[order])
    fitted = fit("cosine", rng.normal(size=(3, 4)))
    seen: list[int] = []

    def counted(fitted, rows):
        seen.append(len(rows))
        return projected(fitted, rows)

    monkeypatch.setattr(coordinates, "project", counted)
    levels = ("atom", "structure")
    given = coordinates.Given(fitted, None, {level: schema(level, 3) for level in levels})
    made = [coordinates.project_part(given, part) for part in coordinates.parts_of(7, points)]
    atoms, structures = (pa.Table.from_batches([one[level] for one in made]) for level in levels)
    place = np.lexsort((points.column("site_index"), points.column("structure_id")))
    np.testing.assert_array_equal(
        vector_matrix(atoms["vector"]), projected(fitted, points.vectors[place])
    )
    assert structures["structure_id"].to_pylist() == ["a", "b"]
    if kept == slice(None):
        assert seen == [7]
    monkeypatch.setattr(coordinates, "AT_ONCE", 1)
    apart = [coordinates.project_part(given, part) for part in coordinates.parts_of(7, points)]
    assert [one["structure"].num_rows for one in apart] == [1, 1]
    for level, whole in zip(levels, (atoms, structures), strict=True):
        assert pa.Table.from_batches([one[level] for one in apart]).equals(whole)
