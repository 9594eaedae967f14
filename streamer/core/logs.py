"""The log and the terminal of the daemon: written by a thread, so that a reader that stalls stops nothing.

A journal that hangs, a pipe that nobody reads or Ctrl-S would block the event loop in the middle of a line.
"""

from __future__ import annotations

import io
import logging
import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from streamer.core.printable import printable, without_secrets

WAITING_MAX = 1000
"""lines that wait for the reader; further ones are dropped and counted"""
CLOSE_S = 0.5
"""seconds that a stop waits for the reader"""
PIECES_MAX = 50
"""pieces of text that wait for a terminal: a view that comes late is of no use"""


class LineFormatter(logging.Formatter):
    """One line a message, whatever is in it, and no secret of an address, also not in a stack."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class _Writing:
    """A thread that writes text to a descriptor; what finds no room in its queue is dropped and counted."""

    def __init__(self, descriptor: int, waiting_max: int, name: str) -> None:
        self._descriptor = descriptor
        self._waiting: queue.Queue[str | None] = queue.Queue(waiting_max)
        self.dropped = 0
        # A daemon thread, and no buffered stream or handler: at its end the interpreter waits for their
        # locks, and a write that never returns would hold them.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, text: str) -> None:
        """Never blocks."""
        try:
            self._waiting.put_nowait(text)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, for at most twice CLOSE_S."""
        try:
            self._waiting.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        self._thread.join(CLOSE_S)

    def _lost(self) -> str:
        """What is to be written after text was dropped."""
        return ""

    def _run(self) -> None:
        while (text := self._waiting.get()) is not None:
            data = (text + self._lost()).encode(errors="backslashreplace")
            with suppress(OSError):  # the reader is gone
                while data:
                    data = data[os.write(self._descriptor, data) :]


class _Handler(logging.Handler):
    """Hands lines to a thread."""

    def __init__(self, writing: _Writing) -> None:
        super().__init__()
        self._writing = writing

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writing.put(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)


class LogThread(_Writing):
    """Writes the lines of a handler to a file descriptor in a thread. `dropped` lines found no room."""

    def __init__(self, descriptor: int, formatter: logging.Formatter) -> None:
        self._reported = 0
        self.handler = _Handler(self)
        self.handler.setFormatter(formatter)
        super().__init__(descriptor, WAITING_MAX, "log")

    def _lost(self) -> str:
        lost, self._reported = self.dropped - self._reported, self.dropped
        if not lost:
            return ""
        text = f"{lost} lines of the log were lost: its reader was too slow"
        values = {"msg": text, "levelno": logging.WARNING, "levelname": "WARNING"}
        return f"{self.handler.format(logging.makeLogRecord(values))}\n"


class _ThreadedStream(io.TextIOBase):
    """A text stream whose writes never block: each is written whole by a thread, or dropped."""

    def __init__(self, stream: io.TextIOBase) -> None:
        self._stream = stream
        self._writing = _Writing(stream.fileno(), PIECES_MAX, "terminal")

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a variable there
        return "utf-8"

    def write(self, text: str) -> int:
        self._writing.put(text)
        return len(text)

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def writable(self) -> bool:
        return True

    def give_up(self) -> None:
        """Write what waits, for a moment."""
        self._writing.close()


@contextmanager
def terminal_in_threads() -> Iterator[None]:
    """In the block, nothing that is printed can block: also not where someone pressed Ctrl-S."""
    before = sys.stdout, sys.stderr
    streams = [_ThreadedStream(stream) for stream in before]  # type: ignore[arg-type]  # text streams both
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in streams:
            stream.give_up()
