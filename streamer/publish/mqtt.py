"""Tell an MQTT broker: events at least once and in order, states as they are now, through its absence.

One coroutine owns one connection with one message in flight. On any doubt the connection is dropped, and the
same message goes over the next one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from streamer.config import MqttSettings
from streamer.errors import ConfigError, StreamerError
from streamer.metrics import Metrics
from streamer.publish.connection import (
    Broker,
    Connection,
    LostError,
    NoBrokerError,
    RefusedError,
    passing_identifier,
)
from streamer.publish.messages import Message, encode, event_message
from streamer.publish.queue import EventQueue
from streamer.publish.state import StateTopics
from streamer.publish.topics import Topics
from streamer.types import Report, SoundEvent

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 5.0
FLUSH_S = 1.0
"""how long a clean stop goes on sending the events that are left,"""
FAREWELL_S = 0.5
"""and then the last states"""
TRIES = 3
"""how often an event is offered to a broker that refuses it"""
LATE_S = 1.0
"""an event that waited longer says so"""
COMPLAINT_PACE_S = 300.0
"""the same trouble is logged at most this often"""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential with full jitter, so that the clients of one broker do not all come back at once."""

    start_s: float = 1.0
    max_s: float = 60.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return random.uniform(0, min(self.max_s, self.start_s * 2 ** min(failures - 1, 32)))  # noqa: S311  no secret


PATIENT = Backoff()


