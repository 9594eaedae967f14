"""Lets the same message through only once in a while."""

from __future__ import annotations

import time

PACE_S = 300.0
"""the same problem is logged at most this often"""


class RateLimit:
    """Whether a kind of message is due: at first, and then at most once in `pace_s` seconds."""

    def __init__(self, pace_s: float = PACE_S) -> None:
        self._pace_s = pace_s
        self._passed: dict[str, float] = {}

    def due(self, kind: str = "") -> bool:
        """True if the kind may be logged now; that counts as logged."""
        now = time.monotonic()
        if kind in self._passed and now - self._passed[kind] < self._pace_s:
            return False
        self._passed[kind] = now
        return True

    def forget(self, kind: str = "") -> None:
        """The problem is over: when it comes back, it is due at once."""
        self._passed.pop(kind, None)
