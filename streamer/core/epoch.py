"""A number of this start of the program, higher than that of each start before."""

from __future__ import annotations

import time
from typing import TypeGuard

from streamer.core.json_file import JsonFile

HIGHEST = 1 << 43
"""in the year 2248: what claims to be later is no time"""


class Epoch:
    """Milliseconds since the Unix epoch when the process began, or one more than the last start had.

    So of two processes, also on two machines, the one that began last has the higher number.
    """

    def __init__(self, file: JsonFile) -> None:
        self._file = file
        self._started = time.monotonic()
        last = file.load().get("epoch")
        self._set(max(round(1000 * time.time()), last + 1 if is_epoch(last) else 1))

    @property
    def number(self) -> int:
        return self._number

    def is_before(self, other: int) -> bool:
        """Whether a number is of a process that began before this one, by the clock as it is now.

        One that lies in the future is, too: the clock was wrong then, or is now.
        """
        now = 1000 * time.time()
        return not now - 1000 * (time.monotonic() - self._started) <= other <= now

    def exceed(self, other: int) -> None:
        """Take a number above another one, which is that of a process that began before."""
        if other >= self._number:
            self._set(other + 1)

    def _set(self, number: int) -> None:
        self._number = min(number, HIGHEST)
        self._file.save({"epoch": self._number})


def is_epoch(value: object) -> TypeGuard[int]:
    """Whether it can be the number of a start."""
    return type(value) is int and 0 < value <= HIGHEST
