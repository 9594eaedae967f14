"""The daemon obeys: what Home Assistant switches off is closed, and what it sets decides on events."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.daemon import SOUNDS, configuration, running
from tests.mosquitto import HOST, Mosquitto, Subscribe

pytestmark = pytest.mark.slow

BASE = "streamer/test/room"


async def command(port: int, topic: str, payload: str) -> None:
    arguments = ["mosquitto_pub", "-h", HOST, "-p", str(port), "-q", "1", "-t", topic, "-m", payload]
    process = await asyncio.create_subprocess_exec(*arguments)
    assert await process.wait() == 0


async def test_switched_off_and_on(tmp_path: Path, mosquitto: Mosquitto, subscribe: Subscribe) -> None:
    """Off closes the source, which is no problem and not listened to; on opens it again.

    Meanwhile a sound that should come again is not overdue: it has just begun to be expected.
    """
    heard = await subscribe(mosquitto.port)
    mqtt = {"host": HOST, "port": mosquitto.port}
    sounds = {**SOUNDS, "doorbell": {**SOUNDS["doorbell"], "expect": {"every": "1d"}}}
    config = configuration(tmp_path, {"demo": True}, mqtt=mqtt, home_assistant={}, sounds=sounds)
    with running(config) as daemon:
        await asyncio.to_thread(daemon.until_says, "listening")
        await heard.until_heard(f"{BASE}/status", "online")
        await heard.until_heard(f"{BASE}/sound/doorbell/overdue", "OFF")
        await command(mosquitto.port, f"{BASE}/listen/set", "OFF")
        await heard.until_heard(f"{BASE}/status", "offline")
        await asyncio.to_thread(daemon.until_says, "paused")
        assert heard.latest(f"{BASE}/listen/state") == "OFF"
        assert heard.latest(f"{BASE}/problem") == "OFF"
        await command(mosquitto.port, f"{BASE}/profile/set", "eager")
        await command(mosquitto.port, f"{BASE}/listen/set", "ON")
        await heard.until_heard(f"{BASE}/status", "online")
        assert daemon.stop() == 0
    assert heard.of("homeassistant/device/streamer_test_room/config")
