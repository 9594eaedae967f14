"""The log of the daemon: written by a thread of its own, so that a reader that stalls stops nothing.

A journal that hangs or a pipe that nobody reads would block the event loop in the middle of a line.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from contextlib import suppress

from streamer.core.printable import printable, without_secrets

WAITING_MAX = 1000
"""lines that wait for the reader; further ones are dropped and counted"""
CLOSE_S = 0.5
"""seconds that a stop waits for the reader"""


class LineFormatter(logging.Formatter):
    """One line a message, whatever is in it, and no secret of an address, also not in a stack."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class _DroppingHandler(logging.Handler):
    """Puts lines into a bounded queue; never blocks."""

    def __init__(self, waiting: queue.Queue[str | None]) -> None:
        super().__init__()
        self._waiting = waiting
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.put_nowait(self.format(record))
        except queue.Full:
            self.dropped += 1
        except Exception:
            self.handleError(record)


class LogThread:
    """Writes the lines of a handler to a file descriptor in a thread."""

    def __init__(self, descriptor: int, formatter: logging.Formatter) -> None:
        self._descriptor = descriptor
        self._waiting: queue.Queue[str | None] = queue.Queue(WAITING_MAX)
        self.handler = _DroppingHandler(self._waiting)
        self.handler.setFormatter(formatter)
        self._reported = 0
        # A daemon thread, and no buffered stream or handler: at its end the interpreter waits for their
        # locks, and a write that never returns would hold them.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that found no room."""
        return self.handler.dropped

    def close(self) -> None:
        """Write what waits, for at most CLOSE_S."""
        try:
            self._waiting.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (line := self._waiting.get()) is not None:
            self._write(line)
            lost, self._reported = self.dropped - self._reported, self.dropped
            if lost:
                text = f"{lost} lines of the log were lost: its reader was too slow"
                values = {"msg": text, "levelno": logging.WARNING, "levelname": "WARNING"}
                self._write(self.handler.format(logging.makeLogRecord(values)))

    def _write(self, line: str) -> None:
        data = f"{line}\n".encode(errors="backslashreplace")
        with suppress(OSError):  # the reader is gone
            while data:
                data = data[os.write(self._descriptor, data) :]
