"""Scores windows in this process, off the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from streamer.config import ModelSettings
from streamer.inference.batches import Batches
from streamer.metrics import Metrics
from streamer.types import Scores, Window


class Scorer(Protocol):
    """What the worker needs of an engine."""

    def score(self, windows: Sequence[Window]) -> list[Scores]: ...


class LocalWorker:
    """A `Worker` in this process: one thread for the engine, one batch at a time."""

    def __init__(self, engine: Scorer, settings: ModelSettings, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._batches = Batches(self._score, settings.max_batch, settings.batch_wait_s)

    async def score(self, window: Window) -> Scores:
        """Raises InferenceError."""
        return await self._batches.score(window)

    async def close(self) -> None:
        """Let the batch under way end, refuse what waits, give the thread back. May be called twice."""
        batch = self._batches.close()
        if batch is not None:
            await batch
        self._thread.shutdown()

    async def _score(self, windows: Sequence[Window]) -> list[Scores]:
        started = time.monotonic()
        scores = await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.score, windows)
        self._metrics.batches += 1
        self._metrics.batch_windows += len(windows)
        self._metrics.inference_s += time.monotonic() - started
        return scores
