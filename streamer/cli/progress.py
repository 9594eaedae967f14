"""The progress bar of long commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Speed(ProgressColumn):
    """Clips a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


class Bar:
    """A bar with loss, rate and time left on the error stream, and lines above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def message(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def begin(self, what: str, total: int, done: int = 0) -> None:
        self._task = self._progress.add_task(what, total=total, completed=done, note="")

    def advance(self, n: int, note: str = "") -> None:
        self._progress.update(self._task, advance=n, note=note)

    def end(self) -> None:
        self._progress.remove_task(self._task)


@contextmanager
def bar(*, plain: bool) -> Iterator[Bar]:
    """A progress bar on the error stream; with `plain`, or without a terminal, only the lines."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=plain or not console.is_terminal) as progress:
        yield Bar(progress)
