"""A real Home Assistant without a screen, in a folder of its own: starts it, asks it, reads what it kept."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt

from streamer.config.schema import Config
from streamer.home_assistant.discovery import discovery
from streamer.mqtt.messages import Message
from streamer.mqtt.states import StateTopics
from streamer.mqtt.topics import Topics
from tests.mosquitto import HOST, Mosquitto

DEADLINE_S = 180.0
CONFIGURATION = """\
logger:
  default: warning
mqtt_statestream:
  base_topic: ha
  publish_attributes: true
automation: !include automations.yaml
"""
AUTOMATIONS: list[dict[str, Any]] = [
    {
        "alias": "The blueprint of the documentation",
        "use_blueprint": {
            "path": "streamer/notify_on_sound.yaml",
            "input": {
                "devices": ["event.kitchen_detection"],
                "sounds": ["dog_bark"],
                "peak": 0.5,
                "cooldown": 1,
                "actions": [
                    {
                        "service": "mqtt.publish",
                        "data": {
                            "topic": "ha/notified",
                            "payload": "{{ sound }} in {{ source }}: {{ peak }}",
                        },
                    }
                ],
            },
        },
    },
    {
        "alias": "What a person would do by hand",
        "mode": "queued",
        "trigger": {"platform": "mqtt", "topic": "by_hand"},
        "action": {
            "service": "{{ trigger.payload_json.service }}",
            "data": "{{ trigger.payload_json.data }}",
        },
    },
    {
        "alias": "What becomes of entities",
        "mode": "queued",
        "max": 100,
        "trigger": {"platform": "event", "event_type": "entity_registry_updated"},
        "action": {
            "service": "mqtt.publish",
            "data": {
                "topic": "ha/registry/{{ trigger.event.data.action }}/{{ trigger.event.data.entity_id }}",
                "payload": "yes",
            },
        },
    },
]
BLUEPRINT = Path(__file__).parents[2] / "docs" / "home-assistant" / "notify_on_sound.yaml"
START = """\
from homeassistant import bootstrap
from homeassistant.__main__ import main
bootstrap.DEFAULT_INTEGRATIONS = set()
bootstrap.CRITICAL_INTEGRATIONS.clear()
raise SystemExit(main())
"""
"""without what needs a browser, the world, or packages that mqtt does not need"""
OURS = re.compile(r"(?!.*statestream).*(WARNING|ERROR).*(mqtt|streamer|kitchen)", re.IGNORECASE)
ITS_OWN = re.compile("No device components to cleanup|unknown dispatcher .*MqttDeviceTrigger")
"""What it says of itself when the topic of a device is cleared, as the end of a device and the move to the
other form demand: that nothing is left to remove, and that triggers which had moved were gone already."""


class Home:
    """What it and the sink say is in `said`: by topic, and those of its own without their `ha/`."""

    def __init__(
        self,
        python: str,
        folder: Path,
        port: int,
        automations: list[dict[str, Any]] = AUTOMATIONS,
        configuration: str = CONFIGURATION,
    ) -> None:
        self.said: dict[str, str] = {}
        self.port = port
        self._python = python
        self._folder = folder
        self._log = folder / "log"
        self._process: asyncio.subprocess.Process | None = None
        folder.mkdir()
        (folder / "configuration.yaml").write_text(configuration, encoding="utf-8")
        self._automations = automations
        self._automate(automations)
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
        self._keep("core.config_entries", {"version": 1, "minor_version": 1, "data": {"entries": [entry]}})

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(self._python, "-c", START, "--config", str(self._folder), "--skip-pip"),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
            )

    async def start_with(self, client: aiomqtt.Client, config: Config, topics: Topics) -> None:
        """Announce the devices of a configuration and start; it then takes what they publish."""
        labelled = [key for key, sound in config.sounds.items() if sound.labels]
        for message in discovery(config, topics, thresholds=labelled).messages({}):
            await client.publish(message.topic, message.payload, qos=1, retain=True)
        await self.start()
        await self.until("its birth message", lambda: self.said.get("homeassistant/status") == "online")
        await asyncio.sleep(2)

    async def stop(self) -> None:
        """What it knows is in its files then."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            await self._process.wait()

    async def listen(self) -> None:
        """Hear it until cancelled."""
        async with aiomqtt.Client(HOST, self.port) as client:
            await client.subscribe([("ha/#", 1), ("homeassistant/#", 1)])
            async for message in client.messages:
                payload = message.payload if isinstance(message.payload, bytes) else b""
                self.said[str(message.topic).removeprefix("ha/")] = payload.decode()

    async def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait for it. Raises AssertionError."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    ended = self._process is not None and self._process.returncode is not None
                    assert not ended, f"Home Assistant has ended:\n{self._log.read_text(encoding='utf-8')}"
                    await asyncio.sleep(0.1)
        except TimeoutError:
            said = "\n".join(f"{topic} {payload[:100]}" for topic, payload in sorted(self.said.items()))
            log = self._log.read_text(encoding="utf-8")
            raise AssertionError(f"not {what}; said was:\n{said}\nand the log:\n{log}") from None
        print(f"ok  {what}", flush=True)

    def state(self, entity_id: str, attribute: str = "state") -> str:
        """What it says of an entity; empty where it has not said anything."""
        return self.said.get(f"{entity_id.replace('.', '/')}/{attribute}", "")

    async def shows(self, entity_id: str, pattern: str, attribute: str = "state") -> None:
        """Wait until it says this of an entity."""
        await self.until(
            f"{entity_id} {attribute}: {pattern}",
            lambda: re.fullmatch(pattern, self.state(entity_id, attribute)) is not None,
        )

    async def call(self, service: str, **data: object) -> None:
        """Do what a person would do by hand."""
        async with aiomqtt.Client(HOST, self.port) as client:
            await client.publish("by_hand", json.dumps({"service": service, "data": data}), qos=1)

    def entities(self) -> list[dict[str, Any]]:
        """Those of mqtt that it keeps; it must have stopped."""
        known = self._kept("core.entity_registry")["data"]["entities"]
        return [entity for entity in known if entity["platform"] == "mqtt"]

    def devices(self) -> list[dict[str, Any]]:
        """Those that it keeps; it must have stopped."""
        devices: list[dict[str, Any]] = self._kept("core.device_registry")["data"]["devices"]
        return devices

    def rename(self, entity_id: str, name: str) -> None:
        """As a person does; it must have stopped."""
        registry = self._kept("core.entity_registry")
        for entity in registry["data"]["entities"]:
            if entity["entity_id"] == entity_id:
                entity["name"] = name
        self._keep("core.entity_registry", registry)

    def add_trigger(self, device: str, **trigger: str) -> None:
        """An automation as it is made by clicking, which says `triggered`; it must have stopped."""
        automation = {
            "alias": "By a device trigger",
            "trigger": {"platform": "device", "domain": "mqtt", "device_id": device, **trigger},
            "action": {
                "service": "mqtt.publish",
                "data": {"topic": "ha/triggered", "payload": trigger["subtype"]},
            },
        }
        self._automate([*self._automations, automation])

    def complaints(self) -> list[str]:
        """The warnings in its log that have to do with us."""
        lines = self._log.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if OURS.match(line) and not ITS_OWN.search(line)]

    def _automate(self, automations: list[dict[str, Any]]) -> None:
        # JSON is YAML.
        (self._folder / "automations.yaml").write_text(json.dumps(automations), encoding="utf-8")

    def _kept(self, key: str) -> dict[str, Any]:
        kept: dict[str, Any] = json.loads((self._folder / ".storage" / key).read_text(encoding="utf-8"))
        return kept

    def _keep(self, key: str, content: dict[str, Any]) -> None:
        (self._folder / ".storage" / key).write_text(json.dumps({"key": key, **content}), encoding="utf-8")


@asynccontextmanager
async def at_home(
    python: str,
    folder: Path,
    automations: list[dict[str, Any]] = AUTOMATIONS,
    configuration: str = CONFIGURATION,
) -> AsyncIterator[Home]:
    """A Home Assistant, in `folder`/home and not started yet, with a broker of its own; both end with it."""
    broker = Mosquitto(folder)
    broker.start()
    home = Home(python, folder / "home", broker.port, automations, configuration)
    listening = asyncio.create_task(home.listen())
    try:
        yield home
    finally:
        await home.stop()
        listening.cancel()
        await asyncio.wait((listening,))
        broker.stop()


def drained(state: StateTopics) -> Iterator[Message]:
    """What is due to be published."""
    while (message := state.first()) is not None:
        yield message
        state.done(message)
