"""How results and errors reach the person or the pipe."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from platonic_store.cli.options import Format
from platonic_store.progress import say

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["complain", "say", "show"]

# What is always worth a column in a terminal; of the rest, as many as fit.
_FIRST = ("rank", "id", "formula", "site_index", "element", "multiplicity", "distance")
_LAST = ("content_hash", "added_at", "elements", "nelements", "material_id", "index")


def complain(line: str) -> None:
    """One red line on stderr."""
    say(line, style="[red]error:[/] ")


def show(frame: "pd.DataFrame", format: Format, out: Path | None = None, title: str = "") -> None:
    """Print a frame, or write it to `out`, in the format asked for."""
    if format is Format.table:
        text = _table(frame, title, to_file=out is not None)
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


def _table(frame: "pd.DataFrame", title: str, to_file: bool) -> str:
    width = 200 if to_file or not sys.stdout.isatty() else None
    console = Console(width=width, emoji=False)
    columns = _chosen(frame, console.width)
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None)
    for name in columns:
        table.add_column(name, justify="right" if _is_number(frame[name]) else "left")
    for row in frame[columns].itertuples(index=False):
        table.add_row(*(escape(_cell(value)) for value in row))
    with console.capture() as capture:
        console.print(table)
        if hidden := len(frame.columns) - len(columns):
            console.print(f"[dim]{len(frame)} rows; {hidden} more columns in --format json[/]")
    return capture.get()


def _chosen(frame: "pd.DataFrame", width: int) -> list[str]:
    """The columns that fit, the telling ones first, in the frame's order otherwise."""
    first = [name for name in _FIRST if name in frame]
    rest = [name for name in frame.columns if name not in first and name not in _LAST]
    last = [name for name in frame.columns if name in _LAST]
    chosen: list[str] = []
    used = 0
    for name in first + rest + last:
        cells = [len(_cell(value)) for value in frame[name].head(50)]
        needed = max([len(name), *cells]) + 2
        if used + needed > width and chosen:
            break
        chosen.append(name)
        used += needed
    return chosen


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
