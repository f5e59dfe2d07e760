"""DuckDB draws no progress bar of its own, as it does where there is no script: in a notebook."""

import subprocess
import sys

ASKED = """
import sys
from pathlib import Path
import duckdb
from platonic_store.storage import bulk
from platonic_store.store import Store
folder = Path(sys.argv[1])
bar = "SELECT current_setting('enable_progress_bar')"
assert duckdb.connect().execute(bar).fetchone() == (True,), "this is no notebook to DuckDB"
store = Store.open(folder / "a.store")
with store._writing("nothing", create=True) as writer, writer.reading() as connection:
    assert connection.exec_driver_sql(bar).scalar() is False
with bulk._connect(folder) as connection:
    assert connection.execute(bar).fetchone() == (False,)
with store.snapshot() as snapshot:
    assert snapshot.rows(bar) == [(False,)]
"""


def test_duckdb_draws_no_bar_in_a_notebook(tmp_path):
    subprocess.run([sys.executable, "-c", ASKED, str(tmp_path)], check=True)
