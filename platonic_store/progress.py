"""Progress bars with rate and time left, on stderr; silent where nobody looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


class _Rate(ProgressColumn):
    """Items a second, with their unit."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        return Text(f"{speed:,.0f} {unit}/s" if speed else f"– {unit}/s", style="cyan")


@contextmanager
def _shown(progress: Progress, title: str, total: float | None, unit: str):
    with progress:
        task = progress.add_task(title, total=total, unit=unit)
        yield lambda amount: progress.advance(task, amount)


@contextmanager
def bar(title: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
    """A bar of known length; the block calls what it is given with each amount done."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _Rate(),
        TimeRemainingColumn(),
    )
    with _shown(
        Progress(*columns, console=console, disable=not console.is_terminal), title, total, unit
    ) as advance:
        yield advance


@contextmanager
def counting(title: str, unit: str) -> Iterator[Callable[[float], None]]:
    """A counter for work of unknown length."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description} {task.completed:,.0f}"),
        _Rate(),
        TimeElapsedColumn(),
    )
    with _shown(
        Progress(*columns, console=console, disable=not console.is_terminal), title, None, unit
    ) as advance:
        yield advance
