"""What it costs to annotate a database: rows a second into a table of all a store's structures.

    python benchmarks/annotation.py STORE URL [MODEL …]

URL is an SQLAlchemy URL of a database in which a table `benchmarked_crystals` may be made anew.
"""

import sys
import time
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa

from platonic_store.annotation.targets.database import DatabaseTarget
from platonic_store.store import Store

NAME = "benchmarked_crystals"
SQL = (
    f"SELECT material_id, formula, platonic_atypicality_p, platonic_distance FROM {NAME} "
    "ORDER BY platonic_atypicality_p, material_id LIMIT 5"
)


def make(store: Store, engine: sa.Engine) -> int:
    """The table as a user has it; returns its rows."""
    frame = store.sql("SELECT structure_id AS material_id, formula, nsites FROM structure")
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    table = sa.Table(
        NAME,
        sa.MetaData(),
        sa.Column("material_id", sa.String(80), primary_key=True),
        sa.Column("formula", sa.Text),
        sa.Column("nsites", sa.Integer),
    )
    with engine.begin() as connection:
        table.drop(connection, checkfirst=True)
        table.create(connection)
        connection.execute(sa.insert(table), rows)
    return len(rows)


def main() -> None:
    store, url, models = Store.open(sys.argv[1]), sys.argv[2], sys.argv[3:]
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    rows = make(store, engine)
    writing: list[float] = []
    write = DatabaseTarget.write

    def timed(*arguments: Any) -> None:
        started = time.perf_counter()
        write(*arguments)
        writing.append(time.perf_counter() - started)

    for what in ("first", "again"):
        started = time.perf_counter()
        with patch.object(DatabaseTarget, "write", timed):
            report = store.annotate(f"{url}#{NAME}", models=models, by_id=True)
        seconds = time.perf_counter() - started
        wrote = f"{rows / writing[-1]:,.0f}" if report.written else "–"
        print(f"{what}: {report.written:,} rows written, {seconds:.1f} s in all, {wrote} rows/s")
    with engine.connect() as connection:
        for row in connection.execute(sa.text(SQL)):
            print(*row, sep="\t")


if __name__ == "__main__":
    main()
