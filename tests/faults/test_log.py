"""A log that nobody reads stops nothing."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamer.errors import StreamerError
from streamer.ops.status import ask
from tests.daemon import DEADLINE_S
from tests.faults.program import BESIDE, QUICK, write
from tests.faults.table import FAULTS, Fault

pytestmark = pytest.mark.slow


def windows(state: Path) -> int:
    """How many the daemon has seen; -1 while it does not answer."""
    try:
        return int(ask([state / "status.sock"])["sources"]["room"]["windows"])
    except (StreamerError, KeyError):
        return -1


def test_a_log_that_is_not_read(tmp_path: Path) -> None:
    """Its pipe is full from the start: windows go on, the status answers, and SIGTERM ends it in order."""
    config = write(tmp_path, {"room": BESIDE, "away": {"stream": "http://127.0.0.1:9/nothing"}})
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"." * 512)
    except BlockingIOError:
        os.set_blocking(writer, True)
    state = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-m", QUICK, "run", "--config", str(config)],
        env={**os.environ, "STATE_DIRECTORY": str(state)},
        stdout=subprocess.DEVNULL,
        stderr=writer,
    )
    os.close(writer)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while windows(state) < 5:
            assert time.monotonic() < deadline, "it does not go on"
            time.sleep(0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
        stop_s = time.monotonic() - began
    finally:
        process.kill()
        os.close(reader)
    FAULTS.append(Fault("log that nobody reads", None, stop_s, "nothing; lines are dropped and counted"))
