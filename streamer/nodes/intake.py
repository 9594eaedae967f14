"""The audio of one node, from its link to its source: which hop is next, and when it was captured."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from streamer.core.clock import Clock
from streamer.core.rate_limit import RateLimit
from streamer.errors import SourceError
from streamer.metrics import SourceMetrics
from streamer.nodes.wire import Hello, Hop
from streamer.types import AudioBlock, Samples

log = logging.getLogger(__name__)

POLL_S = 0.25
CONNECT_S = 10.0
"""how long `open` waits for a node"""
LOST_S = 65.0
"""seconds without a hop after which the source is lost: a node that was cut off has a minute to come back"""
UNHEARD_S = 15.0
"""hops of a source that has been closed for longer are taken and dropped: it is switched off"""
CATCH_UP = 8.0
"""times real time at which hops are handed over that have waited"""
LATE_S = 0.5
"""a hop that comes so much later than it could has waited for the link"""
OWED_MAX_S = 600.0
"""the longest that a node can keep audio"""
JUMP_S = 0.5
"""hops whose times are further apart than their samples have lost what is between them"""
DELAY_S = 600.0
"""seconds for which the least delay of a link holds: in a longer time two clocks drift apart"""
SKEW_S = 1.0
"""a wall clock that is off by more is logged"""


class NodeClock:
    """Which moment here is a moment of the node's clock, by the least delay of the latest messages.

    A message may wait in queues, which makes it late; none comes early.
    """

    def __init__(self, sent: float, arrived: float) -> None:
        """`arrived` is monotonic."""
        self._since = arrived
        self._before = self._least = arrived - sent

    def note(self, sent: float, arrived: float) -> None:
        """Another message."""
        if arrived - self._since > DELAY_S:
            self._since, self._before, self._least = arrived, self._least, arrived - sent
        self._least = min(self._least, arrived - sent)

    def here(self, moment: float) -> float:
        """Monotonic."""
        return moment + min(self._before, self._least)


@dataclass(frozen=True, slots=True)
class Taken:
    """A hop that waits for the source."""

    samples: Samples
    sample_rate: int
    captured: float
    """when its first sample was, monotonic, here"""
    discontinuity: bool
    was_kept: bool
    """it waited for the link: its windows are owed"""


class Intake:
    """Takes the hops of one node, from whichever connection it has, for one `NodeSource`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.metrics = SourceMetrics()
        """of its source"""
        self.epoch = 0
        self.next = 0
        """the first hop that was not taken yet"""
        self.sample_rate = 0
        self.is_connected = False
        self.problem = ""
        """why the node has no audio, in its words"""
        self._turn = asyncio.Lock()
        self._clock: NodeClock | None = None
        self._waiting: asyncio.Queue[Taken] = asyncio.Queue(1)
        self._closed_at: float | None = time.monotonic()
        self._has_ended = False
        self._expected: float | None = None
        """when the next hop is captured, on the node's clock"""
        self._arrived = time.monotonic()
        self._owed_s = LOST_S
        """audio that the node may have kept: time without a hop, less what came faster than real time"""
        self._logged = RateLimit()

    def connect(self, hello: Hello, epoch: int) -> None:
        """A link is up. With another epoch it is another process of the node, which counts anew."""
        if epoch != self.epoch:
            self.epoch, self.next, self._expected = epoch, 0, None
        self.sample_rate, self.problem, self.is_connected = hello.sample_rate, "", True
        self._clock = NodeClock(hello.sent, time.monotonic())
        self.metrics.clock_skew_s = skew_s = round(hello.wall - time.time(), 2)
        if abs(skew_s) > SKEW_S and self._logged.due("skew"):
            log.warning(
                "node %s: its clock is %.1f s %s; events have the time of this machine",
                self.name,
                abs(skew_s),
                "ahead" if skew_s > 0 else "behind",
            )

    async def take(self, hop: Hop, epoch: int, sent: float, arrived: float, samples: Samples) -> None:
        """Hand a hop to the source. Returns when there is room for the next one.

        `arrived` is monotonic. A connection that has been replaced may still have one to hand over.
        """
        async with self._turn:
            if self._clock is None or epoch != self.epoch or hop.sequence < self.next:
                return
            self._clock.note(sent, arrived)
            self.problem = ""
            length_s = hop.n_samples / self.sample_rate
            self._owed_s = min(self._owed_s + arrived - self._arrived, OWED_MAX_S) - length_s
            late_s = arrived - self._clock.here(hop.captured) - length_s
            was_kept = self._owed_s > 0 and late_s > LATE_S
            self._owed_s, self._arrived = max(self._owed_s, 0.0), arrived
            is_torn = self._is_torn(hop, length_s)
            self.next = hop.sequence + 1
            taken = Taken(samples, self.sample_rate, self._clock.here(hop.captured), is_torn, was_kept)
            await self._put(taken)

    async def _put(self, taken: Taken) -> None:
        while not (self._is_unheard or self._has_ended):
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._waiting.put(taken)
                    return

    @property
    def _is_unheard(self) -> bool:
        return self._closed_at is not None and time.monotonic() - self._closed_at > UNHEARD_S

    def close(self) -> None:
        """Nobody listens to it."""
        self._closed_at = time.monotonic()

    def end(self) -> None:
        """The gateway ends: no connection waits for room any more."""
        self._has_ended = True

    async def until_connected(self) -> None:
        """Raises SourceError where no audio is to be had from the node now."""
        if self._is_unheard:
            while not self._waiting.empty():  # it is from before the source was switched off
                self._waiting.get_nowait()
        self._closed_at = None
        deadline = time.monotonic() + CONNECT_S
        while not self.is_connected or self.problem:
            if time.monotonic() > deadline:
                raise SourceError(f"node {self.name}: {self.problem or 'it is not connected'}")
            await asyncio.sleep(POLL_S)

    async def get(self) -> Taken:
        """Raises SourceError where the node has no audio, or has been away for too long."""
        deadline = time.monotonic() + LOST_S
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    return await self._waiting.get()
            except TimeoutError:
                if self.problem:
                    raise SourceError(f"node {self.name}: {self.problem}") from None
                if time.monotonic() > deadline:
                    what = "no audio from it" if self.is_connected else "it has not been connected"
                    raise SourceError(f"node {self.name}: {what} for {LOST_S:g} s") from None

    def _is_torn(self, hop: Hop, length_s: float) -> bool:
        """Whether audio is missing before a hop: the node says so, its number or its time does."""
        expected, self._expected = self._expected, hop.captured + length_s
        if expected is None or hop.discontinuity or hop.sequence > self.next:
            return True
        if (missing_s := hop.captured - expected) < JUMP_S:
            return False
        if self._logged.due("slow"):
            log.warning(
                "node %s: %.1f s are missing within its audio: it is slow, or not at %d Hz",
                self.name,
                missing_s,
                self.sample_rate,
            )
        return True


class NodeSource:
    """The source that a node is."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._sample_rate = 0

    @property
    def sample_rate(self) -> int:
        return self._sample_rate

    async def open(self) -> None:
        await self._intake.until_connected()
        self._sample_rate = self._intake.sample_rate

    async def run(self, write: Callable[[AudioBlock], None]) -> None:
        clock = Clock()
        discontinuity = True
        while True:
            taken = await self._intake.get()
            if taken.sample_rate != self._sample_rate:
                raise SourceError(f"node {self._intake.name}: it has another sample rate now")
            captured_at = clock.now() + taken.captured - time.monotonic()
            write(
                AudioBlock(
                    taken.samples, captured_at, discontinuity or taken.discontinuity, late=taken.was_kept
                )
            )
            discontinuity = False
            await asyncio.sleep(len(taken.samples) / self._sample_rate / CATCH_UP)

    async def close(self) -> None:
        self._intake.close()
