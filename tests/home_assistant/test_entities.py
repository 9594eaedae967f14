"""The sink as Home Assistant meets it: announcements, states, commands, through a real Mosquitto."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from streamer.capture.tapes import Tapes
from streamer.config.control import Control
from streamer.config.schema import Config
from streamer.core.backoff import Backoff
from streamer.core.epoch import Epoch
from streamer.core.json_file import JsonFile
from streamer.home_assistant.discovery import discovery
from streamer.metrics import Metrics
from streamer.mqtt import commands
from streamer.mqtt import publisher as mqtt
from streamer.mqtt.broker import embedded_broker
from streamer.mqtt.publisher import Links, MqttSink, no_links
from streamer.mqtt.retained import clear_node
from streamer.mqtt.topics import Topics
from streamer.run.broker_link import BrokerLink
from streamer.store.log import Log
from streamer.store.query import Filter, reading
from streamer.store.writer import Writer
from streamer.types import SourceState
from streamer.web.shared import Shared
from tests.contract.wire import check
from tests.mosquitto import HOST, Mosquitto, Subscribe, free_port, until
from tests.reports import event

BASE = "streamer/pi"
DEVICE = "homeassistant/device/streamer_pi_kitchen/config"
NODE = "homeassistant/device/streamer-pi/config"
LISTEN, THRESHOLD = f"{BASE}/kitchen/listen", f"{BASE}/kitchen/sound/dog_bark/threshold"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Home Assistant's time to subscribe, shorter."""
    monkeypatch.setattr(mqtt, "SETTLE_S", 0.05)
    monkeypatch.setattr(mqtt, "BIRTH_S", 0.05)


def configuration(port: int, **changes: object) -> Config:
    return Config.model_validate(
        {
            "node": "pi",
            "sources": {"kitchen": {"demo": True}},
            "sounds": {
                "dog_bark": {"labels": ["Dog"]},
                "smoke_alarm": {"labels": ["Smoke detector, smoke alarm"]},
            },
            "mqtt": {"host": HOST, "port": port},
            "home_assistant": {},
            **changes,
        }
    )


@asynccontextmanager
async def told(config: Config, state: Path, links: Links = no_links) -> AsyncIterator[tuple[Writer, Control]]:
    """The sink of a configuration, from its start to its clean stop."""
    metrics = Metrics()
    control = Control(config, JsonFile(state, "control.json"))
    recorder = Writer(Log(state, metrics, consumers=["mqtt"]), metrics)
    sink = MqttSink(
        config.mqtt,
        config.node,
        config.sources,
        config.sounds,
        recorder.consumer("mqtt"),
        metrics,
        control=control,
        discovery=discovery(
            config,
            Topics(config.mqtt.prefix, config.node),
            thresholds=control.sounds,
            commands=config.mqtt.commands,
        ),
        names=config.names,
        announced=JsonFile(state, "announced.json"),
        links=links,
        backoff=Backoff(0.05, 0.1),
    )
    recorder.sinks.append(sink)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder, control
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def publish(port: int, topic: str, payload: str, *options: str) -> None:
    command = ["mosquitto_pub", "-h", HOST, "-p", str(port), "-q", "1", "-t", topic, "-m", payload, *options]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


async def test_the_device_comes_first(mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path) -> None:
    """What there is, retained; then what is; and again what is, for whoever subscribes a moment later."""
    heard = await subscribe(mosquitto.port)
    async with told(configuration(mosquitto.port), tmp_path) as (recorder, _):
        recorder.put(SourceState("kitchen", "listening", 0.0))
        recorder.put(event("end"))
        await heard.until(lambda heard: bool(heard.of("/event/")))
    assert [message.topic for message in heard.messages[:2]] == [NODE, DEVICE]
    assert all(message.retain for message in heard.messages[:2])
    assert len(json.loads(heard.messages[1].payload)["cmps"]) == 18
    topics = [message.topic for message in heard.messages]
    assert topics.index(f"{BASE}/status") < topics.index(f"{BASE}/kitchen/event/end")
    for message in heard.messages[2:]:
        check(message.topic, message.payload)
    assert heard.latest(f"{LISTEN}/state") == "ON"
    assert heard.latest(f"{THRESHOLD}/state") == "0.5"
    assert heard.latest(f"{BASE}/kitchen/profile/state") == "balanced"
    assert heard.latest(f"{BASE}/kitchen/problem") == "OFF"


