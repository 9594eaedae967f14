"""Times and lengths of time, as people write and read them on the command line."""

from __future__ import annotations

import re
import time
from datetime import datetime

from streamer.errors import UsageError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def local(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def duration(text: str) -> float:
    """Seconds. Raises UsageError."""
    if (found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())) is None:
        raise UsageError(f"{text!r} is no length of time: write 90s, 30m, 24h, 7d or 2w")
    return float(found[1]) * _UNITS[found[2]]


def since(last: str) -> float | None:
    """When it began, seconds since the epoch; None of `all`. Raises UsageError."""
    return None if last == "all" else time.time() - duration(last)


def moment(text: str) -> float:
    """Local time where it names no zone. Raises UsageError."""
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f'{text!r} is no time: write it as "2026-11-27 20:14:05"') from None
