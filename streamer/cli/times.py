"""Times and lengths of time, as people write and read them on the command line."""

from __future__ import annotations

import time
from datetime import datetime

from streamer.core.times import seconds
from streamer.errors import UsageError


def local(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def duration(text: str) -> float:
    """Seconds. Raises UsageError."""
    try:
        return seconds(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def since(last: str) -> float | None:
    """When it began, seconds since the epoch; None of `all`. Raises UsageError."""
    return None if last == "all" else time.time() - duration(last)


def moment(text: str) -> float:
    """Local time where it names no zone. Raises UsageError."""
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f'{text!r} is no time: write it as "2026-11-27 20:14:05"') from None