async def test_events_have_signed_addresses(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path
) -> None:
    """With an address for phones each message of an event has them, and what is retained has none."""
    web = {"enabled": True, "public_url": "https://home.example/ears/"}
    config = configuration(mosquitto.port, web=web, clips={"enabled": True})
    shared = Shared(tmp_path, str(config.web.public_url), lambda: config, Tapes())
    heard = await subscribe(mosquitto.port)
    async with told(config, tmp_path, shared.links) as (recorder, _):
        recorder.put(event("start"))
        recorder.put(event("end"))
        await heard.until(lambda heard: bool(heard.of("/event/end")) and bool(heard.of("/last")))
        await heard.until(lambda heard: '"end"' in (heard.latest(f"{BASE}/kitchen/last") or ""))
    start, end = (json.loads(heard.of(f"/event/{phase}")[0].payload) for phase in ("start", "end"))
    begin = "https://home.example/ears/api/1/shared/e1"
    assert start["picture_url"].startswith(f"{begin}.png?until=")
    assert start["clip_url"].startswith(f"{begin}.flac?until=")
    assert (start["picture_url"], start["clip_url"]) == (end["picture_url"], end["clip_url"])
    for message in heard.messages:
        if message.topic.startswith(BASE):
            check(message.topic, message.payload)
        assert "/event/" in message.topic or "signature" not in message.payload
    node = json.loads(heard.latest(NODE) or "")
    assert node["dev"]["cu"] == "https://home.example/ears/"


async def test_what_waited_comes_when_it_is_available(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path
) -> None:
    """Home Assistant shows no event of an entity that is unavailable: an alarm of an outage would be lost.

    It waits for no more than that: all other states come after it.
    """
    heard = await subscribe(mosquitto.port)
    async with told(configuration(mosquitto.port), tmp_path):
        await heard.until_heard(f"{LISTEN}/state", "ON")
    await heard.until_heard(f"{BASE}/status", "offline")
    n = len(heard.messages)
    async with told(configuration(mosquitto.port), tmp_path) as (recorder, _):
        recorder.put(event("start"))
        await heard.until(lambda heard: bool(heard.of("/event/start")))
    topics = [message.topic for message in heard.messages[n:]]
    assert topics.index(f"{BASE}/status") < topics.index(f"{BASE}/kitchen/event/start")
    assert (
        f"{BASE}/kitchen/sound/dog_bark/attributes"
        not in topics[: topics.index(f"{BASE}/kitchen/event/start")]
    )


async def test_home_assistant_comes_up(mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path) -> None:
    """On its birth message all is announced and said again; its last will changes nothing."""
    heard = await subscribe(mosquitto.port)
    async with told(configuration(mosquitto.port), tmp_path):
        await heard.until_heard(f"{BASE}/status", "online")
        await publish(mosquitto.port, "homeassistant/status", "offline")
        await publish(mosquitto.port, "homeassistant/status", "online")
        await heard.until(lambda heard: len(heard.of(DEVICE)) == 2)
        before = len(heard.of(f"{THRESHOLD}/state"))
        await heard.until(lambda heard: len(heard.of(f"{THRESHOLD}/state")) > before)
    assert len(heard.of(DEVICE)) == 2


