"""Exponential back-off: the pause before another attempt."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from the first to the longest, shortened at random by up to the share `jitter`.

    Jitter keeps many clients from returning at the same moment.
    """

    first_s: float = 1.0
    longest_s: float = 60.0
    jitter: float = 0.0
    """0: none; 1: anything between no pause and the full one"""
    at_once: bool = False
    """whether the first attempt after a failure comes without a pause"""

    def pause_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        if self.at_once:
            failures -= 1
        if failures < 1:
            return 0.0
        full = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return full * random.uniform(1 - self.jitter, 1)  # noqa: S311  # spreads the load, hides nothing
