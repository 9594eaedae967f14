"""A training that nobody looks at."""

from __future__ import annotations


class NoProgress:
    """A `Progress` that shows nothing."""

    def message(self, line: str) -> None: ...

    def begin(self, what: str, total: int, done: int = 0) -> None: ...

    def advance(self, n: int, note: str = "") -> None: ...

    def end(self) -> None: ...
