"""The daemon as users run it: a process of its own, with a configuration in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

DEADLINE_S = 90.0
"""generous: a model is loaded, on a machine that may be busy"""

SOUNDS = {
    "smoke_alarm": {"labels": ["Smoke detector, smoke alarm", "Fire alarm"], "on": 0.25, "merge_gap_s": 3.0},
    "siren": {"labels": ["Siren", "Civil defense siren"]},
    "doorbell": {"labels": ["Doorbell", "Ding-dong"]},
}


def configuration(folder: Path, source: Mapping[str, Any], **sections: Any) -> Path:
    """Write a configuration that listens to one source, `room`."""
    path = folder / "streamer.yaml"
    config = {"node": "test", "sources": {"room": dict(source)}, "sounds": SOUNDS, **sections}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


class Daemon:
    """`streamer run`, and what it logs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._said = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def until_says(self, words: str) -> str:
        """The first line of the log with these words in it."""

        def find() -> str | None:
            return next((line for line in self.lines if words in line), None)

        with self._said:
            self._said.wait_for(lambda: find() is not None or self.process.poll() is not None, DEADLINE_S)
        line = find()
        assert line is not None, f"never said {words!r}:\n" + "\n".join(self.lines)
        return line

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._said:
                self.lines.append(line.rstrip())
                self._said.notify_all()
        self.process.wait()
        with self._said:
            self._said.notify_all()


@contextmanager
def running(
    config: Path, environment: Mapping[str, str] | None = None, program: str = "streamer"
) -> Iterator[Daemon]:
    """Start the daemon; whatever happens, it does not outlive the test."""
    with tempfile.TemporaryDirectory() as state:
        process = subprocess.Popen(
            [sys.executable, "-m", program, "run", "--config", str(config)],
            env={**os.environ, "STATE_DIRECTORY": state, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield Daemon(process)
        finally:
            process.kill()
            process.wait()
