"""Cuts windows: from a ring every hop, and from a whole clip."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator

import numpy as np

from streamer.capture.ring import Ring
from streamer.types import Samples, Window


def cut(samples: Samples, sample_rate: int, window_s: float, source_id: str) -> list[Window]:
    """Windows of a clip, (n,): they overlap by half, and the last one ends with the clip.

    A clip that is shorter than a window comes after silence, as the first windows of a source do.
    """
    return list(cut_pieces([samples], sample_rate, window_s, source_id))


def cut_pieces(
    pieces: Iterable[Samples], sample_rate: int, window_s: float, source_id: str
) -> Iterator[Window]:
    """As `cut`, of a clip that comes in pieces, (n,) each; no more of it than a window is kept."""
    n = round(window_s * sample_rate)
    step = max(1, n // 2)
    kept, begin, index, next_start = np.zeros(0, np.float32), 0, 0, 0

    def window(at: int) -> Window:
        samples = kept[at - begin : at - begin + n]
        return Window(source_id, index, samples, sample_rate, at / sample_rate, (at + n) / sample_rate)

    waiting: list[Samples] = []
    n_waiting = 0
    for piece in pieces:
        waiting.append(piece)
        n_waiting += len(piece)
        # One sample more than a window, since the last window of all has its own place.
        if begin + len(kept) + n_waiting <= next_start + n:
            continue
        kept, waiting, n_waiting = np.concatenate([kept, *waiting]), [], 0
        while begin + len(kept) > next_start + n:
            yield window(next_start)
            index, next_start = index + 1, next_start + step
        # A window before the next one, since the last of all may begin there.
        surplus = max(0, min(next_start - begin, len(kept) - n))
        kept, begin = kept[surplus:].copy(), begin + surplus
    kept = np.concatenate([kept, *waiting])
    kept = np.pad(kept, (max(0, n - len(kept)), 0))
    yield window(begin + len(kept) - n)


CATCH_UP = 0.25
"""of a window: how much nearer to the newest one each window that is owed must come, or hops are skipped"""


class Windows:
    """The windows of one source.

    Window k ends `(k + 1) * hop_s` after the source's start. The part of a window that lies before the start
    is digital silence (`warm_up`). Live, the newest window wins: hops that came due meanwhile are skipped and
    counted, but those of audio that came late after a cut (`Ring.owed`) and what comes until they are scored,
    as long as a quarter more is scored than comes. With `every_hop`, for reading offline, none is skipped;
    the caller reads after each block until none is due.
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
        self._owed_s = 0.0
        """number of windows that may be due after the next one before hops are skipped"""

    def due(self) -> Window | None:
        """The window to be scored now, if a hop has passed since the last."""
        newest = self._newest()
        if newest < self._next:
            return None
        behind = newest - self._next
        if self._last_sample(self._next) <= self._ring.owed:
            self._owed_s = max(self._owed_s, behind)
        index = self._next if self._every_hop or behind <= self._owed_s else newest
        self._owed_s = max(0.0, self._owed_s - CATCH_UP)
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

        here = threading.get_ident()

        def wake() -> None:
            if threading.get_ident() == here:  # as a node's hops do: nothing has to wake the loop
                changed.set()
            else:
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
