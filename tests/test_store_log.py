"""The log of a store, and what a person sees of it."""

import logging
import re

import pytest
from ase.build import bulk
from typer.testing import CliRunner

from platonic_store.cli import app
from platonic_store.store import Store


@pytest.fixture
def store(tmp_path) -> Store:
    opened = Store.open(tmp_path / "salts.store")
    opened.ingest({"salt": bulk("NaCl", "rocksalt", a=5.64)}, ["control:composition"])
    return opened


def test_a_writer_leaves_a_log_and_a_reader_does_not(store):
    level = logging.getLogger("platonic_store").level
    log = store.path / "log.txt"
    text = log.read_text()
    assert re.search(r"storage\.commits: committed chunk \d+: 1 structures of run \d+\n", text)
    assert "published snapshot 1" in text
    store.similar("salt")
    assert log.read_text() == text
    store.delete(["salt"])
    assert "deleted 1 structures" in log.read_text()
    assert logging.getLogger("platonic_store").level == level


def test_quiet_and_verbose(store):
    words = ["--store", str(store.path), "doctor"]
    assert "all is well" in CliRunner().invoke(app, words).stderr
    assert CliRunner().invoke(app, ["-q", *words]).stderr == ""
