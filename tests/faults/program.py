"""The daemon with a quick engine, as a process: what it logs, when, and what it says of itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from streamer.errors import StreamerError
from streamer.ops.status import ask
from tests.daemon import DEADLINE_S, Daemon, running

QUICK = "tests.faults.quick"
NOISE = "bytes(byte for low in os.urandom(1600) for byte in (low, 0))"
"""a tenth of a second at 16 kHz, far below every threshold, and not digital silence"""
BLOCK = f"sys.stdout.buffer.write({NOISE}), sys.stdout.flush(), time.sleep(0.1)"
BESIDE = {"command": [sys.executable, "-c", f"import os, sys, time\nwhile True: {BLOCK}"]}
"""another source, to see that it is left alone: noise at about real time"""
SOUNDS = {"smoke_alarm": {"labels": ["Smoke detector, smoke alarm"]}}


def write(folder: Path, sources: dict[str, Any], **sections: Any) -> Path:
    path = folder / "streamer.yaml"
    config = {"sources": sources, "sounds": SOUNDS, "mqtt": {"enabled": False}, **sections}
    path.write_text(yaml.safe_dump(config))
    return path


class Watched:
    """A daemon, what it logs, and when."""

    def __init__(self, daemon: Daemon, state: Path) -> None:
        self.daemon = daemon
        self._state = state

    def status(self) -> dict[str, Any]:
        """What the daemon says of itself; nothing while it starts."""
        try:
            return ask([self._state / "status.sock"])
        except StreamerError:
            return {}

    def source(self, source_id: str) -> dict[str, Any]:
        return dict(self.status()["sources"][source_id])

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n" + "\n".join(self.daemon.lines)
            time.sleep(0.05)

    def says(self, words: str, n_before: int) -> float:
        """Wait for a line after the first `n_before`; returns when it came, monotonic."""
        self.until(
            lambda: any(words in line for line in self.daemon.lines[n_before:]), f"never said {words!r}"
        )
        return time.monotonic()


@contextmanager
def watched(
    config: Path, environment: Mapping[str, str], folder: Path, program: str = QUICK
) -> Iterator[Watched]:
    with running(config, {**environment, "STATE_DIRECTORY": str(folder)}, program=program) as daemon:
        yield Watched(daemon, folder)
