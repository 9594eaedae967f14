"""The sink against a real Mosquitto."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from streamer.config.control import Control
from streamer.config.schema import Config, MqttSettings, TlsSettings
from streamer.core.backoff import Backoff
from streamer.core.json_file import JsonFile
from streamer.errors import ConfigError, StreamerError
from streamer.metrics import Metrics
from streamer.mqtt import connection
from streamer.mqtt import publisher as mqtt
from streamer.mqtt.broker import embedded_broker
from streamer.mqtt.messages import Message
from streamer.mqtt.publisher import MqttSink, probe
from streamer.store.log import Log
from streamer.store.query import reading
from streamer.store.retention import BOUNDS, Bounds
from streamer.store.writer import Writer
from streamer.types import Hearing, SoundEvent, SourceState
from tests.contract.wire import check
from tests.mosquitto import (
    DEADLINE_S,
    HOST,
    Cable,
    Mosquitto,
    PoisonedCable,
    Received,
    Subscribe,
    Subscriber,
    free_port,
    until,
)
from tests.reports import event, occurrence, stats

pytestmark = pytest.mark.slow

QUICK = Backoff(first_s=0.05, longest_s=0.1, jitter=1.0)
BASE = "streamer/pi"
STATE = f"{BASE}/kitchen/sound/dog_bark/state"
SECRET = "correct horse"  # noqa: S105  of a broker that lives for a test

MakeMosquitto = Callable[..., Mosquitto]


def settings(port: int, **options: Any) -> MqttSettings:
    return MqttSettings(host=options.pop("host", HOST), port=port, **options)


def sink_to(
    port: int,
    *,
    metrics: Metrics | None = None,
    state: Path | None = None,
    bounds: Bounds = BOUNDS,
    **options: Any,
) -> Writer:
    """The sink, with the event log before it: in memory, or in the directory `state`."""
    sounds = options.pop("sounds", ["dog_bark", "doorbell"])
    metrics = metrics or Metrics()
    writer = Writer(Log(state, metrics, consumers=["mqtt"], bounds=bounds), metrics)
    events = writer.consumer("mqtt")
    sink = MqttSink(
        settings(port, **options), "pi", ["kitchen"], sounds, events, metrics, backoff=QUICK, apart_s=0.5
    )
    writer.sinks.append(sink)
    return writer


@asynccontextmanager
async def telling(sink: Writer) -> AsyncIterator[asyncio.Task[None]]:
    """The sink runs in the block and is stopped cleanly after it."""
    task = asyncio.create_task(sink.run())
    try:
        yield task
    finally:
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError), results


def ids(messages: Iterable[Received]) -> list[tuple[str, str]]:
    return [(message["id"], message["phase"]) for message in map(json.loads, (m.payload for m in messages))]


def message_id(message: Received) -> str:
    return str(json.loads(message.payload)["message_id"])


def as_sent(events: Sequence[SoundEvent]) -> list[tuple[str, str]]:
    return [(one.id, one.phase) for one in events]


def tells(phase: str, heard: Subscriber) -> bool:
    return bool(heard.of(f"/event/{phase}"))


def once(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """First copies, in order."""
    return list(dict.fromkeys(pairs))


async def heard_events(subscriber: Subscriber, events: Sequence[SoundEvent]) -> None:
    """All of them, first copies in order."""
    await subscriber.until(
        lambda heard: (
            len(heard.of("/event/")) >= len(events) and set(as_sent(events)) <= set(ids(heard.of("/event/")))
        ),
        "all events",
    )
    assert once(ids(subscriber.of("/event/"))) == as_sent(events)


async def test_an_event_is_told(mosquitto: Mosquitto, subscribe: Subscribe) -> None:
    """Start, update and end arrive in order, with QoS 1, not retained; every message keeps the contract."""
    heard = await subscribe(mosquitto.port)
    sink = sink_to(mosquitto.port)
    async with telling(sink):
        await heard.until_heard(f"{BASE}/status", "online")
        sink.put(SourceState("kitchen", "listening", 0.0))
        sink.put(Hearing("kitchen", 0.0, -34.5, {"Dog": 0.9}))
        sink.put(stats())
        for phase in ("start", "update", "end"):
            sink.put(event(phase))
            await heard.until(partial(tells, phase), phase)
            await heard.until_heard(STATE, "OFF" if phase == "end" else "ON")
    events = heard.of("/event/")
    assert ids(events) == as_sent(occurrence("e1"))
    assert [message.topic for message in events] == [
        f"{BASE}/kitchen/event/{phase}" for phase in ("start", "update", "end")
    ]
    assert all(message.qos == 1 and not message.retain for message in events)
    assert [json.loads(message.payload)["delayed_s"] for message in events] == [0.0, 0.0, 0.0]
    assert [message.payload for message in heard.of("/dog_bark/state")] == ["OFF", "ON", "OFF"]
    assert all(message.retain and message.qos == 1 for message in heard.of("/state"))
    assert heard.latest(f"{BASE}/kitchen/level") == "-34.5"
    for message in heard.messages:
        check(message.topic, message.payload)


async def test_a_late_subscriber_learns_what_is(mosquitto: Mosquitto, subscribe: Subscribe) -> None:
    """States, attributes, last event, statistics and status are retained; events and levels are not."""
    early = await subscribe(mosquitto.port)
    sink = sink_to(mosquitto.port, sounds=["dog_bark"])
    async with telling(sink):
        sink.put(SourceState("kitchen", "listening", 0.0))
        sink.put(Hearing("kitchen", 0.0, -34.5, {}))
        sink.put(event("start"))
        sink.put(stats())
        await early.until(lambda heard: bool(heard.of("/event/start") and heard.of("/stats")))
        late = await subscribe(mosquitto.port)
        await late.until(lambda heard: len(heard.messages) >= 10)
        assert {message.topic for message in late.messages} == {
            f"{BASE}/status",
            f"{BASE}/stats",
            f"{BASE}/kitchen/status",
            f"{BASE}/kitchen/problem",
            f"{BASE}/kitchen/problem/attributes",
            f"{BASE}/kitchen/last",
            f"{BASE}/kitchen/sound/attributes",
            f"{BASE}/kitchen/sound/state",
            f"{BASE}/kitchen/sound/dog_bark/attributes",
            STATE,
        }
        assert late.latest(STATE) == "ON"
        assert late.latest(f"{BASE}/kitchen/status") == "online"


async def test_a_clean_stop_says_all(mosquitto: Mosquitto, subscribe: Subscribe) -> None:
    """What was put just before the stop is told, every sound is OFF, sources and node are offline."""
    heard = await subscribe(mosquitto.port)
    sink = sink_to(mosquitto.port)
    async with telling(sink):
        sink.put(SourceState("kitchen", "listening", 0.0))
        sink.put(event("start", sound="doorbell"))
        await heard.until_heard(f"{BASE}/kitchen/sound/doorbell/state", "ON")
        await heard.until(lambda heard: bool(heard.of("/event/start")))
        last_words = [one for number in range(5) for one in occurrence(f"last{number}")]
        for one in last_words:
            sink.put(one)
    await heard.until_heard(f"{BASE}/status", "offline")
    assert ids(heard.of("/event/"))[1:] == as_sent(last_words)
    assert heard.latest(f"{BASE}/kitchen/sound/doorbell/state") == "OFF"
    assert heard.latest(f"{BASE}/kitchen/status") == "offline"
    assert heard.messages[-1].topic == f"{BASE}/status"


async def test_a_crash_is_told_by_the_broker(
    mosquitto: Mosquitto, cable: Cable, subscribe: Subscribe
) -> None:
    """When the connection breaks without a word the will says offline, retained; back again, online."""
    heard = await subscribe(mosquitto.port)
    async with telling(sink_to(cable.port)):
        await heard.until_heard(f"{BASE}/status", "online")
        await cable.cut()
        await heard.until_heard(f"{BASE}/status", "offline")
        assert heard.messages[-1].retain
        await cable.mend()
        await heard.until_heard(f"{BASE}/status", "online")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_broker_that_restarts(
    mosquitto: Mosquitto, cable: Cable, subscribe: Subscribe, how: signal.Signals
) -> None:
    """No event is lost, the order holds, states are those of now: what ended meanwhile is OFF."""
    metrics = Metrics()
    before = await subscribe(mosquitto.port)
    sink = sink_to(cable.port, metrics=metrics)
    async with telling(sink):
        sink.put(SourceState("kitchen", "listening", 0.0))
        sink.put(event("start"))
        await before.until(lambda heard: bool(heard.of("/event/start")))
        await before.until_heard(STATE, "ON")
        mosquitto.stop(how)
        await cable.cut()
        await until(lambda: metrics.broker is not None and bool(metrics.broker.problem))
        meanwhile = [event("end"), *(one for number in range(50) for one in occurrence(f"m{number}"))]
        for one in [*meanwhile, event("start", event_id="d", sound="doorbell")]:
            sink.put(one)
        mosquitto.start()
        after = await subscribe(mosquitto.port)
        await cable.mend()
        await heard_events(after, [*meanwhile, event("start", event_id="d", sound="doorbell")])
        assert "ON" not in [message.payload for message in after.of("/dog_bark/state")]
        assert after.latest(f"{BASE}/kitchen/sound/doorbell/state") == "ON"
        assert after.latest(f"{BASE}/kitchen/status") == "online"
        assert after.latest(f"{BASE}/status") == "online"
    assert metrics.dropped == {}
    assert metrics.reconnects >= 1
    assert metrics.broker is not None
    assert metrics.broker.problem == ""


async def test_a_stale_on_is_corrected(mosquitto: Mosquitto, subscribe: Subscribe) -> None:
    """A daemon that starts says OFF where the broker retains an ON of its crashed predecessor."""
    publish = ["mosquitto_pub", "-h", HOST, "-p", str(mosquitto.port), "-r", "-t", STATE, "-m", "ON"]
    process = await asyncio.create_subprocess_exec(*publish)
    assert await process.wait() == 0
    heard = await subscribe(mosquitto.port)
    await heard.until_heard(STATE, "ON")
    async with telling(sink_to(mosquitto.port)):
        await heard.until_heard(STATE, "OFF")


async def test_a_broker_that_comes_later(
    mosquitto: Mosquitto, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a broker events wait; that is logged once, with its address, and so is the end of it."""
    caplog.set_level(logging.INFO)
    cable = Cable(mosquitto.port)
    sink = sink_to(cable.port)
    heard = await subscribe(mosquitto.port)
    async with telling(sink):
        for one in occurrence("e1"):
            sink.put(one)
        await until(lambda: "cannot connect" in caplog.text)
        # Several attempts pass: the back-off of this test is 0.1 s at most.
        await asyncio.sleep(mqtt.LATE_S + 0.1)
        await cable.mend()
        await heard_events(heard, occurrence("e1"))
        await cable.cut()
    complaints = [record for record in caplog.records if "detection goes on, events wait" in record.message]
    assert f"{HOST}:{cable.port}" in complaints[0].message
    assert sum("cannot connect" in record.message for record in complaints) == 1
    assert "3 events waited" in caplog.text
    assert all(json.loads(message.payload)["delayed_s"] > 1 for message in heard.of("/event/"))


