"""The documentation says what the code says, and all of it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from platonic_store import Store, errors

ROOT = Path(__file__).parent.parent


def test_pages_made_from_the_code_are_current():
    check = [sys.executable, str(ROOT / "docs" / "generate"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it."""
    pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_reference_has_every_method_question_and_error(site):
    pages = [page.read_text() for page in (site / "reference").glob("*/index.html")]
    anchors = set(re.findall(r'id="([^"]+)"', "".join(pages)))
    methods = [name for name in dir(Store) if not name.startswith("_")]
    for name in methods:
        assert {f"platonic_store.Store.{name}", name} & anchors, name
    for kind in [errors.PlatonicError, *errors.PlatonicError.__subclasses__()]:
        assert f"platonic_store.errors.{kind.__name__}" in anchors


def test_the_site_loads_nothing_from_elsewhere(site):
    remote = re.compile(r'<(?:script|img)[^>]+src="?https?:|<link[^>]+stylesheet[^>]+https?:')
    for page in site.rglob("*.html"):
        assert not remote.search(page.read_text()), page