async def test_commands_change_what_is_in_force(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path
) -> None:
    """What is in force is said back, also after what was not obeyed, and is in force after a restart."""
    heard = await subscribe(mosquitto.port)
    config = configuration(mosquitto.port)
    async with told(config, tmp_path) as (_, control):
        await heard.until_heard(f"{THRESHOLD}/state", "0.5")
        await publish(mosquitto.port, f"{THRESHOLD}/set", "0.62")
        await heard.until_heard(f"{THRESHOLD}/state", "0.62")
        await publish(mosquitto.port, f"{LISTEN}/set", "OFF")
        await heard.until_heard(f"{LISTEN}/state", "OFF")
        await publish(mosquitto.port, f"{BASE}/kitchen/profile/set", "low")
        await heard.until_heard(f"{BASE}/kitchen/profile/state", "quiet")
        for nonsense in ("7", "nan", "0.3\n", ""):
            said = len(heard.of(f"{THRESHOLD}/state"))
            await publish(mosquitto.port, f"{THRESHOLD}/set", nonsense)
            await heard.until(lambda heard, said=said: len(heard.of(f"{THRESHOLD}/state")) > said)  # type: ignore[misc]  # bound now
            assert heard.latest(f"{THRESHOLD}/state") == "0.62"
        await publish(mosquitto.port, f"{LISTEN}/set", "ON", "--retain")
        await publish(mosquitto.port, f"{BASE}/kitchen/profile/set", "eager")
        await heard.until_heard(f"{BASE}/kitchen/profile/state", "eager")
        assert not control.listens("kitchen")
    await publish(mosquitto.port, f"{LISTEN}/set", "", "--retain")
    async with told(config, tmp_path) as (_, control):
        assert not control.listens("kitchen")
        assert control.threshold("kitchen", "dog_bark") == 0.62
        later = await subscribe(mosquitto.port)
        await later.until_heard(f"{LISTEN}/state", "OFF")
        await later.until_heard(f"{THRESHOLD}/state", "0.62")


async def test_commands_with_an_old_broker(subscribe: Subscribe, tmp_path: Path) -> None:
    """With MQTT 3.1.1 they are obeyed and answered as with 5."""
    async with embedded_broker(free_port()) as port:
        heard = await subscribe(port, protocol=aiomqtt.ProtocolVersion.V311)
        async with told(configuration(port), tmp_path) as (_, control):
            await heard.until_heard(f"{LISTEN}/state", "ON")
            await publish(port, f"{LISTEN}/set", "OFF")
            await heard.until_heard(f"{LISTEN}/state", "OFF")
            assert not control.listens("kitchen")


