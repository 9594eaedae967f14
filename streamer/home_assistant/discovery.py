"""MQTT discovery: what is published so that entities appear, move with their settings, and disappear."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from streamer.config.control import Control
from streamer.config.schema import HomeAssistantSettings
from streamer.config.sources import CommonSourceSettings
from streamer.home_assistant.entities import DiscoveryDevice, device_config, entities, entity_config
from streamer.mqtt.messages import Message, encode
from streamer.mqtt.topics import Topics

Form: TypeAlias = Literal["device", "entity"]
Announced: TypeAlias = Mapping[str, Mapping[str, str]]
"""What the broker retains: for each topic the platform of each component key; none in the entity form."""

_MIGRATE = encode({"migrate_discovery": True})
"""the entities of this topic are published by another topic from now on: their history and names stay"""


def payloads(devices: Iterable[DiscoveryDevice], prefix: str, form: Form) -> dict[str, str]:
    """The discovery payloads to retain, by topic."""
    found = {}
    for device in devices:
        parts = entities(device)
        if form == "device":
            found[f"{prefix}/device/{device.device_id}/config"] = encode(device_config(device, parts))
            continue
        for entity in parts:
            topic = f"{prefix}/{entity.platform}/{device.device_id}/{entity.key}/config"
            found[topic] = encode(entity_config(device, entity))
    return found


def announced(payloads: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What has to be remembered of payloads, to be able to remove them later."""
    return {
        topic: {key: part["p"] for key, part in json.loads(payload).get("cmps", {}).items()}
        for topic, payload in payloads.items()
    }


def messages(wanted: Mapping[str, str], before: Announced) -> list[Message]:
    """What to publish, where `before` was announced last, perhaps by another configuration."""
    platforms = announced(wanted)
    here = {_identity(topic, key) for topic, parts in platforms.items() for key in parts or [""]}
    gone = [topic for topic in before if topic not in wanted]
    # An entity that is told that it moves keeps its history; the empty payload then clears the topic.
    moving = [topic for topic in gone if any(_identity(topic, key) in here for key in before[topic] or [""])]
    sent = [Message(topic, _MIGRATE, qos=1, retain=False) for topic in moving if _changes_form(topic, wanted)]
    sent += [Message(topic, "", qos=1, retain=True) for topic in gone]
    for topic, payload in wanted.items():
        left = {key: {"p": at} for key, at in before.get(topic, {}).items() if key not in platforms[topic]}
        if left:  # a component that is merely left out would stay
            config = json.loads(payload)
            config["cmps"] |= left
            sent.append(Message(topic, encode(config), qos=1, retain=True))
        sent.append(Message(topic, payload, qos=1, retain=True))
    return sent


def _identity(topic: str, key: str) -> tuple[str, str]:
    """Device and key of a component, in either form."""
    levels = topic.split("/")
    return (levels[-2], key) if key else (levels[-3], levels[-2])


def _changes_form(topic: str, wanted: Iterable[str]) -> bool:
    return all(_is_device(topic) != _is_device(other) for other in wanted)


def _is_device(topic: str) -> bool:
    return topic.split("/")[-3] == "device"


class Discovery:
    """What the MQTT publisher announces for Home Assistant; nothing where that is not configured."""

    def __init__(
        self, devices: Iterable[DiscoveryDevice] = (), settings: HomeAssistantSettings | None = None
    ) -> None:
        self._payloads: dict[str, str] = {}
        self.birth_topic: str | None = None
        if settings is not None:
            self._payloads = payloads(devices, settings.discovery_prefix, settings.form)
            self.birth_topic = f"{settings.discovery_prefix}/status"

    def remembered(self) -> dict[str, dict[str, str]]:
        """What has to be remembered over a restart."""
        return announced(self._payloads)

    def messages(self, before: Announced) -> list[Message]:
        """What to publish, where `before` was remembered by an earlier configuration."""
        return messages(self._payloads, before)


def discovery(
    settings: HomeAssistantSettings | None,
    topics: Topics,
    sources: Mapping[str, CommonSourceSettings],
    sounds: Iterable[str],
    control: Control | None,
) -> Discovery:
    """Discovery of the sources of a daemon; with `control` also of what can be set."""
    thresholds = () if control is None else control.sounds
    devices = [
        DiscoveryDevice(
            topics,
            source_id,
            tuple(sounds),
            thresholds,
            control is not None,
            own.calibration_db is not None,
        )
        for source_id, own in sources.items()
    ]
    return Discovery(devices, settings)
