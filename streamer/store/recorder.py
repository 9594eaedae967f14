"""What stands between the pipelines and those who tell: nothing is said of an event before it is recorded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from streamer.metrics import Metrics
from streamer.store.queue import EventQueue
from streamer.types import Report, Sink, SoundEvent

log = logging.getLogger(__name__)

WAITING_MAX = 10_000
"""reports that wait for the disk; the oldest go first"""
TEND_S = 5.0
"""how often a disk that refused is asked again, where no event asks it"""
STUCK_S = 60.0
"""a disk that takes longer will not come back by itself"""
STOP_S = 2.0
"""how long a stop waits for the disk"""


class Recorder:
    """A sink before the sinks: records events, all of a moment in one commit, then passes reports on."""

    def __init__(self, queue: EventQueue, sinks: Sequence[Sink], metrics: Metrics) -> None:
        self._queue = queue
        self._sinks = sinks
        self._metrics = metrics
        self._arrived: list[Report] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._turned_at = time.monotonic()

    def problem(self) -> str | None:
        """What a watchdog must know: the disk does not answer."""
        still_s = time.monotonic() - self._turned_at
        return f"outbox: the disk has not answered for {still_s:.0f} s" if still_s > STUCK_S else None

    def put(self, report: Report) -> None:
        """Take a report. Never blocks; only from the thread of the event loop."""
        if len(self._arrived) >= WAITING_MAX:
            del self._arrived[0]
            self._metrics.drop("outbox")
        self._arrived.append(report)
        self._wake.set()

    async def run(self) -> None:
        """Run the sinks until cancelled. What had arrived by then is still recorded and told."""
        try:
            async with asyncio.TaskGroup() as telling:
                tellers = [
                    telling.create_task(sink.run(), name=f"sink[{type(sink).__name__}]")
                    for sink in self._sinks
                ]
                recording = asyncio.create_task(self._record(), name="recorder")
                try:
                    await asyncio.shield(recording)
                finally:
                    self._stopping = True
                    self._wake.set()
                    await asyncio.wait((recording,), timeout=STOP_S)
                    recording.cancel()
                    for teller in tellers:
                        teller.cancel()
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._queue.close()

    async def _record(self) -> None:
        while True:
            stopping = self._stopping
            self._turned_at = time.monotonic()
            arrived, self._arrived = self._arrived, []
            self._wake.clear()
            events = [report for report in arrived if isinstance(report, SoundEvent)]
            told = await self._queue.append(events)
            for end in told[: len(told) - len(events)]:
                log.info("%s: %s was left open by a crash, and ends now", end.source_id, end.sound)
                self._tell(end)
            for report in arrived:
                self._tell(report)
            if stopping:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(TEND_S):
                    await self._wake.wait()

    def _tell(self, report: Report) -> None:
        for sink in self._sinks:
            sink.put(report)
