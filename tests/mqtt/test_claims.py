"""Of two processes that detect a source, the one that began last publishes it: with a real Mosquitto."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import aiomqtt
import pytest

from streamer.config.schema import MqttSettings
from streamer.core.backoff import Backoff
from streamer.core.epoch import HIGHEST, Epoch
from streamer.core.json_file import JsonFile
from streamer.metrics import Metrics
from streamer.mqtt.claims import Claims
from streamer.mqtt.publisher import MqttSink
from streamer.mqtt.topics import Topics
from streamer.store.log import Log
from streamer.store.query import reading
from streamer.store.writer import Writer
from streamer.types import SourceState
from tests.contract.wire import check
from tests.mosquitto import HOST, Mosquitto, Subscribe, Subscriber, until
from tests.mqtt.test_publisher import telling
from tests.reports import event

QUICK = Backoff(first_s=0.05, longest_s=0.1, jitter=1.0)
NOBODY = JsonFile(None, "")


def process(
    port: int, node: str, epoch: Epoch, *, state: Path | None = None, whole: str = "house", client: str = ""
) -> tuple[Writer, Metrics]:
    """What a daemon publishes with, and its health: the node `node` of the configuration `whole`."""
    metrics = Metrics()
    writer = Writer(Log(state, metrics, consumers=["mqtt"]), metrics)
    settings = MqttSettings(host=HOST, port=port, client_id=client or f"streamer-{node}")
    events = writer.consumer("mqtt")
    claims = Claims(Topics("streamer", whole), node, epoch)
    sink = MqttSink(
        settings,
        node,
        ["kitchen", "yard"],
        ["dog_bark"],
        events,
        metrics,
        claims=claims,
        backoff=QUICK,
        apart_s=0.2,
    )
    writer.sinks.append(sink)
    return writer, metrics


def claimed_by(heard: Subscriber, source: str = "kitchen") -> tuple[int, str] | None:
    """Epoch and node of the latest claim to a source of `house`."""
    payload = heard.latest(f"streamer/house/{source}/epoch")
    return None if not payload else (json.loads(payload)["epoch"], json.loads(payload)["node"])


def is_claimed(source: str, epoch: Epoch) -> Callable[[Subscriber], bool]:
    return lambda heard: (claimed_by(heard, source) or (0, ""))[0] == epoch.number


def test_each_start_has_a_higher_number(tmp_path: Path) -> None:
    """Also where the clock was set back, and where the file makes no sense."""
    file = JsonFile(tmp_path, "epoch.json")
    first, second = Epoch(file), Epoch(file)
    assert first.number < second.number
    assert abs(first.number - 1000 * time.time()) < 60_000
    future = round(1000 * time.time()) + 10**9
    now = future - 10**9
    for saved, low, high in (
        ({"epoch": future}, future + 1, future + 1),
        ({"epoch": "x"}, now, future),
        ({"epoch": HIGHEST}, HIGHEST, HIGHEST),
        ({"epoch": HIGHEST + 1}, now, future),
    ):
        file.save(saved)
        assert low <= Epoch(file).number <= high
    epoch = Epoch(NOBODY)
    before = epoch.number
    epoch.exceed(before - 5)
    assert epoch.number == before
    epoch.exceed(future)
    assert epoch.number == future + 1
    epoch.exceed(HIGHEST)
    assert epoch.number == HIGHEST, "which is still a claim to the other one"


@pytest.mark.parametrize("payload", [b"", b"{}", b"[1]", b"\xff", b'{"epoch":1e99,"node":"a"}', b"[" * 9999])
def test_what_is_no_claim(payload: bytes) -> None:
    """It takes no source from anybody, and ours is made again in its place."""
    claims = Claims(Topics("streamer", "house"), "house", Epoch(NOBODY))
    claims.begin([payload])
    assert not claims.read("kitchen", payload)
    assert not claims.lost


def claim(epoch: int, node: str = "house") -> bytes:
    return json.dumps({"schema": 1, "epoch": epoch, "node": node}).encode()


def test_a_clock_that_was_behind_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own claim of yesterday is above its epoch and below now: it goes above it, and is not replaced."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 30 * 86400)
    epoch = Epoch(NOBODY)
    monkeypatch.undo()
    claims = Claims(Topics("streamer", "house"), "house", epoch)
    yesterday = claim(round(1000 * (now - 86400)))
    claims.begin([yesterday])
    assert not claims.read("kitchen", yesterday)
    assert not claims.lost


def test_what_began_before_the_other_process_is_published() -> None:
    """All of it, as the other one never heard its beginning; also where the other one's clock is ahead."""
    claims = Claims(Topics("streamer", "house"), "house-0", Epoch(NOBODY))
    read_at = time.time()
    claims.begin([])
    for epoch in claims_of_later(), claims_of_later() + 10**9:
        assert claims.read("kitchen", claim(epoch, "house-1"))
        for phase in ("start", "update", "end"):
            assert claims.may_publish(replace(event(phase), onset=read_at - 60))
            assert not claims.may_publish(replace(event(phase), onset=read_at + 60))


def claims_of_later() -> int:
    """An epoch of a process that begins now."""
    return round(1000 * time.time()) + 1


