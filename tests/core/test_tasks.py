"""Tasks end with the block that runs them."""

from __future__ import annotations

import asyncio
import gc

import pytest

from streamer.core.tasks import cancel_and_wait, in_background, running


async def test_a_task_ends_with_its_block() -> None:
    """It is cancelled, and its end is waited for."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.set()

    async with running(work(), "work") as task:
        await asyncio.sleep(0)
        assert task.get_name() == "work"
    assert ended.is_set()
    assert task.cancelled()


async def test_what_the_block_raises_is_raised() -> None:
    """Not what the task was cancelled with."""
    with pytest.raises(ValueError, match="block"):
        async with running(asyncio.sleep(60), "sleep"):
            raise ValueError("block")


async def test_several_are_cancelled_together() -> None:
    """Also where one of them fails while it ends."""

    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError("at the end")

    tasks = [asyncio.create_task(fails()), asyncio.create_task(asyncio.sleep(60))]
    await asyncio.sleep(0)
    await cancel_and_wait(*tasks)
    assert all(task.done() for task in tasks)


async def test_a_fault_in_the_background_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """When it happens, with its stack; the block goes on."""

    async def fails() -> None:
        raise RuntimeError("a fault")

    async with in_background(fails(), "work"):
        await asyncio.sleep(0.01)
        assert "work: ended by a fault" in caplog.text
        assert "RuntimeError: a fault" in caplog.text


async def test_work_that_never_began_leaves_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    """Where the block fails at once, as with a second daemon, Python says nothing of a coroutine."""

    async def begin_and_fail() -> None:
        async with in_background(asyncio.sleep(60), "work"):
            raise ValueError("at once")

    with pytest.raises(ValueError, match="at once"):
        await begin_and_fail()
    gc.collect()
    assert not recwarn.list
