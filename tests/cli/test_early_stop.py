"""A daemon or a node that is stopped while it starts ends in order: at once, without a stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("number", "after_s"), [(signal.SIGINT, 0.3), (signal.SIGINT, 1.0), (signal.SIGTERM, 2.0)]
)
def test_stopped_while_it_starts(number: signal.Signals, after_s: float, tmp_path: Path) -> None:
    """While the program is loaded the signal itself ends it; from then on a stop is no error."""
    daemon = subprocess.Popen(
        [sys.executable, "-m", "streamer", "run", "--config", "configs/quickstart.yaml"],
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        time.sleep(after_s)
        daemon.send_signal(number)
        output, _ = daemon.communicate(timeout=5)
    finally:
        daemon.kill()
    assert daemon.returncode in {0, -number}
    assert "Traceback" not in output
    assert "KeyboardInterrupt" not in output


@pytest.mark.parametrize(
    ("number", "after_s"),
    [(signal.SIGINT, 0.6), (signal.SIGTERM, 0.9), (signal.SIGINT, 1.2), (signal.SIGINT, 1.8)],
)
def test_a_node_stopped_while_it_starts(number: signal.Signals, after_s: float, tmp_path: Path) -> None:
    """So is a capture node, whose process is replaced by another one meanwhile."""
    config = tmp_path / "node.yaml"
    config.write_text("{node: pi, to: 'ws://127.0.0.1:9', source: {command: [sleep, '60']}}")
    node = subprocess.Popen(
        [sys.executable, "-m", "streamer", "capture", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        time.sleep(after_s)
        node.send_signal(number)
        output, _ = node.communicate(timeout=10)
    finally:
        node.kill()
    assert node.returncode in {0, -number}, output
    assert "Traceback" not in output


def test_an_interrupt_that_python_loses_comes_again() -> None:
    """Raised in a callback of the interpreter, as while a module is imported, it is printed and gone."""
    code = """
import signal, sys, time, weakref
from streamer import cli

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where whoever started the tests ignores it

class Module: ...

def callback(_):
    raise KeyboardInterrupt

cli.app = lambda: None
cli.main()
module = Module()
reference = weakref.ref(module, callback)
del module
try:
    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
