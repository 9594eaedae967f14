"""The audio of one node, from its link to its source: which hop is next, and when it was captured."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamer.core.clock import Clock
from streamer.core.rate_limit import RateLimit
from streamer.errors import SourceError
from streamer.metrics import SourceMetrics
from streamer.nodes.decoder import Decoder
from streamer.nodes.flac import as_float
from streamer.nodes.wire import UNDER_WAY, Codec, Hello, Hop, LinkError
from streamer.types import SILENCE_DBFS, AudioBlock, Samples

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
BURST_S = UNDER_WAY / CATCH_UP
"""after so long without a hop, as many are handed over at once as may be under way"""
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


class Peer(Protocol):
    """The connection that hops came over."""

    async def acknowledge(self, following: int) -> None:
        """All hops before `following` have been taken."""

    def refuse(self, error: LinkError) -> None:
        """End it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A hop that waits for the source."""

    hop: Hop
    epoch: int
    was_kept: bool
    """it waited for the link: its windows are owed"""
    peer: Peer


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
        self._clock = NodeClock(0.0, 0.0)
        self._waiting: deque[Delivery] = deque()
        self._changed = asyncio.Event()
        """a hop or a problem has come"""
        self._has_room = asyncio.Event()
        self._closed_at: float | None = time.monotonic()
        self._has_ended = False
        self._expected: float | None = None
        """when the next hop is captured, on the node's clock"""
        self._idle_since = time.monotonic()
        """when the latest hop had been taken"""
        self._owed_s = LOST_S
        """audio that the node may have kept: time in which no hop was there to be taken, less what came"""
        self._logged = RateLimit()

    def connect(self, hello: Hello, epoch: int) -> None:
        """A link is up. With another epoch it is another process of the node, which counts anew."""
        if epoch != self.epoch:
            self.epoch, self.next, self._expected = epoch, 0, None
        if hello.sample_rate != self.sample_rate:
            self._waiting.clear()
            self._has_room.set()
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

    async def put(self, hop: Hop, epoch: int, sent: float, peer: Peer) -> None:
        """A hop has come. Returns when there is room for the next one.

        A node that waits for acknowledgements has not sent it before.
        """
        if epoch != self.epoch:  # another process of the node has connected
            return
        now = time.monotonic()
        self._clock.note(sent, now)
        self._waiting.append(Delivery(hop, epoch, self._was_kept(hop, now), peer))
        self.report("")
        while len(self._waiting) >= UNDER_WAY and not self._has_ended:
            self._has_room.clear()
            await self._has_room.wait()

    def _was_kept(self, hop: Hop, now: float) -> bool:
        """Whether a hop waited at the node because of the link, and not for room here.

        Where there is too much to do here, windows are to be skipped, and not scored later and later.
        """
        length_s = hop.n_samples / self.sample_rate
        idle_s = 0.0 if self._waiting else now - self._idle_since
        self._owed_s = max(0.0, min(self._owed_s + idle_s, OWED_MAX_S) - length_s)
        self._idle_since = now
        if now - self._clock.here(hop.captured) - length_s <= LATE_S:
            self._owed_s = 0.0  # what it had kept, it has sent before
        return self._owed_s > 0

    def report(self, problem: str) -> None:
        """Why the node has no audio, in its words; empty where it has."""
        self.problem = problem
        self._changed.set()

    async def get(self) -> list[Delivery]:
        """All that wait, and wait on until `take` or `discard`.

        Raises SourceError where the node has no audio, or has been away for too long.
        """
        if not self._waiting:
            try:
                async with asyncio.timeout(LOST_S):
                    await self._until_there()
            except TimeoutError:
                what = "no audio from it" if self.is_connected else "it has not been connected"
                raise SourceError(f"node {self.name}: {what} for {LOST_S:g} s") from None
        return list(self._waiting)

    async def _until_there(self) -> None:
        while not self._waiting:
            self._changed.clear()
            if self.problem:
                raise SourceError(f"node {self.name}: {self.problem}")
            await self._changed.wait()

    def take(self, delivery: Delivery) -> tuple[float, bool] | None:
        """The source has this hop. Returns when it was captured, monotonic, here, and whether audio was lost
        before it; None where the source had it already, or it is from before a restart of the node.
        """
        if not self._waiting or self._waiting[0] is not delivery:
            return None
        self._waiting.popleft()
        self._has_room.set()
        self._idle_since = time.monotonic()
        hop = delivery.hop
        if delivery.epoch != self.epoch or hop.sequence < self.next:
            return None
        is_torn = self._is_torn(hop, hop.n_samples / self.sample_rate)
        self.next = hop.sequence + 1
        return self._clock.here(hop.captured), is_torn

    def discard(self, peer: Peer) -> None:
        """Forget what came over a connection that was refused."""
        self._waiting = deque(delivery for delivery in self._waiting if delivery.peer is not peer)
        self._has_room.set()

    def close(self) -> None:
        """Nobody listens to it."""
        self._closed_at = time.monotonic()

    def end(self) -> None:
        """The gateway ends: no connection waits for room any more."""
        self._has_ended = True
        self._has_room.set()

    async def drop_unheard(self) -> None:
        """Take what a source that is switched off does not: the node is not held up."""
        if self._closed_at is None or time.monotonic() - self._closed_at <= UNHEARD_S:
            return
        for delivery in list(self._waiting):
            self.take(delivery)
            await delivery.peer.acknowledge(self.next)

    async def until_connected(self) -> None:
        """Raises SourceError where no audio is to be had from the node now."""
        await self.drop_unheard()  # it is from before the source was switched off
        self._closed_at = None
        deadline = time.monotonic() + CONNECT_S
        while not self.is_connected or self.problem:
            if time.monotonic() > deadline:
                raise SourceError(f"node {self.name}: {self.problem or 'it is not connected'}")
            await asyncio.sleep(POLL_S)

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

    def __init__(self, intake: Intake, decoder: Decoder) -> None:
        self._intake = intake
        self._decoder = decoder
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
        ready_at = time.monotonic()
        while True:
            waiting = await self._intake.get()
            if (early_s := ready_at - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
                continue
            if self._intake.sample_rate != self._sample_rate:
                raise SourceError(f"node {self._intake.name}: it has another sample rate now")
            now = time.monotonic()
            ready_at = max(ready_at, now - BURST_S)
            batch = []
            for delivery in waiting:
                if ready_at > now:
                    break
                batch.append(delivery)
                ready_at += delivery.hop.n_samples / self._sample_rate / CATCH_UP
            for delivery, samples in zip(batch, await self._decoded(batch), strict=True):
                if isinstance(samples, LinkError):
                    self._intake.discard(delivery.peer)
                    delivery.peer.refuse(samples)
                    break
                if (taken := self._intake.take(delivery)) is not None:
                    captured, is_torn = taken
                    captured_at = clock.now() + captured - time.monotonic()
                    write(AudioBlock(samples, captured_at, discontinuity or is_torn, late=delivery.was_kept))
                    discontinuity = False
                await delivery.peer.acknowledge(self._intake.next)

    async def _decoded(self, batch: Sequence[Delivery]) -> list[Samples | LinkError]:
        """The audio of each; all are with the decoder at the same time."""
        futures = [
            self._decoder.decode(one.hop.payload, one.hop.n_samples)
            for one in batch
            if one.hop.codec is Codec.FLAC
        ]
        answers = iter(await asyncio.gather(*futures, return_exceptions=True))
        samples: list[Samples | LinkError] = []
        for one in batch:
            answer = next(answers) if one.hop.codec is Codec.FLAC else None
            if isinstance(answer, LinkError):
                samples.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                samples.append(uncoded(one.hop) if answer is None else as_float(answer))
        return samples

    async def close(self) -> None:
        self._intake.close()


def uncoded(hop: Hop) -> Samples:
    """(n,) of a hop that is not compressed."""
    return comfort_noise(hop) if hop.codec is Codec.LEVEL else as_float(np.frombuffer(hop.payload, "<i2"))


def comfort_noise(hop: Hop) -> Samples:
    """What stands for a hop of which only the level was sent: noise as loud; digital silence stays so."""
    if hop.level_dbfs <= SILENCE_DBFS:
        return np.zeros(hop.n_samples, np.float32)
    noise = np.random.default_rng(hop.sequence).standard_normal(hop.n_samples, np.float32)
    samples: Samples = noise * np.float32(10 ** (min(hop.level_dbfs, -20.0) / 20))
    return samples