async def test_a_command_that_was_retained_before(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not obeyed at the start, and that is said."""
    await publish(mosquitto.port, f"{LISTEN}/set", "OFF", "--retain")
    async with told(configuration(mosquitto.port), tmp_path) as (_, control):
        await until(lambda: "retained" in caplog.text)
        assert control.listens("kitchen")


async def test_commands_can_be_forbidden(mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path) -> None:
    """With mqtt.commands: false nothing is obeyed, and Home Assistant has nothing to command with."""
    heard = await subscribe(mosquitto.port)
    config = configuration(mosquitto.port, mqtt={"host": HOST, "port": mosquitto.port, "commands": False})
    async with told(config, tmp_path) as (_, control):
        await heard.until(lambda heard: bool(heard.of(DEVICE)))
        await publish(mosquitto.port, f"{LISTEN}/set", "OFF")
        await publish(mosquitto.port, "homeassistant/status", "online")
        await heard.until(lambda heard: len(heard.of(DEVICE)) == 2)
        assert control.listens("kitchen")
    assert "/set" not in heard.of(DEVICE)[0].payload


async def test_a_sound_that_is_gone_leaves_nothing(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path
) -> None:
    """After a change of the configuration nothing of the old one is retained, not even an ON of a crash."""
    heard = await subscribe(mosquitto.port)
    async with told(configuration(mosquitto.port), tmp_path):
        await heard.until_heard(f"{BASE}/status", "online")
    state = f"{BASE}/kitchen/sound/smoke_alarm/state"
    await publish(mosquitto.port, state, "ON", "--retain")
    async with told(configuration(mosquitto.port, sounds={"dog_bark": {"labels": ["Dog"]}}), tmp_path):
        for end in ("attributes", "listen/state", "state", "threshold/state"):
            await heard.until_heard(f"{BASE}/kitchen/sound/smoke_alarm/{end}", "")
        await heard.until(lambda heard: "smoke_alarm" not in (heard.latest(DEVICE) or "smoke_alarm"))
        late = await subscribe(mosquitto.port)
        await late.until(lambda heard: bool(heard.of(f"{BASE}/status")))
    assert not [message for message in late.messages if "smoke_alarm" in message.topic + message.payload]
    async with told(configuration(mosquitto.port, home_assistant=None), tmp_path):
        await heard.until_heard(DEVICE, "")


async def test_a_broker_that_does_not_let_us_announce(
    make_mosquitto: object, subscribe: Subscribe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That is said, once, and everything else works."""
    assert callable(make_mosquitto)
    broker = make_mosquitto(acl=f"topic read #\ntopic write {BASE}/#\n")
    heard = await subscribe(broker.port)
    async with told(configuration(broker.port), tmp_path) as (recorder, _):
        recorder.put(event("end"))
        await heard.until(lambda heard: bool(heard.of("/event/end")))
        await heard.until_heard(f"{LISTEN}/state", "ON")  # events come first; commands are taken from then on
        await publish(broker.port, f"{LISTEN}/set", "OFF")
        await heard.until_heard(f"{LISTEN}/state", "OFF")
    assert sum(f"refuses {NODE}" in record.message for record in caplog.records) == 1


async def test_a_reload_leaves_the_others_alone(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path
) -> None:
    """A source is renamed and a sound added: the other source is never offline, nor is the node."""
    kitchen: dict[str, object] = {"demo": True}
    before = configuration(mosquitto.port, sources={"kitchen": kitchen, "hall": {"demo": True}})
    after = configuration(
        mosquitto.port,
        sources={"kitchen": {**kitchen, "name": "Küche"}, "stairs": {"demo": True}},
        sounds={**before.sounds, "cat": {"labels": ["Cat"]}},
    )
    metrics = Metrics()
    control = Control(before, JsonFile(tmp_path, "control.json"))
    recorder = Writer(Log(tmp_path, metrics, consumers=["mqtt"]), metrics)
    link = BrokerLink(
        before, tmp_path, recorder.consumer("mqtt"), metrics, {}, control, epoch=Epoch(JsonFile(None, ""))
    )
    recorder.sinks.append(link.sink)
    task = asyncio.create_task(recorder.run())
    heard = await subscribe(mosquitto.port)
    try:
        recorder.put(SourceState("kitchen", "listening", 0.0))
        recorder.put(event("start"))
        await heard.until_heard(f"{BASE}/kitchen/status", "online")
        await heard.until_heard(f"{BASE}/kitchen/sound/dog_bark/state", "ON")
        await heard.until_heard(f"{BASE}/hall/listen/state", "ON")
        n = len(heard.messages)
        control.change(after)
        link.change(after, before)
        await heard.until_heard("homeassistant/device/streamer_pi_hall/config", "")
        await heard.until_heard(f"{BASE}/hall/listen/state", "")
        await heard.until_heard(f"{BASE}/stairs/listen/state", "ON")
        await heard.until(lambda heard: "Küche" in (heard.latest(DEVICE) or ""))
        await publish(mosquitto.port, f"{BASE}/stairs/listen/set", "OFF")
        await heard.until_heard(f"{BASE}/stairs/listen/state", "OFF")
        said = [(message.topic, message.payload) for message in heard.messages[n:]]
        for topic in (f"{BASE}/status", f"{BASE}/kitchen/status"):
            assert (topic, "offline") not in said
        assert (f"{BASE}/kitchen/sound/dog_bark/state", "OFF") not in said
        late = await subscribe(mosquitto.port)
        await late.until(lambda late: bool(late.of(f"{BASE}/status")))
        assert not [message for message in late.messages if "hall" in message.topic]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_new_name_keeps_ids_topics_and_history(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path
) -> None:
    """A source and a sound are renamed: what people read changes, and the events before are still theirs."""
    plain = configuration(mosquitto.port)
    sounds = {**plain.sounds, "dog_bark": {"labels": ["Dog"], "name": "Rex, 犬"}}
    renamed = configuration(
        mosquitto.port, sources={"kitchen": {"demo": True, "name": "Küche", "area": "Haus"}}, sounds=sounds
    )
    topics, components, names = [], [], []
    for event_id, config in (("before", plain), ("after", renamed)):
        heard = await subscribe(mosquitto.port)
        async with told(config, tmp_path) as (recorder, _):
            recorder.put(SourceState("kitchen", "listening", 0.0))
            for phase in ("start", "end"):
                recorder.put(event(phase, event_id=event_id))
            await heard.until(lambda heard, own=event_id: own in (heard.latest(f"{BASE}/kitchen/last") or ""))  # type: ignore[misc]  # bound now
        last = json.loads(heard.latest(f"{BASE}/kitchen/last") or "")
        device = json.loads(heard.latest(DEVICE) or "")
        names.append((last["source_name"], last["sound_name"], device["dev"]["name"]))
        topics.append({message.topic for message in heard.messages if "/event/" not in message.topic})
        components.append(
            {key: {name: one[name] for name in one if name != "name"} for key, one in device["cmps"].items()}
        )
        assert (last["source"], last["sound"]) == ("kitchen", "dog_bark")
        assert device["dev"]["ids"] == ["streamer_pi_kitchen"]
    assert names == [("Kitchen", "Dog bark", "Kitchen"), ("Küche", "Rex, 犬", "Küche")]
    assert topics[0] == topics[1]
    assert components[0] == components[1]
    with reading(tmp_path) as reader:
        found = reader.events(Filter(source="kitchen", sound="dog_bark"))
        assert {one.id for one in found} == {"before", "after"}


async def test_a_sound_is_switched_off_and_a_source_muted(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path
) -> None:
    """Both are said back, are kept over a restart, and can be taken back."""
    heard = await subscribe(mosquitto.port)
    config = configuration(mosquitto.port)
    switch, mute = f"{BASE}/kitchen/sound/smoke_alarm/listen", f"{BASE}/kitchen/mute"
    async with told(config, tmp_path) as (_, control):
        await heard.until_heard(f"{mute}/state", "OFF")
        await publish(mosquitto.port, f"{switch}/set", "OFF")
        await heard.until_heard(f"{switch}/state", "OFF")
        for wanted in ("ON", "OFF", "ON"):
            await publish(mosquitto.port, f"{mute}/set", wanted)
            await heard.until(lambda heard, wanted=wanted: heard.latest(f"{mute}/state") == wanted)  # type: ignore[misc]  # bound now
            assert (control.muted_s("kitchen") > 0) == (wanted == "ON")
        assert set(control.in_force("kitchen").sounds) == {"dog_bark"}
    async with told(config, tmp_path) as (_, control):
        assert not control.listens_for("kitchen", "smoke_alarm")
        assert 3500 < control.muted_s("kitchen") <= 3600


async def test_a_mute_ends_by_itself(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its time the switch is off, without anybody's help."""
    monkeypatch.setattr(commands, "MUTE_S", 2.5)  # entities that are new are given 1.5 s
    heard = await subscribe(mosquitto.port)
    async with told(configuration(mosquitto.port), tmp_path):
        await heard.until_heard(f"{BASE}/kitchen/mute/state", "OFF")
        await publish(mosquitto.port, f"{BASE}/kitchen/mute/set", "ON")
        await heard.until_heard(f"{BASE}/kitchen/mute/state", "ON")
        await heard.until_heard(f"{BASE}/kitchen/mute/state", "OFF")


@pytest.mark.parametrize("form", ["device", "entity"])
async def test_a_node_is_forgotten_at_the_broker(
    mosquitto: Mosquitto, subscribe: Subscribe, tmp_path: Path, form: str
) -> None:
    """Nothing of it is retained, and nothing of others is touched; it needs no file of the daemon."""
    others = {
        "streamer/pi2/status": "online",
        "homeassistant/device/streamer_pi2_kitchen/config": json.dumps(
            {
                "o": {"name": "streamer"},
                "dev": {"ids": ["streamer_pi2_kitchen"]},
                "avty": [{"t": "streamer/pi2/status"}],
            }
        ),
        "homeassistant/sensor/zigbee/x/config": '{"o":{"name":"z"},"dev":{"ids":["streamer_pi_kitchen"]}}',
        "homeassistant/sensor/broken/x/config": "{",
    }
    for topic, payload in others.items():
        await publish(mosquitto.port, topic, payload, "--retain")
    config = configuration(mosquitto.port, home_assistant={"form": form})
    heard = await subscribe(mosquitto.port)
    async with told(config, tmp_path) as (recorder, _):
        recorder.put(event("end"))
        await heard.until(lambda heard: bool(heard.of("/event/end")))
        await heard.until_heard(f"{BASE}/kitchen/mute/state", "OFF")
    cleared = await clear_node(config.mqtt, "pi", ["homeassistant"])
    assert {f"{BASE}/status", f"{BASE}/kitchen/last"} < set(cleared)
    late = await subscribe(mosquitto.port)
    await late.until(lambda late: len(late.messages) >= len(others))
    await asyncio.sleep(0.2)
    assert {message.topic: message.payload for message in late.messages} == others
    assert await clear_node(config.mqtt, "pi", ["homeassistant"]) == []