@pytest.mark.slow
async def test_the_newer_shard_takes_a_source(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The older one says why, goes offline, and publishes the end of what began before, and no more."""
    heard = await subscribe(mosquitto.port)
    epochs = Epoch(NOBODY), Epoch(NOBODY)
    epochs[1].exceed(epochs[0].number)
    older, _ = process(mosquitto.port, "house-0", epochs[0], state=tmp_path)
    newer, _ = process(mosquitto.port, "house-1", epochs[1])
    async with telling(older):
        older.put(SourceState("kitchen", "listening", 0.0))
        older.put(event("start"))
        await heard.until_heard("streamer/house-0/kitchen/status", "online")
        await heard.until(lambda heard: bool(heard.of("/event/start")), "the start")
        await heard.until(is_claimed("kitchen", epochs[0]), "the first claim")
        with caplog.at_level(logging.WARNING):
            async with telling(newer):
                await heard.until_heard("streamer/house-0/kitchen/problem", "ON")
                older.put(SourceState("kitchen", "listening", 0.0))
                older.put(event("end"))
                later = time.time()
                older.put(
                    replace(event("start", event_id="e2"), onset=later, heard_at=later, emitted_at=later)
                )
                newer.put(event("start", event_id="e3"))
                await heard.until(lambda heard: len(heard.of("/event/")) == 3, "an end and a start")
                await until(lambda: bool(refused(tmp_path)))
                assert claimed_by(heard) == (epochs[1].number, "house-1")
    events = [
        (json.loads(one.payload)["id"], json.loads(one.payload)["phase"]) for one in heard.of("/event/")
    ]
    assert sorted(events) == [("e1", "end"), ("e1", "start"), ("e3", "start")]
    assert heard.latest("streamer/house-0/kitchen/status") == "offline"
    assert heard.latest("streamer/house-0/kitchen/sound/dog_bark/state") == "OFF"
    why = (
        f"kitchen is detected by node house-1, which began later "
        f"(epoch {epochs[1].number} after {epochs[0].number})"
    )
    assert why in caplog.text
    assert why in str(heard.latest("streamer/house-0/kitchen/problem/attributes"))
    for message in heard.messages:
        check(message.topic, message.payload)


def refused(state: Path) -> list[str]:
    """Why events were set aside."""
    with reading(state) as reader:
        return [one.reason for one in reader.contents().refused]


@pytest.mark.slow
async def test_an_older_process_that_comes_back_is_answered(
    mosquitto: Mosquitto, subscribe: Subscribe
) -> None:
    """Its claim, made while the newer one's was gone, is followed by that of the newer one."""
    heard = await subscribe(mosquitto.port)
    older, newer = Epoch(NOBODY), Epoch(NOBODY)
    newer.exceed(older.number)
    sink, _ = process(mosquitto.port, "house-1", newer)
    async with telling(sink), aiomqtt.Client(HOST, mosquitto.port) as somebody:
        await heard.until(is_claimed("yard", newer), "a claim")
        for payload in b"", json.dumps({"schema": 1, "epoch": older.number, "node": "house-0"}).encode():
            await somebody.publish("streamer/house/kitchen/epoch", payload, retain=True)
            text = payload.decode()
            await heard.until(
                lambda heard, text=text: text in [one.payload for one in heard.of("/kitchen/epoch")]
            )  # type: ignore[misc]  # bound now
            await heard.until(is_claimed("kitchen", newer), "an answer")


@pytest.mark.slow
async def test_the_same_node_twice(
    mosquitto: Mosquitto, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
) -> None:
    """Two servers with one configuration, and one client identifier, do not throw each other out for ever.

    The older one leaves the topics to the newer one, which is online.
    """
    heard = await subscribe(mosquitto.port)
    epochs = Epoch(NOBODY), Epoch(NOBODY)
    epochs[1].exceed(epochs[0].number)
    older, health = process(mosquitto.port, "house", epochs[0])
    newer, _ = process(mosquitto.port, "house", epochs[1])
    async with telling(older):
        await heard.until(is_claimed("yard", epochs[0]), "the first claim")
        async with telling(newer):
            await heard.until(is_claimed("yard", epochs[1]), "the second claim")
            await until(lambda: health.broker is not None and "which began later" in health.broker.problem)
            older.put(event("start"))
            newer.put(event("start", event_id="e2"))
            await heard.until(lambda heard: bool(heard.of("/event/")), "the newer one's event")
            await heard.until_heard("streamer/house/status", "online")
            await asyncio.sleep(0.5)
            assert [json.loads(one.payload)["id"] for one in heard.of("/event/")] == ["e2"]
            assert heard.latest("streamer/house/status") == "online"
    assert "nothing more is published" in caplog.text


@pytest.mark.slow
async def test_a_clock_that_was_set_back(mosquitto: Mosquitto, subscribe: Subscribe) -> None:
    """A process that lost its directory goes above its own earlier claim, whose epoch is later than now."""
    heard = await subscribe(mosquitto.port)
    past, now = Epoch(NOBODY), Epoch(NOBODY)
    past.exceed(past.number + 10**8)
    claim = Claims(Topics("streamer", "house"), "house", past).message("kitchen")
    async with aiomqtt.Client(HOST, mosquitto.port) as somebody:
        await somebody.publish(claim.topic, claim.payload, qos=1, retain=True)
    sink, _ = process(mosquitto.port, "house", now)
    async with telling(sink):
        sink.put(event("start"))
        await heard.until(lambda heard: bool(heard.of("/event/")), "an event")
        await heard.until(is_claimed("kitchen", now), "the claim")
    assert now.number == past.number + 1
