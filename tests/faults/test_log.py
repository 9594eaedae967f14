"""A log that nobody reads stops nothing."""

from __future__ import annotations

import fcntl
import os
import pty
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
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"." * 512)
    except BlockingIOError:
        os.set_blocking(writer, True)
    stop_s = goes_on(tmp_path, writer, stdout=subprocess.DEVNULL)
    os.close(reader)
    FAULTS.append(Fault("log that nobody reads", None, stop_s, "nothing; lines are dropped and counted"))


def test_a_terminal_that_is_not_read(tmp_path: Path) -> None:
    """As after Ctrl-S, or over a connection that hangs: windows go on, and SIGTERM ends it in order."""
    reader, terminal = pty.openpty()
    os.set_blocking(terminal, False)
    try:
        while True:
            os.write(terminal, b"." * 512)
    except BlockingIOError:
        os.set_blocking(terminal, True)
    stop_s = goes_on(tmp_path, terminal, stdout=terminal)
    os.close(reader)
    FAULTS.append(Fault("terminal that nobody reads", None, stop_s, "nothing; views are left out"))


def goes_on(folder: Path, stderr: int, stdout: int) -> float:
    """Whether the daemon listens, answers and ends; returns how many seconds the end took."""
    config = write(folder, {"room": BESIDE, "away": {"stream": "http://127.0.0.1:9/nothing"}})
    state = folder / "state"
    process = subprocess.Popen(
        [sys.executable, "-m", QUICK, "run", "--config", str(config)],
        env={**os.environ, "STATE_DIRECTORY": str(state)},
        stdout=stdout,
        stderr=stderr,
    )
    os.close(stderr)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while windows(state) < 5:
            assert time.monotonic() < deadline, "it does not go on"
            time.sleep(0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
        return time.monotonic() - began
    finally:
        process.kill()
