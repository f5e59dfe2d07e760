"""Progress bars with rate and time left, on stderr; silent where nobody looks."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

Advance = Callable[[float], None]
# A bar within another one's block is not drawn: two would fight for the same line.
_is_under_way = ContextVar("_is_under_way", default=False)
# What may be said beside the bar that is drawn, and how much more there is to do.
_note = ContextVar[Callable[[str], None] | None]("_note", default=None)
_more = ContextVar[Callable[[float], None] | None]("_more", default=None)
_is_quiet = False


def be_quiet(quiet: bool) -> None:
    """Whether bars and remarks are left out, in this process."""
    global _is_quiet
    _is_quiet = quiet


def is_quiet() -> bool:
    """Whether remarks are left out."""
    return _is_quiet


def say(line: str) -> None:
    """A remark for the person, kept out of the results on stdout."""
    if not _is_quiet:
        show_line(line)


def show_line(line: str, style: str = "") -> None:
    """A line on stderr, quiet or not."""
    # No emoji: `control:soap:3` would bring one.
    console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    console.print(f"{style}{escape(line)}")


class _Rate(ProgressColumn):
    """Items a second, with their unit."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        return Text(f"{speed:,.0f} {unit}/s" if speed else f"– {unit}/s", style="cyan")


class _Note(ProgressColumn):
    """What is said beside a bar, as far as there is room: a bar is one line."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["note"], style="dim", no_wrap=True, overflow="ellipsis")


_WHOLE: Final = Column(no_wrap=True)  # gives no room away
# Below so many characters a line has no room for a bar beside the numbers.
_ROOM_FOR_BAR: Final = 100


@contextmanager
def _shown(
    columns: tuple[ProgressColumn, ...], title: str, total: float | None, unit: str
) -> Iterator[Advance]:
    console = Console(stderr=True, emoji=False)
    if console.width < _ROOM_FOR_BAR:
        columns = tuple(column for column in columns if not isinstance(column, BarColumn))
    is_outermost = not _is_under_way.get()
    is_seen = console.is_terminal and is_outermost and not _is_quiet
    _is_under_way.set(True)
    try:
        with Progress(*columns, console=console, disable=not is_seen) as progress:
            task = progress.add_task(title, total=total, unit=unit, note="")
            if is_outermost:
                shown = progress.tasks[0]
                _note.set(lambda text: progress.update(task, note=text))
                _more.set(lambda amount: progress.update(task, total=(shown.total or 0) + amount))
            yield lambda amount: progress.advance(task, amount)
    finally:
        _is_under_way.set(not is_outermost)
        if is_outermost:
            _note.set(None)
            _more.set(None)


def note(text: str) -> None:
    """Say something beside the bar that is under way, if there is one."""
    show = _note.get()
    if show is not None:
        show(text)


def expect_more(amount: float) -> None:
    """There is more to do than the bar that is under way was told, or less."""
    change = _more.get()
    if change is not None:
        change(amount)


def bar(title: str, total: float, unit: str) -> AbstractContextManager[Advance]:
    """A bar of known length; the block calls what it is given with each amount done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _Rate(_WHOLE),
        TimeRemainingColumn(table_column=_WHOLE),
        _Note(),
    )
    return _shown(columns, title, total, unit)


def counting(title: str, unit: str) -> AbstractContextManager[Advance]:
    """A counter for work of unknown length."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description} {task.completed:,.0f}"),
        _Rate(_WHOLE),
        TimeElapsedColumn(_WHOLE),
        _Note(),
    )
    return _shown(columns, title, None, unit)


class Bytes:
    """A bar that counts bytes, as pooch wants one (`total`, `update`, `reset`, `close`)."""

    def __init__(self, progress: Progress, title: str, total: float | None):
        self._progress = progress
        self._task = progress.add_task(title, total=total)

    @property
    def total(self) -> float:
        return self._progress.tasks[0].total or 0

    @total.setter
    def total(self, amount: float) -> None:
        self._progress.update(self._task, total=amount or None)

    def update(self, amount: float) -> None:
        self._progress.advance(self._task, amount)

    def reach(self, amount: float, title: str) -> None:
        """So much is done, and this is under way; a bar never goes back."""
        done = max(amount, self._progress.tasks[0].completed)
        self._progress.update(self._task, completed=done, description=title)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        self._progress.refresh()


@contextmanager
def bytes_bar(title: str, total: float | None = None) -> Iterator[Bytes]:
    """A bar of bytes, with their rate and the time left."""
    console = Console(stderr=True, emoji=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, disable=_is_quiet or not console.is_terminal
    ) as progress:
        yield Bytes(progress, title, total)
