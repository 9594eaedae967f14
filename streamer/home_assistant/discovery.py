"""In which order Home Assistant is told what there is, so that what is gone goes and what moves stays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from streamer.home_assistant.entities import Ear, device_config, entities, entity_config
from streamer.mqtt.messages import Message, encode

Form: TypeAlias = Literal["device", "entity"]
Announced: TypeAlias = Mapping[str, Mapping[str, str]]
"""What the broker retains: by topic, the platforms by their keys; a topic that has one alone has it as ``."""

_MIGRATE = encode({"migrate_discovery": True})
"""the entities of this topic come again by another one: keep what the user has made of them"""


def wanted(ears: Iterable[Ear], prefix: str, form: Form) -> dict[str, str]:
    """The payloads that are to be retained, by topic."""
    payloads = {}
    for ear in ears:
        parts = entities(ear)
        if form == "device":
            payloads[f"{prefix}/device/{ear.device_id}/config"] = encode(device_config(ear, parts))
            continue
        for entity in parts:
            topic = f"{prefix}/{entity.platform}/{ear.device_id}/{entity.key}/config"
            payloads[topic] = encode(entity_config(ear, entity))
    return payloads


def announced(payloads: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What is to be remembered of them."""
    return {
        topic: {key: part["p"] for key, part in json.loads(payload).get("cmps", {}).items()}
        for topic, payload in payloads.items()
    }


def messages(payloads: Mapping[str, str], before: Announced) -> list[Message]:
    """What to send, where `before` is what was announced last, perhaps by another configuration."""
    platforms = announced(payloads)
    here = {_identity(topic, key) for topic, parts in platforms.items() for key in parts or [""]}
    gone = [topic for topic in before if topic not in payloads]
    # Who is told that it moves keeps what the user has made of it; the empty payload then clears the topic.
    moving = [topic for topic in gone if any(_identity(topic, key) in here for key in before[topic] or [""])]
    sent = [
        Message(topic, _MIGRATE, qos=1, retain=False) for topic in moving if _changes_form(topic, payloads)
    ]
    sent += [Message(topic, "", qos=1, retain=True) for topic in gone]
    for topic, payload in payloads.items():
        left = {key: {"p": at} for key, at in before.get(topic, {}).items() if key not in platforms[topic]}
        if left:  # a component that is just not named any more stays
            config = json.loads(payload)
            config["cmps"] |= left
            sent.append(Message(topic, encode(config), qos=1, retain=True))
        sent.append(Message(topic, payload, qos=1, retain=True))
    return sent


def _identity(topic: str, key: str) -> tuple[str, str]:
    """Device and key of a component, in either form."""
    levels = topic.split("/")
    return (levels[-2], key) if key else (levels[-3], levels[-2])


def _changes_form(topic: str, payloads: Iterable[str]) -> bool:
    return all(_is_device(topic) != _is_device(other) for other in payloads)


def _is_device(topic: str) -> bool:
    return topic.split("/")[-3] == "device"
