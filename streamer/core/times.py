"""A moment as programs exchange it, and a length of time as people write it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def utc(at: float) -> str:
    """RFC 3339, UTC, to the millisecond, from seconds since 1970."""
    # Rounded first: isoformat cuts the milliseconds off instead.
    moment = datetime.fromtimestamp(round(at, 3), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(text: str) -> float:
    """Of a length of time such as `90s`, `24h` or `7d`. Raises ValueError, with a sentence for people."""
    if (found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())) is None:
        raise ValueError(f"{text!r} is no length of time: write 90s, 30m, 24h, 7d or 2w")
    return float(found[1]) * _UNITS[found[2]]
