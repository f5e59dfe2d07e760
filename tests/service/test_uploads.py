"""Structures that are sent: read apart, embedded by warm workers, and asked about."""

import gzip
import io
import json
import time

import pandas as pd
import psutil
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.io.ase import AseAtomsAdaptor
from service_driver import NACL, running
from stored import crystal_of

from platonic_store.errors import UnreadableSource
from platonic_store.service.reading import Parser, format_of
from platonic_store.service.settings import Settings

SALT = bulk("NaCl", "rocksalt", a=5.64, cubic=True)


def as_text(format: str) -> str:
    text = io.StringIO()
    write(text, SALT, format=format)
    return text.getvalue()


def optimade(atoms: Atoms) -> dict:
    kinds = sorted(set(atoms.get_chemical_symbols()))
    return {
        "id": "x",
        "type": "structures",
        "attributes": {
            "lattice_vectors": atoms.cell.tolist(),
            "cartesian_site_positions": atoms.positions.tolist(),
            "species_at_sites": atoms.get_chemical_symbols(),
            "species": [
                {"name": one, "chemical_symbols": [one], "concentration": [1.0]} for one in kinds
            ],
            "dimension_types": [1, 1, 1],
        },
    }


STRUCTURE = AseAtomsAdaptor.get_structure(SALT)
FILES = {
    "cif": NACL,
    "poscar": as_text("vasp"),
    "extxyz": as_text("extxyz"),
    "pymatgen": json.dumps(STRUCTURE.as_dict()),
    "optimade": json.dumps({"data": [optimade(SALT)]}),
}


@pytest.fixture(scope="module")
def parser():
    found = Parser(Settings(upload_seconds=2, upload_atoms=100))
    yield found
    found.close()


@pytest.fixture(scope="module")
def embedding(prototypes):
    with running(prototypes, models=("sevennet-0",)) as client:
        yield client


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("is_gzip", [False, True])
def test_every_format_is_told_from_its_content(parser, form, is_gzip):
    body = FILES[form].encode()
    structure = parser.read(gzip.compress(body) if is_gzip else body, name=NAMES[form] * is_gzip)
    row = structure.to_pylist()[0]
    assert (row["formula"], row["nsites"], row["spacegroup"]) == ("NaCl", 8, 225)
    assert len(row["positions"]) == 24


NAMES = {
    "cif": "a.cif.gz",
    "poscar": "POSCAR.gz",
    "extxyz": "a.xyz.gz",
    "pymatgen": "a.json.gz",
    "optimade": "a.json.gz",
}


