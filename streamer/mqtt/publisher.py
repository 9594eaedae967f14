"""Publishes to an MQTT broker: events at least once and in order, states as they are now, through outages.

One coroutine owns one connection. Events go first and states beside them. One message is in flight, or
several of the event log where many wait. On any doubt the connection is dropped, and all that were in
flight go over the next one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Protocol, TypeAlias

from streamer.config.control import Command, Control
from streamer.config.schema import MqttSettings
from streamer.core.backoff import Backoff
from streamer.core.json_file import JsonFile
from streamer.core.rate_limit import PACE_S, RateLimit
from streamer.core.tasks import cancel_and_wait, logged, running
from streamer.errors import ConfigError, StreamerError
from streamer.language import Names
from streamer.metrics import BrokerMetrics, Metrics
from streamer.mqtt.claims import Claims
from streamer.mqtt.commands import CommandError, Commands
from streamer.mqtt.connection import (
    Broker,
    Connection,
    ConnectionLostError,
    Incoming,
    MessageRefusedError,
    NoBrokerError,
    passing_identifier,
)
from streamer.mqtt.messages import DEFAULT_NAMES, Message, encode, event_message
from streamer.mqtt.states import StateTopics
from streamer.mqtt.topics import Topics
from streamer.store.log import Entry
from streamer.store.writer import Consumer
from streamer.types import Report, SoundEvent

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 5.0
FLUSH_S = 1.0
"""seconds for which a clean stop goes on publishing the events that are left"""
LAST_STATES_S = 0.5
"""seconds after that for the last states"""
TRIES = 3
"""how often a message that the broker refuses, or closes the connection at, is published before it is set
aside"""
WIDEST = 16
"""events in flight at most, or what the broker takes: a lost connection repeats so many"""
WIDEN = 1000
"""one more in flight for so many events that wait, and were delivered over this connection"""
NARROW_S = 300.0
"""after a refusal events go one by one for so long, lest one that is offered again come too late"""
SETTLE_S = 1.5
"""seconds that Home Assistant is given to subscribe to the topics of new entities"""
BIRTH_S = 3.0
"""upper bound of the random delay before discovery is published again after Home Assistant's birth message"""
NOT_KEPT = JsonFile(None, "")
LATE_S = 1.0
"""an event that waited longer has `delayed_s`"""


BACKOFF = Backoff(first_s=1.0, longest_s=60.0, jitter=1.0)
"""full jitter: the clients of one broker do not all come back at the same moment"""
MUTE_MARGIN_S = 0.1
"""after the end of a mute: then it is over by any clock"""
APART_S = 30.0
"""a longer pause where another client has the same identifier: each would throw the other out for ever"""
SHORT_S = 30.0
SHORT_ROW = 3
"""so many connections in a row that last no longer than SHORT_S: probably two daemons with one client
identifier, which not every broker reports"""
CUT = f"the broker closed the connection {TRIES} times when it came"
ONE_NODE_EACH = "is there a second daemon with this node's name? Give each its own node, or mqtt.client_id"


class _ReplacedError(Exception):
    """A process with this node's name began later. Its text is for people."""


class _NotOursError(Exception):
    """An event of a source that another process detects. Its text is for people."""


class Discovery(Protocol):
    """What a home automation has to know for entities to appear by themselves."""

    birth_topic: str | None
    """where it publishes `online` when it has started"""

    def remembered(self) -> dict[str, dict[str, str]]:
        """What the broker retains by this configuration, to be able to remove it later."""

    def messages(self, before: Mapping[str, Mapping[str, str]]) -> list[Message]:
        """What to publish, where `before` was remembered by an earlier configuration."""


class NoDiscovery:
    """Announces nothing."""

    birth_topic: str | None = None

    def remembered(self) -> dict[str, dict[str, str]]:
        return {}

    def messages(self, before: Mapping[str, Mapping[str, str]]) -> list[Message]:  # noqa: ARG002  # as in Discovery
        return []


NO_DISCOVERY = NoDiscovery()
Links: TypeAlias = Callable[[SoundEvent], Mapping[str, str]]
"""fields with addresses of what belongs to an event"""


def no_links(_: SoundEvent) -> Mapping[str, str]:
    return {}


