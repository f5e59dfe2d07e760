"""How results and errors reach the person or the pipe."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from platonic_store.cli.options import Format
from platonic_store.progress import say, show_line

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["complain", "say", "show"]


def complain(line: str) -> None:
    """One red line on stderr."""
    show_line(line, style="[red]error:[/] ")


def show(
    frame: "pd.DataFrame",
    format: Format,
    out: Path | None = None,
    *,
    columns: str | None = None,
    first: Sequence[str] | None = None,
) -> None:
    """Print a frame, or write it to `out`, in the format asked for.

    columns: which to show, with commas between, or `all`. first: what a table shows of them
    otherwise, as many as fit; other formats hold all.
    """
    if columns not in (None, "all"):
        frame = frame[_named(frame, columns or "")]
    if format is Format.table:
        chosen = list(frame.columns)
        if columns is None:
            chosen = _fitting(frame, [name for name in first or chosen if name in frame])
        text = _table(frame, chosen)
        out.write_text(text) if out else print(text, end="")
    elif format is Format.json:
        text = frame.to_json(orient="records", date_format="iso", indent=2, force_ascii=False)
        out.write_text(text + "\n") if out else print(text)
    elif format is Format.csv:
        _flat(frame).to_csv(out or sys.stdout, index=False)
    else:
        _parquet(frame, out)
    if out:
        say(f"wrote {out}")


def _flat(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Lists as JSON text: a csv has no other word for them."""
    return frame.map(lambda value: json.dumps(value.tolist()) if _is_list(value) else value)


def _is_list(value: object) -> bool:
    return hasattr(value, "tolist") and getattr(value, "ndim", 0) > 0


def _parquet(frame: "pd.DataFrame", out: Path | None) -> None:
    import typer

    if out is None and sys.stdout.isatty():
        raise typer.BadParameter("parquet is not for terminals: add `--out FILE` or a pipe")
    frame.to_parquet(out or sys.stdout.buffer, index=False)


def _named(frame: "pd.DataFrame", columns: str) -> list[str]:
    """The columns of a list with commas. Raises InvalidQuery, naming those there are."""
    from platonic_store.errors import InvalidQuery

    names = [name.strip() for name in columns.split(",") if name.strip()]
    if unknown := [name for name in names if name not in frame]:
        raise InvalidQuery(f"no column {unknown[0]!r} (there are {', '.join(frame.columns)})")
    return names


def _width() -> int:
    return Console().width if sys.stdout.isatty() else 200


def _table(frame: "pd.DataFrame", columns: list[str]) -> str:
    table = Table(header_style="bold", box=None)
    for name in columns:
        table.add_column(name, justify="right" if _is_number(frame[name]) else "left")
    for row in frame[columns].itertuples(index=False):
        table.add_row(*(escape(_cell(value)) for value in row))
    needed = sum(_column_width(frame, name) for name in columns)
    console = Console(width=max(needed, _width()), emoji=False)
    with console.capture() as capture:
        console.print(table)
        if hidden := len(frame.columns) - len(columns):
            console.print(f"[dim]{len(frame)} rows; {hidden} more columns: --columns all[/]")
    return capture.get()


def _fitting(frame: "pd.DataFrame", columns: list[str]) -> list[str]:
    """As many of the columns, from the first on, as fit the terminal."""
    chosen: list[str] = []
    free = _width()
    for name in columns:
        free -= _column_width(frame, name)
        if free < 0 and chosen:
            break
        chosen.append(name)
    return chosen


def _column_width(frame: "pd.DataFrame", name: str) -> int:
    return max([len(name), *(len(_cell(value)) for value in frame[name])]) + 2


def _is_number(column: "pd.Series") -> bool:
    return column.dtype.kind in "iuf"


def _cell(value: object) -> str:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        text = " ".join(_cell(item) for item in value[:6])
        return f"{text} …" if len(value) > 6 else text
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("\n", " ")[:60]
