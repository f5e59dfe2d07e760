"""Every example of the README runs as printed, in order, in an empty folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from platonic_store.store import Store

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("start", ["embedded", pytest.param("nothing", marks=pytest.mark.models)])
def test_examples_run_as_printed(start, stores, tmp_path):
    """In an empty folder; or in one where the first command finds what it would have made."""
    if start == "embedded":
        shutil.copytree(stores / "embedded.store", tmp_path / "crystals.store")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    # One shell, as a reader has: what a block exports, the next ones know.
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks("bash"))],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    for script in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
    store = Store.open(tmp_path / "crystals.store")
    for statement in ";".join(blocks("sql")).split(";"):
        if statement.strip():
            assert len(store.sql(statement)) > 0
    assert (tmp_path / "pictures" / "map.png").exists()


def test_it_opens_with_the_two_commands():
    assert README.split("```")[1].split()[:2] == ["make", "demo"]
    assert "make test" in README.split("```")[1]


def test_links_lead_somewhere():
    folder = Path(__file__).parent.parent
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (folder / target).exists(), target
