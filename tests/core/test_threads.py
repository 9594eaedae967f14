"""Blocking calls beside the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from streamer.core.threads import in_thread


async def test_what_it_returns_and_raises() -> None:
    """In a thread of the given name; an error is raised where the call is awaited."""
    assert await in_thread(lambda: threading.current_thread().name, "opening") == "opening"
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, "dividing")


async def test_a_call_that_does_not_return_holds_up_nothing() -> None:
    """After its deadline the loop goes on, and the thread does not keep the process."""
    forever = threading.Event()
    with pytest.raises(TimeoutError):
        await in_thread(forever.wait, "hanging", deadline_s=0.05)
    (thread,) = (one for one in threading.enumerate() if one.name == "hanging")
    assert thread.daemon
    forever.set()


async def test_a_cancelled_wait_leaves_the_thread_alone() -> None:
    """What the call returns then is nobody's."""
    release, ended = threading.Event(), threading.Event()

    def call() -> None:
        release.wait()
        ended.set()

    task = asyncio.create_task(in_thread(call, "working"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    assert await asyncio.to_thread(ended.wait, 10)
