from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from platonic_store.cli import app
from platonic_store.errors import InvalidQuery, StoreNotWritable
from platonic_store.exports.parquet import write
from platonic_store.geometry import cells
from platonic_store.questions import neighbours as question
from platonic_store.questions.shared import distinct_rows
from platonic_store.store import Store

FULL = Path("/dev/full")
ASKED = [
    {},
    {"level": "atom"},
    {"across": "chgnet-0.3.0"},
    {"level": "atom", "where": "element = 'O'"},
    {"k": 400, "where": "nsites > 4"},
]


def of(found, **keys):
    for name, value in keys.items():
        found = found[found[name] == value]
    return found


@pytest.mark.parametrize("arguments", [{}, {"across": "chgnet-0.3.0"}, {"where": "nsites > 4"}])
def test_all_at_once_is_each_one_by_one(prototypes, arguments):
    found = prototypes.neighbours(k=4, **arguments)
    assert found["structure_id"].nunique() == len(prototypes.embeddings(level="structure"))
    for id_ in ("Spinel", "Ilmenite", "Perovskite"):
        one, alone = of(found, structure_id=id_), prototypes.similar(id_, k=4, **arguments)
        assert one["neighbour"].tolist() == alone["structure_id"].tolist()
        assert one["rank"].tolist() == [1, 2, 3, 4]
        np.testing.assert_allclose(one["distance"], alone["distance"], atol=1e-12)


def test_atoms_stand_for_their_equivalent_sites(prototypes):
    found = prototypes.neighbours(k=3, level="atom")
    distinct = prototypes.sql(
        "SELECT count(*) AS n FROM site WHERE site_index = orbit AND structure_id IN "
        f"(SELECT unnest({found['structure_id'].unique().tolist()}))"
    )
    assert len(found) == 3 * distinct["n"][0]
    one, alone = (
        of(found, structure_id="Spinel", site_index=6),
        prototypes.similar("Spinel", site=6, k=3),
    )
    assert one["neighbour"].tolist() == alone["structure_id"].tolist()
    assert one["neighbour_site"].tolist() == alone["site_index"].tolist()


def test_those_that_may_not_answer_still_ask(prototypes):
    found = prototypes.neighbours(k=1, where="structure_id = 'Spinel'")
    assert set(found["neighbour"]) == {"Spinel"}
    assert "Spinel" not in set(found["structure_id"])  # it has no other
    assert found["structure_id"].nunique() > 200


def test_sql_joins_them(prototypes):
    mutual = prototypes.sql(
        "WITH near AS (FROM neighbours(model := 'chgnet-0.3.0', k := 1)) "
        "SELECT a.structure_id, b.structure_id AS other FROM near AS a JOIN near AS b "
        "ON a.neighbour = b.structure_id AND b.neighbour = a.structure_id"
    )
    found = prototypes.neighbours(model="chgnet-0.3.0", k=1).set_index("structure_id")["neighbour"]
    assert len(mutual) == (found.map(found) == found.index).sum() > 0
    oxygen = "\"where\" := 'element = ''O'''"
    atoms = prototypes.sql(f"FROM neighbours(level := 'atom', k := 2, {oxygen})")
    elements = prototypes.sql("SELECT structure_id, site_index, element FROM site")
    answered = atoms.merge(
        elements, left_on=["neighbour", "neighbour_site"], right_on=["structure_id", "site_index"]
    )
    assert set(answered["element"]) == {"O"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"k": 0}, "at least 1"),
        ({"level": "bond"}, "atom"),
        ({"where": "nsites > 1000"}, "no rows"),
    ],
)
def test_wrong_questions_have_one_line(prototypes, arguments, said):
    with pytest.raises(InvalidQuery, match=said):
        prototypes.neighbours(**arguments)


def test_the_command_prints_them(prototypes):
    arguments = ["neighbours", "--store", str(prototypes.path), "-k", "1", "--format", "csv"]
    printed = CliRunner().invoke(app, arguments).stdout.splitlines()
    assert printed[0] == "structure_id,rank,neighbour,distance"
    assert len(printed) - 1 == prototypes.neighbours(k=1)["structure_id"].nunique()


@pytest.fixture
def many(monkeypatch):
    """As of millions of rows: read in batches, searched by cells, and answered in parts."""
    monkeypatch.setattr(distinct_rows, "WHOLE_BYTES", 0)
    monkeypatch.setattr(question, "BLOCK", 50)
    monkeypatch.setattr(question, "PART", 1_000)
    monkeypatch.setattr(question, "IN_MEMORY", 1_000)
    return monkeypatch


