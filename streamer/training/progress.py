"""Who is told how a training goes."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """A bar on a terminal, or nobody."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """A bar of `total` clips."""

    def advance(self, n: int, note: str = "") -> None:
        """So many clips more; the note stands beside the bar."""

    def end(self) -> None:
        """The bar is over."""


class Nobody:
    """A watch that does not look."""

    def say(self, line: str) -> None: ...

    def begin(self, what: str, total: int, done: int = 0) -> None: ...

    def advance(self, n: int, note: str = "") -> None: ...

    def end(self) -> None: ...
