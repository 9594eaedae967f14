"""A sink is exchanged for another while reports go on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from streamer.sinks.exchangeable import ExchangeableSink
from streamer.types import Hearing, Report, SourceState
from tests.reports import event


class Collecting:
    """A sink that remembers what it took, and when it ran."""

    def __init__(self, name: str, diary: list[str], fails: bool = False) -> None:
        self.reports: list[Report] = []
        self._name = name
        self._diary = diary
        self._fails = fails

    def put(self, report: Report) -> None:
        self.reports.append(report)

    async def run(self) -> None:
        self._diary.append(f"{self._name} begins")
        try:
            if self._fails:
                raise RuntimeError("a fault")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)
            self._diary.append(f"{self._name} ends")


async def test_the_next_sink_learns_what_is() -> None:
    """The states of sources and the events that are open: not what is over, and no level."""
    diary: list[str] = []
    first, second = Collecting("first", diary), Collecting("second", diary)
    sink = ExchangeableSink(first)
    task = asyncio.create_task(sink.run())
    waiting, listening = SourceState("room", "waiting", 0.0), SourceState("room", "listening", 1.0)
    ended = [event("start", event_id="a", sound="siren"), event("end", event_id="a", sound="siren")]
    still_open = event("start", event_id="b", sound="dog_bark")
    for report in (waiting, listening, Hearing("room", 0.0, -30.0, {}), *ended, still_open):
        sink.put(report)
    await asyncio.sleep(0)
    sink.exchange(second)
    await asyncio.sleep(0.1)
    assert len(first.reports) == 6
    assert second.reports == [listening, still_open]
    sink.put(after := event("end", event_id="b", sound="dog_bark"))
    assert second.reports[-1] == after
    assert len(first.reports) == 6
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert diary == ["first begins", "first ends", "second begins", "second ends"]


async def test_a_sink_that_fails_is_not_hidden() -> None:
    """Its error is raised, as if it ran alone."""
    with pytest.raises(RuntimeError, match="a fault"):
        await ExchangeableSink(Collecting("first", [], fails=True)).run()
