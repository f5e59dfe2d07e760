"""`annotate` on every kind of target: what is written, what stays, and what a kill costs."""

import csv
import gzip
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.db
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from annotation_targets import DATABASES, KINDS, MODELS, rows_of
from ase.io import read, write

from platonic_store.annotation.matching import Identity, Match, match
from platonic_store.errors import InvalidTarget, worded
from platonic_store.store import Store


def sql(target: str, query: str) -> list[dict[str, Any]]:
    engine = sa.create_engine(target.partition("#")[0], poolclass=sa.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sa.text(query))
        return [dict(row) for row in result.mappings()] if result.returns_rows else []


def annotations(target: str) -> list[dict[str, Any]]:
    """What a target of any kind holds for each record, read with other means than ours."""
    if "://" in target:
        return sql(target, 'SELECT * FROM "My crystals" ORDER BY row_number')
    path = Path(target)
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".extxyz":
        return [atoms.info for atoms in read(path, ":")]
    if path.suffix == ".db":
        rows = ase.db.connect(path).select()
        return [
            {
                **row.key_value_pairs,
                **{f"platonic_{name}": value for name, value in row.data["platonic"].items()},
            }
            for row in rows
        ]
    if path.suffix == ".json":
        return [
            {f"platonic_{name}": value for name, value in entry["properties"]["platonic"].items()}
            for entry in json.loads(path.read_text()).values()
        ]
    return pd.read_csv(path, dtype={"note": str}).to_dict("records")


def neighbours(row: dict[str, Any]) -> list[dict[str, Any]]:
    found = row["platonic_neighbours"]
    return json.loads(found) if isinstance(found, str) else list(found)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_told_what_the_store_says_once_and_again(kind, annotating, target, crystals):
    mine = target(kind)
    report = annotating.annotate(mine, models=["sevennet-0"])
    assert (report.records, report.answered, report.written) == (40, 40, 40)
    rows = annotations(mine)
    assert [row["platonic_id"] for row in rows] == list(crystals)
    assert {row["platonic_run"] for row in rows} == {report.run}
    for row in rows[:3]:
        found = annotating.similar(row["platonic_id"], model="sevennet-0", k=10)
        assert [other["id"] for other in neighbours(row)] == found["structure_id"].tolist()
        distances = [other["distance"] for other in neighbours(row)]
        assert distances == pytest.approx(found["distance"].tolist(), abs=1e-9)
        assert row["platonic_nearest"] == found["structure_id"][0]
        assert row["platonic_distance"] == pytest.approx(distances[0])
    content = None if "://" in mine else Path(mine).read_bytes()
    annotating.annotate(mine, models=["sevennet-0"], by_id=True)
    assert str(annotations(mine)) == str(rows)
    assert content is None or Path(mine).read_bytes() == content


@pytest.mark.parametrize("kind", DATABASES)
def test_a_table_keeps_its_own_and_gains_columns(kind, annotating, target, crystals):
    mine = target(kind)
    own = 'SELECT row_number, material_id, "a note" FROM "My crystals" ORDER BY 1'
    before = sql(mine, own)
    first = annotating.annotate(mine, models=MODELS)
    assert sql(mine, own) == before
    sql(mine, "INSERT INTO \"My crystals\" (row_number, material_id) VALUES (99, 'nobody')")
    again = annotating.annotate(mine, models=MODELS)
    assert (again.run, again.written, again.answered) == (first.run, 1, 40)
    (stranger,) = sql(mine, 'SELECT * FROM "My crystals" WHERE row_number = 99')
    assert stranger["platonic_reason"] == "no structure nobody in the store"
    assert stranger["platonic_nearest"] is None
    (run,) = sql(mine, "SELECT * FROM platonic_runs")
    said = run["provenance"]
    said = json.loads(said) if isinstance(said, str) else said
    weights = annotating.sql("SELECT name, checkpoint_sha256 FROM model")
    assert {m["model"]: m["checkpoint_sha256"] for m in said["models"]} == dict(weights.to_numpy())


