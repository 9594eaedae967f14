"""Tell an MQTT broker: events at least once and in order, states as they are now, through its absence.

One coroutine owns one connection. One message is in flight, or several of the event log where many wait.
On any doubt the connection is dropped, and all that were in flight go over the next one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from streamer.config.control import Control
from streamer.config.schema import HomeAssistantSettings, MqttSettings
from streamer.core.backoff import Backoff
from streamer.core.json_file import JsonFile
from streamer.core.rate_limit import PACE_S, RateLimit
from streamer.errors import ConfigError, StreamerError
from streamer.home_assistant.discovery import announced, messages, wanted
from streamer.home_assistant.entities import Ear
from streamer.metrics import Metrics
from streamer.mqtt.commands import CommandError, Commands
from streamer.mqtt.connection import (
    Broker,
    Connection,
    Incoming,
    LostError,
    NoBrokerError,
    RefusedError,
    passing_identifier,
)
from streamer.mqtt.messages import Message, encode, event_message
from streamer.mqtt.states import StateTopics
from streamer.mqtt.topics import Topics
from streamer.store.log import Entry
from streamer.store.writer import Consumer
from streamer.types import Report

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 5.0
FLUSH_S = 1.0
"""how long a clean stop goes on sending the events that are left,"""
FAREWELL_S = 0.5
"""and then the last states"""
TRIES = 3
"""how often an event is offered to a broker that refuses it"""
WIDEST = 16
"""events in flight at most, or what the broker takes: a lost connection repeats so many"""
WIDEN = 1000
"""so many events that wait allow one more in flight"""
NARROW_S = 300.0
"""after a refusal events go one by one for so long, lest one that is offered again come too late"""
SETTLE_S = 1.5
"""who hears of a new entity is given so long to subscribe to its topics"""
BIRTH_S = 3.0
"""after so long at most all is announced to a Home Assistant that has come up"""
NOT_KEPT = JsonFile(None, "")
LATE_S = 1.0
"""an event that waited longer says so"""


BACKOFF = Backoff(first_s=1.0, longest_s=60.0, jitter=1.0)
"""full jitter: the clients of one broker do not all come back at the same moment"""
APART_S = 30.0
"""a longer pause where another client has the same identifier: each would throw the other out for ever"""
SHORT_S = 30.0
SHORT_ROW = 3
"""so many connections in a row that last no longer: as with two daemons that throw each other out, which not
every broker says"""
ONE_NODE_EACH = "is there a second daemon with this node's name? Give each its own node, or mqtt.client_id"


class MqttSink:
    """Tells a broker.

    Events wait in the event log until the broker has acknowledged them. States are never queued.
    Raises ConfigError for a password or certificate that cannot be read.
    """

    def __init__(
        self,
        settings: MqttSettings,
        node: str,
        sources: Iterable[str],
        sounds: Iterable[str],
        events: Consumer,
        metrics: Metrics,
        *,
        control: Control | None = None,
        home_assistant: HomeAssistantSettings | None = None,
        announced: JsonFile = NOT_KEPT,
        backoff: Backoff = BACKOFF,
        apart_s: float = APART_S,
    ) -> None:
        """Obeys commands where there is a `control`. `announced` remembers what the broker retains of us."""
        sources, sounds = tuple(sources), tuple(sounds)
        self._topics = Topics(settings.prefix, node)
        identifier = settings.client_id or f"streamer-{node}"
        self._broker = Broker(settings, identifier=identifier, will_topic=self._topics.status)
        # The embedded broker has no access rules, so with it nothing is lost by 3.1.1.
        self._refusals_matter = not settings.embedded
        self._metrics = metrics
        self._backoff = backoff
        self._apart_s = apart_s
        self._events = events
        self._flight: deque[tuple[Entry, asyncio.Future[None]]] = deque()
        """sent over this connection and not yet known to be delivered, in order"""
        self._narrow_until = 0.0
        self._states = StateTopics(self._topics, sources, sounds)
        self._wake = asyncio.Event()
        self._sources = sources
        self._control = control if settings.commands else None
        self._commands = None
        if self._control is not None:
            self._commands = Commands(self._topics, self._control.sources, self._control.sounds)
            for source in self._control.sources:
                self._states.put_control(self._control, source)
        self._home_assistant = home_assistant
        self._discovery: dict[str, str] = {}
        if home_assistant is not None:
            thresholds = () if self._control is None else self._control.sounds
            commands = self._control is not None
            ears = [Ear(self._topics, source, sounds, thresholds, commands) for source in sources]
            self._discovery = wanted(ears, home_assistant.discovery_prefix, home_assistant.form)
        self._announced = announced
        self._announce_due = True
        self._logged = RateLimit()
        self._set_aside: dict[str, float] = {}
        """topics that the broker refuses, and when (monotonic)"""
        self._timers: list[asyncio.TimerHandle] = []
        self._refusals = (0, 0)
        """which event, and how often it was refused"""
        self._failures = 0
        """in a row; the back-off grows with it"""
        self._connections = 0
        self._short = 0
        """connections in a row that soon broke"""
        self._troubled = False
        """trouble was logged, its end was not"""
        self._stopping = False

    def put(self, report: Report) -> None:
        """Take a report; an event is in the log already. Never blocks; only from the event loop."""
        self._states.put(report)
        self._wake.set()

    async def run(self) -> None:
        """Tell until cancelled; then, for at most 1.5 s, the events that are left, OFF and offline."""
        if self._control is not None:
            self._control.subscribe(self._in_force)
        try:
            while True:
                started = time.monotonic()
                try:
                    async with self._broker.connect() as connection:
                        self._greet(connection)
                        await self._serve(connection)
                except NoBrokerError as trouble:
                    # One that soon breaks is a failure too: two clients with one id throw each other out.
                    if time.monotonic() - started > self._backoff.longest_s:
                        self._failures = 0
                        self._logged.forget("down")
                    self._short = (
                        self._short + 1 if trouble.lost and time.monotonic() - started < SHORT_S else 0
                    )
                    self._complain(trouble)
                    if trouble.taken_over:
                        await asyncio.sleep(self._apart_s)
                self._failures += 1
                await asyncio.sleep(self._backoff.pause_s(self._failures))
        finally:
            if self._control is not None:
                self._control.unsubscribe(self._in_force)
            waiting = self._metrics.outbox
            if waiting.depth and waiting.on_disk:
                log.info("MQTT: %d events wait on disk for the next start", waiting.depth)
            elif waiting.depth:
                log.warning("MQTT: stopped before %d events were delivered", waiting.depth)
                self._metrics.drop("mqtt", waiting.depth)

    async def _serve(self, connection: Connection) -> None:
        """Raises LostError when the connection is lost or in doubt."""
        self._announce_due = True
        self._rewind()
        telling = asyncio.create_task(self._tell(connection))
        hearing = asyncio.create_task(self._hear(connection))
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
        finally:
            hearing.cancel()
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
            with suppress(asyncio.CancelledError):
                await hearing

    async def _tell(self, connection: Connection) -> None:
        """Until the sink stops and no event is left. Raises LostError."""
        while True:
            self._wake.clear()
            if self._announce_due or self._states.first() is not None:
                while self._flight and len(self._flight) >= connection.receive_maximum:
                    await self._settle(connection)
            if self._announce_due:
                self._announce_due = False
                await self._announce(connection)
            await self._send_states(connection)
            if await self._send_events(connection):
                continue
            if self._stopping:
                return
            await connection.unless_lost(self._wake.wait())

    async def _announce(self, connection: Connection) -> None:
        """Say what there is, and clear away what an earlier configuration had left at the broker."""
        before = await asyncio.to_thread(self._announced.load)
        discovery = _announced_before(before)
        topics = self._states.retained()
        left = before.get("topics")
        gone = [topic for topic in left if topic not in topics] if isinstance(left, list) else []
        now: dict[str, object] = {"discovery": announced(self._discovery), "topics": sorted(topics)}
        news = now != before
        if news:
            # Both, lest a crash before the end forget what the broker has.
            both = {"discovery": now["discovery"] | discovery, "topics": sorted({*topics, *gone})}  # type: ignore[operator]  # dicts
            await asyncio.to_thread(self._announced.save, both)
        for message in messages(self._discovery, discovery):
            await self._offer(connection, message, "discovery")
        self._states.online()
        if self._discovery:
            # Who reads of a new entity subscribes to its topics a moment later.
            self._later(SETTLE_S, self._say_all_again)
        if news:
            if self._discovery or discovery:
                # Till then an event would pass unheard, and an empty state be taken for a wrong one.
                await self._send_states(connection)
                await connection.unless_lost(asyncio.sleep(SETTLE_S))
            for topic in gone:
                await self._offer(connection, Message(str(topic), "", qos=1, retain=True), "state")
            await asyncio.to_thread(self._announced.save, now)

    def _later(self, delay_s: float, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._timers = [timer for timer in self._timers if timer.when() > loop.time()]
        self._timers.append(loop.call_later(delay_s, work))

    def _say_all_again(self) -> None:
        self._states.online()
        self._wake.set()

    async def _hear(self, connection: Connection) -> None:
        """Obey commands, and announce all again when Home Assistant comes up."""
        topics = [] if self._commands is None else self._commands.topics
        if self._home_assistant is not None:
            topics = [*topics, f"{self._home_assistant.discovery_prefix}/status"]
        if not topics:
            return
        try:
            async for incoming in connection.hear(topics):
                if self._commands is not None and incoming.topic in self._commands.topics:
                    self._obey(self._commands, incoming)
                elif incoming.payload == b"online":
                    # Not all daemons of a home at once.
                    self._later(random.uniform(0, BIRTH_S), self._announce_again)  # noqa: S311  no secret
        except RefusedError as refusal:
            self._refused("subscription", str(refusal))

    def _announce_again(self) -> None:
        self._announce_due = True
        self._wake.set()

    def _obey(self, commands: Commands, incoming: Incoming) -> None:
        try:
            command = commands.parse(
                incoming.topic, incoming.payload, retained=incoming.retained, now=time.monotonic()
            )
        except CommandError as error:
            if self._logged.due(f"command {incoming.topic}"):
                log.warning("MQTT: %s: not obeyed: %s", incoming.topic, error)
        else:
            log.info("MQTT: %s: %s", incoming.topic, incoming.payload.decode())
            if self._control is not None:
                self._control.apply(command)
        # Whoever commands shows what he wished for, until he hears what is.
        self._states.again(incoming.topic.removesuffix("set") + "state")
        self._wake.set()

    def _in_force(self, source: str) -> None:
        # After a reload there may be others; they are another sink's.
        if self._control is not None and source in self._sources:
            self._states.put_control(self._control, source)
            self._wake.set()

    async def _send_states(self, connection: Connection) -> None:
        while (message := self._states.first()) is not None:
            await self._offer(connection, message, "state")
            self._states.done(message)

    async def _offer(self, connection: Connection, message: Message, kind: str) -> None:
        """Send it, unless the broker has just refused this topic."""
        refused_at = self._set_aside.get(message.topic)
        if refused_at is not None and time.monotonic() - refused_at <= PACE_S:
            return
        try:
            await connection.send(message)
            self._set_aside.pop(message.topic, None)
        except RefusedError as refusal:
            self._set_aside[message.topic] = time.monotonic()
            self._refused(kind, f"{refusal}")

    async def _send_events(self, connection: Connection) -> bool:
        """Fill the window, then wait until the oldest event in it is settled. False where none waits."""
        width = self._width(connection)
        while len(self._flight) < width and (entry := await self._events.next()) is not None:
            self._flight.append((entry, self._post(connection, entry)))
        if not self._flight:
            return False
        await self._settle(connection)
        return True

    def _width(self, connection: Connection) -> int:
        """Events in flight: one while few wait, since whatever is in flight is repeated after a loss."""
        if time.monotonic() < self._narrow_until:
            return 1
        return max(1, min(WIDEST, connection.receive_maximum, self._metrics.outbox.depth // WIDEN))

    async def _settle(self, connection: Connection) -> None:
        """The oldest event in flight: delivered, with those behind it that are; or refused."""
        entry, answer = self._flight[0]
        try:
            await connection.answered(answer)
        except RefusedError as refusal:
            self._narrow_until = time.monotonic() + NARROW_S
            self._failures = 0  # Mosquitto 2.0.11 then closes the connection: no outage to back off from
            times = self._refusals[1] + 1 if self._refusals[0] == entry.seq else 1
            self._refusals = (entry.seq, times)
            if times < TRIES:
                self._flight[0] = (entry, self._post(connection, entry))
                return
            self._metrics.outbox.refused += 1
            self._refused("event", f"{refusal}; the event is set aside: see `streamer store show`")
            await self._events.refuse(entry, str(refusal))
        n = 0
        while self._flight and (not n or _is_delivered(self._flight[0][1])):
            entry, _ = self._flight.popleft()
            n += 1
        self._events.delivered(entry, n)

    def _post(self, connection: Connection, entry: Entry) -> asyncio.Future[None]:
        age_s = entry.age_s
        try:
            message = event_message(
                entry.event, self._topics.node, delayed_s=age_s if age_s > LATE_S else 0.0
            )
            return connection.post(
                Message(
                    self._topics.event(entry.event.source_id, entry.event.phase),
                    encode({**message, "message_id": entry.message_id}),
                    qos=1,
                    retain=False,
                    expiry_s=max(1, int(entry.expiry_s)),
                    message_id=entry.message_id,
                )
            )
        except (ConfigError, ValueError, OverflowError) as error:
            log.error("MQTT: an event cannot be sent, and is dropped: %s: %.300r", error, entry.event)  # noqa: TRY400  it says more than the stack
            self._metrics.drop("mqtt")
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            settled.set_result(None)
            return settled

    def _rewind(self) -> None:
        """On a new connection: what was in flight on the old one is in doubt, and goes again."""
        for _, answer in self._flight:
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # asked for, lest asyncio report that nobody did
        self._flight.clear()
        self._events.rewind()

    def _refused(self, kind: str, what: str) -> None:
        # Mosquitto 2.0.11 closes the connection after it has refused: that is no outage to back off from.
        self._failures = 0
        if self._logged.due(f"refused {kind}"):
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
            depth = self._metrics.outbox.depth
            waiting = f", {depth} events waited" if depth else ""
            log.info("MQTT: connected to %s (%s)%s", self._broker.address, connection.version, waiting)
        if connection.version != "MQTT 5" and self._refusals_matter and self._logged.due("version"):
            log.warning(
                "MQTT: %s does not speak MQTT 5; with 3.1.1 an event that it refuses looks delivered",
                self._broker.address,
            )
        if self._connections:
            self._metrics.reconnects += 1
        self._connections += 1
        self._troubled = False

    def _complain(self, trouble: NoBrokerError) -> None:
        if trouble.credentials:
            kind, hint = "credentials", ""
        elif trouble.taken_over:
            kind, hint = "taken over", f": {ONE_NODE_EACH}"
        elif self._short >= SHORT_ROW:
            kind, hint = (
                "taken over",
                f", {self._short} times in a row soon after it was made: {ONE_NODE_EACH}",
            )
        else:
            kind, hint = "down", ""
        if self._logged.due(kind):
            level = logging.WARNING if kind == "down" else logging.ERROR
            log.log(level, "MQTT: %s%s; detection goes on, events wait", trouble, hint)
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


def _announced_before(kept: dict[str, object]) -> dict[str, dict[str, str]]:
    """As it was written by `announced`; what is not so is left out."""
    discovery = kept.get("discovery")
    if not isinstance(discovery, dict):
        return {}
    return {
        str(topic): {str(key): str(platform) for key, platform in platforms.items()}
        for topic, platforms in discovery.items()
        if isinstance(platforms, dict) and len(str(topic).split("/")) >= 4
    }


def _is_delivered(answer: asyncio.Future[None]) -> bool:
    return answer.done() and not answer.cancelled() and answer.exception() is None
