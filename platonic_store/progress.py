"""Progress bars with rate and time left, on stderr; silent where nobody looks."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Advance = Callable[[float], None]


class _Rate(ProgressColumn):
    """Items a second, with their unit."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        return Text(f"{speed:,.0f} {unit}/s" if speed else f"– {unit}/s", style="cyan")


@contextmanager
def _shown(
    columns: tuple[ProgressColumn, ...], title: str, total: float | None, unit: str
) -> Iterator[Advance]:
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, unit=unit)
        yield lambda amount: progress.advance(task, amount)


def bar(title: str, total: float, unit: str) -> AbstractContextManager[Advance]:
    """A bar of known length; the block calls what it is given with each amount done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _Rate(),
        TimeRemainingColumn(),
    )
    return _shown(columns, title, total, unit)


def counting(title: str, unit: str) -> AbstractContextManager[Advance]:
    """A counter for work of unknown length."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description} {task.completed:,.0f}"),
        _Rate(),
        TimeElapsedColumn(),
    )
    return _shown(columns, title, None, unit)
