"""Shows the sink to a real Home Assistant, headless: entities, what they say, no warning in its log.

    python3.11 -m venv ha && ha/bin/pip install homeassistant==2024.3.3 paho-mqtt==1.6.1 janus==1.0.0
    python -m tests.home_assistant --python ha/bin/python [--form entity]

2024.3 takes the form `entity` alone; a version from 2024.11 on takes both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import aiomqtt

from tests.mosquitto import HOST, Mosquitto

DEADLINE_S = 180.0
CONFIGURATION = """\
logger:
  default: warning
mqtt_statestream:
  base_topic: ha
  publish_attributes: true
automation:
  - alias: The blueprint of the documentation
    use_blueprint:
      path: streamer/notify_on_sound.yaml
      input:
        detection: event.kitchen_ear_detection
        sounds: [dog_bark]
        score: 0.5
        cooldown: 1
        actions:
          - service: mqtt.publish
            data:
              topic: ha/notified
              payload: "{{ sound }} in {{ where }}: {{ score }}"
"""
BLUEPRINT = Path(__file__).parents[2] / "docs" / "home-assistant" / "notify_on_sound.yaml"
START = """\
from homeassistant import bootstrap
from homeassistant.__main__ import main
bootstrap.DEFAULT_INTEGRATIONS -= {"backup", "frontend", "hardware", "person"}
bootstrap.CRITICAL_INTEGRATIONS.clear()
raise SystemExit(main())
"""
"""without what needs a browser, and packages that mqtt does not need"""
OURS = re.compile(r"(?!.*statestream).*(mqtt|streamer|kitchen)", re.IGNORECASE)


class Entities:
    """What Home Assistant says of its entities: by topic below `ha/`."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    async def listen(self, port: int) -> None:
        async with aiomqtt.Client(HOST, port) as client:
            await client.subscribe("ha/#")
            async for message in client.messages:
                payload = message.payload if isinstance(message.payload, bytes) else b""
                self.said[str(message.topic).removeprefix("ha/")] = payload.decode()

    async def until(self, topic: str, condition: Callable[[str], bool], what: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition(self.said.get(topic, "")):  # noqa: ASYNC110  nobody sets an event
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{topic} is {self.said.get(topic)!r}, not {what}") from None
        print(f"ok  {topic}: {self.said[topic]}")


def prepare(folder: Path, port: int) -> None:
    """The configuration directory of a Home Assistant that knows its broker."""
    (folder / "configuration.yaml").write_text(CONFIGURATION, encoding="utf-8")
    blueprints = folder / "blueprints" / "automation" / "streamer"
    blueprints.mkdir(parents=True)
    shutil.copy(BLUEPRINT, blueprints)
    (folder / ".storage").mkdir()
    entry = {
        "entry_id": "1",
        "version": 1,
        "minor_version": 1,
        "domain": "mqtt",
        "title": "broker",
        "data": {"broker": HOST, "port": port, "discovery": True, "discovery_prefix": "homeassistant"},
        "options": {},
        "pref_disable_new_entities": False,
        "pref_disable_polling": False,
        "source": "user",
        "unique_id": None,
        "disabled_by": None,
    }
    entries = {"version": 1, "minor_version": 1, "key": "core.config_entries", "data": {"entries": [entry]}}
    (folder / ".storage" / "core.config_entries").write_text(json.dumps(entries), encoding="utf-8")


async def check(python: str, form: str, folder: Path, broker: Mosquitto) -> None:
    """Raises AssertionError."""
    home, state = folder / "home", folder / "state"
    home.mkdir()
    state.mkdir()
    prepare(home, broker.port)
    entities = Entities()
    listening = asyncio.create_task(entities.listen(broker.port))
    hass = await asyncio.create_subprocess_exec(
        *(python, "-c", START, "--config", str(home), "--skip-pip"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def daemon(*sounds: str) -> asyncio.subprocess.Process:
        arguments = ("-m", "tests.home_assistant.daemon", str(broker.port), str(state), form, *sounds)
        return await asyncio.create_subprocess_exec(sys.executable, *arguments)

    dog, alarm = "binary_sensor/kitchen_ear_dog_bark/state", "binary_sensor/kitchen_ear_smoke_alarm/state"
    running = await daemon("dog_bark", "smoke_alarm")
    try:
        await entities.until(dog, lambda said: said == "on", "on")
        await entities.until(dog, lambda said: said == "off", "off")
        await entities.until(
            "event/kitchen_ear_detection/event_type",
            lambda said: "dog_bark" in said or "smoke_alarm" in said,
            "a sound",
        )
        await entities.until("event/kitchen_ear_detection/peak", lambda said: said == "0.93", "0.93")
        await entities.until("sensor/kitchen_ear_last_sound/state", bool, "a sound")
        await entities.until(
            "sensor/kitchen_ear_last_sound_time/state", lambda said: said[:2] == "20", "a time"
        )
        await entities.until("sensor/kitchen_ear_level/state", lambda said: said[:1] == "-", "a level")
        await entities.until(
            "sensor/kitchen_ear_detection_latency/state", lambda said: said == "200.0", "200"
        )
        await entities.until("binary_sensor/kitchen_ear_audio_input/state", lambda said: said == "off", "off")
        await entities.until("switch/kitchen_ear_listen/state", lambda said: said == "on", "on")
        await entities.until("select/kitchen_ear_sensitivity/state", lambda said: said == "normal", "normal")
        await entities.until("number/kitchen_ear_dog_bark_threshold/state", lambda said: said == "0.5", "0.5")
        await entities.until("notified", lambda said: said == "dog_bark in kitchen: 0.9", "the blueprint's")
        async with aiomqtt.Client(HOST, broker.port) as client:
            await client.publish("streamer/pi/kitchen/sound/dog_bark/threshold/set", "0.62", qos=1)
        await entities.until(
            "number/kitchen_ear_dog_bark_threshold/state", lambda said: said == "0.62", "0.62"
        )
        running.kill()
        await running.wait()
        for topic in (dog, "switch/kitchen_ear_listen/state", "event/kitchen_ear_detection/state"):
            await entities.until(topic, lambda said: said == "unavailable", "unavailable after kill -9")
        running = await daemon("dog_bark")
        await entities.until(dog, lambda said: said in ("on", "off"), "back")
        await entities.until(alarm, lambda said: said not in ("on", "off"), "gone")
    finally:
        running.kill()
        await running.wait()
        hass.send_signal(signal.SIGTERM)
        await hass.wait()
        listening.cancel()
    registry = json.loads((home / ".storage" / "core.entity_registry").read_text(encoding="utf-8"))
    left = [entity["entity_id"] for entity in registry["data"]["entities"] if entity["platform"] == "mqtt"]
    print("\n".join(["entities left:", *sorted(left)]))
    assert not [entity_id for entity_id in left if "smoke_alarm" in entity_id], left
    log = (home / "home-assistant.log").read_text(encoding="utf-8").splitlines()
    complaints = [line for line in log if re.search("WARNING|ERROR", line) and OURS.match(line)]
    assert not complaints, "\n".join(complaints)
    print("no warning in the log")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, help="of the environment that has homeassistant")
    parser.add_argument("--form", choices=("entity", "device"), default="entity")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Mosquitto(folder)
        broker.start()
        try:
            asyncio.run(check(str(Path(arguments.python).absolute()), arguments.form, folder, broker))
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
