"""MQTT discovery: what is published so that entities appear, move with their settings, and disappear."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from streamer.config.schema import Config
from streamer.home_assistant.entities import (
    Device,
    DiscoveryDevice,
    NodeDevice,
    device_config,
    entities,
    entity_config,
)
from streamer.mqtt.messages import Message, encode
from streamer.mqtt.topics import Topics

Form: TypeAlias = Literal["device", "entity"]
Announced: TypeAlias = Mapping[str, Mapping[str, str]]
"""What the broker retains: for each topic the platform of each component key; none in the entity form."""

_MIGRATE = encode({"migrate_discovery": True})
"""the entities of this topic are published by another topic from now on: their history and names stay"""


def payloads(devices: Iterable[Device], prefix: str, form: Form) -> dict[str, str]:
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
        self, devices: Iterable[Device] = (), prefix: str = "homeassistant", form: Form | None = None
    ) -> None:
        """Without a `form` nothing is announced, and what was is removed."""
        self._payloads = {} if form is None else payloads(devices, prefix, form)
        self.birth_topic = None if form is None else f"{prefix}/status"

    def remembered(self) -> dict[str, dict[str, str]]:
        """What has to be remembered over a restart."""
        return announced(self._payloads)

    def messages(self, before: Announced) -> list[Message]:
        """What to publish, where `before` was remembered by an earlier configuration."""
        return messages(self._payloads, before)


def discovery(
    config: Config, topics: Topics, *, thresholds: Iterable[str] = (), commands: bool = True
) -> Discovery:
    """Discovery of a node and its sources; `thresholds` are the sounds that have one.

    Where the broker may not command, there is nothing to command with.
    """
    settings = config.home_assistant
    if settings is None:
        return Discovery()
    names, page_url = config.names, settings.page_url or config.web.public_url
    devices: list[Device] = [NodeDevice(topics, names, page_url)]
    for source_id, source in config.sources.items():
        devices.append(
            DiscoveryDevice(
                topics,
                source_id,
                sounds=tuple(config.sounds),
                thresholds=tuple(thresholds) if commands else (),
                commands=commands,
                shown=frozenset(sound for sound in config.sounds if config.is_shown(sound)),
                expected=tuple(one.sound for one in config.expected if one.source == source_id),
                names=names,
                area=source.area,
                is_calibrated=source.calibration_db is not None,
                page_url=page_url,
            )
        )
    return Discovery(devices, settings.discovery_prefix, settings.form)
