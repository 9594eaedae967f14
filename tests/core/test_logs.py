"""Lines of the log are written by a thread; what finds no room is counted."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import time

from streamer.core import logs
from streamer.core.logs import LineFormatter, LogThread


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, __file__, 1, text, (), None)


def read(descriptor: int) -> str:
    """What is in a pipe now."""
    os.set_blocking(descriptor, False)
    found = b""
    try:
        while data := os.read(descriptor, 65536):
            found += data
    except BlockingIOError:
        pass
    return found.decode()


def reported_lost(text: str) -> int:
    """The sum of the lines that the log says were lost."""
    return sum(int(number) for number in re.findall(r"(\d+) lines of the log were lost", text))


def test_a_stalled_reader_blocks_nobody() -> None:
    """More lines than have room are dropped, and their number is logged when the reader goes on."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    thread = LogThread(writer, logging.Formatter("%(message)s"))
    n = 4 * logs.WAITING_MAX
    for number in range(n):
        thread.handler.handle(record(f"line {number}"))
    assert thread.dropped > 0
    text, deadline = "", time.monotonic() + 30
    while text.count("line ") < n - thread.dropped or reported_lost(text) < thread.dropped:
        assert time.monotonic() < deadline
        text += read(reader)
        time.sleep(0.01)
    assert text.startswith("line 0\n")
    assert reported_lost(text) == thread.dropped
    thread.close()


def test_what_was_logged_last_is_written() -> None:
    """A stop writes what waits."""
    reader, writer = os.pipe()
    thread = LogThread(writer, logging.Formatter("%(levelname)s %(message)s"))
    thread.handler.handle(record("goodbye"))
    thread.close()
    assert read(reader) == "INFO goodbye\n"


def test_a_message_is_one_line_without_secrets() -> None:
    """Line ends and commands to a terminal are escaped; a stack keeps its lines, and hides passwords too."""
    try:
        int("rtsp://admin:S3cret@cam/")
    except ValueError as error:
        one = record("room: \x1b[31mred\nforged line, http://cam/?token=S3cret")
        one.exc_info = (type(error), error, error.__traceback__)
    first, *stack = LineFormatter().format(one).splitlines()
    assert first.endswith("room: \\x1b[31mred\\nforged line, http://cam")
    assert stack[0] == "Traceback (most recent call last):"
    assert stack[-1] == "ValueError: invalid literal for int() with base 10: 'rtsp://cam'"
    assert not any("S3cret" in line for line in stack)