class MqttSink:
    """Publishes to a broker.

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
        discovery: Discovery = NO_DISCOVERY,
        announced: JsonFile = NOT_KEPT,
        names: Names = DEFAULT_NAMES,
        expected: Collection[tuple[str, str]] = (),
        links: Links = no_links,
        claims: Claims | None = None,
        backoff: Backoff = BACKOFF,
        apart_s: float = APART_S,
    ) -> None:
        """Applies commands where there is a `control`. `announced` remembers our retained messages.

        `expected` are sounds that should be heard again and again, as source and sound; `links` gives fields
        with addresses for the messages of an event, which are not retained. With `claims` nothing is
        published of a source that another process detects, which began later.
        """
        sources, sounds = tuple(sources), tuple(sounds)
        self._topics = Topics(settings.prefix, node)
        identifier = settings.client_id or f"streamer-{node}"
        self._broker = Broker(settings, identifier=identifier, will_topic=self._topics.status)
        # The embedded broker has no access rules, so with it nothing is lost by 3.1.1.
        self._refusals_matter = not settings.embedded
        self._metrics = metrics
        metrics.broker = BrokerMetrics(self._broker.address, "not connected yet")
        self._backoff = backoff
        self._apart_s = apart_s
        self._events = events
        self._links = links
        self._flight: deque[tuple[Entry, asyncio.Future[None]]] = deque()
        """sent over this connection and not yet known to be delivered, in order"""
        self._n_delivered = 0
        """over this connection"""
        self._narrow_until = 0.0
        self._claims = claims
        self._reads_claims, self._claims_read = False, set[str]()
        """whether the broker lets us, and the topics that are subscribed to over this connection"""
        self._states = StateTopics(self._topics, sources, sounds, names, expected, claims)
        self._wake = asyncio.Event()
        self._event_arrived = False
        self._control = control if settings.commands else None
        self._critical_commands = settings.commands == "all"
        self._connection: Connection | None = None
        self._subscribing: asyncio.Task[None] | None = None
        self._commands: Commands | None = None
        self._follow(sources, discovery, names)
        self._announced = announced
        self._discovery_due = True
        self._logged = RateLimit()
        self._set_aside: dict[str, float] = {}
        """topics that the broker refuses, and when (monotonic)"""
        self._timers: list[asyncio.TimerHandle] = []
        self._refusals = (0, 0)
        """sequence number of an event, and how often it was refused"""
        self._broken = ("", 0)
        """a message, and how many connections in a row the broker closed while it was in flight"""
        self._failures = 0
        """failed connections in a row, for the back-off"""
        self._connections = 0
        self._short = 0
        """connections in a row that lasted less than SHORT_S"""
        self._failure_logged = False
        """a failure was logged, and its end was not"""
        self._stopping = False

    def change(
        self,
        sources: Iterable[str],
        sounds: Iterable[str],
        discovery: Discovery,
        names: Names,
        expected: Collection[tuple[str, str]] = (),
    ) -> None:
        """Follow other sources, sounds, names or discovery over the same connection.

        Nothing of what stays becomes unavailable on the way.
        """
        sources = tuple(sources)
        self._states.change(sources, sounds, names, expected)
        self._follow(sources, discovery, names)
        if self._connection is not None:
            self._subscribe_to(self._connection)
        self._announce_later()

    def count_earlier(self, events: Iterable[tuple[str, str, float]]) -> None:
        """Count the events of today before this start: source, sound and onset of each."""
        self._states.count_earlier(events)

    def _follow(self, sources: tuple[str, ...], discovery: Discovery, names: Names) -> None:
        self._sources, self._discovery, self._names = sources, discovery, names
        if self._control is not None:
            control = self._control
            self._commands = Commands(self._topics, control.sources, control.sounds, control.all_sounds)
            for source in control.sources:
                self._states.put_control(control, source)

    def put(self, report: Report) -> None:
        """Take a report; an event is in the log already. Never blocks; only from the event loop."""
        self._states.put(report)
        self._event_arrived = self._event_arrived or isinstance(report, SoundEvent)
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled; then, for at most 1.5 s, the events that are left, OFF and offline."""
        if self._control is not None:
            self._control.subscribe(self._control_changed)
        try:
            while True:
                started = time.monotonic()
                try:
                    async with self._broker.connect() as connection:
                        self._metrics.broker = BrokerMetrics(self._broker.address)
                        self._log_connected(connection)
                        await self._serve(connection)
                except NoBrokerError as failure:
                    self._metrics.broker = BrokerMetrics(self._broker.address, str(failure))
                    # One that soon breaks is a failure, too: two clients with one id disconnect each other.
                    if failure.lost and time.monotonic() - started > self._backoff.longest_s:
                        self._failures = 0
                        self._logged.forget("down")
                    self._short = (
                        self._short + 1 if failure.lost and time.monotonic() - started < SHORT_S else 0
                    )
                    self._log_failure(failure)
                    if failure.taken_over:
                        await asyncio.sleep(self._apart_s)
                except _ReplacedError as replaced:
                    self._metrics.broker = BrokerMetrics(self._broker.address, str(replaced))
                    log.error("MQTT: %s: nothing more is published; %s", replaced, ONE_NODE_EACH)  # noqa: TRY400  it says more than the stack
                    await asyncio.Event().wait()
                self._failures += 1
                await asyncio.sleep(self._backoff.pause_s(self._failures))
        finally:
            if self._control is not None:
                self._control.unsubscribe(self._control_changed)
            waiting = self._metrics.outbox
            if waiting.depth and waiting.on_disk:
                log.info("MQTT: %d events wait on disk for the next start", waiting.depth)
            elif waiting.depth:
                log.warning("MQTT: stopped before %d events were delivered", waiting.depth)
                self._metrics.drop("mqtt", waiting.depth)

    async def _serve(self, connection: Connection) -> None:
        """Raises ConnectionLostError when the connection is lost or in doubt, or _ReplacedError."""
        self._discovery_due = True
        self._rewind()
        await self._read_claims(connection)
        async with running(self._publish_all(connection), "mqtt publish") as publishing:
            self._connection = connection
            self._subscribe_to(connection)
            for source in () if self._control is None else self._sources:
                self._control_changed(source)  # a mute may have ended meanwhile
            try:
                await asyncio.shield(publishing)
            except asyncio.CancelledError:
                self._stopping = True
                self._wake.set()
                try:
                    await self._publish_last(connection, publishing)
                except (ConnectionLostError, TimeoutError):
                    await connection.drop()  # the will says offline
                except _ReplacedError:
                    pass  # the status is the other one's
                raise
            finally:
                self._connection = None
                for timer in self._timers:
                    timer.cancel()
                self._timers.clear()
                if self._subscribing is not None:
                    await cancel_and_wait(self._subscribing)

    async def _publish_all(self, connection: Connection) -> None:
        """Publish until the sink stops and no event is left. Raises ConnectionLostError, or _ReplacedError.

        Events first; while there are any, one state after each that was waited for, so that neither starves.
        Before them the claims, and that the node is online: Home Assistant shows no event of one that is not.
        """
        await self._prove(connection)
        for claim in self._states.claimed():
            if self._events.depth:  # an alarm goes before hundreds of claims, which are due among the states
                break
            await self._send_state(connection, claim)
        if self._discovery.remembered() and not await self._is_news():
            self._states.online()
            await self._send_state(connection, self._states.status())
        while True:
            self._wake.clear()
            self._check_replaced()
            self._event_arrived = False
            sent = not await self._is_news() and await self._send_events(connection)
            if self._discovery_due or self._states.first() is not None:
                await self._make_room(connection)
            if self._discovery_due:
                self._discovery_due = False
                await self._publish_discovery(connection)
                sent = True
            elif (message := self._states.first()) is not None:
                await self._send_state(connection, message)
                while not sent and not self._event_arrived and (message := self._states.first()) is not None:
                    await self._send_state(connection, message)
                sent = True
            if sent:
                continue
            if self._stopping:
                return
            await connection.while_connected(self._wake.wait())

    async def _read_claims(self, connection: Connection) -> None:
        """Before anything is published: who detects our sources."""
        if self._claims is None or not self._sources:
            return
        topics = self._claims.topics(self._sources)
        self._reads_claims, self._claims_read = False, set()
        try:
            found = await connection.retained(list(topics))
        except MessageRefusedError as refusal:
            self._log_refusal("subscription", str(refusal))
            return
        self._reads_claims, self._claims_read = True, set(topics)
        self._claims.begin(incoming.payload for incoming in found)
        for incoming in found:
            if incoming.topic in topics:
                self._read_claim(topics[incoming.topic], incoming.payload)
        for source in self._sources:
            self._states.claim(source)
        self._check_replaced()

    def _read_claim(self, source: str, payload: bytes) -> None:
        if self._claims is None:
            return
        was_lost = source in self._claims.lost
        if not self._claims.read(source, payload):
            self._states.claim(source)
        elif source in self._claims.lost and not was_lost:
            why = self._claims.why_lost(source)
            if not self._claims.is_replaced():
                log.warning("MQTT: %s: nothing more is published of it here", why)
                self._states.lose(source, why)
        self._wake.set()

    def _check_ours(self, event: SoundEvent) -> None:
        """Raises _NotOursError for an event of a source that another process detects."""
        if self._claims is not None and not self._claims.may_publish(event):
            raise _NotOursError(self._claims.why_lost(event.source_id))

    def _check_replaced(self) -> None:
        """Raises _ReplacedError where all topics are those of another process."""
        if self._claims is not None and self._claims.is_replaced():
            raise _ReplacedError(self._claims.why_lost(next(iter(self._claims.lost))))

    async def _prove(self, connection: Connection) -> None:
        """Where the broker closed the last connection at a message, another one goes before it.

        Its answer shows that the broker takes what it can take, and that the message is to blame.
        """
        suspect = self._broken[0]
        if suspect and (message := self._states.other_than(suspect)) is not None:
            await self._publish(connection, message, "state")

    async def _make_room(self, connection: Connection) -> None:
        """Wait until the broker takes a message beside the events in flight."""
        while self._flight and len(self._flight) >= connection.receive_maximum:
            await self._settle(connection)

    async def _is_news(self) -> bool:
        """Whether discovery, which is due, says anything new: then events wait until it was read."""
        return self._discovery_due and self._to_announce() != await asyncio.to_thread(self._announced.load)

    def _to_announce(self) -> dict[str, object]:
        """What the broker is to retain, as `announced` keeps it."""
        return {"discovery": self._discovery.remembered(), "topics": sorted(self._states.retained())}

    async def _publish_discovery(self, connection: Connection) -> None:
        """Publish discovery, and remove what an earlier configuration had left at the broker."""
        before = await asyncio.to_thread(self._announced.load)
        discovery = _announced_before(before)
        topics = self._states.retained()
        left = before.get("topics")
        gone = [topic for topic in left if topic not in topics] if isinstance(left, list) else []
        remembered = self._discovery.remembered()
        now = self._to_announce()
        news = now != before
        if news:
            # Both, so that a crash before the end does not forget what the broker retains.
            both: dict[str, object] = {
                "discovery": remembered | discovery,
                "topics": sorted({*topics, *gone}),
            }
            await asyncio.to_thread(self._announced.save, both)
        for message in self._discovery.messages(discovery):
            await self._make_room(connection)
            await self._publish(connection, message, "discovery")
            if not news:
                await self._send_events(connection)
        self._states.online()
        if remembered:
            # Home Assistant subscribes to the topics of a new entity a moment later.
            self._later(SETTLE_S, self._republish_states)
        if news:
            if remembered or discovery:
                # Wait until Home Assistant has subscribed to new entities: else the first event is lost, and
                # states show `unknown`.
                await self._send_states(connection)
                await connection.while_connected(asyncio.sleep(SETTLE_S))
            for topic in gone:
                await self._publish(connection, Message(str(topic), "", qos=1, retain=True), "state")
            await asyncio.to_thread(self._announced.save, now)

    def _later(self, delay_s: float, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._timers = [timer for timer in self._timers if timer.when() > loop.time()]
        self._timers.append(loop.call_later(delay_s, work))

    def _republish_states(self) -> None:
        self._states.online()
        self._wake.set()

    def _subscribe_to(self, connection: Connection) -> None:
        """Subscribe to the topics of commands, which may be others than before."""
        if self._subscribing is not None:
            self._subscribing.cancel()
        self._subscribing = asyncio.create_task(
            logged(self._subscribe(connection), "mqtt subscribe"), name="mqtt subscribe"
        )

    async def _subscribe(self, connection: Connection) -> None:
        """Apply commands, and publish discovery again when Home Assistant has started."""
        topics = [] if self._commands is None else self._commands.topics
        if self._discovery.birth_topic is not None:
            topics = [*topics, self._discovery.birth_topic]
        claims = {} if self._claims is None else self._claims.topics(self._sources)
        if self._reads_claims:
            topics = [*topics, *(topic for topic in claims if topic not in self._claims_read)]
        if not topics and not self._claims_read:
            return
        try:
            async for incoming in connection.incoming(topics):
                if self._commands is not None and incoming.topic in self._commands.topics:
                    self._apply_command(self._commands, incoming)
                elif incoming.topic in claims:
                    self._read_claim(claims[incoming.topic], incoming.payload)
                elif incoming.topic == self._discovery.birth_topic and incoming.payload == b"online":
                    # Not all daemons of a home at the same moment.
                    self._later(random.uniform(0, BIRTH_S), self._announce_later)  # noqa: S311  no secret
        except MessageRefusedError as refusal:
            self._log_refusal("subscription", str(refusal))

    def _announce_later(self) -> None:
        self._discovery_due = True
        self._wake.set()

    def _apply_command(self, commands: Commands, incoming: Incoming) -> None:
        try:
            command = commands.parse(
                incoming.topic, incoming.payload, retained=incoming.retained, now=time.monotonic()
            )
        except CommandError as error:
            if self._logged.due(f"command {incoming.topic}"):
                log.warning("MQTT: %s: not applied: %s", incoming.topic, error)
        else:
            self._apply(command, incoming)
        # Home Assistant shows the optimistic value until it gets the real one: publish the state again.
        self._states.again(incoming.topic.removesuffix("set") + "state")
        self._wake.set()

    def _apply(self, command: Command, incoming: Incoming) -> None:
        if self._control is None:
            return
        if self._control.weakens_critical(command) and not self._critical_commands:
            if self._logged.due(f"command {incoming.topic}"):
                log.warning(
                    "MQTT: %s: not applied: it weakens a critical sound; mqtt.commands: all would allow it",
                    incoming.topic,
                )
            return
        log.info("MQTT: %s: %s", incoming.topic, incoming.payload.decode())
        self._control.apply(command)

    def _control_changed(self, source: str) -> None:
        # After a reload there may be other sources; they belong to another sink.
        if self._control is not None and source in self._sources:
            self._states.put_control(self._control, source)
            self._wake.set()
            if self._connection is not None and (muted_s := self._control.muted_s(source)) > 0:
                self._later(muted_s + MUTE_MARGIN_S, lambda: self._control_changed(source))

    async def _send_states(self, connection: Connection) -> None:
        while (message := self._states.first()) is not None:
            await self._send_state(connection, message)

    async def _send_state(self, connection: Connection, message: Message) -> None:
        await self._publish(connection, message, "state")
        self._states.done(message)

    async def _publish(self, connection: Connection, message: Message, kind: str) -> None:
        """Publish a message, unless the broker has just refused its topic."""
        refused_at = self._set_aside.get(message.topic)
        if refused_at is not None and time.monotonic() - refused_at <= PACE_S:
            return
        try:
            await connection.send(message)
            self._set_aside.pop(message.topic, None)
        except MessageRefusedError as refusal:
            self._set_aside[message.topic] = time.monotonic()
            self._log_refusal(kind, f"{refusal}")
        except ConnectionLostError as lost:
            if self._breaks(connection, lost, message.topic):
                self._set_aside[message.topic] = time.monotonic()
                self._log_refusal(
                    kind, f"{message.topic}: {CUT}: not published for {PACE_S / 60:.0f} minutes"
                )
            raise

    def _breaks(self, connection: Connection, lost: ConnectionLostError, name: str) -> bool:
        """Count a connection that the broker closed while a message was in flight; True at the last.

        Only where it had answered before: else it is the connection, and not the message.
        """
        if not lost.by_broker or lost.taken_over:
            return False
        times = self._broken[1] if self._broken[0] == name else 0
        self._broken = (name, times + min(1, connection.n_acknowledged))
        if self._broken[1] < TRIES:
            return False
        self._broken = ("", 0)
        self._short = -1  # what made these connections short is known
        return True

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
        """Events in flight: whatever is in flight is repeated after a loss of the connection.

        So it is one while few wait, or while the connection has not proved itself.
        """
        if time.monotonic() < self._narrow_until:
            return 1
        allowed = min(self._events.depth, self._n_delivered) // WIDEN
        return max(1, min(WIDEST, connection.receive_maximum, allowed))

    async def _settle(self, connection: Connection) -> None:
        """The oldest event in flight: delivered, with those behind it that are; or refused."""
        entry, answer = self._flight[0]
        try:
            await connection.answered(answer)
        except _NotOursError as reason:
            await self._events.refuse(entry, str(reason))
        except MessageRefusedError as refusal:
            self._narrow_until = time.monotonic() + NARROW_S
            self._failures = 0  # Mosquitto 2.0.11 then closes the connection: no outage to back off from
            times = self._refusals[1] + 1 if self._refusals[0] == entry.seq else 1
            self._refusals = (entry.seq, times)
            if times < TRIES:
                self._flight[0] = (entry, self._post(connection, entry))
                return
            self._metrics.outbox.refused += 1
            self._log_refusal("event", f"{refusal}; the event is set aside: see `streamer store show`")
            await self._events.refuse(entry, str(refusal))
        except ConnectionLostError as lost:
            if self._breaks(connection, lost, entry.message_id):
                self._metrics.outbox.refused += 1
                topic = self._topics.event(entry.event.source_id, entry.event.phase)
                self._log_refusal("event", f"{topic}: {CUT}: it is set aside: see `streamer store show`")
                await self._events.refuse(entry, CUT)
                self._events.delivered(entry)
            raise
        n = 0
        while self._flight and (not n or _is_delivered(self._flight[0][1])):
            entry, _ = self._flight.popleft()
            n += 1
        self._n_delivered += n
        self._events.delivered(entry, n)

    def _post(self, connection: Connection, entry: Entry) -> asyncio.Future[None]:
        age_s = entry.age_s
        try:
            self._check_ours(entry.event)
            message = event_message(
                entry.event,
                self._topics.node,
                delayed_s=age_s if age_s > LATE_S else 0.0,
                names=self._names,
            )
            return connection.post(
                Message(
                    self._topics.event(entry.event.source_id, entry.event.phase),
                    encode({**message, **self._links(entry.event), "message_id": entry.message_id}),
                    qos=1,
                    retain=False,
                    expiry_s=max(1, int(entry.expiry_s)),
                    message_id=entry.message_id,
                )
            )
        except (MessageRefusedError, _NotOursError) as refusal:
            refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            refused.set_exception(refusal)
            return refused
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
                answer.exception()  # retrieved, or asyncio logs that it never was
        self._flight.clear()
        self._n_delivered = 0
        self._events.rewind()

    def _log_refusal(self, kind: str, what: str) -> None:
        # Mosquitto 2.0.11 closes the connection after it has refused: that is no outage to back off from.
        self._failures = 0
        if self._logged.due(f"refused {kind}"):
            log.error("MQTT: %s", what)

    async def _publish_last(self, connection: Connection, publishing: asyncio.Task[None]) -> None:
        """Raises ConnectionLostError or TimeoutError where the broker is gone or slow."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await publishing
        self._states.rest()
        async with asyncio.timeout(LAST_STATES_S):
            await self._send_states(connection)

    def _log_connected(self, connection: Connection) -> None:
        if self._failure_logged or not self._connections:
            depth = self._metrics.outbox.depth
            waiting = f", {depth} events waited" if depth else ""
            log.info("MQTT: connected to %s (%s)%s", self._broker.address, connection.described, waiting)
        if connection.version != "MQTT 5" and self._refusals_matter and self._logged.due("version"):
            log.warning(
                "MQTT: %s does not speak MQTT 5; with 3.1.1 an event that it refuses looks delivered",
                self._broker.address,
            )
        if self._connections:
            self._metrics.reconnects += 1
        self._connections += 1
        self._failure_logged = False

    def _log_failure(self, failure: NoBrokerError) -> None:
        if failure.credentials:
            kind, hint = "credentials", ""
        elif failure.taken_over:
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
            log.log(level, "MQTT: %s%s; detection goes on, events wait", failure, hint)
            self._failure_logged = True


async def probe(settings: MqttSettings) -> str:
    """Connect once. Returns a phrase such as `MQTT 5 on 127.0.0.1:1883`. Raises StreamerError."""
    broker = Broker(settings, identifier=passing_identifier(), will_topic=None)
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S), broker.connect() as connection:
            return f"{connection.described} on {broker.address}"
    except NoBrokerError as failure:
        kind = ConfigError if failure.credentials else StreamerError
        raise kind(f"MQTT: {failure}") from None
    except TimeoutError:
        raise StreamerError(
            f"MQTT: {broker.address} does not answer within {PROBE_TIMEOUT_S:.0f} s: "
            "check mqtt.host and mqtt.port"
        ) from None


def _announced_before(saved: dict[str, object]) -> dict[str, dict[str, str]]:
    """The remembered discovery of a saved file; entries that make no sense are left out."""
    discovery = saved.get("discovery")
    if not isinstance(discovery, dict):
        return {}
    return {
        str(topic): {str(key): str(platform) for key, platform in platforms.items()}
        for topic, platforms in discovery.items()
        if isinstance(platforms, dict) and len(str(topic).split("/")) >= 4
    }


def _is_delivered(answer: asyncio.Future[None]) -> bool:
    return answer.done() and not answer.cancelled() and answer.exception() is None
