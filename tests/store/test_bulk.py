from itertools import pairwise

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platonic_store.storage import bulk

IDS = st.text("abc-'é", min_size=1, max_size=4)
REFERENCES = st.sampled_from(["r1", "r2"])
FLOATS = st.floats(-9, 9)


def crystals(ids):
    return pa.Table.from_pylist(
        [
            {
                "structure_id": id_,
                "numbers": [n % 90 + 1 for n in range(len(id_))],
                "positions": [n / 7 for n in range(3 * len(id_))],
                "cell": [4.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 4.0],
                "pbc": [True, True, False],
                "orbits": [0] * len(id_),
            }
            for id_ in ids
        ],
        bulk.SCHEMAS["crystals"],
    )


@st.composite
def scores(draw):
    keys = draw(
        st.lists(
            st.tuples(IDS, REFERENCES, st.integers(0, 3)), min_size=1, max_size=30, unique=True
        )
    )
    rows = [
        {
            "structure_id": id_,
            "reference": reference,
            "site_index": site,
            "atomic_number": 8,
            **dict.fromkeys(("atypicality", "p", "distance", "density", "residual"), draw(FLOATS)),
            "nearest_id": id_,
            "nearest_site": site,
            "nearest_distance": 0.5,
            "neighbours": draw(st.none() | st.lists(st.integers(0, 2**40), max_size=3)),
        }
        for id_, reference, site in keys
    ]
    return pa.Table.from_pylist(rows, bulk.SCHEMAS["atom_scores"])


def rows_of(table, paths):
    with duckdb.connect() as connection:
        connection.execute(bulk.view(table, [str(path) for path in paths]))
        keys = ", ".join(bulk.KEYS[table])
        found = connection.execute(f"FROM {table} ORDER BY {keys}").to_arrow_table()
    return found.cast(bulk.SCHEMAS[table]).to_pylist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files are named by their content, so all examples may share a folder."""
    return tmp_path_factory.mktemp("rows")


@settings(max_examples=15)
@given(rows=scores(), data=st.data())
def test_a_table_is_its_rows_however_they_were_written_merged_and_deleted(folder, rows, data):
    places = data.draw(
        st.lists(st.integers(0, 4), min_size=rows.num_rows, max_size=rows.num_rows), "file of row"
    )
    paths = [
        bulk.write(
            rows.filter(pa.array([place == part for place in places])), "atom_scores", folder
        )
        for part in sorted(set(places))
    ]
    gone = data.draw(st.sampled_from(rows["structure_id"].to_pylist()), "deleted")
    condition = f"structure_id = '{gone.replace(chr(39), chr(39) * 2)}'"
    for step in data.draw(st.permutations(["merge", "delete"]), "order"):
        if step == "delete":
            left = [bulk.without(path, "atom_scores", condition, folder) for path in paths]
            paths = [path for path in left if path is not None]
        elif len(paths) > 1:
            paths = [bulk.merge(paths[:2], "atom_scores", folder), *paths[2:]]

    kept = [row for row in rows.to_pylist() if row["structure_id"] != gone]
    key = [tuple(row[name] for name in bulk.KEYS["atom_scores"]) for row in kept]
    assert rows_of("atom_scores", paths) == [row for _, row in sorted(zip(key, kept, strict=True))]


@given(ids=st.lists(IDS, min_size=2, max_size=20, unique=True), data=st.data())
def test_the_same_rows_are_the_same_file(folder, ids, data):
    written = bulk.write(crystals(ids), "crystals", folder)
    shuffled = data.draw(st.permutations(ids))
    chunked = pa.concat_tables([crystals(shuffled[:1]), crystals(shuffled[1:])])
    halves = [
        bulk.write(crystals(part), "crystals", folder) for part in (shuffled[::2], shuffled[1::2])
    ]
    assert bulk.write(chunked, "crystals", folder) == written
    assert bulk.merge(halves, "crystals", folder) == written


def test_the_same_rows_are_the_same_file_across_row_groups(tmp_path):
    ids = [f"{n:x}" for n in range(10_000)]
    written = bulk.write(crystals(ids), "crystals", tmp_path)
    parts = [bulk.write(crystals(ids[n::3]), "crystals", tmp_path) for n in range(3)]
    assert bulk.merge(parts, "crystals", tmp_path) == written
    assert pa.parquet.read_metadata(written).num_row_groups == 5


def test_a_file_is_named_by_its_sha256_and_nothing_else_is_left(tmp_path):
    import hashlib

    path = bulk.write(crystals(["a", "b"]), "crystals", tmp_path)
    assert bulk.without(path, "crystals", "structure_id = 'c'", tmp_path) == path
    assert bulk.without(path, "crystals", "numbers IS NOT NULL", tmp_path) is None
    assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [path]


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=300))
def test_appends_leave_few_files(added):
    files = []
    for rows in added:
        files.append(rows)
        if count := bulk.to_merge(files):
            files[-count:] = [sum(files[-count:])]
    assert sum(files) == sum(added)
    assert len(files) <= sum(added).bit_length()


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=300))
def test_what_came_at_once_leaves_few_files(files):
    count = bulk.to_merge(files)
    assert count != 1
    left = [*files[: len(files) - count], *[sum(files[len(files) - count :])] * (count > 0)]
    assert all(one > 2 * after for one, after in pairwise(left))


@pytest.mark.parametrize("table", bulk.SCHEMAS)
def test_a_table_without_files_has_its_columns_and_no_rows(tmp_path, table):
    with duckdb.connect() as connection:
        connection.execute(bulk.view(table, []))
        empty = connection.execute(f"DESCRIBE {table}").fetchall()
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)]
        path = bulk.write(bulk.SCHEMAS[table].empty_table(), table, tmp_path)
        connection.execute(bulk.view(table, [str(path)]))
        assert connection.execute(f"DESCRIBE {table}").fetchall() == empty


def test_names_with_wildcards_are_those_of_one_file(tmp_path):
    folder = tmp_path / "a[b]=1" / "it's * or ?"
    path = bulk.write(crystals(["a"]), "crystals", folder)
    again = bulk.merge([path, bulk.write(crystals(["b"]), "crystals", folder)], "crystals", folder)
    assert [row["structure_id"] for row in rows_of("crystals", [again])] == ["a", "b"]


def test_a_confined_instance_reads_the_files_that_its_views_name_and_no_other(tmp_path):
    path = bulk.write(crystals(["a", "b"]), "crystals", tmp_path)
    other = bulk.write(crystals(["secret"]), "crystals", tmp_path)
    with duckdb.connect() as connection:
        connection.execute(bulk.view("crystals", [str(path)]))
        connection.execute("SET temp_directory = ''")
        connection.execute("SET allowed_paths = [?]", [str(path)])
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        assert connection.execute("SELECT structure_id FROM crystals").fetchall() == [
            ("a",),
            ("b",),
        ]
        for forbidden in (
            f"FROM read_parquet('{other}')",
            f"FROM read_parquet('{path.parent}/*.parquet')",
            f"FROM glob('{path.parent}/*')",
            f"FROM read_text('{path.parent}/../{other.name}')",
            f"COPY (SELECT 1) TO '{tmp_path}/new.csv'",
            f"ATTACH '{tmp_path}/new.duckdb'",
            f"SET allowed_paths = ['{other}']",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(forbidden).fetchall()
