"""The bound of a stop: a process that does not end in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

pytestmark = pytest.mark.slow

HANGS = """
import asyncio, time
from streamer.cli import listening
from streamer.run import assemble

async def serve(*_, **__):
    print("ready", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        time.sleep(60)

listening.STOP_S, assemble.serve = 0.2, serve
listening._run(listening.load_config(listening.QUICKSTART), plain=True)
"""


def test_what_hangs_is_ended_by_force() -> None:
    """Whatever does not end, the process does, and says where it hung."""
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 70
    assert "ended by force" in said
    assert "in serve" in said


def test_what_hangs_is_ended_although_nobody_reads_what_it_says() -> None:
    """A full pipe behind standard error holds nothing up."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    process = subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=writer)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 70
    for end in (reader, writer):
        os.close(end)
