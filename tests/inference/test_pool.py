"""Several devices of one machine are one worker, and the death of one process costs its windows at most."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from streamer.config.schema import ModelSettings
from streamer.errors import InferenceError, ModelError
from streamer.inference.process import open_worker
from streamer.inference.process.child import ChildWorker
from streamer.inference.process.pool import Pool
from streamer.metrics import Metrics
from tests.inference.test_child import DEADLINE_S, LIMITS, children, until, window

Start = Callable[..., Awaitable[Pool]]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts pools on the CPU, twice; they end with the test."""
    monkeypatch.setenv("STREAMER_TEST_MARKS", str(tmp_path))
    async with AsyncExitStack() as stack:

        async def started(engine: str, devices: tuple[str, ...] = ("cpu", "cpu"), **options: Any) -> Pool:
            settings = ModelSettings(device=devices, max_batch=options.pop("max_batch", 16))
            pool = Pool(
                settings, Metrics(), engine=f"tests.inference.engines:{engine}", limits=LIMITS, **options
            )
            stack.push_async_callback(pool.close)
            async with asyncio.timeout(DEADLINE_S):
                about = await pool.start()
            assert about.device == ", ".join(devices)
            return pool

        yield started


async def score(pool: Pool, *windows: Any) -> list[Any]:
    async with asyncio.timeout(DEADLINE_S):
        return list(await asyncio.gather(*map(pool.score, windows), return_exceptions=True))


@pytest.mark.parametrize("device", [[], ["auto"], ["cpu", "gpu"], ["cuda:x"]])
def test_a_list_names_devices(device: list[str]) -> None:
    """`auto` is no name of a device in a list, and an empty list is none."""
    with pytest.raises(ValidationError):
        ModelSettings(device=device)


async def test_a_list_is_a_pool() -> None:
    """One device, also in a list, is one process; several are a pool."""
    for device, kind in (("cpu", ChildWorker), (["cpu"], ChildWorker), (["cpu", "cuda:0"], Pool)):
        assert type(open_worker(ModelSettings(device=device), Metrics())) is kind


@pytest.mark.slow
async def test_windows_are_shared_out(start: Start) -> None:
    """Each process has a window at the same time, and each window gets its own scores."""
    pool = await start("Slow", max_batch=1, n_sources=3)
    scoring = asyncio.create_task(score(pool, window("a", value=0.25), window("b", value=0.75)))
    await until(lambda: pool._in_flight == [1, 1])
    assert [s.clip[0] for s in await scoring] == [0.25, 0.75]
    assert pool._metrics.batches == 2
    assert pool._metrics.device == "cpu, cpu"
    assert len(children()) == 2


@pytest.mark.slow
async def test_the_death_of_one_costs_nothing(start: Start) -> None:
    """What the dead process had, and what comes until it is loaded again, is scored by the other."""
    pool = await start("Slow", max_batch=1)
    scoring = asyncio.create_task(score(pool, *(window(f"room{i}", value=i / 8) for i in range(4))))
    await until(lambda: pool._in_flight == [2, 2])
    await asyncio.sleep(0.5)  # both score one, and have one waiting
    dead, alive = children()
    dead.kill()
    assert [s.clip[0] for s in await scoring] == [i / 8 for i in range(4)]
    assert alive.is_running()
    assert pool._metrics.worker_restarts == 1
    await until(lambda: all(child.is_ready for child in pool._children))
    assert pool.describe().startswith("2 of 2 processes: ")


@pytest.mark.slow
async def test_a_window_that_kills_does_not_kill_them_all(start: Start) -> None:
    """It ends two processes of three, and its source is a suspect for each of them; the others are scored."""
    pool = await start("Fragile", ("cpu", "cpu", "cpu"))
    for index in range(6):
        guilty, innocent = await score(pool, window("poison", index), window("room", index, value=0.25))
        assert isinstance(guilty, InferenceError)
        assert innocent.clip[0] == 0.25
    assert pool._metrics.worker_restarts == 2


@pytest.mark.slow
async def test_a_pool_with_one_hung_process_is_alive(start: Start) -> None:
    """A process that is stopped is a hang: its window is scored by the other one."""
    pool = await start("Quick")
    stopped = children()[0]
    os.kill(stopped.pid, signal.SIGSTOP)
    scores = await score(pool, *(window(f"room{i}", value=i / 4) for i in range(4)))
    assert [s.clip[0] for s in scores] == [0, 0.25, 0.5, 0.75]
    assert pool.problem() is None
    await until(lambda: not psutil.pid_exists(stopped.pid))


@pytest.mark.slow
async def test_a_device_that_is_not_there_is_an_error_at_the_start(start: Start) -> None:
    """One of several that is missing is a mistake in the configuration, and no process is left."""
    with pytest.raises(ModelError, match="0 CUDA devices"):
        await start("NoCuda", ("cpu", "cuda:0"))


@pytest.mark.slow
async def test_nothing_is_left(start: Start) -> None:
    """Closed, twice, it has no process any more."""
    pool = await start("Quick")
    await pool.close()
    await pool.close()
    assert children() == []
    assert isinstance((await score(pool, window()))[0], InferenceError)
