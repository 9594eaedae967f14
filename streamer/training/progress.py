"""What a training reports its progress to."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A progress bar, and lines above it."""

    def message(self, line: str) -> None:
        """Show a line that stays."""

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """Begin a bar of `total` clips, of which some are done."""

    def advance(self, n: int, note: str = "") -> None:
        """Count `n` more clips; the note stands beside the bar."""

    def end(self) -> None:
        """Remove the bar."""