@pytest.mark.parametrize("arguments", ASKED)
def test_a_file_in_parts_has_what_the_frame_has(prototypes, tmp_path, many, arguments):
    path = prototypes.write_answer(tmp_path / "near.parquet", Store.neighbours, **arguments)
    written = parquet.read_table(path)
    assert parquet.read_metadata(path).num_row_groups > 1
    many.undo()  # all at once
    found = prototypes.neighbours(**arguments)
    pd.testing.assert_frame_equal(written.to_pandas(), found)
    declared = {column.name: column.field.type for column in Store.neighbours.columns}
    assert {field.name: field.type for field in written.schema} == {
        name: declared[name] for name in found.columns
    }
    assert int(written.schema.metadata[b"snapshot"]) == found.attrs["snapshot"]
    keys = [name for name in ("structure_id", "site_index", "rank") if name in found]
    assert found[keys].equals(found[keys].sort_values(keys, ignore_index=True))


@pytest.mark.parametrize("arguments", ASKED[:4])
def test_by_cells_nearly_all_are_found_and_recall_is_said(prototypes, many, arguments):
    exact = prototypes.neighbours(**arguments)
    many.setattr(question, "EXACT_PAIRS", 0)
    many.setattr(cells, "CELL", 20)
    found = prototypes.neighbours(**arguments)
    assert found.attrs["recall"] >= cells.RECALL
    assert len(found) == len(exact)
    keys = [name for name in exact.columns if name not in ("rank", "distance")]
    assert len(exact.merge(found, on=keys)) > 0.98 * len(exact)
    own = found["structure_id"] == found["neighbour"]
    if "neighbour_site" in found:
        own &= found["site_index"] == found["neighbour_site"]
    assert own.any() == ("across" in arguments)


def test_what_is_stopped_leaves_no_file(prototypes, tmp_path, many):
    path = tmp_path / "near.parquet"
    with pytest.raises(InvalidQuery):
        prototypes.write_answer(path, Store.neighbours, where="nsites > 1000")
    assert not list(tmp_path.iterdir())
    path.write_text("of before")
    parts = prototypes.answer_in_parts(Store.neighbours, level="atom")

    def stopped():
        yield next(parts)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(stopped(), path)
    assert [one.read_text() for one in tmp_path.iterdir()] == ["of before"]


@pytest.mark.skipif(not FULL.exists(), reason="Linux has it")
def test_a_full_disk_is_named(prototypes, many):
    many.setattr(question, "SpooledTemporaryFile", lambda _: FULL.open("r+b"))
    with pytest.raises(StoreNotWritable, match=r"temporary files in .*: no space left"):
        prototypes.neighbours(level="atom")


def test_the_command_writes_them_and_says_the_recall(prototypes, tmp_path, many):
    many.setattr(question, "EXACT_PAIRS", 0)
    many.setattr(cells, "CELL", 20)
    path = tmp_path / "new folder" / "near.parquet"
    arguments = ["neighbours", "--store", str(prototypes.path), "--level", "atom", "-k", "2"]
    to_file = ["--format", "parquet", "--out", str(path), "--columns", "structure_id,distance"]
    done = CliRunner().invoke(app, [*arguments, *to_file])
    assert f"wrote {path}" in done.stderr
    assert "recall 0.99" in done.stderr or "recall 1" in done.stderr
    assert f"snapshot {prototypes.snapshot().id}" in done.stderr
    found = parquet.read_table(path)
    assert found.schema.names == ["structure_id", "distance"]
    assert found.schema.types == [pa.string(), pa.float64()]
    printed = CliRunner().invoke(app, [*arguments, "--format", "csv"])
    assert len(printed.stdout.splitlines()) - 1 == len(found)
    assert "recall 0.99" in printed.stderr or "recall 1" in printed.stderr


def test_any_answer_can_be_written(prototypes, tmp_path):
    path = prototypes.write_answer(tmp_path / "a.parquet", Store.similar, "Spinel", k=3)
    found = prototypes.similar("Spinel", k=3)
    assert pd.read_parquet(path)["structure_id"].tolist() == found["structure_id"].tolist()
    path = prototypes.write_answer(tmp_path / "b.parquet", Store.embedding, "Spinel")
    values = parquet.read_table(path)["embedding"][0].as_py()
    np.testing.assert_array_equal(values, prototypes.embedding("Spinel"))
