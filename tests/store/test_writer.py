"""The writer: committed first, passed on after; what arrives together is one commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streamer.metrics import Metrics
from streamer.store import writer as module
from streamer.store.log import Log, Recorded
from streamer.store.query import reading
from streamer.store.writer import Writer
from streamer.types import Hearing, Report, SoundEvent
from tests.mosquitto import until
from tests.reports import event, occurrence


class Seen:
    """A sink that writes down what it gets, and what the history knew by then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.reports: list[Report] = []
        self.unknown: list[str] = []

    def put(self, report: Report) -> None:
        self.reports.append(report)
        if isinstance(report, SoundEvent):
            with reading(self._folder) as reader:
                if report.id not in {one.id for one in reader.events()}:
                    self.unknown.append(report.id)

    async def run(self) -> None:
        await asyncio.Event().wait()


class Counted(Log):
    """Counts its commits."""

    appended: list[int]

    def append(self, recorded: Sequence[Recorded]) -> list[SoundEvent]:
        self.appended = [*getattr(self, "appended", []), len(recorded)]
        return super().append(recorded)


@asynccontextmanager
async def running(writer: Writer) -> AsyncIterator[None]:
    task = asyncio.create_task(writer.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_nothing_is_passed_on_before_it_is_on_disk(tmp_path: Path) -> None:
    """Every sink gets all reports, in order, when the event is in the history; also those before a stop."""
    writer = Writer(Log(tmp_path, Metrics()), Metrics(), rule=lambda one: f'{{"on":{len(one.sound)}}}')
    seen = Seen(tmp_path)
    writer.sinks.append(seen)
    reports: list[Report] = [
        *occurrence("e1"),
        Hearing("kitchen", 0.0, -30.0, {}),
        event("start", event_id="e2"),
    ]
    async with running(writer):
        for report in reports:
            writer.put(report)
        await until(lambda: len(seen.reports) == len(reports))
        writer.put(event("end", event_id="e2"))
    assert seen.reports == [*reports, event("end", event_id="e2")]
    assert seen.unknown == []
    with reading(tmp_path) as reader:
        assert reader.event("e1").rule == {"on": len("dog_bark")}


async def test_what_arrives_together_is_one_commit(tmp_path: Path) -> None:
    """However many sources speak at once, the disk is synced once."""
    event_log = Counted(tmp_path, Metrics())
    writer = Writer(event_log, Metrics())
    async with running(writer):
        for number in range(1000):
            writer.put(event("end", event_id=f"e{number}"))
        await until(lambda: sum(getattr(event_log, "appended", [])) == 1000)
    assert len([n for n in event_log.appended if n]) <= 2


async def test_a_crash_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The ends of events that were left open are passed on first, and logged."""
    caplog.set_level(logging.INFO)
    crashed = Log(tmp_path, Metrics())
    crashed.append([Recorded(event("start", event_id="open"))])
    crashed.close()
    writer = Writer(Log(tmp_path, Metrics()), Metrics())
    seen = Seen(tmp_path)
    writer.sinks.append(seen)
    async with running(writer):
        writer.put(event("start", event_id="new"))
        await until(lambda: len(seen.reports) == 2)
    assert [(one.id, one.phase) for one in seen.reports if isinstance(one, SoundEvent)] == [
        ("open", "end"),
        ("new", "start"),
    ]
    assert caplog.text.count("was left open by a crash, and ends now") == 1


async def test_reports_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk hangs so many wait; the oldest go, and are counted."""
    monkeypatch.setattr(module, "WAITING_MAX", 10)
    metrics = Metrics()
    writer = Writer(Log(tmp_path, metrics), metrics)
    for number in range(25):
        writer.put(event("end", event_id=f"e{number:02}"))
    assert metrics.dropped == {"log": 15}
    async with running(writer):
        pass
    with reading(tmp_path) as reader:
        assert sorted(one.id for one in reader.events()) == [f"e{number}" for number in range(15, 25)]
