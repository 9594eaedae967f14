"""The model lives in a process of its own, whose faults do no harm."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from streamer.config.schema import ModelSettings
from streamer.errors import InferenceError, ModelError
from streamer.inference.process.child import ChildWorker, Limits
from streamer.metrics import Metrics
from streamer.types import Window
from tests.inference.engines import LABELS

pytestmark = pytest.mark.slow

LIMITS = Limits(load_s=60, batch_s=3)
DEADLINE_S = 60.0
Start = Callable[..., Awaitable[ChildWorker]]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts workers with an engine of `tests.inference.engines`; they end with the test."""
    monkeypatch.setenv("STREAMER_TEST_MARKS", str(tmp_path))
    async with AsyncExitStack() as stack:

        async def started(engine: str, device: str = "auto", **options: Any) -> ChildWorker:
            settings = ModelSettings(device=device)
            worker = ChildWorker(
                settings, Metrics(), engine=f"tests.inference.engines:{engine}", limits=LIMITS, **options
            )
            stack.push_async_callback(worker.close)
            async with asyncio.timeout(DEADLINE_S):
                await worker.start()
            return worker

        yield started


def window(source_id: str = "room", index: int = 0, value: float = 0.5, rate: int = 8000) -> Window:
    return Window(source_id, index, np.full(rate, value, np.float32), rate, 10.0 + index, 11.0 + index)


def children() -> list[psutil.Process]:
    """Those that run; one that has ended and was not waited for yet has no command line any more."""
    found = []
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # which a zombie is, too
            if "streamer.inference.process.host" in process.cmdline():
                found.append(process)
    return found


def restarts(worker: ChildWorker) -> int:
    return worker._metrics.worker_restarts


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  # another process's doing has no event
            await asyncio.sleep(0.02)


async def score(worker: ChildWorker, *windows: Window) -> list[Any]:
    async with asyncio.timeout(DEADLINE_S):
        return list(await asyncio.gather(*map(worker.score, windows), return_exceptions=True))


async def test_scores_come_back_to_whom_they_belong(start: Start) -> None:
    """Windows of different sources, rates and lengths go in one batch, and each gets its own scores."""
    worker = await start("Quick", n_sources=2)
    assert worker.about is not None
    assert (worker.about.labels, worker.about.window_s, worker.about.hop_s) == (LABELS, 1.0, 0.2)
    windows = [window("a", 3, 0.25), window("b", 5, -0.5, rate=44100), window("c", 7, 0.75, rate=96000)]
    scores = await score(worker, *windows)
    assert [(s.source_id, s.index, s.start, s.end) for s in scores] == [
        (w.source_id, w.index, w.start, w.end) for w in windows
    ]
    assert [s.clip.tolist() for s in scores] == [[v] * 3 for v in (0.25, -0.5, 0.75)]
    assert [(s.frames.shape, s.frames[0, 0], s.frame_s) for s in scores] == [
        ((4, 3), v, 0.25) for v in (0.25, -0.5, 0.75)
    ]
    assert worker._metrics.batches == 1


@pytest.mark.parametrize("kind", ["kill", "error", "hang", "memory"])
async def test_a_failure_costs_no_window(start: Start, kind: str) -> None:
    """A crash, an error of the device, a hang, no memory: the next child scores what the last one had."""
    worker = await start("Fragile")
    first, second = await score(worker, window(kind, value=0.25), window("room", value=0.5))
    assert (first.clip[0], second.clip[0]) == (0.25, 0.5)
    assert restarts(worker) == 1
    assert len(children()) == 1


async def test_a_window_that_kills_is_skipped(start: Start) -> None:
    """A window that two children died of is given up; the next ones are scored."""
    worker = await start("Fragile")
    (outcome,) = await score(worker, window("poison"))
    assert isinstance(outcome, InferenceError)
    assert "SIGKILL" in str(outcome)
    assert (await score(worker, window()))[0].clip[0] == 0.5
    assert restarts(worker) == 2


async def test_a_source_that_kills_does_not_starve_the_others(start: Start) -> None:
    """Its windows are scored alone, and then not for a while; every window of the others is scored."""
    worker = await start("Fragile")
    for index in range(12):
        guilty, first, second = await score(
            worker, window("poison", index), window("room", index, value=0.25), window("hall", index)
        )
        assert isinstance(guilty, InferenceError)
        assert (first.clip[0], second.clip[0]) == (0.25, 0.5)
    assert restarts(worker) == 2
    assert "not scored for another" in str(guilty)


async def test_a_child_that_dies_idle_is_replaced(start: Start) -> None:
    """The next child is loaded when the last one ends, not when a window needs it."""
    worker = await start("Quick")
    (child,) = children()
    child.kill()
    await until(lambda: [c.pid for c in children()] not in ([], [child.pid]))
    assert (await score(worker, window()))[0].clip[0] == 0.5


async def test_a_device_that_is_not_there_is_an_error_at_the_start(start: Start) -> None:
    """Whoever asks for a GPU does not get the CPU without a word."""
    with pytest.raises(ModelError, match="0 CUDA devices"):
        await start("NoCuda", device="cuda")
    assert children() == []


async def test_the_cpu_takes_over(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A GPU that fails three times in ten minutes is left for the CPU, which is said."""
    worker = await start("FailingCuda", device="cuda")
    for index in range(3):
        await score(worker, window(index=index))
    (scores,) = await score(worker, window(index=3))
    assert scores.clip[0] == 0.5
    assert worker._metrics.device == "cpu"
    assert "the CPU takes over" in caplog.text


async def test_a_missing_model_is_an_error_at_the_start(start: Start) -> None:
    """A model that cannot be loaded is no reason to try again for ever."""
    with pytest.raises(ModelError, match="no such directory"):
        await start("Missing")
    assert children() == []


async def test_nothing_is_left(start: Start) -> None:
    """Restarts leave no process, no descriptor and no memory without an owner."""
    worker = await start("Quick")
    await score(worker, window())
    own = psutil.Process()
    gc.collect()  # sockets of earlier tests that nothing holds would be closed some time later
    before = own.num_fds()
    for count in range(1, 4):
        children()[0].kill()
        await until(lambda n=count: restarts(worker) >= n)
        await score(worker, window())
    assert own.num_fds() == before
    await worker.close()
    await worker.close()
    assert children() == []
    assert isinstance((await score(worker, window()))[0], InferenceError)


def test_the_child_ends_with_its_parent() -> None:
    """Where the parent is killed, the child does not stay behind."""
    code = """if True:
        import asyncio
        from streamer.config.schema import ModelSettings
        from streamer.inference.process.child import ChildWorker
        from streamer.metrics import Metrics

        async def main():
            worker = ChildWorker(ModelSettings(), Metrics(), engine="tests.inference.engines:Quick")
            await worker.start()
            print("ready", flush=True)
            await asyncio.sleep(1000)

        asyncio.run(main())
    """
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        (child,) = psutil.Process(parent.pid).children()
        os.kill(parent.pid, signal.SIGKILL)
        assert psutil.wait_procs([child], timeout=DEADLINE_S)[1] == []
