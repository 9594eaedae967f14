"""Shows the sink to a real Home Assistant, headless: entities, commands, a crash, both forms, a quiet log.

    python3.13 -m venv ha && ha/bin/pip install homeassistant==2025.4.4 paho-mqtt==2.1.0
    python -m tests.home_assistant --python ha/bin/python

A version from 2024.11 on is shown both forms, each as the first and then the way to the other and back;
an older one takes the form `entity` alone. Versions that it has passed with, and what they need beside their
requirements:

    2024.3.3     Python 3.11     paho-mqtt==1.6.1 janus==1.0.0
    2024.11.3    Python 3.12     paho-mqtt==1.6.1 "josepy<2" "pycares<5"
    2025.4.4     Python 3.13     paho-mqtt==2.1.0
    2026.2.3     Python 3.13.2   paho-mqtt==2.1.0
    2026.11.0    Python 3.14.2   paho-mqtt==2.1.0 aiohasupervisor==0.8.1
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from streamer.home_assistant.discovery import Form, payloads
from streamer.home_assistant.entities import DiscoveryDevice, Entity, NodeDevice, entities
from streamer.mqtt.topics import Topics
from tests.home_assistant.home import Home, at_home

SOUNDS = ("dog_bark", "smoke_alarm")
TOPICS = Topics("streamer", "pi")
NODE = NodeDevice(TOPICS)
KITCHEN = DiscoveryDevice(TOPICS, "kitchen", SOUNDS, SOUNDS, commands=True, shown=frozenset(SOUNDS))
DEVICES = (NODE, KITCHEN)
ENTITIES = [
    entity for device in DEVICES for entity in entities(device) if entity.platform != "device_automation"
]
"""a device trigger is none"""
DOG = "binary_sensor.kitchen_dog_bark"
DETECTION = "event.kitchen_detection"
LISTEN = "switch.kitchen_listen"
SENSITIVITY = "select.kitchen_sensitivity"
MUTE = "switch.kitchen_mute"


@asynccontextmanager
async def daemon(home: Home, state: Path, form: Form | None, *sounds: str) -> AsyncIterator[None]:
    """A daemon that ends by kill -9, as Home Assistant sees then."""
    arguments = ("-m", "tests.home_assistant.daemon", str(home.port), str(state), form or "none", *sounds)
    home.said.clear()
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    try:
        yield
    finally:
        process.kill()
        await process.wait()
    await home.until("all is unavailable after kill -9", lambda: set(states(home)) <= {"unavailable", ""})


async def check(home: Home, state: Path, form: Form, other: Form | None) -> None:
    """All that is promised, in one form; then in the other, and in the first again. Raises AssertionError."""
    await home.start()
    async with daemon(home, state, form, *SOUNDS):
        await works(home, form, mute="off", sensitivity="balanced")
        await obeys(home)
    async with daemon(home, state, form, *SOUNDS):
        await works(home, form)
        await home.stop()
        keeps_what_it_was_told(home)
        home.rename(DOG, "Rex")
        source = next(one for one in home.devices() if one["identifiers"][0][1] == KITCHEN.device_id)
        home.add_trigger(source["id"], type="began", subtype="dog_bark")
        home.said.clear()
        await home.start()
        # It has asked for nothing but said that it is there, and all is announced again.
        await works(home, form)
        await keeps_what_a_person_made(home)
    for before, after in [(form, other), (other, form)] if other else []:
        async with daemon(home, state, after, *SOUNDS):
            await works(home, after)
            await obeys(home)
            await keeps_what_a_person_made(home)
            assert not [topic for topic in topics(before) if home.said[topic]]
            assert not [topic for topic in home.said if topic.startswith("registry/remove")]
    # One that is disabled goes with its device: before that Home Assistant does not look at its topic.
    alarms = {
        entity_id(entity)
        for entity in ENTITIES
        if "smoke_alarm" in entity.key and entity.config.get("en", True)
    }
    async with daemon(home, state, form, "dog_bark"):
        await home.until("a sound that is removed goes", lambda: removed(home) == alarms)
        await home.shows(DOG, "on|off")
    async with daemon(home, state, None, "dog_bark"):
        rest = {entity_id(entity) for entity in ENTITIES} - alarms
        await home.until("what is not told any more goes", lambda: removed(home) == rest)
    assert not home.complaints(), "\n".join(home.complaints())
    await home.call(
        "mqtt.publish", topic="homeassistant/sensor/streamer_nonsense/config", payload='{"name": "?"}'
    )
    await home.until("no warning, though it does warn of nonsense", lambda: home.complaints() != [])
    await home.stop()
    assert home.entities() == home.devices() == []


async def works(home: Home, form: Form, *, mute: str = "on", sensitivity: str = "eager") -> None:
    """Every entity is there and says what the daemon says."""
    await home.until(f"announced in the form {form}", lambda: announced(home) == set(topics(form)))
    await home.shows(DOG, "on")
    await home.shows(DOG, "0.93", "peak")
    await home.shows(DOG, "off")
    await home.shows(DETECTION, '"(dog_bark|smoke_alarm)"', "event_type")
    await home.shows(DETECTION, "0.93", "peak")
    await home.shows("sensor.kitchen_last_sound", "Dog bark|Smoke alarm")
    await home.shows("binary_sensor.kitchen_any_sound", "on|off")
    await home.shows("sensor.kitchen_level", "-.*")
    await home.shows("sensor.streamer_pi_waiting", "[0-9]+")
    await home.shows("binary_sensor.kitchen_audio_input", "off")
    await home.shows(LISTEN, "on")
    await home.shows(SENSITIVITY, sensitivity)
    await home.shows(MUTE, mute)
    await home.until(
        "the blueprint notifies", lambda: home.said.get("notified") == "dog_bark in pi/kitchen: 0.93"
    )
    await home.until("all is available", lambda: not {"", "unavailable"} & set(states(home)))


async def obeys(home: Home) -> None:
    """What a person sets comes back from the daemon; while it does not listen, its settings are there."""
    for mute in ("off", "on"):
        await home.call(f"switch.turn_{mute}", entity_id=MUTE)
        await home.shows(MUTE, mute)
    for sensitivity in ("quiet", "eager"):
        await home.call("select.select_option", entity_id=SENSITIVITY, option=sensitivity)
        await home.shows(SENSITIVITY, sensitivity)
    await home.call("switch.turn_off", entity_id=LISTEN)
    await home.shows(DOG, "unavailable")
    await home.shows(LISTEN, "off")
    await home.call("switch.turn_on", entity_id=LISTEN)
    await home.shows(DOG, "on|off")
    await home.shows(LISTEN, "on")


async def keeps_what_a_person_made(home: Home) -> None:
    """The name that he gave, and the automation with a device trigger."""
    await home.shows(DOG, '".*Rex"', "friendly_name")
    await home.until("the device trigger fires", lambda: home.said.get("triggered") == "dog_bark")


def keeps_what_it_was_told(home: Home) -> None:
    """A node with its source behind it, and every entity with its id and name; it must have stopped."""
    found = {device["identifiers"][0][1]: device for device in home.devices()}
    assert found.keys() == {NODE.device_id, KITCHEN.device_id}
    assert found[KITCHEN.device_id]["via_device_id"] == found[NODE.device_id]["id"]
    assert found[KITCHEN.device_id]["name"] == KITCHEN.name
    kept = {(each["entity_id"], each["unique_id"], each["original_name"]) for each in home.entities()}
    told = {(entity_id(each), each.config["uniq_id"], each.config["name"]) for each in ENTITIES}
    assert kept == told, kept ^ told
    print(f"ok  two devices, {len(kept)} entities with their ids and names")


def entity_id(entity: Entity) -> str:
    return str(entity.config["def_ent_id"])


def states(home: Home) -> list[str]:
    """Of all entities but those that are disabled at first, and those that it has just removed."""
    enabled = {entity_id(entity) for entity in ENTITIES if entity.config.get("en", True)}
    return [home.state(each) for each in enabled - removed(home)]


def removed(home: Home) -> set[str]:
    prefix = "registry/remove/"
    return {topic.removeprefix(prefix) for topic in home.said if topic.startswith(prefix)}


def topics(form: Form) -> list[str]:
    return list(payloads(DEVICES, "homeassistant", form))


def announced(home: Home) -> set[str]:
    """The topics where something is."""
    return {topic for topic, payload in home.said.items() if topic.endswith("/config") and payload}


def version(python: str) -> tuple[int, int]:
    command = (
        "from homeassistant.const import MAJOR_VERSION, MINOR_VERSION; print(MAJOR_VERSION, MINOR_VERSION)"
    )
    major, minor = subprocess.run([python, "-c", command], check=True, capture_output=True).stdout.split()
    return int(major), int(minor)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, help="of the environment that has homeassistant")
    python = str(Path(parser.parse_args().python).absolute())
    ways: list[tuple[Form, Form | None]] = [("entity", None)]
    if version(python) >= (2024, 11):
        ways = [("device", "entity"), ("entity", "device")]
    for form, other in ways:
        with tempfile.TemporaryDirectory() as name:
            asyncio.run(show(python, Path(name), form, other))


async def show(python: str, folder: Path, form: Form, other: Form | None) -> None:
    """`check` with a broker and a Home Assistant of its own."""
    state = folder / "state"
    state.mkdir()
    async with at_home(python, folder) as home:
        await check(home, state, form, other)


if __name__ == "__main__":
    main()
