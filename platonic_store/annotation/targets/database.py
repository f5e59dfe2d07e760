"""A table behind any SQLAlchemy URL: new columns, and updates by its primary key."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from platonic_store.annotation.provenance import now
from platonic_store.annotation.targets import (
    BATCH,
    PREFIX,
    Answer,
    Columns,
    Key,
    Record,
    batches,
    id_column,
)
from platonic_store.errors import Call, InvalidTarget
from platonic_store.structures import Crystal, Rejected
from platonic_store.structures.checks import fault
from platonic_store.structures.parquet import row_parser
from platonic_store.structures.records import one_line

_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "text": sa.Text(),
    "number": sa.Double(),
    "neighbours": sa.JSON(none_as_null=True),
}
RUN = f"{PREFIX}run"
RUNS = f"{PREFIX}runs"


def open_table(
    url: str, *, out: str | Path | None, id: str | None, table: str | None, by_id: bool
) -> "DatabaseTarget":
    """The table `URL#table`, or its copy `out` (`URL#table`, or a table of the same database).

    A copy that exists gains the rows that it lacks.

    Raises: InvalidTarget.
    """
    url, _, fragment = url.partition("#")
    engine = _engine(url)
    source = _reflected(engine, table or fragment)
    if out is None:
        return DatabaseTarget(engine, source, id, by_id)
    to, _, name = str(out).rpartition("#")
    if "://" in name:
        raise InvalidTarget("the copy's URL names no table", "add it, URL#TABLE")
    there = _engine(to) if to else engine
    with _database_errors(there.url):
        copy = _copied(engine, source, there, name)
    return DatabaseTarget(there, copy, id, by_id)


class DatabaseTarget:
    """A table; structures in a column `cif` (text) or `structure` (pymatgen's dict), if any.

    Each batch is a transaction. `platonic_run` says which rows are done, so that the next call
    goes on after the last one, and the table `platonic_runs` beside it what that run was.
    """

    def __init__(self, engine: sa.Engine, table: sa.Table, id: str | None, by_id: bool):
        self.name, self.engine, self.table = table.name, engine, table
        names = table.columns.keys()
        usual = () if by_id else ("cif", "structure")
        self.structures = next((name for name in usual if name in names), None)
        self.id = id_column(names, id, self.structures is not None, _where(engine, table))
        self.keys = [column.name for column in table.primary_key] or self._unique_id()

    def _unique_id(self) -> list[str]:
        """The column of ids, for a table without a primary key."""
        where = _where(self.engine, self.table)
        if self.id:
            column = self.table.columns[self.id]
            unlike = sa.func.count(sa.distinct(column))
            with _database_errors(self.engine.url), self.engine.connect() as connection:
                rows, ids = connection.execute(sa.select(sa.func.count(), unlike)).one()
            if rows == ids:
                return [self.id]
        raise InvalidTarget(
            f"{where} has no primary key, and no column of ids that names each row once",
            f"add one by `ALTER TABLE {self.table.name} ADD PRIMARY KEY (…)`",
        )

    def records(self) -> Iterator[Record]:
        names = [*self.keys, *filter(None, [self.id, self.structures])]
        columns = [self.table.columns[name] for name in dict.fromkeys(names)]
        query = sa.select(*columns).order_by(*(self.table.columns[name] for name in self.keys))
        with _database_errors(self.engine.url), self.engine.connect() as connection:
            for row in connection.execution_options(yield_per=BATCH).execute(query).mappings():
                key = tuple(row[name] for name in self.keys)
                name = None if not self.id or row[self.id] is None else str(row[self.id])
                yield Record(key, name, self._crystal(row, name))

    def _crystal(self, row: Any, id: str | None) -> Crystal | Rejected | None:
        if self.structures is None or row[self.structures] is None:
            return None
        parse, _ = row_parser([self.structures], Path(self.table.name))
        try:
            crystal = parse(row, id, {})
            reason = fault(crystal)
        except Exception as error:
            reason = one_line(error)
        return Rejected(str(id), id, reason) if reason else crystal

    def done(self, run: str) -> set[Key]:
        if RUN not in self.table.columns:
            return set()
        query = sa.select(*(self.table.columns[name] for name in self.keys))
        with _database_errors(self.engine.url), self.engine.connect() as connection:
            rows = connection.execute(query.where(self.table.columns[RUN] == run))
            return {tuple(row) for row in rows}

    def write(
        self, keys: Sequence[Key], columns: Columns, answer: Answer, provenance: dict[str, Any]
    ) -> None:
        with _database_errors(self.engine.url):
            self._add(columns)
            self._note(provenance)
            with self.engine.connect() as connection:
                incoming = self._incoming(connection, columns)
                for part in batches(keys):
                    self._update(connection, incoming, columns, part, answer(part))

    def _add(self, columns: Columns) -> None:
        """Add the columns that the table lacks."""
        quote = self.engine.dialect.identifier_preparer
        with self.engine.begin() as connection:
            for name, kind in columns.items():
                if name not in self.table.columns:
                    type_ = _TYPES[kind].compile(self.engine.dialect)
                    connection.execute(
                        sa.text(
                            f"ALTER TABLE {quote.format_table(self.table)} "
                            f"ADD COLUMN {quote.quote(name)} {type_}"
                        )
                    )
        self.table = _reflected(self.engine, _dotted(self.table))

    def _note(self, provenance: dict[str, Any]) -> None:
        """Add the run to the table of runs, which is made if there is none."""
        runs = sa.Table(
            RUNS,
            sa.MetaData(),
            sa.Column("run", sa.String(16), primary_key=True),
            sa.Column("annotated", sa.String(200), primary_key=True),
            sa.Column("at", sa.Text),
            sa.Column("provenance", sa.JSON),
            schema=self.table.schema,
        )
        key = {"run": provenance["run"], "annotated": self.table.name}
        with self.engine.begin() as connection:
            runs.create(connection, checkfirst=True)
            if connection.execute(sa.select(runs).filter_by(**key)).first() is None:
                row = {**key, "at": now(), "provenance": provenance}
                connection.execute(sa.insert(runs).values(row))

    def _incoming(self, connection: sa.Connection, columns: Columns) -> sa.Table:
        """A temporary table of keys and answers: one UPDATE from it is far faster than many."""
        incoming = sa.Table(
            f"{PREFIX}incoming",
            sa.MetaData(),
            *(sa.Column(f"key_{name}", self.table.columns[name].type) for name in self.keys),
            *(sa.Column(name, _TYPES[kind]) for name, kind in columns.items()),
            prefixes=["TEMPORARY"],
        )
        incoming.create(connection)
        connection.commit()
        return incoming

    def _update(
        self,
        connection: sa.Connection,
        incoming: sa.Table,
        columns: Columns,
        keys: Sequence[Key],
        answers: list[dict[str, Any]],
    ) -> None:
        names = [f"key_{name}" for name in self.keys]
        rows = [
            dict(zip(names, key, strict=True)) | row for key, row in zip(keys, answers, strict=True)
        ]
        table = self.table.columns
        stale = {name for name in table.keys() if name.startswith(PREFIX)} - set(columns)  # noqa: SIM118
        same = [table[name] == incoming.columns[f"key_{name}"] for name in self.keys]
        values = {table[name]: incoming.columns[name] for name in columns}
        connection.execute(sa.delete(incoming))
        connection.execute(sa.insert(incoming), rows)
        connection.execute(
            sa.update(self.table)
            .where(*same)
            .values({**values, **{table[name]: sa.null() for name in stale}})
        )
        connection.commit()


def _engine(url: str) -> sa.Engine:
    """An engine to a database that exists."""
    try:
        parsed = sa.make_url(url)
        engine = sa.create_engine(parsed, poolclass=sa.NullPool)
    except (sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise InvalidTarget(
            f"no driver for {parsed.drivername}:// here ({error})",
            "install one, for PostgreSQL by `pip install 'platonic-store[postgresql]'`",
        ) from None
    except sa.exc.ArgumentError:
        raise InvalidTarget(
            f"{url} is not the URL of a database", "write it as sqlite:///my.db#table"
        ) from None
    file = parsed.database if parsed.get_backend_name() in ("sqlite", "duckdb") else None
    if file and not file.startswith("file:") and not Path(file).exists():
        raise InvalidTarget(f"there is no database file {file}", "check the URL")
    return engine


def _reflected(engine: sa.Engine, name: str) -> sa.Table:
    schema, _, bare = name.rpartition(".")
    with _database_errors(engine.url):
        tables = ", ".join(sa.inspect(engine).get_table_names(schema or None)) or "none"
        try:
            if bare:
                return sa.Table(bare, sa.MetaData(), schema=schema or None, autoload_with=engine)
        except sa.exc.NoSuchTableError:
            pass
    what = f"has no table {name}" if name else "is a database, and no table of it is named"
    raise InvalidTarget(
        f"{_safe(engine.url)} {what} (it has: {tables})",
        "name one, URL#TABLE",
        Call("annotate", "URL", table="TABLE"),
    )


def _copied(engine: sa.Engine, source: sa.Table, there: sa.Engine, name: str) -> sa.Table:
    """The copy of a table with all its rows."""
    schema, _, bare = name.rpartition(".")
    same = engine.dialect.name == there.dialect.name
    kept = [column for column in source.columns if not column.name.startswith(PREFIX)]
    sa.Table(
        bare,
        sa.MetaData(),
        *(
            sa.Column(
                column.name,
                column.type if same else column.type.as_generic(),
                primary_key=column.primary_key,
                nullable=column.nullable,
                autoincrement=False,
            )
            for column in kept
        ),
        schema=schema or None,
    ).create(there, checkfirst=True)
    copy = _reflected(there, name)
    if lacking := {column.name for column in kept} - set(copy.columns.keys()):
        raise InvalidTarget(
            f"{_where(there, copy)} exists already and is no copy of {source.name} (it lacks "
            f"{', '.join(sorted(lacking))})",
            Call("annotate", "TARGET", out="COPY"),
        )
    keys = [column.name for column in source.primary_key] or [column.name for column in kept]
    with there.connect() as connection:
        rows = connection.execute(sa.select(*(copy.columns[key] for key in keys)))
        present = {tuple(row) for row in rows}
    with engine.connect() as reading:
        stream = reading.execution_options(yield_per=BATCH).execute(sa.select(*kept)).mappings()
        for part in batches(stream):
            new = [dict(row) for row in part if tuple(row[key] for key in keys) not in present]
            if new:
                with there.begin() as connection:
                    connection.execute(sa.insert(copy), new)
    return copy


@contextmanager
def _database_errors(url: sa.URL) -> Iterator[None]:
    """Turn an error of the database into an InvalidTarget of one line."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        message = " ".join(str(error.orig).split())
        raise InvalidTarget(f"{_safe(url)} refuses: {message[:300]}") from None


def _where(engine: sa.Engine, table: sa.Table) -> str:
    return f"{_dotted(table)} of {_safe(engine.url)}"


def _dotted(table: sa.Table) -> str:
    return f"{table.schema}.{table.name}" if table.schema else table.name


def _safe(url: sa.URL) -> str:
    return url.render_as_string(hide_password=True)
