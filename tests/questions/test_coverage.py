"""Coverage of real crystals by a reference store: what is near, what is lacking, who may ask."""

import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from platonic_store.errors import (
    CheckpointMismatch,
    InvalidQuery,
    LayerNotFound,
    ModelNotFound,
    StoreNotFound,
)
from platonic_store.geometry.coordination import coordination_numbers
from platonic_store.store import Store


def without(symbol: str, stores, folder) -> Store:
    """A reference of the same crystals but those with an element."""
    store = Store.open(shutil.copytree(stores / "embedded.store", folder / "training.store"))
    known = store.sql(f"FROM structure WHERE list_contains(elements, '{symbol}')")
    store.delete(known["structure_id"].tolist())
    return store


@pytest.fixture(scope="module")
def without_titanium(stores, tmp_path_factory) -> Store:
    return without("Ti", stores, tmp_path_factory.mktemp("reference"))


def test_copies_that_went_different_ways_are_two_references(
    prototypes, without_titanium, stores, tmp_path
):
    other = without("F", stores, tmp_path)
    for query, reference, lacks in [
        ("Rutile", without_titanium, ["Ti"]),
        ("Rutile", other, []),
        ("Fluorite", other, ["F"]),
        ("Fluorite", without_titanium, []),
    ]:
        (row,) = prototypes.coverage(query, reference=reference.path).itertuples()
        assert row.lacks == lacks


def test_what_is_in_the_reference_is_there(prototypes, prototypes_path):
    found = prototypes.coverage(reference=str(prototypes_path))
    assert len(found) == prototypes.sql("SELECT structures FROM model").iloc[0, 0]
    np.testing.assert_allclose(found["distance"], 0, atol=1e-6)
    assert (found["lacks"].map(len) == 0).all()
    assert (found["p"] > 0.9).all()
    assert found["reference"].unique() == f"{prototypes_path}@{prototypes.snapshot().id}"


def test_the_nearest_atom_is_the_nearest_of_all_of_its_element(prototypes, without_titanium):
    found = prototypes.coverage("Fluorite", reference=without_titanium.path, level="atom")
    rows = without_titanium.embeddings("sevennet-0").to_pandas()
    query = prototypes.embeddings("sevennet-0").to_pandas()
    for row in found.itertuples():
        mine = query[(query.structure_id == "Fluorite") & (query.site_index == row.site_index)]
        vector = mine["vector"].iloc[0]
        same = rows[rows.atomic_number == mine["atomic_number"].iloc[0]]
        matrix = np.stack(same["vector"])
        cosines = matrix @ vector / np.linalg.norm(matrix, axis=1) / np.linalg.norm(vector)
        np.testing.assert_allclose(row.distance, max(0, 1 - cosines.max()), atol=1e-6)


def test_an_element_that_the_reference_lacks_is_named(prototypes, without_titanium):
    found = prototypes.coverage(reference=str(without_titanium.path)).set_index("structure_id")
    assert found.loc["Rutile", "lacks"] == ["Ti"]
    has = dict(
        prototypes.sql("SELECT structure_id, elements FROM structure").itertuples(index=False)
    )
    for id_, lacks in found["lacks"].items():
        assert ("Ti" in lacks) == ("Ti" in has[id_])
    atoms = prototypes.coverage("Rutile", reference=without_titanium.path, level="atom")
    assert atoms.set_index("element").loc["Ti", ["of_element", "of_coordination"]].tolist() == [
        0,
        0,
    ]
    assert atoms.set_index("element").loc["Ti", "p"] < 0.05
    assert atoms.set_index("element").loc["O", "lacks"] == []


def test_a_coordination_that_the_reference_lacks_is_named(prototypes):
    squeezed = bulk("NaCl", "cesiumchloride", a=3.35)
    (row,) = (
        prototypes.coverage(squeezed, reference=prototypes.path, level="atom", model="chgnet-0.3.0")
        .query("element == 'Na'")
        .itertuples()
    )
    assert row.coordination == 8
    assert row.of_element > 0
    assert row.lacks == (["Na with 8 neighbours"] if not row.of_coordination else [])
    assert row.distance > 0


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        (bulk("NaCl", "rocksalt", a=5.64), [6, 6]),
        (bulk("CsCl", "cesiumchloride", a=4.12), [8, 8]),
        (bulk("Cu", "fcc", a=3.61), [12]),
        (bulk("Si", "diamond", a=5.43), [4, 4]),
        (bulk("ZnS", "zincblende", a=5.41), [4, 4]),
        (bulk("Mg", "hcp", a=3.21, c=5.21), [12, 12]),
        (Atoms("CO2", [[0, 0, 0], [0, 0, 1.16], [0, 0, -1.16]]), [2, 1, 1]),
        (Atoms("Ar", cell=np.eye(3) * 6, pbc=True), [0]),
    ],
)
def test_coordination_numbers_of_textbooks(atoms, expected):
    found = coordination_numbers(atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc)
    assert found.tolist() == expected


def test_a_supercell_has_the_same_coordination():
    one = bulk("SiC", "zincblende", a=4.36)
    many = one.repeat((2, 1, 3))
    found = coordination_numbers(many.numbers, many.positions, many.cell[:], many.pbc)
    assert set(found) == {4}


def test_embeddings_of_other_weights_are_refused(prototypes, own_prototypes):
    with own_prototypes._writing("other weights") as writer, writer.writing() as connection:
        connection.exec_driver_sql("UPDATE models SET checkpoint_sha256 = repeat('0', 64)")
    with pytest.raises(CheckpointMismatch, match="sha256 of the weights is 000") as refused:
        prototypes.coverage("Rutile", reference=str(own_prototypes.path))
    assert "\n" not in str(refused.value)


def test_wrong_references_get_one_line(prototypes, tmp_path):
    for arguments, error, says in [
        ({"reference": str(tmp_path / "nix")}, StoreNotFound, "the reference: there is no store"),
        ({"reference": "ftp://a/b"}, InvalidQuery, "no URL of a store"),
        ({"reference": prototypes.path, "model": "nix"}, ModelNotFound, "nix"),
        ({"reference": prototypes.path, "model": "sevennet-0@4"}, LayerNotFound, "layers"),
    ]:
        with pytest.raises(error, match=says) as refused:
            prototypes.coverage("Rutile", **arguments)
        assert "\n" not in str(refused.value)


@pytest.fixture
def spied():
    """A web server that should never be asked, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/x.store", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_sql_and_services_open_only_what_their_owner_named(prototypes, client_of, spied):
    uri, asked = spied
    for reference in (uri, str(prototypes.path), "file:///etc", "s3://a/b", "../x", ""):
        with pytest.raises(InvalidQuery, match="no reference that the owner"):
            prototypes.sql(f"FROM coverage('Rutile', reference := '{reference}')")
        sql = f"FROM typicality('Rutile', reference := '{reference}')"
        for path, given in (
            ("/api/coverage", {"query": "Rutile", "reference": reference}),
            ("/api/typicality", {"query": "Rutile", "reference": reference}),
            ("/api/sql", {"q": sql}),
        ):
            answer = client_of.get(path, params=given)
            assert answer.status_code == 422
            assert "no reference that the owner" in answer.json()["detail"]
    assert asked == []


@pytest.fixture
def client_of(service):
    import httpx

    with httpx.Client(base_url=service, timeout=60) as found:
        yield found


def test_a_service_has_its_own_references(service, prototypes_path):
    with pytest.raises(InvalidQuery, match="references of its own"):
        Store.open(service, references={"mine": str(prototypes_path)})
