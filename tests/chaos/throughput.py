"""How fast the event log takes events and a real Mosquitto gets them, beside one message in flight at a time.

python -m tests.chaos.throughput --events 100000
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from streamer.config.schema import MqttSettings
from streamer.metrics import Metrics
from streamer.mqtt import publisher
from streamer.mqtt.publisher import MqttSink
from streamer.store.log import BATCH, Log, Recorded
from streamer.store.writer import Writer
from tests.chaos.daemon import HOST, SOURCES, event
from tests.mosquitto import Mosquitto


class Meter:
    """Events, wall time and CPU time of this process."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def read(self, n: int) -> tuple[float, float]:
        """Events a second, and milliseconds of CPU an event."""
        wall_s, cpu_s = time.monotonic() - self._wall, time.process_time() - self._cpu
        return n / wall_s, 1000 * cpu_s / n


def fill(folder: Path, n: int) -> tuple[float, float]:
    """Append so many in groups, while nobody reads."""
    event_log = Log(folder, Metrics(), consumers=["mqtt"])
    event_log.append(())
    meter = Meter()
    for start in range(0, n, BATCH):
        event_log.append(
            [
                Recorded(event(SOURCES[i % 2], f"{i // 4:012}", "end" if i % 4 > 1 else "start"))
                for i in range(start, min(n, start + BATCH))
            ]
        )
    result = meter.read(n)
    event_log.close()
    return result


async def drain(folder: Path, port: int, widest: int) -> tuple[float, float]:
    """Deliver all that waits; returns events a second and milliseconds of CPU an event."""
    publisher.WIDEST = widest
    metrics = Metrics()
    writer = Writer(Log(folder, metrics, consumers=["mqtt"]), metrics)
    sink = MqttSink(
        MqttSettings(host=HOST, port=port), "bench", SOURCES, ["dog_bark"], writer.consumer("mqtt"), metrics
    )
    writer.sinks.append(sink)
    running = asyncio.create_task(writer.run())
    while not metrics.outbox.depth:  # noqa: ASYNC110  nobody sets an event
        await asyncio.sleep(0.01)
    n, meter = metrics.outbox.depth, Meter()
    while metrics.outbox.depth:  # noqa: ASYNC110  nobody sets an event
        await asyncio.sleep(0.05)
    result = meter.read(n)
    running.cancel()
    await asyncio.wait((running,))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=100_000, help="that wait")
    parser.add_argument("--few", type=int, default=5_000, help="that wait where one is in flight at a time")
    arguments = parser.parse_args()
    widest = publisher.WIDEST
    with tempfile.TemporaryDirectory(prefix="throughput-", dir=".") as name:
        folder = Path(name)
        for part in ("broker", "few", "many"):
            (folder / part).mkdir()
        broker = Mosquitto(folder / "broker")
        broker.start()
        try:
            fill(folder / "few", arguments.few)
            one_s, one_ms = asyncio.run(drain(folder / "few", broker.port, 1))
            append_s, append_ms = fill(folder / "many", arguments.events)
            many_s, many_ms = asyncio.run(drain(folder / "many", broker.port, widest))
        finally:
            broker.stop()
    print(f"{'':<44}{'events/s':>10}{'ratio':>8}{'CPU, ms an event':>18}")
    print(f"{'appended in groups of ' + str(BATCH):<44}{append_s:>10.0f}{'':>8}{append_ms:>18.2f}")
    print(f"{'delivered, one in flight':<44}{one_s:>10.0f}{1.0:>8.2f}{one_ms:>18.2f}")
    name = f"delivered, up to {widest} in flight"
    print(f"{name:<44}{many_s:>10.0f}{many_s / one_s:>8.2f}{many_ms:>18.2f}")
    print(f"{arguments.events} that waited were delivered in {arguments.events / many_s:.0f} s")


if __name__ == "__main__":
    main()
