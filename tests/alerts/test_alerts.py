"""Alerts over a real HTTP server, from a real event log: each once, late where it must be, never too late."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import matplotlib.image
import numpy as np
import pytest

from streamer.alerts.sink import AlertSink, consumer_name
from streamer.alerts.targets import Target
from streamer.capture.ring import Ring
from streamer.capture.tapes import Tapes
from streamer.config.schema import AlertRule, AlertSettings
from streamer.core.backoff import Backoff
from streamer.errors import InputError
from streamer.language import Names
from streamer.metrics import Metrics
from streamer.store.edit import editing
from streamer.store.history import set_clip
from streamer.store.log import Log
from streamer.store.query import reading
from streamer.store.writer import Writer
from streamer.types import AudioBlock, Priority, Recurrence, SoundEvent
from tests.alerts.receiver import SECRET, Receiver
from tests.mosquitto import until
from tests.reports import event
from tests.web.test_api import kept_clip

pytestmark = pytest.mark.slow

QUICK = Backoff(first_s=0.05, longest_s=0.1)
SETTINGS = AlertSettings(min_priority="normal", cooldown_s=0.0)


def begins(
    event_id: str = "e1", *, sound: str = "dog_bark", priority: Priority = "high", at: float | None = None
) -> SoundEvent:
    one = event("start", event_id=event_id, sound=sound)
    return replace(one, onset=time.time() if at is None else at, priority=priority)


@asynccontextmanager
async def alerting(
    folder: Path,
    *receivers: Receiver,
    settings: AlertSettings = SETTINGS,
    metrics: Metrics | None = None,
    tapes: Tapes | None = None,
) -> AsyncIterator[Writer]:
    """A log whose events are sent to receivers, called r0, r1, …"""
    metrics = metrics or Metrics()
    targets = [Target(f"r{number}", receiver.url) for number, receiver in enumerate(receivers)]
    event_log = Log(folder, metrics, consumers=[consumer_name(target.name) for target in targets])
    writer = Writer(event_log, metrics)
    consumers = [(target, writer.consumer(consumer_name(target.name))) for target in targets]
    zone = ZoneInfo("UTC")
    sink = AlertSink(
        settings, consumers, Names, tapes or Tapes(), zone, metrics, directory=folder, backoff=QUICK
    )
    writer.sinks.append(sink)
    task = asyncio.create_task(writer.run())
    await asyncio.sleep(0)
    try:
        yield writer
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_an_event_is_one_alert(tmp_path: Path) -> None:
    """Its name, its place, its time and a link, once, however it goes on; not again after a restart."""
    settings = SETTINGS.model_copy(update={"page_url": "http://home:8927/"})
    noon = replace(begins(), onset=time.time() // 86400 * 86400 + 1)  # today, in UTC
    settings = settings.model_copy(update={"expire_s": 86400.0})
    with Receiver().serving() as receiver:
        async with alerting(tmp_path, receiver, settings=settings) as writer:
            for phase in ("start", "update", "end"):
                writer.put(replace(noon, phase=phase))
            await until(lambda: len(receiver.alerts) == 1)
        async with alerting(tmp_path, receiver, settings=settings) as writer:
            writer.put(begins("e2", sound="smoke_alarm", priority="critical"))
            await until(lambda: len(receiver.alerts) == 2)
    first, second = receiver.alerts
    assert first["title"] == "Dog bark · Kitchen"
    assert first["message"] == "00:00:01 · 93 %\nhttp://home:8927/#/events/e1"
    assert (first["type"], second["type"]) == ("warning", "failure")
    assert second["title"] == "Smoke alarm · Kitchen"


async def test_a_spectrogram_goes_with_it(tmp_path: Path) -> None:
    """A tone of 1 kHz is one bright line of the picture, in the lower half, from its onset on."""
    rate, now = 16_000, time.time()
    ring = Ring(rate)
    tone = np.zeros(12 * rate, np.float32)
    tone[8 * rate :] = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(4 * rate) / rate)
    ring.write(AudioBlock(tone, now - 12))
    tapes = Tapes()
    tapes.put("kitchen", ring)
    with Receiver().serving() as receiver:
        async with alerting(tmp_path, receiver, tapes=tapes) as writer:
            writer.put(begins(at=now - 4))
            await until(lambda: len(receiver.alerts) == 1)
    (attachment,) = receiver.alerts[0]["attachments"]
    assert attachment["mimetype"] == "image/png"
    picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(attachment["base64"])), format="png")
    brightness = picture[:, :, :3].mean(axis=2)
    height, width = brightness.shape
    assert (height, width) == (3 * 64, 3 * 16 * 10)
    line = brightness[:, 7 * width // 10 :].mean(axis=1)
    assert height / 2 < line.argmax() < height
    assert brightness[:, : width // 2].max() < line.max() / 2


def is_ended(folder: Path, event_id: str) -> bool:
    """Whether the history has the end of an event."""
    try:
        with reading(folder) as reader:
            return reader.event(event_id).offset is not None
    except InputError:
        return False


async def test_a_clip_goes_with_it(tmp_path: Path) -> None:
    """Once it is kept; where none is, the alert comes without."""
    settings = SETTINGS.model_copy(update={"attach": "clip"})
    with Receiver().serving() as receiver:
        async with alerting(tmp_path, receiver, settings=settings) as writer:
            for n, event_id in enumerate(("a" * 12, "b" * 12)):
                one = begins(event_id)
                writer.put(one)
                writer.put(replace(one, phase="end", offset=one.onset + 1))
                await until(lambda ended=event_id: is_ended(tmp_path, ended))  # type: ignore[misc]  # bound now
                if n == 0:
                    content = kept_clip(tmp_path, event_id).read_bytes()
                else:
                    with editing(tmp_path) as db:
                        set_clip(db, event_id, "speech", None, None, 0)
                await until(lambda sent=n + 1: len(receiver.alerts) == sent)  # type: ignore[misc]  # bound now
    (attachment,) = receiver.alerts[0]["attachments"]
    assert (attachment["mimetype"], attachment["filename"]) == ("audio/flac", "dog_bark.flac")
    assert base64.b64decode(attachment["base64"]) == content
    assert receiver.alerts[1]["attachments"] == []


async def test_an_outage_delays_and_neither_loses_nor_repeats(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What happens meanwhile comes afterwards, in order, also over a restart; other targets do not wait."""
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    with Receiver().serving() as down, Receiver().serving() as well:
        down.status = 503
        async with alerting(tmp_path, down, well, metrics=metrics) as writer:
            for number in range(3):
                writer.put(begins(f"e{number}", sound=f"sound{number}"))
            await until(lambda: len(well.alerts) == 3 and down.n_requests >= 2)
            assert metrics.alerts["r0"].problem == "it answers with HTTP status 503"
            assert metrics.outbox.depth == 0  # nothing waits for the broker
        down.status = 200
        async with alerting(tmp_path, down, well, metrics=metrics) as writer:
            writer.put(begins("e3", sound="sound3"))
            await until(lambda: len(down.alerts) == 4 and len(well.alerts) == 4)
            await asyncio.sleep(0.2)
    expected = [f"Sound{number} · Kitchen" for number in range(4)]
    assert down.titles == expected
    assert well.titles == expected
    assert metrics.alerts["r0"].problem == ""
    assert caplog.text.count("alerts to r0: it answers with HTTP status 503; tried again") == 1


