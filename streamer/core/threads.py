"""Blocking calls beside the event loop, so that none can hold up the loop or the end of the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T], name: str, deadline_s: float | None = None) -> T:
    """What `call` returns or raises. Raises TimeoutError after `deadline_s`; the thread is left to itself.

    `asyncio.to_thread` would not do: the loop waits for its threads at the end, and a call into an audio
    driver or the network may never return.
    """
    outcome: Future[T] = Future()

    def body() -> None:
        if outcome.set_running_or_notify_cancel():
            try:
                outcome.set_result(call())
            except BaseException as error:
                outcome.set_exception(error)

    threading.Thread(target=body, name=name, daemon=True).start()
    return await asyncio.wait_for(asyncio.wrap_future(outcome), deadline_s)
