"""`platonic-store serve` as a process."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from service_driver import NACL

from platonic_store import cli
from platonic_store.errors import PlatonicError
from platonic_store.service.run import serve
from platonic_store.service.settings import Settings
from platonic_store.store import Store

COMMAND = Path(sys.executable).with_name("platonic-store")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def started(*arguments: str) -> tuple[subprocess.Popen, str]:
    port = free_port()
    process = subprocess.Popen(
        [COMMAND, "serve", *arguments, "--port", str(port)], stderr=subprocess.PIPE, text=True
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        assert process.poll() is None, process.stderr.read()
        try:
            if httpx.get(f"{url}/healthz").status_code == 200:
                return process, url
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("it does not start")


@pytest.mark.parametrize(
    ("name", "options"), [("SIGTERM", ["--models", "sevennet-0"]), ("SIGINT", ["--no-models"])]
)
def test_it_says_where_it_is_and_ends_with_all_its_processes(prototypes_path, name, options):
    process, url = started(str(prototypes_path), *options)
    embeds = "sevennet-0" in options
    answer = httpx.post(f"{url}/api/similar", content=NACL, timeout=60)
    assert answer.status_code == (200 if embeds else 404)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == (2 if embeds else 1)  # who embeds, who reads
    process.send_signal(getattr(signal, name))
    assert process.wait(20) in (0, 130, -getattr(signal, name))
    said = process.stderr.read()
    process.stderr.close()
    first = said.splitlines()[0]
    assert url in first
    assert "prototypes.store" in first
    assert ("sevennet-0" in first) == embeds
    assert '"POST /api/similar" ' in said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_it_is_shown_to_others_only_when_told_how(prototypes):
    for options, said in [
        ({"host": "0.0.0.0"}, "other machines"),
        ({"token": "short"}, "8 characters"),
        ({"models": ("nix",), "port": 0}, "no embeddings by nix"),
    ]:
        with pytest.raises(PlatonicError, match=said):
            serve(prototypes, Settings(**options))
    with pytest.raises(PlatonicError, match="anybody") as raised:
        cli.serve.run(str(prototypes.path), public=1)
    assert "twice" in str(raised.value.hint)
    with pytest.raises(PlatonicError, match="no store"):
        serve(Store.open("/nowhere/at-all.store"), Settings(port=0))


def test_a_port_that_is_taken(prototypes):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PlatonicError, match="already in use") as raised:
            serve(prototypes, Settings(port=taken.getsockname()[1], models=()))
    assert "--port" in str(raised.value.hint)