class MqttSink:
    """Tells a broker.

    Events wait in a bounded queue until the broker has acknowledged them. States are never queued.
    Raises ConfigError for a password or certificate that cannot be read.
    """

    def __init__(
        self,
        settings: MqttSettings,
        node: str,
        sources: Iterable[str],
        sounds: Iterable[str],
        metrics: Metrics,
        *,
        backoff: Backoff = PATIENT,
    ) -> None:
        self._topics = Topics(settings.prefix, node)
        identifier = settings.client_id or f"streamer-{node}"
        self._broker = Broker(settings, identifier=identifier, will_topic=self._topics.status)
        # The embedded broker has no access rules, so with it nothing is lost by 3.1.1.
        self._refusals_matter = not settings.embedded
        self._metrics = metrics
        self._backoff = backoff
        self._queue = EventQueue(settings.queue, metrics)
        self._states = StateTopics(self._topics, sources, sounds)
        self._wake = asyncio.Event()
        self._complaints = _Complaints()
        self._set_aside: dict[str, float] = {}
        """states that the broker refuses, and when (monotonic)"""
        self._failures = 0
        """in a row; the back-off grows with it"""
        self._connections = 0
        self._troubled = False
        """trouble was logged, its end was not"""
        self._stopping = False

    def put(self, report: Report) -> None:
        """Take a report. Never blocks; only from the thread of the event loop."""
        self._states.put(report)
        if isinstance(report, SoundEvent):
            self._queue.append(report)
        self._wake.set()

    async def run(self) -> None:
        """Tell until cancelled; then, for at most 1.5 s, the events that are left, OFF and offline."""
        try:
            while True:
                started = time.monotonic()
                try:
                    async with self._broker.connect() as connection:
                        self._greet(connection)
                        await self._serve(connection)
                except NoBrokerError as trouble:
                    # One that soon breaks is a failure too: two clients with one id throw each other out.
                    if time.monotonic() - started > self._backoff.max_s:
                        self._failures = 0
                        self._complaints.forget("down")
                    self._complain(trouble)
                self._failures += 1
                await asyncio.sleep(self._backoff.delay(self._failures))
        finally:
            if self._queue:
                log.warning("MQTT: stopped before %d events were delivered", len(self._queue))
                self._metrics.drop("mqtt", len(self._queue))

    async def _serve(self, connection: Connection) -> None:
        """Raises LostError when the connection is lost or in doubt."""
        self._states.online()
        telling = asyncio.create_task(self._tell(connection))
        try:
            await asyncio.shield(telling)
        except asyncio.CancelledError:
            self._stopping = True
            self._wake.set()
            try:
                await self._farewell(connection, telling)
            except (LostError, TimeoutError):
                await connection.drop()  # the will says offline
            raise

    async def _tell(self, connection: Connection) -> None:
        """Until the sink stops and no event is left. Raises LostError."""
        while True:
            self._wake.clear()
            await self._send_states(connection)
            if self._queue:
                await self._send_event(connection)
            elif self._stopping:
                return
            else:
                await connection.unless_lost(self._wake.wait())

    async def _send_states(self, connection: Connection) -> None:
        while (message := self._states.first()) is not None:
            refused_at = self._set_aside.get(message.topic)
            if refused_at is None or time.monotonic() - refused_at > COMPLAINT_PACE_S:
                try:
                    await connection.send(message)
                    self._set_aside.pop(message.topic, None)
                except RefusedError as refusal:
                    self._set_aside[message.topic] = time.monotonic()
                    self._refused("state", f"{refusal}")
            self._states.done(message)

    async def _send_event(self, connection: Connection) -> None:
        if (waiting := self._queue.first()) is None:
            return
        waited_s = time.monotonic() - waiting.since
        payload = event_message(
            waiting.event, self._topics.node, delayed_s=waited_s if waited_s > LATE_S else 0.0
        )
        topic = self._topics.event(waiting.event.source_id, waiting.event.phase)
        try:
            await connection.send(Message(topic, encode(payload), qos=1, retain=False))
        except RefusedError as refusal:
            waiting.refusals += 1
            if waiting.refusals < TRIES:
                self._failures = 0
                return
            self._metrics.drop("mqtt_refused")
            self._refused("event", f"{refusal}; the event is dropped")
        self._queue.done(waiting)

    def _refused(self, kind: str, what: str) -> None:
        # Mosquitto 2.0.11 closes the connection after it has refused: that is no outage to back off from.
        self._failures = 0
        if self._complaints.due(f"refused {kind}"):
            log.error("MQTT: %s", what)

    async def _farewell(self, connection: Connection, telling: asyncio.Task[None]) -> None:
        """Raises LostError or TimeoutError where the broker is gone or slow."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await telling
        self._states.rest()
        async with asyncio.timeout(FAREWELL_S):
            await self._send_states(connection)

    def _greet(self, connection: Connection) -> None:
        if self._troubled or not self._connections:
            waiting = f", {len(self._queue)} events waited" if self._queue else ""
            log.info("MQTT: connected to %s (%s)%s", self._broker.address, connection.version, waiting)
        if connection.version != "MQTT 5" and self._refusals_matter and self._complaints.due("version"):
            log.warning(
                "MQTT: %s does not speak MQTT 5; with 3.1.1 an event that it refuses looks delivered",
                self._broker.address,
            )
        if self._connections:
            self._metrics.reconnects += 1
        self._connections += 1
        self._troubled = False

    def _complain(self, trouble: NoBrokerError) -> None:
        if self._complaints.due("credentials" if trouble.credentials else "down"):
            level = logging.ERROR if trouble.credentials else logging.WARNING
            log.log(level, "MQTT: %s; detection goes on, events wait", trouble)
            self._troubled = True


async def probe(settings: MqttSettings) -> str:
    """Connect once; says what is there, as in `MQTT 5 on 127.0.0.1:1883`. Raises StreamerError."""
    broker = Broker(settings, identifier=passing_identifier(), will_topic=None)
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S), broker.connect() as connection:
            return f"{connection.version} on {broker.address}"
    except NoBrokerError as trouble:
        kind = ConfigError if trouble.credentials else StreamerError
        raise kind(f"MQTT: {trouble}") from None
    except TimeoutError:
        raise StreamerError(
            f"MQTT: {broker.address} does not answer within {PROBE_TIMEOUT_S:.0f} s: "
            "check mqtt.host and mqtt.port"
        ) from None


class _Complaints:
    """Lets each kind of trouble be said once in a while."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def due(self, kind: str) -> bool:
        now = time.monotonic()
        if kind in self._said and now - self._said[kind] < COMPLAINT_PACE_S:
            return False
        self._said[kind] = now
        return True

    def forget(self, kind: str) -> None:
        """It is over; when it comes back it is news."""
        self._said.pop(kind, None)
