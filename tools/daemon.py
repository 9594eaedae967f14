"""`streamer run` of a configuration as a process of its own, and what it says of itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from streamer.errors import StreamerError
from streamer.ops.status import ask, socket_path

START_S = 120.0
PAUSE_S = 0.2


class Daemon:
    """With the one source `room`; it does not outlive the block."""

    def __init__(self, config: Path, state: Path) -> None:
        self._config = config
        self._socket = socket_path(state)
        self._log = state.with_suffix(".log")

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamer", "run", "--plain", "--config", str(self._config)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    def counters(self) -> dict[str, int]:
        """Its process, and what came and became of windows. Raises RuntimeError where it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"it ended with {self._process.returncode}:\n{self._log.read_text()}")
        try:
            report = ask([self._socket])
        except StreamerError:  # not yet
            report = {}
        room = report.get("sources", {}).get("room", {})
        return {
            "pid": self._process.pid,
            "blocks": room.get("blocks", 0),
            "skipped": room.get("windows_skipped", 0),
            "scored": report.get("inference", {}).get("windows", 0),
        }

    async def until(self, condition: Callable[[dict[str, int]], bool]) -> dict[str, int]:
        """The first counters of which it holds. Raises TimeoutError with the log, or RuntimeError."""
        try:
            async with asyncio.timeout(START_S):
                while True:
                    now = await asyncio.to_thread(self.counters)
                    if condition(now):
                        return now
                    await asyncio.sleep(PAUSE_S)
        except TimeoutError:
            raise TimeoutError(f"{self.counters()}:\n{self._log.read_text()}") from None