async def test_a_silent_broker_that_dies_owes_no_patience(
    mosquitto: Mosquitto, subscribe: Subscribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publish that waits for its answer ends with the connection, not with its own time-out."""
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT_S", 10 * DEADLINE_S)
    heard = await subscribe(mosquitto.port)
    cable = Cable(mosquitto.port)
    await cable.mend()
    sink = sink_to(cable.port)
    async with telling(sink):
        await heard.until_heard(f"{BASE}/status", "online")
        mosquitto.freeze()
        sink.put(event("start"))
        await asyncio.sleep(0.1)
        mosquitto.stop(signal.SIGKILL)
        await cable.cut()
        mosquitto.start()
        again = await subscribe(mosquitto.port)
        await cable.mend()
        await heard_events(again, [event("start")])
        await cable.cut()


async def test_a_broker_that_hangs_does_not_hold_the_stop(
    mosquitto: Mosquitto, subscribe: Subscribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop gives it up without a word; when it comes round, it says offline itself."""
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT_S", 10 * DEADLINE_S)
    heard = await subscribe(mosquitto.port)
    metrics = Metrics()
    sink = sink_to(mosquitto.port, metrics=metrics)
    async with asyncio.timeout(DEADLINE_S), telling(sink):
        await heard.until_heard(f"{BASE}/status", "online")
        mosquitto.freeze()
        sink.put(event("start"))
    assert metrics.dropped == {"mqtt": 1}
    mosquitto.thaw()
    await heard.until_heard(f"{BASE}/status", "offline")


async def test_a_broker_that_answers_no_more_is_given_up(
    mosquitto: Mosquitto, subscribe: Subscribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that does not come is a doubt: another connection is made and the event is sent again."""
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT_S", 0.5)
    cable = Cable(mosquitto.port)
    await cable.mend()
    heard = await subscribe(mosquitto.port)
    sink = sink_to(cable.port)
    async with telling(sink):
        await heard.until_heard(f"{BASE}/status", "online")
        mosquitto.freeze()
        sink.put(event("start"))
        connections = cable.connections
        await until(lambda: cable.connections > connections)
        mosquitto.thaw()
        await heard.until(lambda heard: bool(heard.of("/event/start")))
        await cable.cut()


async def test_the_oldest_go_when_the_queue_is_full(mosquitto: Mosquitto, subscribe: Subscribe) -> None:
    """Two thousand events wait in memory, which takes half: the newest are sent, the rest counted."""
    metrics = Metrics()
    cable = Cable(mosquitto.port)
    sink = sink_to(cable.port, metrics=metrics, bounds=Bounds(memory=1000))
    heard = await subscribe(mosquitto.port)
    async with telling(sink):
        events = [event(event_id=f"e{number}") for number in range(2000)]
        for one in events:
            sink.put(one)
        await until(lambda: metrics.dropped == {"mqtt": 1000})
        await cable.mend()
        await heard_events(heard, events[1000:])
        await cable.cut()


async def test_events_survive_the_daemon(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was not told before the stop waits on disk, and is told by the next daemon, with the same ids."""
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    async with telling(first := sink_to(free_port(), metrics=metrics, state=tmp_path)):
        for one in occurrence("e1"):
            first.put(one)
        await until(lambda: metrics.outbox.depth == 3)
    assert "3 events wait on disk" in caplog.text
    heard = await subscribe(mosquitto.port)
    async with telling(second := sink_to(mosquitto.port, metrics=metrics, state=tmp_path)):
        second.put(event("start", event_id="e2"))
        await heard_events(heard, [*occurrence("e1"), event("start", event_id="e2")])
        await until(lambda: metrics.outbox.depth == 0)
    installs, numbers = zip(*(message_id(one).rsplit("-", 1) for one in heard.of("/event/")), strict=True)
    assert len(set(installs)) == 1
    assert numbers == ("1", "2", "3", "4")
    assert metrics.dropped == {}


async def test_what_could_not_be_told_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A stop without a broker says how many events are lost."""
    metrics = Metrics()
    sink = sink_to(free_port(), metrics=metrics)
    async with telling(sink):
        for one in occurrence("e1"):
            sink.put(one)
        await until(lambda: "cannot connect" in caplog.text)
    assert metrics.dropped == {"mqtt": 3}
    assert "3 events" in caplog.text


async def test_a_refused_event_does_not_block_the_rest(
    make_mosquitto: MakeMosquitto, subscribe: Subscribe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An event on a topic that is denied is set aside, counted and logged once; the others arrive."""
    broker = make_mosquitto(
        acl=f"topic read #\ntopic write {BASE}/status\ntopic write {BASE}/kitchen/event/end\n"
    )
    metrics = Metrics()
    heard = await subscribe(broker.port)
    sink = sink_to(broker.port, metrics=metrics, state=tmp_path)
    async with telling(sink):
        for one in [*occurrence("e1"), *occurrence("e2")]:
            sink.put(one)
        await heard.until(lambda heard: len(heard.of("/event/")) == 2)
    assert ids(heard.of("/event/")) == [("e1", "end"), ("e2", "end")]
    assert metrics.outbox.refused == 4
    assert metrics.dropped == {}
    with reading(tmp_path) as reader:
        refused = reader.contents().refused
    assert [(one.event.id, one.event.phase) for one in refused] == [
        ("e2", "update"),
        ("e2", "start"),
        ("e1", "update"),
        ("e1", "start"),
    ]
    assert all("Not authorized" in one.reason for one in refused)
    refusals = [record for record in caplog.records if "the event is set aside" in record.message]
    assert len(refusals) == 1
    assert f"{BASE}/kitchen/event/start" in refusals[0].message
    assert refusals[0].levelno == logging.ERROR


@pytest.mark.parametrize(("receive_maximum", "most"), [(None, mqtt.WIDEST), (3, 3), (1, 1)])
async def test_the_window_grows_with_the_backlog(
    make_mosquitto: MakeMosquitto,
    subscribe: Subscribe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    receive_maximum: int | None,
    most: int,
) -> None:
    """Few events go one by one; of many several are in flight, never more than the broker takes."""
    monkeypatch.setattr(mqtt, "WIDEN", 10)
    broker = make_mosquitto(receive_maximum=receive_maximum)
    heard = await subscribe(broker.port)
    writer = sink_to(broker.port, state=tmp_path)
    (sink,) = writer.sinks
    assert isinstance(sink, MqttSink)
    widths: list[int] = []
    post = sink._post

    def counted(*arguments: Any) -> asyncio.Future[None]:
        widths.append(1 + sum(not answer.done() for _, answer in sink._flight))
        return post(*arguments)

    monkeypatch.setattr(sink, "_post", counted)
    events = [event("end", event_id=f"e{number:04}") for number in range(1000)]
    async with telling(writer):
        writer.put(events[0])
        await heard_events(heard, events[:1])
        for one in events[1:]:
            writer.put(one)
        await heard_events(heard, events)
    assert len(heard.of("/event/")) == len(events)
    assert widths[0] == widths[-1] == 1
    assert max(widths) == most


async def test_many_in_flight_through_resets(
    mosquitto: Mosquitto, cable: Cable, subscribe: Subscribe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was in flight when the connection broke goes again, in order, with the same message id."""
    monkeypatch.setattr(mqtt, "WIDEN", 10)
    heard = await subscribe(mosquitto.port)
    events = [event("end", event_id=f"e{number:04}") for number in range(2000)]
    metrics = Metrics()
    async with telling(sink := sink_to(cable.port, state=tmp_path, metrics=metrics)):
        for one in events:
            sink.put(one)
        for times, n in enumerate((200, 700, 1200, 1700)):
            await heard.until(lambda heard, n=n: len(heard.of("/event/")) > n)  # type: ignore[misc]  # bound now
            # The subscriber may be far behind: what is to be reset is a connection that there is.
            await until(lambda times=times: metrics.reconnects == times)  # type: ignore[misc]  # bound now
            cable.reset()
        await until(lambda: metrics.reconnects == 4)
        await heard_events(heard, events)
    assert metrics.reconnects == 4
    copies: dict[str, set[str]] = {}
    for message in heard.of("/event/"):
        copies.setdefault(json.loads(message.payload)["id"], set()).add(message_id(message))
    assert all(len(ids) == 1 for ids in copies.values())
    assert len(heard.of("/event/")) - len(events) <= 4 * mqtt.WIDEST


async def test_a_broker_with_a_small_limit(
    make_mosquitto: MakeMosquitto, subscribe: Subscribe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is larger than the broker takes is set aside and said; all else goes, over one connection."""
    broker = make_mosquitto(packet_maximum=2000)
    heard = await subscribe(broker.port)
    metrics = Metrics()
    writer = sink_to(broker.port, state=tmp_path, metrics=metrics)
    (sink,) = writer.sinks
    assert isinstance(sink, MqttSink)
    sink._discovery = Announcing("x" * 2000)
    events = [event("end", event_id="e1"), event("end", event_id="e2" * 1000), event("end", event_id="e3")]
    async with telling(writer):
        for one in events:
            writer.put(one)
        await heard_events(heard, [events[0], events[2]])
        await heard.until_heard(STATE, "OFF")
    assert metrics.reconnects == 0
    with reading(tmp_path) as reader:
        (refused,) = reader.contents().refused
    assert refused.event.id == events[1].id
    assert "more than the 2000 that the broker takes" in refused.reason
    said = [record.message for record in caplog.records if "more than the 2000" in record.message]
    assert sum("homeassistant/device/pi/config" in line for line in said) == 1
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "options", [["max_qos 0"], ["retain_available false"], ["max_qos 0", "retain_available false"]]
)
async def test_a_broker_that_does_less_than_others(
    make_mosquitto: MakeMosquitto,
    subscribe: Subscribe,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    options: list[str],
) -> None:
    """What it rules out is not asked of it: all arrives over one connection, and it is said."""
    caplog.set_level(logging.INFO)
    broker = make_mosquitto(options=options)
    heard = await subscribe(broker.port)
    metrics = Metrics()
    writer = sink_to(broker.port, state=tmp_path, metrics=metrics)
    async with telling(writer):
        writer.put(event("end", event_id="e1"))
        await heard_events(heard, [event("end", event_id="e1")])
        await heard.until_heard(STATE, "OFF")
    assert metrics.reconnects == 0
    said = await probe(settings(broker.port))
    for option, words in (
        ("max_qos", "it answers no message"),
        ("retain_available", "it retains no message"),
    ):
        is_lacking = any(option in one for one in options)
        assert (words in said) is is_lacking
        assert (words in caplog.text) is is_lacking


class Announcing(mqtt.NoDiscovery):
    """A discovery of one message."""

    def __init__(self, payload: str) -> None:
        self._payload = payload

    def messages(self, before: object) -> list[Message]:  # noqa: ARG002  # as in Discovery
        return [Message("homeassistant/device/pi/config", self._payload, qos=1, retain=True)]


@pytest.mark.parametrize("payload", ["x" * 100, "x" * 200, "x" * 20000])
@pytest.mark.parametrize("qos", [0, 1])
async def test_the_largest_packet_that_a_broker_takes(
    make_mosquitto: MakeMosquitto, payload: str, qos: int
) -> None:
    """A packet of exactly the limit goes, one of a byte more is never sent."""
    message = Message("streamer/pi/t", payload, qos=qos, retain=False)
    for spare in (0, 1):
        length = 2 + len(message.topic) + 2 * qos + 1 + len(payload)
        size = 1 + (1 if length < 128 else 2 if length < 16384 else 3) + length
        broker = make_mosquitto(packet_maximum=max(20, size - spare))
        client = connection.Broker(settings(broker.port), identifier="c", will_topic=None)
        async with client.connect() as connected:
            if spare and size > 20:
                with pytest.raises(connection.MessageRefusedError, match=f"{size} bytes are more than"):
                    await connected.send(message)
            else:
                await connected.send(message)
            await connected.send(Message("t", "", qos=1, retain=False))


async def test_an_event_that_breaks_every_connection(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that closes the connection at a message, three times, has it no more; those after it go on."""
    heard = await subscribe(mosquitto.port)
    cable = PoisonedCable(mosquitto.port, b"poison")
    await cable.mend()
    events = [event("end", event_id=name) for name in ("e1", "poison", "e3")]
    async with telling(sink := sink_to(cable.port, state=tmp_path)):
        for one in events:
            sink.put(one)
        await heard_events(heard, [events[0], events[2]])
    await cable.cut()
    with reading(tmp_path) as reader:
        (refused,) = reader.contents().refused
    assert refused.event.id == "poison"
    assert refused.reason == "the broker closed the connection 3 times when it came"
    assert sum("it is set aside" in record.message for record in caplog.records) == 1
    assert "is there a second daemon" not in caplog.text


async def test_a_state_that_breaks_every_connection(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds up neither the events nor the other states."""
    heard = await subscribe(mosquitto.port)
    cable = PoisonedCable(mosquitto.port, b"dog_bark/attributes")
    await cable.mend()
    async with telling(sink := sink_to(cable.port, state=tmp_path)):
        for one in occurrence("e1"):
            sink.put(one)
        await heard_events(heard, occurrence("e1"))
        await heard.until_heard(STATE, "OFF")
        await heard.until_heard(f"{BASE}/status", "online")
    await cable.cut()
    assert sum("not published for 5 minutes" in record.message for record in caplog.records) == 1


async def test_events_go_before_states(mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path) -> None:
    """After each connection an alarm waits for no state but that of the node itself."""
    sounds = [f"sound_{number}" for number in range(100)]
    heard = await subscribe(mosquitto.port)
    async with telling(sink := sink_to(mosquitto.port, state=tmp_path, sounds=sounds)):
        await heard.until(lambda heard: len(heard.of("/sound/")) >= 100, "states")
    cable = Cable(mosquitto.port)
    async with telling(sink := sink_to(cable.port, state=tmp_path, sounds=sounds)):
        sink.put(event("start", event_id="e1"))
        await asyncio.sleep(0.1)  # it is in the log
        heard.messages.clear()
        await cable.mend()
        await heard.until(partial(tells, "start"), "the event")
        assert len(heard.messages) <= 3, heard.messages
    await cable.cut()


@pytest.mark.parametrize("allowed", [False, True])
async def test_commands_to_what_is_critical(
    mosquitto: Mosquitto, subscribe: Subscribe, caplog: pytest.LogCaptureFixture, allowed: bool
) -> None:
    """None switches it off, makes it deafer or closes its microphone, unless the configuration says so."""
    sounds = {
        "smoke_alarm": {"labels": ["Smoke detector, smoke alarm"], "on": 0.5, "priority": "critical"},
        "dog_bark": {"labels": ["Dog"], "on": 0.5},
    }
    sources = {"kitchen": {"demo": True}}
    control = Control(Config.model_validate({"sources": sources, "sounds": sounds}), JsonFile(None, ""))
    metrics = Metrics()
    writer = Writer(Log(None, metrics, consumers=["mqtt"]), metrics)
    options = settings(mosquitto.port, commands="all" if allowed else True)
    events = writer.consumer("mqtt")
    writer.sinks.append(
        MqttSink(options, "pi", ["kitchen"], list(sounds), events, metrics, control=control, backoff=QUICK)
    )
    heard = await subscribe(mosquitto.port)
    async with telling(writer):
        await heard.until_heard(f"{BASE}/status", "online")
        async with aiomqtt.Client(HOST, mosquitto.port) as client:
            await client.publish(f"{BASE}/kitchen/listen/set", "OFF", qos=1)
            for sound in sounds:
                await client.publish(f"{BASE}/kitchen/sound/{sound}/threshold/set", "0.4", qos=1)
                await client.publish(f"{BASE}/kitchen/sound/{sound}/threshold/set", "0.9", qos=1)
                await client.publish(f"{BASE}/kitchen/sound/{sound}/listen/set", "OFF", qos=1)
        await until(lambda: not control.listens_for("kitchen", "dog_bark"))
        state = f"{BASE}/kitchen/sound/smoke_alarm/listen/state"
        await heard.until_heard(state, "OFF" if allowed else "ON")
        await heard.until_heard(f"{BASE}/kitchen/listen/state", "OFF" if allowed else "ON")
    assert control.listens("kitchen") is not allowed
    assert control.threshold("kitchen", "dog_bark") == 0.9
    assert control.threshold("kitchen", "smoke_alarm") == (0.9 if allowed else 0.4)
    assert control.listens_for("kitchen", "smoke_alarm") is not allowed
    for topic in ("kitchen/listen/set", "kitchen/sound/smoke_alarm/listen/set"):
        refusal = f"{BASE}/{topic}: not applied: it weakens a critical sound"
        assert (refusal in caplog.text) is not allowed


async def test_the_embedded_broker_loses_nothing(subscribe: Subscribe, tmp_path: Path) -> None:
    """What an embedded broker had not taken at the stop of the daemon is delivered after its next start."""
    metrics = Metrics()
    async with telling(first := sink_to(free_port(), state=tmp_path, metrics=metrics)):
        for one in occurrence("e1"):
            first.put(one)
        await until(lambda: metrics.outbox.depth == 3)
    async with embedded_broker(free_port()) as port:
        heard = await subscribe(port, protocol=aiomqtt.ProtocolVersion.V311)
        async with telling(sink_to(port, state=tmp_path)):
            await heard_events(heard, occurrence("e1"))


async def test_a_wrong_password(
    make_mosquitto: MakeMosquitto, tmp_path: Path, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said loudly, once, and never shown, while the sink keeps trying until it is right."""
    caplog.set_level(logging.DEBUG)
    broker = make_mosquitto(users={"streamer": "another", "reader": SECRET})
    (tmp_path / "password").write_text(f"{SECRET}\nthe second line is a note\n", encoding="utf-8")
    cable = Cable(broker.port)
    await cable.mend()
    options: dict[str, Any] = {"username": "streamer", "password_file": tmp_path / "password"}
    sink = sink_to(cable.port, **options)
    async with telling(sink):
        sink.put(event("start"))
        await until(lambda: cable.connections >= 4)
        with pytest.raises(ConfigError, match="'streamer'"):
            await probe(settings(broker.port, **options))
        broker.set_password("streamer", SECRET)
        heard = await subscribe(broker.port, username="reader", password=SECRET)
        await heard.until(lambda heard: bool(heard.of("/event/start")))
        await cable.cut()
    refusals = [record for record in caplog.records if "refuses user 'streamer'" in record.message]
    assert [record.levelno for record in refusals] == [logging.ERROR]
    assert SECRET not in caplog.text


async def test_the_password_from_systemd(
    make_mosquitto: MakeMosquitto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A credential of the service goes before a file and the environment."""
    broker = make_mosquitto(users={"streamer": SECRET})
    (tmp_path / "mqtt-password").write_text(f"{SECRET}\n", encoding="utf-8")
    (tmp_path / "file").write_text("wrong\n", encoding="utf-8")
    monkeypatch.setenv("STREAMER_MQTT_PASSWORD", "wrong")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert await probe(settings(broker.port, username="streamer"))
    assert await probe(settings(broker.port, username="streamer", password_file=tmp_path / "file"))


async def test_the_password_from_the_environment(
    make_mosquitto: MakeMosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no file is named the password is taken from the environment."""
    broker = make_mosquitto(users={"streamer": SECRET})
    monkeypatch.setenv("STREAMER_MQTT_PASSWORD", SECRET)
    assert await probe(settings(broker.port, username="streamer")) == f"MQTT 5 on {HOST}:{broker.port}"
    with pytest.raises(ConfigError, match="without a name"):
        await probe(settings(broker.port))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read"), (b"", "is empty"), (b"\nx", "is empty"), (b"\xff", "cannot read")],
)
def test_a_password_file_that_has_no_password(tmp_path: Path, content: bytes | None, message: str) -> None:
    """It is an error of the configuration, found before anything runs."""
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        sink_to(1883, username="streamer", password_file=file)
    assert str(file) in str(error.value)


def test_a_password_without_a_name(tmp_path: Path) -> None:
    """A password file that would never be used is an error."""
    with pytest.raises(ConfigError, match=r"mqtt\.username"):
        sink_to(1883, password_file=tmp_path / "password")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """CA, certificate for the name localhost alone, key."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test CA")
    openssl("req", *key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n", encoding="utf-8")
    sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
    openssl("x509", "-req", "-in", "request.pem", *sign, "-out", "certificate.pem")
    return folder / "ca.pem", folder / "certificate.pem", folder / "key.pem"


async def test_tls(make_mosquitto: MakeMosquitto, certificates: tuple[Path, Path, Path]) -> None:
    """A broker is trusted with the right authority and name, and only then; it may ask who we are."""
    ca, certificate, key = certificates
    broker = make_mosquitto(certificates=certificates, require_certificate=True)
    ours = TlsSettings(ca_file=ca, cert_file=certificate, key_file=key)
    found = await probe(settings(broker.port, host="localhost", tls=ours))
    assert found == f"MQTT 5 on localhost:{broker.port}"
    with pytest.raises(StreamerError, match="not valid for"):
        await probe(settings(broker.port, tls=ours))
    with pytest.raises(StreamerError, match="certificate verify failed"):
        await probe(settings(broker.port, host="localhost", tls=TlsSettings()))
    with pytest.raises(StreamerError, match=f"localhost:{broker.port}"):
        await probe(settings(broker.port, host="localhost", tls=TlsSettings(ca_file=ca)))
    with pytest.raises(StreamerError, match=f"localhost:{broker.port}"):
        await probe(settings(broker.port, host="localhost"))


async def test_events_over_tls(
    make_mosquitto: MakeMosquitto, certificates: tuple[Path, Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Events go over TLS as over anything else, through a broken connection too."""
    caplog.set_level(logging.INFO)
    broker = make_mosquitto(certificates=certificates)
    metrics = Metrics()
    sink = sink_to(broker.port, metrics=metrics, host="localhost", tls=TlsSettings(ca_file=certificates[0]))
    async with telling(sink):
        await until(lambda: "connected to" in caplog.text)
        broker.stop(signal.SIGKILL)
        for one in occurrence("e1"):
            sink.put(one)
        broker.start()
        await until(lambda: metrics.reconnects == 1)
    assert metrics.dropped == {}


@pytest.mark.parametrize("name", ["ca_file", "cert_file", "key_file"])
def test_a_tls_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    """It is an error of the configuration that names the key and the file."""
    with pytest.raises(ConfigError, match=rf"mqtt\.tls\.{name}.*nothing\.pem"):
        sink_to(8883, tls=TlsSettings(**{name: tmp_path / "nothing.pem"}))


def test_a_tls_file_that_is_no_certificate(tmp_path: Path) -> None:
    """So is one that holds something else."""
    (tmp_path / "ca.pem").write_text("hello\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mqtt\.tls"):
        sink_to(8883, tls=TlsSettings(ca_file=tmp_path / "ca.pem"))


async def test_an_old_broker(subscribe: Subscribe, caplog: pytest.LogCaptureFixture) -> None:
    """A broker that refuses MQTT 5 is spoken to in 3.1.1, and what that weakens is logged once."""
    caplog.set_level(logging.INFO)
    async with embedded_broker(free_port()) as port:
        assert await probe(settings(port)) == f"MQTT 3.1.1 on {HOST}:{port}"
        heard = await subscribe(port, protocol=aiomqtt.ProtocolVersion.V311)
        sink = sink_to(port)
        async with telling(sink):
            for one in occurrence("e1"):
                sink.put(one)
            await heard_events(heard, occurrence("e1"))
            await heard.until_heard(STATE, "OFF")
        await heard.until_heard(f"{BASE}/status", "offline")
    for message in heard.messages:
        check(message.topic, message.payload)
    assert sum("does not speak MQTT 5" in record.message for record in caplog.records) == 1


async def test_a_broker_that_hangs_up_is_not_an_old_one(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever closes the connection without a word is down; when it is back it is spoken to in MQTT 5."""
    caplog.set_level(logging.INFO)
    hung_up = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal hung_up
        hung_up += 1
        await reader.read(100)
        writer.close()

    server = await asyncio.start_server(hang_up, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(StreamerError, match="closed without an answer"):
        await probe(settings(port))
    async with telling(sink_to(port)):
        await until(lambda: hung_up >= 4)
        server.close()
        await server.wait_closed()
        cable = Cable(mosquitto.port, port)
        await cable.mend()
        await until(lambda: "connected to" in caplog.text)
        await cable.cut()
    assert "(MQTT 5)" in caplog.text
    assert "does not speak" not in caplog.text


async def test_two_daemons_with_one_client_id(
    mosquitto: Mosquitto, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
) -> None:
    """That there may be another is said, with what to do; nothing is lost meanwhile."""
    caplog.set_level(logging.INFO)
    heard = await subscribe(mosquitto.port)
    async with telling(sink_to(mosquitto.port)) as _:
        await heard.until_heard(f"{BASE}/status", "online")
        async with telling(second := sink_to(mosquitto.port)):
            await until(lambda: "is there a second daemon" in caplog.text)
            for one in occurrence("e1"):
                second.put(one)
            await heard_events(heard, occurrence("e1"))
    said = next(record for record in caplog.records if "is there a second daemon" in record.message)
    assert said.levelno == logging.ERROR


async def test_a_broker_that_says_who_took_over(caplog: pytest.LogCaptureFixture) -> None:
    """One that names the reason is believed at once."""

    async def throw_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(bytes.fromhex("2003000000"))  # CONNACK of MQTT 5: welcome
        await reader.read(1000)
        writer.write(bytes.fromhex("e0028e00"))  # DISCONNECT 142: session taken over
        writer.close()

    server = await asyncio.start_server(throw_out, HOST, 0)
    async with telling(sink_to(server.sockets[0].getsockname()[1])):
        await until(lambda: "thrown us out" in caplog.text)
    server.close()
    said = next(record for record in caplog.records if "thrown us out" in record.message)
    assert said.levelno == logging.ERROR
    assert "'streamer-pi'" in said.message
    assert "is there a second daemon" in said.message


async def test_a_huge_message_does_not_come_in(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """The broker is asked to keep to itself what no command can be."""
    (tmp_path / "huge").write_bytes(b"x" * (connection.INCOMING_BYTES + 1))
    broker = connection.Broker(settings(mosquitto.port), identifier="reader", will_topic="will")
    async with broker.connect() as connected:
        await connected.subscribe("t", qos=1)
        for content in (["-f", str(tmp_path / "huge")], ["-m", "small"]):
            publish = ["mosquitto_pub", "-h", HOST, "-p", str(mosquitto.port), "-t", "t", "-q", "1", *content]
            process = await asyncio.create_subprocess_exec(*publish)
            assert await process.wait() == 0
        async with asyncio.timeout(DEADLINE_S):
            first = await anext(aiter(connected.messages))
    assert first.payload == b"small"


async def test_a_delivered_event_carries_its_id_and_expiry(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """As MQTT 5 properties: who looks for copies, or for what is old, need not read the JSON."""
    reader = aiomqtt.Client(HOST, mosquitto.port, protocol=aiomqtt.ProtocolVersion.V5)
    async with reader:
        await reader.subscribe(f"{BASE}/+/event/#", qos=1)
        async with telling(sink := sink_to(mosquitto.port, state=tmp_path)):
            sink.put(event("start"))
            async with asyncio.timeout(DEADLINE_S):
                message = await anext(aiter(reader.messages))
    assert isinstance(message.payload, bytes)
    properties = message.properties.json()  # type: ignore[union-attr]  # MQTT 5 has them
    assert properties["UserProperty"] == [("message_id", json.loads(message.payload)["message_id"])]
    assert 6 * 86400 < properties["MessageExpiryInterval"] <= 7 * 86400


async def test_probe_finds_nothing() -> None:
    """A broker that is down is named with its address; a host that cannot be is a wrong configuration."""
    port = free_port()
    with pytest.raises(StreamerError, match=f"{HOST}:{port}.*refused"):
        await probe(settings(port))
    with pytest.raises(ConfigError, match=r"mqtt\.host"):
        await probe(settings(1883, host="a" * 100))


async def test_probe_leaves_the_daemon_alone(mosquitto: Mosquitto, subscribe: Subscribe) -> None:
    """A check while the daemon runs does not end the daemon's connection."""
    heard = await subscribe(mosquitto.port)
    metrics = Metrics()
    async with telling(sink_to(mosquitto.port, metrics=metrics)):
        await heard.until_heard(f"{BASE}/status", "online")
        await probe(settings(mosquitto.port))
        assert metrics.reconnects == 0
    assert [message.payload for message in heard.of("pi/status")] == ["online", "offline"]


@pytest.mark.parametrize("password", [b"a\xffb", b"x" * 70_000])
async def test_a_password_that_no_packet_holds(monkeypatch: pytest.MonkeyPatch, password: bytes) -> None:
    """From the environment, too, it is an error of the configuration."""
    monkeypatch.setenv("STREAMER_MQTT_PASSWORD", os.fsdecode(password))
    with pytest.raises(ConfigError, match=r"^\$STREAMER_MQTT_PASSWORD: "):
        await probe(settings(1883, username="streamer"))
