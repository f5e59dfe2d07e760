"""The command as a person uses it: what it prints, and what it says of mistakes."""

import gzip
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import commands
import pandas as pd
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from cifs import cif
from pymatgen.core import Lattice, Structure

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def server():
    """What `command` runs in."""
    global run
    with commands.server() as run:
        yield


def command(*words, cwd, store="my.store", check=None):
    """Run `platonic-store` and return what came of it."""
    env = {"PLATONIC_STORE": str(store), "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    done = run([str(word) for word in words], cwd=cwd, env=env)
    if check is not None:
        assert done.returncode == check, done.stderr.decode()
    return done


def mistake(*words, **where) -> str:
    """The one line that a mistake is answered with."""
    done = command(*words, **where)
    lines = done.stderr.decode().strip().splitlines()
    assert done.returncode != 0
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert done.stdout == b""
    return lines[0]


@pytest.fixture
def cifs(tmp_path) -> Path:
    """A csv of three crystals, as MP-20 writes them."""
    rows = []
    for index, a in enumerate((4.1, 4.2, 4.3)):
        crystal = Structure.from_spacegroup("Pm-3m", Lattice.cubic(a), ["Cs"], [[0, 0, 0]])
        rows.append(
            {"material_id": f"mp-{index}", "band_gap": index / 2, "cif": crystal.to(fmt="cif")}
        )
    path = tmp_path / "three.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def imported(*words) -> set[str]:
    """The modules that a command imports."""
    code = "import sys; from platonic_store.cli import main\n"
    code += f"sys.argv = {['platonic-store', *map(str, words)]}\n"
    code += "try: main()\nfinally: print(); print(*sys.modules)"
    return set(
        subprocess.check_output([sys.executable, "-c", code], text=True).split("\n")[-2].split()
    )


def test_help_is_fast_and_needs_no_model():
    """The command as it is installed; fast is what does not import what is slow to import."""
    program = Path(sys.executable).parent / "platonic-store"
    assert b"ingest" in subprocess.check_output([program, "--help"])
    slow = {"torch", "duckdb", "lancedb", "numpy", "pandas", "pymatgen"}
    assert not slow & imported("--help")


def test_sql_is_fast(prototypes_path):
    """What it does not need is slow to import."""
    slow = {"torch", "lance", "lancedb", "scipy", "pymatgen"}
    assert not slow & imported("sql", "FROM structure", "--store", prototypes_path)


def test_the_library_never_imports_torch(prototypes_path):
    code = (
        "import sys; from platonic_store import Store; "
        f"s = Store.open({str(prototypes_path)!r}); s.similar('Spinel', across='chgnet-0.3.0'); "
        "s.sql('FROM structure'); s.outliers(); "
        "print({'torch', 'sevenn', 'chgnet', 'mace'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"set()"


def test_every_format_says_the_same(prototypes_path, tmp_path):
    words = ("similar", "Spinel", "-k", "3", "--format")
    outputs = {
        name: command(*words, name, cwd=tmp_path, store=prototypes_path, check=0).stdout
        for name in ("json", "csv", "parquet", "table")
    }
    ids = [row["structure_id"] for row in json.loads(outputs["json"])]
    table = pd.read_csv(io.BytesIO(outputs["csv"]))
    assert table["structure_id"].tolist() == ids
    assert json.loads(table["elements"][0]) == ["Al", "O"]
    assert pq.read_table(io.BytesIO(outputs["parquet"]))["structure_id"].to_pylist() == ids
    assert all(id_ in outputs["table"].decode() for id_ in ids)


def test_out_writes_a_file(prototypes_path, tmp_path):
    command(
        *("sql", "FROM structure", "--format", "parquet", "--out", tmp_path / "all.parquet"),
        cwd=tmp_path,
        store=prototypes_path,
        check=0,
    )
    assert pq.read_table(tmp_path / "all.parquet").num_rows == 288


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_folder_is_no_place_for_a_result(prototypes_path, tmp_path, format):
    words = "similar", "Spinel", "--format", format, "--out", "."
    said = command(*words, cwd=tmp_path, store=prototypes_path, check=2).stderr.decode()
    assert "is a directory" in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_picture_is_drawn(prototypes_path, tmp_path):
    command("picture", "--out", "there", cwd=tmp_path, store=prototypes_path, check=0)
    assert (tmp_path / "there" / "map.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "there" / "map.html").read_text()
    assert "Spinel" in page
    assert not re.search(r'<script[^>]+src="http', page)


def test_properties_are_typed_and_queryable(cifs, tmp_path):
    command("ingest", cifs, cwd=tmp_path, check=0)
    done = command(
        "sql",
        "SELECT structure_id FROM structure WHERE band_gap > 0.2 ORDER BY structure_id",
        *("--format", "csv"),
        cwd=tmp_path,
        check=0,
    )
    assert done.stdout.split() == [b"structure_id", b"mp-1", b"mp-2"]


def test_doctor_is_content_with_a_good_store(prototypes_path, own_prototypes, tmp_path):
    done = command("doctor", cwd=tmp_path, store=own_prototypes.path, check=0)
    assert b"all is well" in done.stderr


def test_deleted_is_gone(own_prototypes, tmp_path):
    store = own_prototypes.path
    free = own_prototypes.sql(
        "SELECT structure_id FROM structure ANTI JOIN anchor USING (structure_id) "
        "ANTI JOIN quarantine USING (structure_id) LIMIT 1"
    )["structure_id"][0]
    command("delete", free, cwd=tmp_path, store=store, check=0)
    assert "no structure" in mistake("similar", free, cwd=tmp_path, store=store)
    command("doctor", cwd=tmp_path, store=store, check=0)
    anchored = own_prototypes.sql("SELECT structure_id FROM anchor LIMIT 1")["structure_id"][0]
    assert "anchor" in mistake("delete", anchored, cwd=tmp_path, store=store)


def test_a_noble_gas_brings_no_warning(tmp_path):
    helium = Atoms("He2", positions=[[0, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=True)
    helium.write(tmp_path / "he.cif")
    words = ("ingest", "he.cif", "--model", "control:composition")
    said = command(*words, cwd=tmp_path, check=0).stderr.decode()
    assert said == f"{tmp_path / 'he.cif'}: 1 new structures, 0 already here, 0 in quarantine\n"


def test_sources_that_cannot_be_read(cifs, tmp_path):
    (tmp_path / "empty.csv").touch()
    assert "empty.csv is empty" in mistake("ingest", "empty.csv", cwd=tmp_path)
    (tmp_path / "empty.csv.gz").write_bytes(gzip.compress(b""))
    assert "is empty" in mistake("ingest", "empty.csv.gz", cwd=tmp_path)
    assert "does not exist" in mistake("ingest", "nothere.cif", cwd=tmp_path)
    (tmp_path / "x.what").write_text("?")
    assert "name its format: one of cif, " in mistake("ingest", "x.what", cwd=tmp_path)
    (tmp_path / "partial.cif").write_text(cif("Fe1 Fe 0 0 0 0.5\nFe2 Fe 0.5 0.5 0.5 1"))
    assert "site Fe1 has occupancy 0.50" in mistake("ingest", "partial.cif", cwd=tmp_path)
    (tmp_path / "nocif.csv").write_text("id,energy\n1,2\n")
    assert "no column 'cif'" in mistake("ingest", "nocif.csv", cwd=tmp_path)


def test_a_truncated_source_keeps_what_came_whole(cifs, tmp_path):
    whole = cifs.read_bytes()
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(whole * 40)[:-400])
    # Repeats of the same three crystals: what matters is that the good ones stay.
    assert "truncated" in mistake("ingest", "cut.csv.gz", cwd=tmp_path)
    done = command(
        "sql", "SELECT count(*) AS n FROM structure", "--format", "csv", cwd=tmp_path, check=0
    )
    assert done.stdout.split() == [b"n", b"3"]


def test_mistakes_in_names(prototypes_path, tmp_path):
    where = {"cwd": tmp_path, "store": prototypes_path}
    assert "try sevennet-0" in mistake("ingest", "--model", "sevennet0", **where)
    assert "you may mean chgnet-0.3.0" in mistake(
        "similar", "Spinel", "--model", "chgnet-0.3.1", **where
    )
    assert "Spinel" in mistake("similar", "Spinell", **where)
    assert "similar Spinel --site 3`" in mistake("similar", "Spinel:3", **where)
    assert "bandgap" in mistake("similar", "Spinel", "--where", "bandgap > 1", **where)
    assert "0,1,2,3" in mistake("ingest", "-m", "chgnet-0.3.0", "--layers", "9", **where)
    assert "not a Python" in mistake("ingest", "-m", "chgnet-0.2.0", "--python", "/no", **where)
    assert "Catalog Error" in mistake("sql", "FROM structures_", **where)
    reserved = mistake("sql", "SELECT count(*) FROM similar('Spinel')", **where)
    assert "call similar_structures or similar_atoms" in reserved
    one, other = (
        mistake("screen", "nothing.cif", option, "no-model", **where)
        for option in ("--models", "--model")
    )
    assert one == other
    assert "no column" in mistake("similar", "Spinel", "--columns", "colour", **where)


def test_mistakes_in_the_store_path(cifs, tmp_path):
    (tmp_path / "afile").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    for store, says in (("afile", "is a file"), ("other", "other things")):
        assert says in mistake("ingest", cifs, cwd=tmp_path, store=store)
    assert "there is no store" in mistake("similar", "mp-1", cwd=tmp_path, store="nowhere")
    for words in (["project"], ["anchors", "select"], ["delete", "x"], ["doctor"]):
        assert "there is no store" in mistake(*words, cwd=tmp_path, store="nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_the_same_id_with_another_content(cifs, tmp_path):
    command("ingest", cifs, cwd=tmp_path, check=0)
    changed = cifs.read_text().replace("4.30000000", "4.40000000")
    (tmp_path / "changed.csv").write_text(changed)
    assert "delete mp-2" in mistake("ingest", "changed.csv", cwd=tmp_path)
    command("ingest", cifs, cwd=tmp_path, check=0)


def test_a_restricted_licence_is_shown_and_accepted_by_name(tmp_path):
    shown = command("models", "show", "mace-omat-0", cwd=tmp_path, check=0)
    first = "name: mace-omat-0\nlicense:\n  code: MIT\n  weights: Academic Software License\n"
    assert shown.stdout.decode().startswith(f"{first}  restriction: ")
    assert b"default_layer: 0" in shown.stdout
    words = ("ingest", "builtin:aflow-prototypes", "--model", "mace-omat-0", "--checkpoint", "none")
    refused = command(*words, cwd=tmp_path, check=1)
    assert b"`platonic-store models accept mace-omat-0`" in refused.stderr
    assert refused.stderr.count(b"\n") == 1
    command("models", "accept", "MACE-OMAT", cwd=tmp_path, check=0)
    accepted = command(*words, cwd=tmp_path, check=1)
    assert b"Academic" not in accepted.stderr
    assert b"--checkpoint PATH`" in accepted.stderr


def test_names_with_colons_are_printed_as_they_are(tmp_path):
    refused = command("models", "show", "control:soap:3", cwd=tmp_path, check=1)
    assert (
        b"no model 'control:soap:3': try control:soap, or run `platonic-store models`"
        in refused.stderr
    )


def test_the_kit_as_a_command(tmp_path):
    checked = command(
        "models", "check", "control:composition", "--format", "json", cwd=tmp_path, check=0
    )
    assert {row["passed"] for row in json.loads(checked.stdout)} == {True}


def test_weights_and_interpreters_by_name(tmp_path):
    words = ("ingest", "builtin:aflow-prototypes", "-m", "sevennet-0", "-m", "chgnet-0.3.0")
    for option, reason in (
        (
            ("--python", "mace=/bin/python"),
            b"for the family mace, but the models are of chgnet, sevennet",
        ),
        (("--checkpoint", "weights.pt"), b"ambiguous checkpoint weights.pt: "),
        (("--python", "a=b", "--python", "c"), b"one PATH for all, or NAME=PATH for each"),
    ):
        refused = command(*words, *option, cwd=tmp_path, check=1)
        assert reason in refused.stderr
        assert refused.stderr.count(b"\n") == 1


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    from platonic_store import cli
    from platonic_store.store import Store

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "open", stop)
    monkeypatch.setattr(sys, "argv", ["platonic-store", "ingest", "some.csv"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("error: stopped; what was committed is kept")