async def test_an_old_event_is_no_alert(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody took for so long is left out, counted and logged: also what came late from a node."""
    metrics = Metrics()
    receiver = Receiver()
    with receiver.serving():
        port = receiver.port
    settings = SETTINGS.model_copy(update={"expire_s": 0.5})
    async with alerting(tmp_path, receiver, settings=settings, metrics=metrics) as writer:
        writer.put(begins("old"))
        writer.put(begins("yesterday", at=time.time() - 86400))
        await until(lambda: metrics.alerts["r0"].expired == 2)
        with receiver.serving(port):
            writer.put(begins("new", sound="cat"))
            await until(lambda: bool(receiver.alerts))
    assert receiver.titles == ["Cat · Kitchen"]
    assert metrics.dropped == {"alerts/r0": 2}
    assert "alerts to r0: 1 were left out, since they waited longer than 0.5 s" in caplog.text


async def test_too_many(tmp_path: Path) -> None:
    """After as many as may be sent in an hour, one says so, in the language of the home."""
    settings = SETTINGS.model_copy(update={"at_most_an_hour": 3})
    with Receiver().serving() as receiver:
        async with alerting(tmp_path, receiver, settings=settings) as writer:
            for number in range(20):
                writer.put(begins(f"e{number}"))
            writer.put(begins("last", sound="smoke_alarm", priority="critical"))
            await until(lambda: bool(receiver.alerts) and "Smoke" in receiver.titles[-1])
    assert receiver.titles == 3 * ["Dog bark · Kitchen"] + ["streamer", "Smoke alarm · Kitchen"]
    assert receiver.alerts[3]["message"].startswith("3 alerts in an hour: the next ones at ")


async def test_what_is_overdue_alerts_once(tmp_path: Path) -> None:
    """Each target until it has taken it, not again after a restart, anew when it is overdue anew."""
    day = 86_400.0
    noon = 1_790_000_000.0 // day * day + day / 2
    late = Recurrence("cellar", "washing_machine", noon, True, noon - day, True, day, day)
    asleep = replace(late, sound="pump", at=noon + day / 2)  # midnight, UTC
    settings = SETTINGS.model_copy(
        update={
            "min_priority": "high",
            "quiet_hours": ("22:00-07:00",),
            "page_url": "http://home:8927",
            "sounds": {"toilet_flush": AlertRule(send=False)},
        }
    )
    metrics = Metrics()
    with Receiver().serving() as down, Receiver().serving() as well:
        down.status = 503
        async with alerting(tmp_path, down, well, settings=settings, metrics=metrics) as writer:
            for one in (late, asleep, replace(late, sound="toilet_flush")):
                writer.put(one)
            await until(lambda: metrics.alerts["r1"].sent == 1 and bool(metrics.alerts["r0"].problem))
        down.status = 200
        async with alerting(tmp_path, down, well, settings=settings) as writer:
            writer.put(late)
            await until(lambda: len(down.alerts) == 1)
            writer.put(replace(late, is_overdue=False, since=noon))
            writer.put(asleep)
            await asyncio.sleep(0.1)
            writer.put(replace(late, since=noon, at=noon + 1.9 * day))
            await until(lambda: len(down.alerts) == 2 and len(well.alerts) == 2)
    assert down.titles == well.titles == 2 * ["Washing machine overdue · Cellar"]
    since = datetime.fromtimestamp(noon - day, UTC)
    assert well.alerts[0]["message"] == (
        f"Not heard since {since:%Y-%m-%d} 12:00.\nhttp://home:8927/#/health"
    )


def content_of(folder: Path) -> str:
    """Of all files in it."""
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("status", [200, 401, 500])
async def test_an_address_appears_nowhere(
    tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither in the log at any level, nor in what is counted, nor on disk: whatever the target answers."""
    caplog.set_level(logging.DEBUG)
    metrics = Metrics()
    with Receiver().serving() as receiver:
        receiver.status = status
        async with alerting(tmp_path, receiver, metrics=metrics) as writer:
            writer.put(begins())
            await until(lambda: receiver.n_requests > 0)
    async with alerting(tmp_path, receiver, metrics=metrics) as writer:  # it is gone
        writer.put(begins("e2", sound="cat"))
        await until(lambda: metrics.alerts["r0"].problem == "it cannot be reached")
    assert SECRET not in caplog.text
    assert SECRET not in "".join(capfd.readouterr())
    assert SECRET not in str(metrics.snapshot())
    assert SECRET not in await asyncio.to_thread(content_of, tmp_path)
