"""Events that wait for a broker: bounded, in order, in memory."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from streamer.metrics import Metrics
from streamer.types import SoundEvent


@dataclass(slots=True, eq=False)
class Waiting:
    """An event on its way to the broker."""

    event: SoundEvent
    since: float
    """monotonic"""
    refusals: int = 0


class EventQueue:
    """When full, the oldest event goes and is counted."""

    def __init__(self, size: int, metrics: Metrics) -> None:
        self._waiting: deque[Waiting] = deque(maxlen=size)
        self._metrics = metrics

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, event: SoundEvent) -> None:
        if len(self._waiting) == self._waiting.maxlen:
            self._metrics.drop("mqtt")
        self._waiting.append(Waiting(event, time.monotonic()))

    def first(self) -> Waiting | None:
        """The oldest event. It stays until it is done."""
        return self._waiting[0] if self._waiting else None

    def done(self, waiting: Waiting) -> None:
        """The broker has it. It may have been dropped while it was in flight."""
        if self.first() is waiting:
            self._waiting.popleft()
