"""Makes batches of the windows of all sources, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from streamer.errors import InferenceError
from streamer.types import Scores, Window

Score = Callable[[Sequence[Window]], Awaitable[Sequence[Scores | InferenceError]]]


class Batches:
    """Collects single windows into batches for `score`, which gives a score or an error for each.

    A batch closes at `max_batch` windows or `wait_s` after its first. What waits has no bound of its own:
    each source has one window in flight.
    """

    def __init__(self, score: Score, max_batch: int, wait_s: float) -> None:
        self._score_batch = score
        self._max_batch = max_batch
        self._wait_s = wait_s
        self._waiting: list[tuple[Window, asyncio.Future[Scores]]] = []
        self._full = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    async def score(self, window: Window) -> Scores:
        """Raises what the batch raises or gives for this window, and InferenceError once closed."""
        if self._closed:
            raise InferenceError("the worker is closed")
        future: asyncio.Future[Scores] = asyncio.get_running_loop().create_future()
        self._waiting.append((window, future))
        if len(self._waiting) >= self._max_batch:
            self._full.set()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name="inference")
        return await future

    def close(self) -> asyncio.Task[None] | None:
        """Refuse what waits. Returns the batch under way."""
        self._closed = True
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(InferenceError("the worker is closed"))
        self._waiting.clear()
        self._full.set()
        return self._running

    async def _run(self) -> None:
        while self._waiting:
            self._full.clear()
            if len(self._waiting) < self._max_batch and self._wait_s:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._wait_s):
                        await self._full.wait()
            batch = self._waiting[: self._max_batch]
            del self._waiting[: self._max_batch]
            await self._score([(window, future) for window, future in batch if not future.done()])

    async def _score(self, batch: list[tuple[Window, asyncio.Future[Scores]]]) -> None:
        if not batch:  # all of them gave up waiting
            return
        try:
            scores = await self._score_batch([window for window, _ in batch])
        except Exception as error:  # whatever it is: who waits would wait for ever
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), score in zip(batch, scores, strict=True):
            if future.done():
                continue
            if isinstance(score, InferenceError):
                future.set_exception(score)
            else:
                future.set_result(score)
