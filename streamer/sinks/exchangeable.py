"""A sink that can be exchanged for another while all goes on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from streamer.types import Report, Sink, SoundEvent, SourceState


class CurrentSink:
    """Passes reports to one sink, and after `exchange` to another, which learns how things are now.

    The old one says its farewell first, so that two never talk to one broker under one name.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._next: Sink | None = None
        self._exchanged = asyncio.Event()
        self._sources: dict[str, SourceState] = {}
        self._open: dict[tuple[str, str], SoundEvent] = {}

    def put(self, report: Report) -> None:
        match report:
            case SourceState():
                self._sources[report.source_id] = report
            case SoundEvent(phase="end"):
                self._open.pop((report.source_id, report.sound), None)
            case SoundEvent():
                self._open[report.source_id, report.sound] = report
        self._sink.put(report)

    def exchange(self, sink: Sink) -> None:
        """Pass reports to another one from now on."""
        self._next = sink
        self._exchanged.set()

    async def run(self) -> None:
        while True:
            telling = asyncio.create_task(self._sink.run(), name=f"sink[{type(self._sink).__name__}]")
            exchanged = asyncio.create_task(self._exchanged.wait())
            try:
                await asyncio.wait((telling, exchanged), return_when=asyncio.FIRST_COMPLETED)
                if telling.done():
                    await telling
            finally:
                exchanged.cancel()
                telling.cancel()
                with suppress(asyncio.CancelledError):
                    await telling
            if self._next is None:
                return
            self._sink, self._next = self._next, None
            self._exchanged.clear()
            known: list[Report] = [*self._sources.values(), *self._open.values()]
            for report in known:
                self._sink.put(report)
