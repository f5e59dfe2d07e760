"""`Store.open("http://…")` of a real service: its errors, its limits, and structures sent to it."""

import functools
import http.server
import threading

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from pyarrow import parquet
from pymatgen.io.ase import AseAtomsAdaptor
from serving import serving

from platonic_store.cli import main
from platonic_store.errors import (
    InvalidQuery,
    ModelNotFound,
    NotAllowed,
    StoreNotWritable,
    StoreUnreachable,
    StructureNotFound,
    UnreadableSource,
)
from platonic_store.service.app import create_app
from platonic_store.service.settings import Settings
from platonic_store.service_store import ServiceStore
from platonic_store.store import Store


@pytest.fixture(scope="module")
def served(service) -> Store:
    return Store.open(service)


@pytest.fixture(scope="module")
def embedding_service(prototypes):
    """A service whose workers embed."""
    with serving(create_app(prototypes, Settings(models=("sevennet-0",), seconds=120))) as url:
        yield url


def test_it_is_told_from_a_published_store(service, prototypes_path):
    assert isinstance(Store.open(service), ServiceStore)

    class Files(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            assert "Authorization" not in self.headers
            super().do_GET()

        def log_message(self, *_):
            pass

    handler = functools.partial(Files, directory=prototypes_path.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/{prototypes_path.name}"
        published = Store.open(url, storage_options={"token": "secret"})
        assert not isinstance(published, ServiceStore)
        assert published.similar("Spinel", k=1).attrs == {"snapshot": published.snapshot().id}
        server.shutdown()


def test_sql_and_the_cookbook(served, prototypes):
    for query, variables in (
        ("FROM site ORDER BY structure_id, site_index", {}),
        ("FROM structure ORDER BY structure_id", {}),
        ("@near-duplicates", {"within": 0.2}),
    ):
        expected = prototypes.sql(query, variables=variables)
        pd.testing.assert_frame_equal(served.sql(query, variables=variables), expected)
    assert "288 structures" in served._repr_html_()


def test_an_answer_of_several_pages(served, prototypes):
    found, expected = (store.neighbours(level="atom") for store in (served, prototypes))
    assert len(expected) > 4_000
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    ("ask", "error", "reason"),
    [
        (lambda s: s.similar("Rutle"), StructureNotFound, "closest ids are Rutile"),
        (lambda s: s.similar("Rutile", model="gpt"), ModelNotFound, "gpt"),
        (lambda s: s.similar("Rutile", k=0), InvalidQuery, "k must be at least 1"),
        (lambda s: s.similar("Rutile", where="no_column > 1"), InvalidQuery, "no_column"),
        (lambda s: s.similar(np.zeros(3)), InvalidQuery, "not for vectors"),
        (lambda s: s.similar(object()), UnreadableSource, "object is none of"),
        (lambda s: s.sql("SELECT no_column FROM structure"), InvalidQuery, "no_column"),
        (lambda s: s.sql("SELECT 1", allow_files=True), InvalidQuery, "no files"),
        (lambda s: s.ingest("x.cif", ["sevennet-0"]), StoreNotWritable, "is a service"),
        (lambda s: s.score(), StoreNotWritable, "is a service"),
        (lambda s: s.snapshot(), InvalidQuery, "no snapshot"),
        (lambda s: s.embeddings(), InvalidQuery, "no snapshot"),
        (lambda s: Store.open(s.location.uri, at=3), InvalidQuery, "snapshot that it serves"),
    ],
)
def test_errors_are_those_of_a_store(served, ask, error, reason):
    with pytest.raises(error, match=reason):
        ask(served)


def test_the_hint_comes_with_the_error(served, prototypes):
    for store in (served, prototypes):
        with pytest.raises(ModelNotFound) as caught:
            store.similar("Rutile", model="chgnet-0.3.1")
        assert "chgnet-0.3.0" in str(caught.value.hint)


def test_it_shows_the_page_of_the_service(served, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert served.explore().url == served.location.uri
    assert opened == [served.location.uri]


def test_a_token(prototypes, monkeypatch):
    with serving(create_app(prototypes, Settings(token="secret", models=()))) as url:
        with pytest.raises(StoreUnreachable, match="token"):
            Store.open(url)
        store = Store.open(url, storage_options={"token": "secret"})
        assert len(store.similar("Spinel", k=2)) == 2
        with pytest.raises(NotAllowed, match="cookbook"):
            store.sql("SELECT 1")
        monkeypatch.setenv("PLATONIC_STORE_TOKEN", "secret")
        store = Store.open(url)
    with pytest.raises(StoreUnreachable, match="does not answer"):
        store.similar("Spinel")


def test_the_command_asks_a_service(service, capsys, monkeypatch):
    words = ["platonic-store", "similar", "Spinel", "-k", "1", "--store", service]
    monkeypatch.setattr("sys.argv", [*words, "--format", "csv"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("rank,structure_id,distance,formula")


def test_structures_are_sent_and_embedded(embedding_service, prototypes, tmp_path):
    crystal = bulk("NaCl", "rocksalt", a=5.64)
    crystal.write(tmp_path / "salt.cif")
    (tmp_path / "broken.cif").write_text("no crystal")
    structure = AseAtomsAdaptor.get_structure(crystal)
    served = Store.open(embedding_service)
    # What is sent is not in the store, and so the prototype itself comes first.
    alike = prototypes.similar("Halite", k=4)
    for query in (crystal, structure, tmp_path / "salt.cif", str(tmp_path / "salt.cif")):
        found = served.similar(query, k=5)
        assert found["structure_id"].tolist() == ["Halite", *alike["structure_id"]]
        assert np.allclose(found["distance"], [0, *alike["distance"]], atol=2e-3)
        assert found.dtypes.equals(alike.dtypes)
    assert served.transport_distance(crystal, structure) == pytest.approx(0, abs=1e-6)
    assert served.embedding(structure, site=0).dtype == np.float32
    with pytest.raises(UnreadableSource):
        served.similar(tmp_path / "broken.cif")


def test_an_answer_of_a_service_is_written_as_one_of_a_store(served, prototypes, tmp_path):
    asked = {"model": "sevennet-0", "k": 2, "where": "nsites > 20"}
    paths = [
        store.write_answer(tmp_path / name, Store.neighbours, **asked)
        for store, name in ((served, "remote.parquet"), (prototypes, "here.parquet"))
    ]
    there, here = (parquet.read_table(path) for path in paths)
    assert there.equals(here)
    assert there.schema.metadata[b"snapshot"] == here.schema.metadata[b"snapshot"]
