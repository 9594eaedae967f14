"""Running one coroutine beside another, and ending it properly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


async def cancel_and_wait(*tasks: asyncio.Task[Any] | asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended. What they raise is not raised here."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def running(work: Coroutine[Any, Any, T], name: str) -> AsyncIterator[asyncio.Task[T]]:
    """Run a coroutine as a named task for the length of the block; at its end the task is cancelled."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        await cancel_and_wait(task)


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """As `running`, for work that nobody awaits: where it fails, the log has its stack at once."""
    try:
        async with running(logged(work, name), name):
            yield
    finally:
        work.close()  # where the block ended before the task began, Python would warn of it


async def logged(work: Coroutine[Any, Any, None], name: str) -> None:
    """Await work that nobody else awaits: where it fails, the log has its stack at once."""
    try:
        await work
    except Exception:
        log.exception("%s: ended by a fault in the program", name)


async def first_of(*tasks: asyncio.Task[Any] | asyncio.Future[Any], timeout_s: float | None = None) -> None:
    """Wait until one of the tasks has ended, or the time is over. None is cancelled."""
    await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
