"""The log of the daemon: written by a thread of its own, so that a reader that stalls stops nothing.

A journal that hangs or a pipe that nobody reads would block the event loop in the middle of a line.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from contextlib import suppress
from logging.handlers import QueueHandler

WAITING_MAX = 1000
"""lines that wait for the reader; further ones are dropped and counted"""
CLOSE_S = 0.5
"""seconds that a stop waits for the reader"""


class _DroppingHandler(QueueHandler):
    """Puts records into a bounded queue; never blocks."""

    def __init__(self, waiting: queue.Queue[logging.LogRecord | None]) -> None:
        super().__init__(waiting)
        self.dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class LogThread:
    """Writes the records of a handler to a file descriptor in a thread."""

    def __init__(self, descriptor: int, formatter: logging.Formatter) -> None:
        self._descriptor = descriptor
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(WAITING_MAX)
        self.handler = _DroppingHandler(self._waiting)
        self._formatter = formatter
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
        while (record := self._waiting.get()) is not None:
            self._write(record)
            lost, self._reported = self.dropped - self._reported, self.dropped
            if lost:
                line = f"{lost} lines of the log were lost: its reader was too slow"
                values = {"msg": line, "levelno": logging.WARNING, "levelname": "WARNING"}
                self._write(logging.makeLogRecord(values))

    def _write(self, record: logging.LogRecord) -> None:
        data = f"{self._formatter.format(record)}\n".encode(errors="backslashreplace")
        with suppress(OSError):  # the reader is gone
            while data:
                data = data[os.write(self._descriptor, data) :]
