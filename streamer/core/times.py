"""A moment as programs exchange it."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(at: float) -> str:
    """RFC 3339, UTC, to the millisecond, from seconds since 1970."""
    # Rounded first: isoformat cuts the milliseconds off instead.
    moment = datetime.fromtimestamp(round(at, 3), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