def test_what_a_request_says_comes_before_what_is_seen():
    assert format_of(b"{}", "chemical/x-cif") == "cif"
    assert format_of(b"{}", "application/octet-stream", "POSCAR_1") == "poscar"
    assert format_of(b"data_x", "text/plain; charset=utf-8", "nix") == "cif"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "nothing in it"),
        (b"hello", "not a POSCAR"),
        (b"{}", "no records"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": 1', "as json"),
        (b"999999999\nx\nNa 0 0 0\n", "truncated"),
        (b"x\n1.0\n5 0 0\n0 5 0\n0 0 5\nNa\n2000000000\nDirect\n0 0 0\n", "not a POSCAR"),
        (FILES["extxyz"].encode() * 2, "several structures"),
        (FILES["poscar"].replace("4   4", "4   4").encode().replace(b"Na", b"Xx"), "POSCAR"),
        (json.dumps({"data": [optimade(bulk("Cu", cubic=True).repeat(4))]}).encode(), "256 atoms"),
        (json.dumps({"data": [optimade(Atoms("Na2", [[0, 0, 0]] * 2, cell=[9, 9, 9], pbc=True))]})
         .encode(), "overlapping"),
        (gzip.compress(b"0" * (1 << 30)), "longer than 2 s|its reader died of it|more memory"),
        (b"\x1f\x8bnix", "cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_says_why(parser, body, said):
    with pytest.raises(UnreadableSource, match=said):
        parser.read(body, name="a.json.gz" if body.startswith(b"\x1f\x8b\x08") else "")


def test_a_document_names_no_module_that_is_imported(parser, tmp_path):
    marker = tmp_path / "imported"
    document = STRUCTURE.as_dict()
    document["sites"][0]["properties"] = {
        "x": {"@module": "pathlib", "@class": "Path", "data": str(marker)},
        "y": {"@module": "subprocess", "@callable": "run"},
        "z": {"@module": "this", "@class": "Zen"},
    }
    assert parser.read(json.dumps(document).encode()).num_rows == 1


def test_a_reader_that_dies_is_replaced(parser):
    assert parser.read(NACL.encode()).num_rows == 1
    parser._process.kill()
    parser._process.wait()
    assert parser.read(NACL.encode()).num_rows == 1


@settings(
    max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    form=st.sampled_from(sorted(FILES)),
    changes=st.lists(
        st.tuples(st.integers(0, 2_000), st.sampled_from([b"", b"9" * 12, b"\x00", b"\n", b"-",
                  b"nan", b"1e999", b"\xff\xfe", b"loop_", b'{"a":', b"_cell_length_a 1e-30\n"])),
        min_size=1, max_size=6,
    ),
    cut=st.integers(0, 3_000),
)  # fmt: skip
def test_damaged_files_are_read_or_refused(parser, form, changes, cut):
    body = FILES[form].encode()
    for place, text in changes:
        place %= len(body)
        body = body[:place] + text + body[place + len(text) // 2 :]
    if cut < len(body) // 2:
        body = body[: len(body) - cut]
    try:
        structure = parser.read(body)
    except UnreadableSource as error:
        assert "died" not in str(error)  # noqa: PT017 — only what is refused has a reason
    else:
        assert 0 < structure["nsites"][0].as_py() <= 100


def embedded(client, id: str) -> dict:
    for _ in range(600):
        state = client.get(f"/api/uploads/{id}").json()["embedded"]
        if not {"waiting", "running"} & set(state.values()):
            return state
        time.sleep(0.1)
    raise AssertionError(state)


def test_a_structure_that_is_sent_is_embedded_and_asked_about(embedding, prototypes):
    sent = embedding.post("/api/uploads?name=salt.cif", content=NACL)
    assert sent.status_code == 201
    upload = sent.json()
    assert upload["id"].startswith("upload:")
    assert sent.headers["location"] == f"/api/uploads/{upload['id']}"
    assert (upload["formula"], upload["nsites"], upload["name"]) == ("NaCl", 8, "salt.cif")
    assert len(upload["structure"]["positions"]) == len(upload["structure"]["numbers"]) == 8
    assert embedded(embedding, upload["id"]) == {"sevennet-0": "done"}
    assert embedding.post("/api/uploads", content=NACL).json()["id"] == upload["id"]
    query = {"query": upload["id"], "k": 5}
    by_id = embedding.get("/api/similar", params=query).json()
    by_body = embedding.post("/api/similar", params={"k": 5}, content=NACL).json()
    assert by_id == by_body
    assert by_id["rows"][0]["structure_id"] == "Halite"


def test_a_crystal_of_the_store_is_embedded_as_it_is_there(embedding, prototypes):
    fluorite = optimade(crystal_of(prototypes, "Fluorite"))
    sent = embedding.post("/api/embedding", content=json.dumps({"data": [fluorite]}))
    vector = sent.json()["rows"][0]["embedding"]
    assert vector == pytest.approx(prototypes.embedding("Fluorite").tolist(), abs=1e-4)


def test_questions_that_are_about_structures_take_uploads(embedding):
    id = embedding.post("/api/uploads", content=FILES["poscar"]).json()["id"]
    csv = embedding.post("/api/typicality.csv", params={"level": "atom"}, content=FILES["poscar"])
    assert len(pd.read_csv(io.BytesIO(csv.content))) == 8
    across = embedding.get(
        "/api/similar", params={"query": id, "site": 0, "across": "chgnet-0.3.0", "k": 2}
    )
    assert [one["element"] for one in across.json()["rows"]] == ["Na"] * 2
    far = embedding.get("/api/transport_distance", params={"a": id, "b": "Halite"}).json()["rows"]
    assert 0 <= far[0]["transport_distance"] < 0.01
    analogy = embedding.get("/api/analogy", params={"expression": f"{id} - Na + K", "k": 3})
    assert analogy.status_code == 200, analogy.text
    vector = embedding.post("/api/embedding", content=FILES["extxyz"]).json()["rows"][0]
    assert len(vector["embedding"]) == 128


def test_a_model_that_does_not_run_here_says_so(embedding, client):
    answer = embedding.post("/api/similar?model=chgnet-0.3.0", content=NACL)
    assert answer.status_code == 404
    assert "chgnet-0.3.0 embeds nothing here" in answer.json()["detail"]
    assert "--models chgnet-0.3.0" in answer.json()["hint"]
    without = client.post("/api/uploads", content=NACL)
    assert without.status_code == 201
    assert without.json()["embedded"] == {}
    refused = client.post("/api/similar", content=NACL)
    assert refused.status_code == 404
    assert client.get("/api/similar?query=Halite").status_code == 200


def test_workers_that_die_are_replaced(embedding):
    assert embedding.post("/api/similar", content=NACL).status_code == 200
    children = psutil.Process().children(recursive=True)
    workers = [one for one in children if "worker.py" in " ".join(one.cmdline())]
    assert workers
    for worker in workers:
        worker.kill()
    answer = embedding.post("/api/similar", content=as_text("vasp").replace("5.64", "5.7"))
    assert answer.status_code == 200


def test_the_oldest_uploads_are_forgotten(serve):
    client = serve(uploads=2)
    ids = []
    for length in ("5.1", "5.2", "5.3"):
        sent = client.post("/api/uploads", content=NACL.replace("5.64", length))
        ids.append(sent.json()["id"])
    assert [client.get(f"/api/uploads/{id}").status_code for id in ids] == [404, 200, 200]
    forgotten = client.get("/api/similar", params={"query": ids[0]})
    assert forgotten.status_code == 404
    assert "send it again" in forgotten.json()["hint"]


def test_a_form_is_not_a_structure(client):
    answer = client.post("/api/uploads", files={"file": NACL})
    assert answer.status_code == 422
    assert "--data-binary" in answer.json()["hint"]


def batch_embedded(client, id: str) -> dict:
    for _ in range(1200):
        batch = client.get(f"/api/batches/{id}").json()
        count = len(batch["structures"])
        if all(one["done"] + one["rejected"] == count for one in batch["embedded"].values()):
            return batch
        time.sleep(0.1)
    raise AssertionError(batch)


def test_structures_that_are_sent_together_are_screened(embedding, prototypes):
    text = io.StringIO()
    broken = bulk("Cu", "fcc", a=3.6)
    broken.positions[:] = float("nan")
    named = {"salt": SALT, "salt, again": SALT, "copper": bulk("Cu", "fcc", a=3.6), "bad": broken}
    for name, atoms in named.items():
        atoms = atoms.copy()
        atoms.info["id"] = name
        write(text, atoms, format="extxyz")
    sent = embedding.post("/api/batches?name=batch.extxyz", content=text.getvalue())
    assert sent.status_code == 201
    batch = batch_embedded(embedding, sent.json()["id"])
    assert [one["name"] for one in batch["structures"]] == ["salt", "salt, again", "copper"]
    assert [one["name"] for one in batch["rejected"]] == ["bad"]
    asked = {"candidates": batch["id"], "models": "sevennet-0"}
    rows = embedding.get("/api/screen", params=asked).json()["rows"]
    found = {row["candidate"]: row for row in rows}
    assert found["salt, again"]["same_as"] == "salt"
    assert found["bad"]["class"] == "rejected"
    assert rows[-1]["candidate"] == "bad"
    known = prototypes.screen(named["copper"], models=["sevennet-0"]).iloc[0]
    for name in ("p", "p_sparse"):
        assert found["copper"][name] == pytest.approx(known[name], abs=0.02)


def test_batches_have_limits(serve):
    client = serve(batch_structures=2, kept_atoms=10)
    one, three = as_text("extxyz"), as_text("extxyz") * 3
    assert "more than 2 structures" in client.post("/api/batches", content=three).json()["detail"]
    assert "atoms together" in client.post("/api/batches", content=one * 2).json()["detail"]
    assert client.get("/api/batches/upload:batch-0").status_code == 404
