"""A secret in an address of a source is shown nowhere."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.program import BESIDE, QUICK, watched, write
from tests.mosquitto import HOST, Mosquitto, Subscribe

pytestmark = pytest.mark.slow

CANARY = "S3cretCanary"
SAYS = f"import sys; sys.exit('cannot read rtsp://admin:{CANARY}@127.0.0.1/x: refused')"
SOURCES = {
    "user": {"stream": f"rtsp://admin:{CANARY}@127.0.0.1:9/cam"},
    "bracket": {"stream": f"rtsp://admin:pa[{CANARY}@127.0.0.1:9/cam"},
    "hash": {"stream": f"rtsp://admin:Hush#{CANARY}@127.0.0.1:9/cam"},
    "slash": {"stream": f"http://admin:Hush/{CANARY}@127.0.0.1:9/cam"},
    "query": {"stream": f"http://127.0.0.1:9/audio?user=a@b&password={CANARY}"},
    "odd": {"stream": f"nonsense://u:{CANARY}@host/x"},
    "program": {"command": [sys.executable, "-c", SAYS]},
    "beside": BESIDE,
}


def check(config: Path, state: Path) -> str:
    """What `streamer check` says."""
    done = subprocess.run(
        [sys.executable, "-m", QUICK, "check", "--config", str(config)],
        env={**os.environ, "STATE_DIRECTORY": str(state)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout + done.stderr


async def test_a_secret_is_shown_nowhere(tmp_path: Path, mosquitto: Mosquitto, subscribe: Subscribe) -> None:
    """Not in the log, the status, MQTT, or by `check`; and none of these addresses stops another source."""
    heard = await subscribe(mosquitto.port, "#")
    mqtt = {"host": HOST, "port": mosquitto.port}
    config = write(tmp_path, SOURCES, node="test", mqtt=mqtt)
    state = tmp_path / "state"
    with watched(config, {}, state) as daemon:
        await heard.until_heard("streamer/test/beside/status", "online")
        for name in SOURCES.keys() - {"beside"}:
            daemon.says(f"{name}: waiting", 0)
        daemon.until(lambda: daemon.source("beside")["windows"] > 3, "the other source is not heard")
        shown = {
            "log": "\n".join(daemon.daemon.lines),
            "status": json.dumps(daemon.status()),
            "MQTT": "\n".join(f"{message.topic} {message.payload}" for message in heard.messages),
        }
        assert daemon.daemon.stop() == 0
    shown["check"] = await asyncio.to_thread(check, config, state)
    for where, text in shown.items():
        assert CANARY not in text, where
    assert "127.0.0.1:9" in shown["log"]
    assert "source bracket" in shown["check"]
