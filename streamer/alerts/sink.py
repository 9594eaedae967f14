"""Sends alerts: each target is a consumer of the event log, so an outage of one delays its alerts alone.

What a target has not taken is tried again until it has, or until it is too old to be an alert.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from streamer.alerts.overdue import OverdueAlerts
from streamer.alerts.rules import Rules, Verdict
from streamer.alerts.sender import Sender
from streamer.alerts.targets import Alert, Attachment, Target
from streamer.capture.tapes import Tapes
from streamer.config.schema import AlertSettings
from streamer.core.backoff import Backoff
from streamer.core.rate_limit import RateLimit
from streamer.errors import StreamerError
from streamer.language import Names
from streamer.metrics import Metrics
from streamer.signal.picture import spectrogram
from streamer.store.clips import clip_path
from streamer.store.log import Entry
from streamer.store.query import reading
from streamer.store.writer import Consumer
from streamer.types import Recurrence, Report, SoundEvent

STOP_S = 1.0
"""how long a stop waits for an alert that is on its way"""
CLIP_S = 15.0
"""how long a clip is waited for after the end of its event"""
CLIP_ASKED_S = 0.5
BACKOFF = Backoff(first_s=2.0, longest_s=60.0, jitter=0.5)

log = logging.getLogger(__name__)


def consumer_name(target: str) -> str:
    """What the cursor of a target is called."""
    return f"alerts/{target}"


class AlertSink:
    """A sink that is only woken by events: what it sends of them, it reads from the log."""

    def __init__(
        self,
        settings: AlertSettings,
        targets: Sequence[tuple[Target, Consumer]],
        names: Callable[[], Names],
        tapes: Tapes,
        zone: ZoneInfo,
        metrics: Metrics,
        *,
        directory: Path | None = None,
        backoff: Backoff = BACKOFF,
    ) -> None:
        """`names` gives those of a configuration that may change; `directory` is that of the clips."""
        senders = [Sender(target, consumer_name(target.name), metrics) for target, _ in targets]
        self._deliveries = [
            _Delivery(settings, sender, consumer, names, tapes, zone, metrics, directory, backoff)
            for sender, (_, consumer) in zip(senders, targets, strict=True)
        ]
        self._overdue = OverdueAlerts(settings, senders, names, zone, directory)

    def put(self, report: Report) -> None:
        """As a sink: never blocks."""
        if isinstance(report, SoundEvent):
            for delivery in self._deliveries:
                delivery.wake.set()
        elif isinstance(report, Recurrence):
            self._overdue.put(report)

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as running:
            for delivery in self._deliveries:
                running.create_task(delivery.run(), name=delivery.name)
            running.create_task(self._overdue.run(), name="alerts of overdue sounds")


class _Delivery:
    """From the log to one target, in order."""

    def __init__(
        self,
        settings: AlertSettings,
        sender: Sender,
        events: Consumer,
        names: Callable[[], Names],
        tapes: Tapes,
        zone: ZoneInfo,
        metrics: Metrics,
        directory: Path | None,
        backoff: Backoff,
    ) -> None:
        self._settings = settings
        self._sender = sender
        self._events = events
        self._names = names
        self._tapes = tapes
        self._zone = zone
        self._metrics = metrics
        self._directory = directory
        self._backoff = backoff
        self._rules = Rules(settings, zone)
        self._logged = RateLimit()
        self.name = consumer_name(sender.target)
        self.wake = asyncio.Event()

    async def run(self) -> None:
        passed: Entry | None = None
        n_passed = 0
        while True:
            self.wake.clear()
            entry = await self._events.next()
            verdict = Verdict.LEAVE_OUT if entry is None else self._rules.judge(entry.event)
            if entry is not None and verdict is Verdict.LEAVE_OUT:
                passed, n_passed = entry, n_passed + 1
                continue
            if passed is not None:
                self._events.delivered(passed, n_passed)
                passed, n_passed = None, 0
            if entry is None:
                await self.wake.wait()
            else:
                await self._deliver(entry, verdict)

    async def _deliver(self, entry: Entry, verdict: Verdict) -> None:
        """Try until the target has it, or until nobody wants it any more. Only then the cursor moves on."""
        failures = 0
        while (left_s := self._settings.expire_s - self._age_s(entry)) > 0:
            sending = asyncio.ensure_future(self._send(entry.event, verdict))
            try:
                is_sent = await asyncio.shield(sending)
            except asyncio.CancelledError:
                # What is on its way may arrive: a stop waits a moment, lest it be repeated after the start.
                await asyncio.wait((sending,), timeout=STOP_S)
                if sending.done() and sending.result():
                    self._events.delivered(entry)
                sending.cancel()
                raise
            if is_sent:
                self._events.delivered(entry)
                return
            failures += 1
            await asyncio.sleep(min(self._backoff.pause_s(failures), left_s))
        self._sender.counts.expired += 1
        self._metrics.drop(self.name)
        if self._logged.due("expired"):
            log.error(
                "alerts to %s: %d were left out, since they waited longer than %g s",
                self._sender.target,
                self._sender.counts.expired,
                self._settings.expire_s,
            )
        self._events.delivered(entry)

    def _age_s(self, entry: Entry) -> float:
        """Also of what a capture node has kept while its link was down."""
        event = entry.event
        happened = event.onset if event.offset is None else event.offset
        return max(entry.age_s, time.time() - happened)

    async def _send(self, event: SoundEvent, verdict: Verdict) -> bool:
        return await self._sender.send(lambda: self._alert(event, verdict))

    def _alert(self, event: SoundEvent, verdict: Verdict) -> Alert:
        """Blocks for a moment: it computes the spectrogram, or waits for the clip."""
        names = self._names()
        if verdict is Verdict.LIMIT:
            text = names.text("alert_limit")
            at = datetime.fromtimestamp(self._rules.free_at(), self._zone)
            return Alert("streamer", text.format(n=self._settings.at_most_an_hour, time=f"{at:%H:%M}"))
        onset, now = (datetime.fromtimestamp(at, self._zone) for at in (event.onset, time.time()))
        when = f"{onset:%H:%M:%S}" if onset.date() == now.date() else f"{onset:%Y-%m-%d %H:%M:%S}"
        lines = [f"{when} · {100 * event.peak:.0f} %"]
        if self._settings.page_url is not None:
            lines.append(f"{self._settings.page_url.rstrip('/')}/#/events/{event.id}")
        return Alert(
            f"{names.sound(event.sound)} · {names.source(event.source_id)}",
            "\n".join(lines),
            event.priority == "critical",
            self._attachment(event),
        )

    def _attachment(self, event: SoundEvent) -> Attachment | None:
        if self._settings.attach == "nothing":
            return None
        found = self._clip(event.id) if event.phase == "end" else None
        return found or self._picture(event)

    def _clip(self, event_id: str) -> Attachment | None:
        """What is kept of an event that has ended; None where nothing is, or nothing yet after CLIP_S."""
        if self._directory is None:
            return None
        until = time.monotonic() + CLIP_S
        while time.monotonic() < until:
            with suppress(StreamerError, OSError):  # the history is busy: asked again
                with reading(self._directory) as reader:
                    event = reader.event(event_id)
                if event.clip == "kept" and event.clip_start is not None:
                    content = clip_path(self._directory, event.id, event.clip_start).read_bytes()
                    return Attachment(f"{event.sound}.flac", "audio/flac", content)
                if event.clip not in ("none", "waiting"):
                    return None
            time.sleep(CLIP_ASKED_S)
        return None

    def _picture(self, event: SoundEvent) -> Attachment | None:
        """None where the audio is not there any more."""
        found = self._tapes.around(event.source_id, event.onset)
        if found is None:
            return None
        excerpt, rate = found
        return Attachment("spectrogram.png", "image/png", spectrogram(excerpt.samples, rate))
