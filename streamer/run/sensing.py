"""Senses the windows of all sources in one thread at a time, as many together as wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from streamer.detection.pipeline import Pipeline
from streamer.detection.steps import sensed_in_steps
from streamer.types import Sensed, Window

TOGETHER = 16
"""windows whose results come together: some milliseconds each"""

_Waiting: TypeAlias = tuple[Pipeline, Window, asyncio.Future[Sensed]]


class Sensing:
    """One thread beside the event loop: the two take turns at Python's one lock, and with more threads each
    window would wait for more turns.
    """

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._running: asyncio.Task[None] | None = None

    def sense(self, pipeline: Pipeline, window: Window) -> asyncio.Future[Sensed]:
        """What a pipeline senses in its next window, in the steps that are decided on. Raises as it does."""
        future: asyncio.Future[Sensed] = asyncio.get_running_loop().create_future()
        self._waiting.append((pipeline, window, future))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name="sensing")
        return future

    async def _run(self) -> None:
        while self._waiting:
            batch = self._waiting[:TOGETHER]
            del self._waiting[:TOGETHER]
            for (_, _, future), sensed in zip(batch, await asyncio.to_thread(_sensed, batch), strict=True):
                if future.done():  # the source was closed
                    continue
                if isinstance(sensed, Exception):
                    future.set_exception(sensed)
                else:
                    future.set_result(sensed)


def _sensed(batch: Sequence[_Waiting]) -> list[Sensed | Exception]:
    results: list[Sensed | Exception] = []
    for pipeline, window, _ in batch:
        try:
            results.append(sensed_in_steps(pipeline.sense(window)))
        except Exception as error:  # of one source; the others' windows are sensed all the same
            results.append(error)
    return results