@pytest.mark.parametrize("kind", DATABASES)
def test_a_copy_leaves_the_table_as_it_is(kind, annotating, target):
    mine = target(kind)
    sql(mine, "DROP TABLE IF EXISTS copied")
    before = annotations(mine)
    for _ in range(2):
        annotating.annotate(mine, models=["sevennet-0"], out="copied")
    assert annotations(mine) == before
    copied = sql(mine, "SELECT * FROM copied ORDER BY row_number")
    assert [{name: row[name] for name in before[0]} for row in copied] == before
    assert all(row["platonic_nearest"] for row in copied)


@pytest.mark.parametrize("kind", ["csv", "csv.gz"])
def test_every_cell_of_a_csv_keeps_its_text(kind, annotating, target, crystals, tmp_path):
    mine = target(kind)
    before = Path(mine).read_bytes()
    out = tmp_path / f"out.{kind}"
    annotating.annotate(mine, models=MODELS, out=out)
    assert Path(mine).read_bytes() == before
    opened = gzip.open if kind == "csv.gz" else open
    with opened(out, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: row[name] for name in ("material_id", "note")} for row in rows] == rows_of(
        crystals
    )
    said = json.loads((tmp_path / f"out.{kind}.platonic.json").read_text())
    assert said["run"] == rows[0]["platonic_run"]
    columns = {f"platonic_{model}_nearest" for model in ("sevennet_0", "chgnet_0_3_0")}
    assert columns < rows[0].keys()


def test_atoms_and_metadata_of_files_stay(annotating, target, crystals):
    frames, table, base = (target(kind) for kind in ("extxyz", "parquet", "db"))
    before = Path(frames).read_text().splitlines()
    schema, notes = pq.read_schema(table), pq.read_table(table)["note"]
    for mine in (frames, table, base):
        annotating.annotate(mine, models=["sevennet-0"])
    after = Path(frames).read_text().splitlines()
    assert all(new.startswith(old) for old, new in zip(before, after, strict=True))
    assert pq.read_table(table)["note"] == notes
    assert pq.read_schema(table).metadata[b"pandas"] == schema.metadata[b"pandas"]
    assert pq.ParquetFile(table).num_row_groups == 3
    assert pq.ParquetFile(table).metadata.row_group(0).column(0).compression == "ZSTD"
    row = ase.db.connect(base).get(id=1)
    assert (row.note, row.data["own"]) == ("mine", [1, 2])
    assert ase.db.connect(base).count("platonic_distance>0") == 40


def test_a_structure_that_the_store_has_not_is_ingested(own_prototypes, crystals, tmp_path):
    id, parent = next(iter(crystals.items()))
    twin, strained = parent.copy(), parent.copy()
    strained.set_cell(parent.cell * 1.001, scale_atoms=True)
    strained.info["structure_id"] = id  # which is the parent's: the store names it by its content
    broken = parent.copy()
    broken.positions[:] = 0
    path = tmp_path / "new.extxyz"
    write(path, [twin, strained, broken, strained])
    report = own_prototypes.annotate(path, models=["sevennet-0"])
    assert (report.records, report.answered) == (4, 3)
    known, new, none, again = annotations(str(path))
    assert known["platonic_id"] == id
    assert new["platonic_id"] == again["platonic_id"] != id
    assert new["platonic_nearest"] == id
    first, second = sorted([id, new["platonic_id"]])
    flags = {row["platonic_id"]: row.get("platonic_duplicate_of") for row in (known, new)}
    assert flags == {first: None, second: first}
    assert again["platonic_duplicate_of"] == first
    assert "overlapping atoms" in none["platonic_reason"]
    assert "platonic_nearest" not in none


class Interrupted(Store):
    """A store from which another process deletes a structure while its structures are scored."""

    gone: str

    def score(self, *arguments, **options):
        self.delete([self.gone])
        return super().score(*arguments, **options)


