"""The private names of aiomqtt that are used exist, and are still what they were."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path

import aiomqtt
from paho.mqtt.client import Client as PahoClient

import streamer.mqtt
from streamer.mqtt.aiomqtt_internals import PRIVATE_NAMES, ObservedClient

FOLDER = Path(next(iter(streamer.mqtt.__path__)))


async def test_the_private_names_are_there() -> None:
    """A release of aiomqtt that changes them fails here, and not at a broker that refuses."""
    client = aiomqtt.Client("127.0.0.1")
    assert [name for name in PRIVATE_NAMES if not hasattr(client, name)] == []
    assert isinstance(client._client, PahoClient)
    assert isinstance(client._connected, asyncio.Future)
    assert isinstance(client._disconnected, asyncio.Future)
    assert client._pending_publishes == {}
    parameters = list(inspect.signature(aiomqtt.Client._on_publish).parameters)
    assert parameters == ["self", "client", "userdata", "mid", "reason_code", "properties"]


def test_they_are_used_in_one_file_alone() -> None:
    """Whoever replaces aiomqtt finds them together."""
    names = "|".join(PRIVATE_NAMES)
    found = {
        path.name
        for path in FOLDER.glob("*.py")
        if re.search(rf"\.({names})\b", path.read_text(encoding="utf-8"))
    }
    assert found == {Path(inspect.getfile(ObservedClient)).name}
