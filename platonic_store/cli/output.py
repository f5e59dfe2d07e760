"""How results and errors reach the person or the pipe."""

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from platonic_store.cli.options import Format
from platonic_store.json_values import plain
from platonic_store.progress import say, show_line

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["complain", "save", "say", "show"]


def complain(line: str) -> None:
    """One red line on stderr."""
    show_line(line, style="[red]error:[/] ")


def show(
    answer: "pa.Table | pd.DataFrame",
    format: Format,
    out: Path | None = None,
    *,
    columns: str | None = None,
    first: Sequence[str] | None = None,
) -> None:
    """Print a table, or write it to `out`, in the format asked for.

    columns: which to show, with commas between, or `all`. first: what a table shows of them
    otherwise, as many as fit; other formats hold all.
    """
    import pyarrow as pa

    table: Any = answer
    if not isinstance(table, pa.Table):
        table = pa.Table.from_pandas(table, preserve_index=False)
    if columns not in (None, "all"):
        table = table.select(_named(table, columns or ""))
    if format is Format.parquet:
        _parquet(table, out)
    elif out is None:
        _write(table, sys.stdout, format, columns, first)
    else:
        with out.open("w", encoding="utf-8", newline="") as file:
            _write(table, file, format, columns, first)
    if out:
        say(f"wrote {out}")


def save(parts: "Iterable[pa.Table]", out: Path, columns: str | None = None) -> dict[str, str]:
    """Write tables as one Parquet file as they come; returns what their metadata say.

    columns: as of `show`.
    """
    from platonic_store.exports import parquet

    if columns not in (None, "all"):
        parts = (part.select(_named(part, columns or "")) for part in parts)
    written = parquet.write(parts, out)
    say(f"wrote {out}")
    return {name.decode(): value.decode() for name, value in (written.metadata or {}).items()}


def _write(
    table: "pa.Table",
    file: IO[str],
    format: Format,
    columns: str | None,
    first: Sequence[str] | None,
) -> None:
    if format is Format.json:
        rows = [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]
        print(json.dumps(rows, indent=2, ensure_ascii=False), file=file)
    elif format is Format.csv:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(table.column_names)
        lines.writerows([_csv(value) for value in row.values()] for row in table.to_pylist())
    else:
        names = table.column_names
        if columns is None:
            names = _fitting(table, [name for name in first or names if name in names])
        file.write(_text(table, names))


def _csv(value: Any) -> Any:
    """Lists as JSON text: a csv has no other word for them."""
    if isinstance(value, list | dict):
        return json.dumps(plain(value), ensure_ascii=False)
    return None if value != value else value


def _parquet(table: "pa.Table", out: Path | None) -> None:
    import pyarrow.parquet as pq
    import typer

    if out is None and sys.stdout.isatty():
        raise typer.BadParameter("parquet is not for terminals: add `--out FILE` or a pipe")
    pq.write_table(table, out or sys.stdout.buffer)


def _named(table: "pa.Table", columns: str) -> list[str]:
    """The columns of a list with commas. Raises InvalidQuery, naming those there are."""
    from platonic_store.errors import InvalidQuery

    known = table.column_names
    names = [name.strip() for name in columns.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise InvalidQuery(f"no column {unknown[0]!r} (there are {', '.join(known)})")
    return names


def _width() -> int:
    return Console().width if sys.stdout.isatty() else 200


def _text(table: "pa.Table", names: list[str]) -> str:
    import pyarrow.types as kinds

    grid = Table(header_style="bold", box=None)
    for name in names:
        kind = table.schema.field(name).type
        is_number = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind)
        grid.add_column(name, justify="right" if is_number else "left")
    cells = [_cells(table, name) for name in names]
    for row in zip(*cells, strict=True):
        grid.add_row(*map(escape, row))
    needed = sum(map(_column_width, names, cells))
    console = Console(width=max(needed, _width()), emoji=False)
    with console.capture() as capture:
        console.print(grid)
        if hidden := table.num_columns - len(names):
            console.print(f"[dim]{table.num_rows} rows; {hidden} more columns: --columns all[/]")
    return capture.get()


def _fitting(table: "pa.Table", names: list[str]) -> list[str]:
    """As many of the columns, from the first on, as fit the terminal."""
    chosen: list[str] = []
    free = _width()
    for name in names:
        free -= _column_width(name, _cells(table, name))
        if free < 0 and chosen:
            break
        chosen.append(name)
    return chosen


def _cells(table: "pa.Table", name: str) -> list[str]:
    return [_cell(value) for value in table[name].to_pylist()]


def _column_width(name: str, cells: list[str]) -> int:
    return max([len(name), *map(len, cells)]) + 2


def _cell(value: object) -> str:
    if isinstance(value, list):
        text = " ".join(_cell(item) for item in value[:6])
        return f"{text} …" if len(value) > 6 else text
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("\n", " ")[:60]
