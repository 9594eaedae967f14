"""A sink that can be exchanged for another while the daemon runs."""

from __future__ import annotations

import asyncio

from streamer.core.tasks import first_of, running
from streamer.types import Report, Sink, SoundEvent, SourceState


class ExchangeableSink:
    """Passes reports to one sink, and after `exchange` to another, which is given the present states first.

    The old sink ends before the new one starts, so that two never use one client identifier at a broker.
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
        """Pass reports to another sink from now on."""
        self._next = sink
        self._exchanged.set()

    async def run(self) -> None:
        while True:
            name = f"sink[{type(self._sink).__name__}]"
            async with (
                running(self._sink.run(), name) as delivery,
                running(self._exchanged.wait(), f"{name} exchanged") as exchanged,
            ):
                await first_of(delivery, exchanged)
                if delivery.done():
                    await delivery
            if self._next is None:
                return
            self._sink, self._next = self._next, None
            self._exchanged.clear()
            known: list[Report] = [*self._sources.values(), *self._open.values()]
            for report in known:
                self._sink.put(report)
