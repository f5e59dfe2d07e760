"""Targets of every kind, and a real PostgreSQL server for one of them."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import annotation_targets as made
import pytest
from ase import Atoms
from stored import crystals_of

from platonic_store.store import Store


@pytest.fixture(scope="session")
def annotating(scored, tmp_path_factory) -> Store:
    """The scored crystals, to add to: annotating embeds what the store does not hold."""
    path = tmp_path_factory.mktemp("annotation") / "own.store"
    return Store.open(shutil.copytree(scored.path, path))


@pytest.fixture(scope="session")
def crystals(annotating) -> dict[str, Atoms]:
    """Forty crystals of the store, by their ids."""
    return crystals_of(annotating, "ORDER BY structure_id LIMIT 40")


@pytest.fixture
def target(crystals, tmp_path, request) -> Callable[[str], str]:
    """Makes a target of a kind: the crystals under their ids, with a `note` of the user's."""

    def make(kind: str) -> str:
        if kind == "postgresql":
            return made.table(request.getfixturevalue("postgresql"), crystals)
        if kind in made.DATABASES:
            return made.table(f"{kind}:///{tmp_path}/mine.{kind}", crystals)
        return made.file(tmp_path / f"mine.{kind}", crystals)

    return make


def _binaries() -> Path | None:
    """The folder of initdb and pg_ctl, which Debian keeps out of PATH."""
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(found).parent if found else debian[-1].parent if debian else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The SQLAlchemy URL of an empty database of a server of its own, on a socket."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    # Root may not run the server; Debian's package makes the user `postgres`.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="platonic-pg-", dir="/tmp"))

    def run(program: str, *words: str | Path) -> None:
        subprocess.run(
            [binaries / program, "-D", folder / "data", *words],
            **({"user": user} if os.geteuid() == 0 else {}),
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    try:
        shutil.chown(folder, user)
        run("initdb", "-A", "trust", "-U", "postgres", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "-w", "-o", options, "-l", folder / "log", "start")
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
