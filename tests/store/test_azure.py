"""A store in Azure's Blob Storage, by its emulator: `npm install -g azurite`."""

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from store_fakes import content, crystals

from platonic_store.errors import StoreNotFound, StoreUnreachable
from platonic_store.storage.locate import locate
from platonic_store.store import Store

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("fakes")]
ACCOUNT, CONTAINER = "ofthetests", "crystals"
KEY = base64.b64encode(b"of the tests").decode()
URI = f"az://{CONTAINER}/folder/test.store"


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Of an empty container, on a server of this machine."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("no azurite: npm install -g azurite")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--blobPort", str(port), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    server = subprocess.Popen(
        [program, *words, "--location", str(tmp_path_factory.mktemp("azurite"))],
        env={"PATH": os.environ["PATH"], "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        _make(endpoint)
        yield {
            "azure_storage_account_name": ACCOUNT,
            "azure_storage_account_key": KEY,
            "azure_storage_endpoint": endpoint,
            "allow_http": "true",
        }
    finally:
        server.terminate()
        server.wait(10)


def _make(endpoint: str) -> None:
    """Make the container: a request that is signed with the shared key."""
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    said = {"x-ms-date": now, "x-ms-version": "2021-12-02"}
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in said.items())]
    lines += [f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}", "restype:container"]
    digest = hmac.new(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
    said["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    said["Content-Length"] = "0"
    request = urllib.request.Request(
        f"{endpoint}/{CONTAINER}?restype=container", method="PUT", headers=said
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 201


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLATONIC_STORE_CACHE", str(tmp_path / "cache"))


def test_jobs_questions_and_copies_are_those_of_a_disk(options, store, tmp_path):
    pool = crystals(12)
    there = Store.open(URI, storage_options=options)
    for one in (store, there):
        one.ingest(pool, ["fake-a", "fake-b"])
        one.delete(["c3"])
        one.select_anchors("random", 8)
        one.project()
    assert content(there) == content(store)
    names = ["structure_id", "distance"]
    assert there.similar("c1")[names].equals(store.similar("c1")[names])
    there.copy(tmp_path / "back.store")
    assert content(Store.open(tmp_path / "back.store")) == content(store)
    store.copy("az://crystals/copy.store", storage_options=options)
    copied = Store.open("az://crystals/copy.store", storage_options=options)
    assert content(copied) == content(store)
    assert copied.doctor(deep=True)["problems"] == []


def test_what_exists_is_not_created_again(options):
    place = locate("az://crystals/other", options)
    place.require_conditional_create()
    assert place.create("key", b"first")
    assert place.create("key", b"first")  # the same bytes count as made by this call
    assert not place.create("key", b"second")
    assert place.read("key") == b"first"


def test_a_wrong_key_and_no_container_have_one_line(options):
    wrong = {**options, "azure_storage_account_key": base64.b64encode(b"another").decode()}
    with pytest.raises(StoreUnreachable, match="refuses") as raised:
        Store.open(URI, storage_options=wrong).sql("FROM structure")
    assert "\n" not in str(raised.value)
    with pytest.raises(StoreNotFound):
        Store.open("az://nothing/test.store", storage_options=options).ingest(crystals(1))