@pytest.mark.parametrize("kind", ["csv", "extxyz"])
def test_a_structure_that_is_deleted_meanwhile_has_no_answers(
    kind, own_prototypes, crystals, target
):
    anchors = set(own_prototypes.sql("SELECT structure_id FROM anchor")["structure_id"])
    gone = next(id for id in crystals if id not in anchors)
    store = Interrupted.open(own_prototypes.path)
    store.gone = gone
    mine = target(kind)
    report = store.annotate(mine, models=["sevennet-0"], by_id=kind == "csv")
    assert (report.records, report.answered, report.written) == (40, 39, 40)
    rows = dict(zip(crystals, annotations(mine), strict=True))
    lost = {name: value for name, value in rows[gone].items() if name.startswith("platonic_")}
    known = {name for name, value in lost.items() if not pd.isna(value)}
    assert known == {"platonic_reason", "platonic_run"}
    reasons = {"csv": f"no structure {gone} in the store", "extxyz": "its structure is not in"}
    assert lost["platonic_reason"].startswith(reasons[kind])
    assert all(row["platonic_id"] == id for id, row in rows.items() if id != gone)


def test_a_record_is_matched_by_content_and_id_in_any_state_of_a_store():
    contents = {"a": "1", "b": "2", "c": "2"}
    identities = [
        Identity(0, "a", "1"),
        Identity(1, "a", "9", rounded="1"),  # the stored structure, rounded
        Identity(2, "a", "9", rounded="8"),  # it was, but the id is another structure's now
        Identity(3, "a", "2"),
        Identity(4, None, "2"),
        Identity(5, "c", "2"),
        Identity(6, "c"),
        Identity(7, "d"),
        Identity(8, None),
        Identity(9, "a", reason="no atoms"),
    ]
    assert match(identities, contents) == [
        Match(0, "a"),
        Match(1, "a", again=True),
        Match(2, None, "its structure is not in the store"),
        Match(3, "b"),
        Match(4, "b", again=True),
        Match(5, "c"),
        Match(6, "c", again=True),
        Match(7, None, "no structure d in the store"),
        Match(8, None, "it has no id"),
        Match(9, None, "no atoms"),
    ]


@pytest.mark.parametrize("kind", ["csv", "db", "postgresql"])
def test_kill_9_half_way_loses_nothing(kind, annotating, target):
    mine = target(kind)
    driver = Path(__file__).parent / "annotate_driver.py"
    before = hashlib.sha256(Path(mine).read_bytes()).digest() if kind == "csv" else None
    killed = subprocess.run([sys.executable, driver, annotating.path, mine, "2"], check=False)
    assert killed.returncode == -signal.SIGKILL
    if kind == "csv":
        assert hashlib.sha256(Path(mine).read_bytes()).digest() == before
    report = annotating.annotate(mine, by_id=True)
    assert report.written == (40 if kind == "csv" else 24)
    assert {row["platonic_run"] for row in annotations(mine)} == {report.run}
    assert not list(Path(mine).parent.glob(".*.partial"))


def test_a_real_postgresql_answers_by_its_own_sql(annotating, target):
    mine = target("postgresql")
    annotating.annotate(mine, models=MODELS)
    rows = sql(
        mine,
        "SELECT material_id, platonic_neighbours -> 0 ->> 'id' AS nearest, platonic_nearest, "
        'platonic_atypicality_p, platonic_disagreement FROM "My crystals" '
        "ORDER BY platonic_atypicality_p, material_id",
    )
    ps = [row["platonic_atypicality_p"] for row in rows]
    assert ps == sorted(ps)
    assert 0 < ps[0] < ps[-1] <= 1
    assert all(row["nearest"] == row["platonic_nearest"] for row in rows)
    said = annotating.sql("SELECT structure_id, p, disagreement FROM disagreement").set_index(
        "structure_id"
    )
    said = said.loc[[row["material_id"] for row in rows]]
    assert ps == pytest.approx(said["p"].tolist())
    assert [row["platonic_disagreement"] for row in rows] == pytest.approx(
        said["disagreement"].tolist()
    )


