"""The hops that the gateway has not taken yet: a minute of them while the link is down."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from streamer.core.rate_limit import RateLimit
from streamer.nodes import flac
from streamer.nodes.flac import as_float
from streamer.nodes.hops import Cut
from streamer.nodes.wire import Codec, Hop
from streamer.signal.level import level_dbfs

PIECE_S = 0.125
"""a hop is as loud for the gate as its loudest piece: a knock is not lost in its quiet second"""

log = logging.getLogger(__name__)


class Outbox:
    """Encodes, numbers and keeps hops. Where there is no room, the oldest goes, and is counted."""

    def __init__(self, sample_rate: int, codec: Codec, *, gate_dbfs: float | None, keep_s: float) -> None:
        self._sample_rate = sample_rate
        self._codec = codec
        self._gate_dbfs = gate_dbfs
        self._n_keep = round(keep_s * sample_rate)
        self._hops: deque[Hop] = deque()
        self._n_kept = 0
        self._end = 0
        self.lost_s = 0.0
        """seconds of audio that found no room"""
        self._logged = RateLimit()
        self._changed = asyncio.Event()

    def put(self, cut: Cut) -> None:
        """Encode a hop; that takes a millisecond."""
        level = level_dbfs(as_float(cut.samples))
        codec, payload = self._codec, b""
        if self._gate_dbfs is not None and self._loudest(cut) < self._gate_dbfs:
            codec = Codec.LEVEL
        elif codec is Codec.FLAC:
            payload = flac.encode(cut.samples, self._sample_rate)
        else:
            payload = cut.samples.astype("<i2").tobytes()
        n = len(cut.samples)
        self._hops.append(Hop(self._end, codec, n, cut.captured, level, cut.discontinuity, payload))
        self._end += 1
        self._n_kept += n
        while self._n_kept > self._n_keep:
            lost_s = self._drop() / self._sample_rate
            self.lost_s += lost_s
            if self._logged.due():
                log.warning("the link is down for too long: %.0f s of audio are lost so far", self.lost_s)
        self._changed.set()

    def taken(self, end: int) -> None:
        """The gateway has all hops before `end`."""
        while self._hops and self._hops[0].sequence < end:
            self._drop()
        self._changed.set()

    async def at(self, sequence: int) -> Hop:
        """The hop with this number, or the oldest that is left where it is gone; waits until it is there."""
        while not self._hops or self._hops[-1].sequence < sequence:
            await self.changed()
        return self._hops[max(0, sequence - self._hops[0].sequence)]

    async def until_empty(self) -> None:
        """Wait until the gateway has all."""
        while self._hops:
            await self.changed()

    async def changed(self) -> None:
        """Wait until a hop has come, or was taken."""
        self._changed.clear()
        await self._changed.wait()

    def _drop(self) -> int:
        hop = self._hops.popleft()
        self._n_kept -= hop.n_samples
        return hop.n_samples

    def _loudest(self, cut: Cut) -> float:
        n = max(1, round(PIECE_S * self._sample_rate))
        return max(level_dbfs(as_float(cut.samples[i : i + n])) for i in range(0, len(cut.samples), n))
