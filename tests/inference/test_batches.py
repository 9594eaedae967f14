"""Windows of all sources become batches, and every caller gets an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest

from streamer.errors import InferenceError
from streamer.inference.batches import Batches
from streamer.types import Scores, Window
from tests.inference.models import window

DEADLINE_S = 30.0


class Recorder:
    """A scorer that notes its batches and waits at a gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.error: Exception | None = None

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        self.batches.append([w.index for w in windows])
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.gate.wait(DEADLINE_S)
        if self.error is not None:
            raise self.error
        return [
            Scores(w.source_id, w.index, w.start, w.end, np.full(1, w.index, np.float32)) for w in windows
        ]


class LocalWorker:
    """A worker in this process: one thread for the scorer, one batch at a time."""

    def __init__(self, scorer: Recorder, max_batch: int, batch_wait_s: float) -> None:
        self._scorer = scorer
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._batches = Batches(self._score, max_batch, batch_wait_s)

    async def score(self, window: Window) -> Scores:
        return await self._batches.score(window)

    async def close(self) -> None:
        batch = self._batches.close()
        if batch is not None:
            await batch
        self._thread.shutdown()

    async def _score(self, windows: Sequence[Window]) -> list[Scores]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._scorer.score, windows)


@asynccontextmanager
async def _worker(
    recorder: Recorder, *, max_batch: int = 16, batch_wait_s: float = 0.02
) -> AsyncIterator[LocalWorker]:
    worker = LocalWorker(recorder, max_batch, batch_wait_s)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield worker
    finally:
        recorder.gate.set()
        await worker.close()


async def test_everyone_gets_their_own_scores() -> None:
    """A batch mixes sources; each caller gets what belongs to their window."""
    recorder = Recorder()
    async with _worker(recorder, batch_wait_s=0.2) as worker:
        results = await asyncio.gather(*(worker.score(window(i, 0.01, source_id=f"s{i}")) for i in range(5)))

    assert [(scores.source_id, scores.index) for scores in results] == [(f"s{i}", i) for i in range(5)]
    assert [0, 1, 2, 3, 4] in recorder.batches
    assert len(recorder.batches) == 1


async def test_a_full_batch_does_not_wait() -> None:
    """A batch closes at `max_batch`, however long the wait may be."""
    recorder = Recorder()
    async with _worker(recorder, max_batch=2, batch_wait_s=1.0) as worker:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await asyncio.gather(*(worker.score(window(i, 0.01)) for i in range(4)))
        waited = loop.time() - started

    assert recorder.batches == [[0, 1], [2, 3]]
    assert waited < 1.0


async def test_what_arrives_meanwhile_is_the_next_batch() -> None:
    """While a batch is scored, others gather, and the loop stays free."""
    recorder = Recorder()
    recorder.gate.clear()
    async with _worker(recorder, batch_wait_s=0.0) as worker:
        first = asyncio.create_task(worker.score(window(0, 0.01)))
        assert await asyncio.to_thread(recorder.entered.wait, DEADLINE_S)
        others = [asyncio.create_task(worker.score(window(i, 0.01))) for i in (1, 2, 3)]
        await asyncio.sleep(0)  # they get in line
        recorder.gate.set()
        await asyncio.gather(first, *others)

    assert recorder.batches == [[0], [1, 2, 3]]
    assert len(recorder.threads) == 1
    assert recorder.threads != {threading.current_thread().name}


async def test_an_error_reaches_everyone_who_waits() -> None:
    """A batch that fails fails for each of its windows; the next one is tried."""
    recorder = Recorder()
    recorder.error = InferenceError("cpu: broken")
    async with _worker(recorder, batch_wait_s=0.2) as worker:
        results = await asyncio.gather(
            *(worker.score(window(i, 0.01)) for i in range(3)), return_exceptions=True
        )
        recorder.error = None
        fine = await worker.score(window(9, 0.01))

    assert [str(result) for result in results] == ["cpu: broken"] * 3
    assert fine.index == 9


async def test_who_gives_up_is_not_scored() -> None:
    """A window whose source has gone takes no time of the others'."""
    recorder = Recorder()
    recorder.gate.clear()
    async with _worker(recorder, batch_wait_s=0.0) as worker:
        first = asyncio.create_task(worker.score(window(0, 0.01)))
        assert await asyncio.to_thread(recorder.entered.wait, DEADLINE_S)
        gone = asyncio.create_task(worker.score(window(1, 0.01)))
        stays = asyncio.create_task(worker.score(window(2, 0.01)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        recorder.gate.set()
        await asyncio.gather(first, stays)

    assert recorder.batches == [[0], [2]]


async def test_closing_answers_everyone() -> None:
    """Closing lets the batch under way end and refuses the rest; nobody waits for ever."""
    recorder = Recorder()
    recorder.gate.clear()
    async with _worker(recorder, batch_wait_s=0.0) as worker:
        under_way = asyncio.create_task(worker.score(window(0, 0.01)))
        assert await asyncio.to_thread(recorder.entered.wait, DEADLINE_S)
        in_line = asyncio.create_task(worker.score(window(1, 0.01)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(worker.close())
        await asyncio.sleep(0)
        recorder.gate.set()
        await closing
        await worker.close()

        assert (await under_way).index == 0
        with pytest.raises(InferenceError, match="closed"):
            await in_line
        with pytest.raises(InferenceError, match="closed"):
            await worker.score(window(2, 0.01))
    assert recorder.batches == [[0]]
