"""The part of the daemon that must lose nothing, as a process: events at a set rate, all the way.

It prints that it is ready, and then what it says, a line an event: source, id, phase, and where it was kept
by then.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from streamer.config.schema import MqttSettings
from streamer.core.backoff import Backoff
from streamer.metrics import Metrics
from streamer.mqtt import connection
from streamer.mqtt.publisher import MqttSink
from streamer.store.database import Room
from streamer.store.directory import locked
from streamer.store.log import Log
from streamer.store.writer import Writer
from streamer.types import Phase, Report, SoundEvent

HOST = "127.0.0.1"
SOURCES = ("hall", "kitchen")
TICK_S = 0.02
ROOM = Room(reserve=2 << 20, log=1 << 20)
"""of a disk of 8 MiB"""


class Ledger:
    """Writes down what is said."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def put(self, report: Report) -> None:
        if isinstance(report, SoundEvent):
            where = "disk" if self._metrics.outbox.on_disk else "memory"
            os.write(1, f"{report.source_id} {report.id} {report.phase} {where}\n".encode())

    async def run(self) -> None:
        await asyncio.Event().wait()


def event(source: str, event_id: str, phase: Phase) -> SoundEvent:
    now = time.time()
    offset = now if phase == "end" else None
    return SoundEvent(
        event_id, source, "dog_bark", phase, now, offset, 0.9, 0.8, {"Dog": 0.9}, -30.0, now, now
    )


async def generate(writer: Writer, life: int, rate: float, enough: asyncio.Event) -> None:
    """Starts and ends in turn; ids that grow, also from life to life."""
    began, n = time.monotonic(), 0
    while not enough.is_set():
        while n < (time.monotonic() - began) * rate / len(SOURCES):
            for source in SOURCES:
                writer.put(event(source, f"{life:06}-{n // 2:06}", "end" if n % 2 else "start"))
            n += 1
        await asyncio.sleep(TICK_S)


async def main(port: int, directory: Path, life: int, rate: float) -> None:
    """Until SIGTERM; SIGUSR1 makes no more events."""
    connection.ANSWER_TIMEOUT_S = 1.0
    metrics = Metrics()
    with locked(directory) as state:
        event_log = Log(state, metrics, consumers=["mqtt"], room=ROOM)
        writer = Writer(event_log, metrics)
        events = writer.consumer("mqtt")
        settings = MqttSettings(host=HOST, port=port, keepalive_s=5)
        backoff = Backoff(first_s=0.02, longest_s=0.2, jitter=1.0)
        sink = MqttSink(settings, "chaos", SOURCES, ["dog_bark"], events, metrics, backoff=backoff)
        writer.sinks += [Ledger(metrics), sink]
        running = asyncio.create_task(writer.run())
        loop, enough = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, running.cancel)
        loop.add_signal_handler(signal.SIGUSR1, enough.set)
        os.write(1, b"ready\n")
        generating = asyncio.create_task(generate(writer, life, rate, enough))
        await asyncio.wait((running,))
        generating.cancel()
        if not running.cancelled() and (error := running.exception()):
            raise error


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
