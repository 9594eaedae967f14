"""The outbox as coroutines: SQLite blocks, and so has a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from streamer.store.outbox import Outbox, Waiting
from streamer.types import SoundEvent

P = ParamSpec("P")
T = TypeVar("T")


class EventQueue:
    """Events that wait for a broker, in order. What was begun is done, also where who waits is cancelled."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox")

    async def append(self, events: Sequence[SoundEvent]) -> list[SoundEvent]:
        """As `Outbox.append`: what it returns may be said now."""
        return await self._run(self._outbox.append, events)

    async def first(self) -> Waiting | None:
        """The oldest event. It stays until it is done."""
        return await self._run(self._outbox.first)

    async def done(self, waiting: Waiting) -> None:
        """The broker has it."""
        await self._run(self._outbox.done, waiting.id)

    async def refuse(self, waiting: Waiting, reason: str) -> None:
        """The broker does not want it."""
        await self._run(self._outbox.refuse, waiting.id, reason)

    async def close(self) -> None:
        """After this nothing can be asked any more."""
        await self._run(self._outbox.close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._thread.submit(work, *args, **kwargs))
