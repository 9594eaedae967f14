"""Cuts windows: from a ring every hop, and from a whole clip."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from streamer.capture.ring import Ring
from streamer.types import Samples, Window


def cut(samples: Samples, sample_rate: int, window_s: float, source_id: str) -> list[Window]:
    """Windows of a clip, (n,): they overlap by half, and the last one ends with the clip.

    A clip that is shorter than a window comes after silence, as the first windows of a source do.
    """
    n = round(window_s * sample_rate)
    samples = np.pad(samples, (max(0, n - len(samples)), 0))
    last = len(samples) - n
    starts = [*range(0, last, max(1, n // 2)), last]
    return [
        Window(source_id, i, samples[at : at + n], sample_rate, at / sample_rate, (at + n) / sample_rate)
        for i, at in enumerate(starts)
    ]


class Windows:
    """The windows of one source.

    Window k ends `(k + 1) * hop_s` after the source's start. The part of a window that lies before the start
    is digital silence (`warm_up`). Live, the newest window wins: hops that came due meanwhile are skipped and
    counted. With `every_hop`, for reading offline, none is skipped; the caller reads after each block until
    none is due.
    """

    def __init__(
        self,
        ring: Ring,
        source_id: str,
        *,
        hop_s: float = 1.0,
        window_s: float = 10.0,
        every_hop: bool = False,
    ) -> None:
        self._ring = ring
        self._source_id = source_id
        self._hop = hop_s * ring.sample_rate
        self._n_samples = round(window_s * ring.sample_rate)
        self._every_hop = every_hop
        self._next = 0

    def due(self) -> Window | None:
        """The window to be scored now, if a hop has passed since the last."""
        newest = self._newest()
        if newest < self._next:
            return None
        index = self._next if self._every_hop else newest
        self._ring.metrics.windows += 1
        self._ring.metrics.windows_skipped += index - self._next
        self._next = index + 1
        last = self._last_sample(index)
        excerpt = self._ring.read(last - self._n_samples, last)
        return Window(
            source_id=self._source_id,
            index=index,
            samples=excerpt.samples,
            sample_rate=self._ring.sample_rate,
            start=excerpt.start,
            end=excerpt.end,
            has_gap=excerpt.has_gap,
            warm_up=last < self._n_samples,
        )

    async def __aiter__(self) -> AsyncIterator[Window]:
        """Windows as they come due, until the ring is finished. The ring's one listener."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        self._ring.listen(wake)
        try:
            while True:
                changed.clear()
                finished = (
                    self._ring.finished
                )  # read before `due`: what arrived before the end is still scored
                window = self.due()
                if window is not None:
                    yield window
                elif finished:
                    return
                else:
                    await changed.wait()
        finally:
            self._ring.listen(lambda: None)

    def _last_sample(self, index: int) -> int:
        return round((index + 1) * self._hop)

    def _newest(self) -> int:
        """The index of the newest window that is whole; -1 before the first."""
        end = self._ring.end
        index = int(end / self._hop)
        while self._last_sample(index) > end:
            index -= 1
        return index
