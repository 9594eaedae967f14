"""Wall clocks that do not follow the small steps that NTP makes."""

from __future__ import annotations

import time

STEP_S = 1.0
"""a wall clock that is off by more has been set, or the machine has slept"""


class Clock:
    """Seconds since the Unix epoch: taken from the wall clock once, carried on by the monotonic one.

    Intervals between two times are thus true. Where the wall clock is set by more than a second, as on a
    machine that learns the date from the network after its start, it is taken anew.
    """

    def __init__(self) -> None:
        self._anchor = time.time() - time.monotonic()

    def now(self) -> float:
        anchor = time.time() - time.monotonic()
        if abs(anchor - self._anchor) > STEP_S:
            self._anchor = anchor
        return self._anchor + time.monotonic()


class SourceClock:
    """The wall clock on the time line of a source's ring, which follows a set clock some seconds later.

    Thus an event's latency stays true, and no event ends before it began.
    """

    def __init__(self) -> None:
        self._anchor = time.time() - time.monotonic()

    def follow(self, window_end: float) -> float:
        """Now, on the time line of a window that has just been scored."""
        anchor, end_anchor = time.time() - time.monotonic(), window_end - time.monotonic()
        # Where the clock was set, the window is on the time line on which it ended closest to now.
        if abs(anchor - self._anchor) < STEP_S or abs(anchor - end_anchor) < abs(self._anchor - end_anchor):
            self._anchor = anchor
        return self.now()

    def now(self) -> float:
        return self._anchor + time.monotonic()
