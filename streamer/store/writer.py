"""What stands between the pipelines and those who emit: an event is committed before anybody hears of it.

SQLite blocks, and so the log has one thread of its own. Events that arrive while it is busy are one commit.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import ParamSpec, TypeVar

from streamer.metrics import Metrics
from streamer.store.log import Entry, Log, Recorded
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
AHEAD = 100
"""messages that a consumer reads at once"""

P = ParamSpec("P")
T = TypeVar("T")


class Writer:
    """A sink before the sinks: appends events to the log, then passes reports on to `sinks`."""

    def __init__(
        self,
        event_log: Log,
        metrics: Metrics,
        *,
        rule: Callable[[SoundEvent], str] = lambda _: "",
    ) -> None:
        """`rule` says, as JSON, what is in force for an event that begins."""
        self._log = event_log
        self._metrics = metrics
        self._rule = rule
        self.sinks: list[Sink] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="event log")
        self._arrived: list[Report] = []
        self._rules: dict[str, str] = {}
        """by event, of those that have just arrived"""
        self._wake = asyncio.Event()
        self._stopping = False
        self._turned_at = self._tended_at = time.monotonic()
        self._lock = Lock()
        self._delivered: dict[str, tuple[int, int]] = {}
        """what the log does not know yet"""
        self._uncounted: dict[str, int] = {}
        """by consumer: messages that it has, and that the depth of the log still counts"""

    def consumer(self, name: str) -> Consumer:
        """The end of the log that a consumer reads from; the log must have been made with this name."""
        return Consumer(name, self)

    def problem(self) -> str | None:
        """What a watchdog must know: the disk does not answer."""
        still_s = time.monotonic() - self._turned_at
        return f"event log: the disk has not answered for {still_s:.0f} s" if still_s > STUCK_S else None

    def put(self, report: Report) -> None:
        """Take a report. Never blocks; only from the thread of the event loop."""
        if len(self._arrived) >= WAITING_MAX:
            del self._arrived[0]
            self._metrics.drop("log")
        if isinstance(report, SoundEvent) and report.phase == "start":
            self._rules[report.id] = self._rule(report)
        self._arrived.append(report)
        self._wake.set()

    async def run(self) -> None:
        """Run the sinks until cancelled. What had arrived by then is still appended and passed on."""
        try:
            async with asyncio.TaskGroup() as running:
                sinks = [
                    running.create_task(sink.run(), name=f"sink[{type(sink).__name__}]")
                    for sink in self.sinks
                ]
                writing = asyncio.create_task(self._write(), name="event log")
                try:
                    await asyncio.shield(writing)
                finally:
                    self._stopping = True
                    self._wake.set()
                    await asyncio.wait((writing,), timeout=STOP_S)
                    writing.cancel()
                    for sink in sinks:
                        sink.cancel()
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self.call(self._log.close)
            self._thread.shutdown(wait=False)

    async def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it in the log's thread. What has begun is done, also where who waits is cancelled."""
        return await asyncio.wrap_future(self._thread.submit(work, *args, **kwargs))

    async def change(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Change rows of the history, in one transaction; None where the disk refuses."""
        return await self.call(self._log.change_history, work)

    def read(self, name: str, n: int, again: bool) -> list[Entry]:
        """Only in the log's thread."""
        self._deliver()
        return self._log.read(name, n, again=again)

    def refuse(self, name: str, entry: Entry, reason: str) -> None:
        """Only in the log's thread."""
        self._log.refuse(name, entry, reason)

    def delivered(self, name: str, seq: int, n: int) -> None:
        """Take note that a consumer has all to this number, so many more than before. Never blocks."""
        with self._lock:
            is_due = bool(self._delivered)
            self._uncounted[name] = n + self._uncounted.get(name, 0)
            self._delivered[name] = (seq, n + self._delivered.get(name, (0, 0))[1])
        if not is_due:
            with suppress(RuntimeError):  # the thread has ended
                self._thread.submit(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            delivered, self._delivered = self._delivered, {}
        if delivered:
            self._log.deliver(delivered)
            with self._lock:
                for name, (_, n) in delivered.items():
                    self._uncounted[name] -= n

    def depth(self, name: str) -> int:
        """Messages that wait for a consumer, without those that it has and the log has yet to count."""
        with self._lock:
            return max(0, self._metrics.outbox.waiting.get(name, 0) - self._uncounted.get(name, 0))

    async def _write(self) -> None:
        while True:
            stopping = self._stopping
            self._turned_at = time.monotonic()
            arrived, self._arrived = self._arrived, []
            rules, self._rules = self._rules, {}
            self._wake.clear()
            events = [
                Recorded(report, rules.get(report.id, "") if report.phase == "start" else "")
                for report in arrived
                if isinstance(report, SoundEvent)
            ]
            appended = await self.call(self._append, events)
            for end in appended[: len(appended) - len(events)]:
                log.info("%s: %s was left open by a crash, and ends now", end.source_id, end.sound)
                self._pass_on(end)
            for report in arrived:
                self._pass_on(report)
            if stopping:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(TEND_S):
                    await self._wake.wait()

    def _append(self, events: Sequence[Recorded]) -> list[SoundEvent]:
        self._deliver()
        appended = self._log.append(events)
        if time.monotonic() - self._tended_at >= TEND_S:
            self._tended_at = time.monotonic()
            self._log.tend()
        return appended

    def _pass_on(self, report: Report) -> None:
        for sink in self.sinks:
            sink.put(report)


class Consumer:
    """Reads the log in order, and says how far it has got. Only from the thread of the event loop."""

    def __init__(self, name: str, writer: Writer) -> None:
        self._name = name
        self._writer = writer
        self._ahead: deque[Entry] = deque()
        self._again = True

    @property
    def depth(self) -> int:
        """Messages that wait for it."""
        return self._writer.depth(self._name)

    def rewind(self) -> None:
        """Nobody knows whether what was read has arrived: read again from what was delivered."""
        self._ahead.clear()
        self._again = True

    async def next(self) -> Entry | None:
        """The message after the one before; None where there is none now."""
        if not self._ahead:
            again, self._again = self._again, False
            self._ahead.extend(await self._writer.call(self._writer.read, self._name, AHEAD, again))
        return self._ahead.popleft() if self._ahead else None

    def delivered(self, entry: Entry, n: int = 1) -> None:
        """It has this one and all before; so many are new. In order."""
        self._writer.delivered(self._name, entry.seq, n)

    async def refuse(self, entry: Entry, reason: str) -> None:
        """The other side does not want this one: it is set aside, with the reason."""
        await self._writer.call(self._writer.refuse, self._name, entry, reason)
