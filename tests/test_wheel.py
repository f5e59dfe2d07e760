"""The installed package finds its folders as well as a checkout does."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_wheel_finds_cards_migrations_and_queries(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT],
        check=True,
        cwd=tmp_path,
    )
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "from platonic_store import Store, resources; from platonic_store.runtimes import cards; "
        "import pathlib; store = Store.open('made.store'); "
        "store.ingest('builtin:aflow-prototypes'); "
        "print(pathlib.Path(resources.__file__).parent, len(cards.load_cards()) > 5, "
        "(resources.folder('ingest') / 'worker.py').exists(), "
        "(pathlib.Path(resources.__file__).parent / 'report' / 'page.html.j2').exists(), "
        "store.sql('SELECT count(*) AS n FROM structure')['n'][0], "
        "len(store.sql('@coverage', variables={'fewer': 2})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [
        str(tmp_path / "site" / "platonic_store"),
        "True",
        "True",
        "True",
        "288",
        "8",
    ], done.stderr
