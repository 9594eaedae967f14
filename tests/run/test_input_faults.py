"""What is wrong with the input is told where users look: the log, the status, MQTT."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.faults.program import watched, write
from tests.mosquitto import HOST, Mosquitto, Subscribe

pytestmark = pytest.mark.slow

MUTED_AFTER_S = 3
PROGRAM = f"""
import os, sys, time
began = time.monotonic()
while True:
    muted = {MUTED_AFTER_S} < time.monotonic() - began < 25
    sys.stdout.buffer.write(bytes(3200) if muted else os.urandom(3200))
    sys.stdout.flush()
    time.sleep(0.1)
"""


async def test_a_muted_input_is_told_within_15_seconds(
    tmp_path: Path, mosquitto: Mosquitto, subscribe: Subscribe
) -> None:
    """A line in the log, a clause in `streamer status`, ON over MQTT; and the end of it, too."""
    heard = await subscribe(mosquitto.port, "streamer/test/room/#")
    source = {"command": [sys.executable, "-c", PROGRAM], "calibration_db": 94.0}
    mqtt = {"host": HOST, "port": mosquitto.port}
    config = write(tmp_path, {"room": source}, node="test", mqtt=mqtt)
    state = tmp_path / "state"
    with watched(config, {}, state) as daemon:
        await heard.until_heard("streamer/test/room/problem", "OFF")
        began = time.monotonic()
        await heard.until_heard("streamer/test/room/problem", "ON")
        assert time.monotonic() - began < MUTED_AFTER_S + 15
        daemon.says("room: digital silence for 10 s: is it muted or unplugged?", 0)
        daemon.until(lambda: daemon.source("room")["phase"] == "silent", "not silent")
        assert "digital silence" in daemon.source("room")["problem"]
        assert "room silent (digital silence" in daemon.status()["line"]
        assert float(daemon.source("room")["level_dba"]) < 0
        daemon.says("room: the input is sound again", 0)
        await heard.until_heard("streamer/test/room/problem", "OFF")
        daemon.until(lambda: daemon.source("room")["phase"] == "listening", "not listening again")
    problem = "streamer/test/room/problem"
    assert [m.payload for m in heard.messages if m.topic == problem] == ["OFF", "ON", "OFF"]
    reasons = [json.loads(m.payload)["reason"] for m in heard.of(f"{problem}/attributes")]
    assert "digital silence for 10 s: is it muted or unplugged?" in reasons
    assert reasons[-1] is None