@pytest.fixture
def wrong(target, tmp_path) -> dict[str, str]:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "nameless.csv").write_text("a,b\n1,2\n")
    lite = target("sqlite").partition("#")[0]
    sql(lite, "CREATE TABLE keyless (material_id TEXT)")
    sql(lite, "INSERT INTO keyless VALUES ('a'), ('a')")
    shutil.copy(tmp_path / "mine.sqlite", tmp_path / "locked.sqlite")
    return {
        str(tmp_path / "notes.txt"): "no kind that can be annotated",
        str(tmp_path / "nobody.csv"): "is not a file",
        str(tmp_path / "nameless.csv"): "nor structures in a column `cif` (it has: a, b)",
        f"{lite}#nothing": "has no table nothing (it has: My crystals, keyless)",
        lite: "no table of it is named (it has: My crystals, keyless)",
        f"{lite}#keyless": "has no primary key",
        f"sqlite:///{tmp_path}/absent.sqlite#x": "there is no database file",
        "postgresql+psycopg://me:secret@127.0.0.1:1/x#y": "refuses: ",
        "oracle+nothing://x/y#z": "no driver for oracle+nothing",
        f"sqlite:///file:{tmp_path}/locked.sqlite?mode=ro&uri=true#My crystals": "readonly",
    }


def test_what_cannot_be_annotated_is_said_in_one_line(annotating, wrong):
    for target, complaint in wrong.items():
        with pytest.raises(InvalidTarget) as caught:
            annotating.annotate(target)
        text = f"{caught.value}: {worded(caught.value.hint)}"
        assert complaint in text, target
        assert "\n" not in text
        assert "secret" not in text


def test_the_hint_is_a_call_that_helps(annotating, tmp_path, target):
    (tmp_path / "nameless.csv").write_text("a,b\n1,2\n")
    lite = target("sqlite").partition("#")[0]
    for wrong, hint in ((tmp_path / "nameless.csv", "id=COLUMN"), (lite, "table=TABLE")):
        with pytest.raises(InvalidTarget) as caught:
            annotating.annotate(wrong)
        assert hint in worded(caught.value.hint)


def test_the_command_says_what_it_did_and_what_is_wrong(annotating, target, tmp_path):
    def command(*words: str) -> subprocess.CompletedProcess:
        code = "import sys; from platonic_store.cli import main; main()"
        program = [sys.executable, "-c", code, "annotate", *words]
        environment = {"PLATONIC_STORE": str(annotating.path), "HOME": str(tmp_path)}
        return subprocess.run(program, env=environment, capture_output=True, text=True, check=False)

    mine = target("csv")
    models, out = ",".join(MODELS), str(tmp_path / "out.csv")
    done = command(mine, "--models", models, "--by-id", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "mine.csv: 40 of 40 records written" in done.stderr
    assert len(pd.read_csv(out)) == 40
    wrong = command(str(tmp_path / "nobody.csv"))
    assert wrong.returncode == 1
    assert wrong.stderr.count("\n") == 1
    assert wrong.stderr.startswith("error: ")


def test_a_reference_says_what_it_covers(annotating, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("material_id\nSpinel\nRutile\n")
    given = {"by_id": True, "reference": str(annotating.path)}
    annotating.annotate(path, models=["sevennet-0", "chgnet-0.3.0"], **given)
    told = pd.read_csv(path)
    assert told["platonic_sevennet_0_covered_by"].tolist() == ["Spinel", "Rutile"]
    assert told["platonic_chgnet_0_3_0_coverage_distance"].abs().max() < 1e-6
    assert (told["platonic_sevennet_0_coverage_p"] > 0.5).all()
    assert told["platonic_lacks"].isna().all()
    note = json.loads(path.with_name("mine.csv.platonic.json").read_text())
    assert str(annotating.path) in json.dumps(note)
    before = path.read_bytes()
    annotating.annotate(path, models=["sevennet-0", "chgnet-0.3.0"], **given)
    assert path.read_bytes() == before
