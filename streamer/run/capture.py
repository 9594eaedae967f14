"""The capture node: a source of this machine, sent to a gateway. Started by `streamer capture`.

`python -m streamer.run.capture DESCRIPTOR` is a process of its own: a small machine loads nothing that is not
needed here, no model, no FFmpeg, no command line and no schema.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any

from streamer.capture.command import Command
from streamer.capture.microphone import Microphone
from streamer.core.backoff import Backoff
from streamer.core.logs import LineFormatter, LogThread
from streamer.core.rate_limit import RateLimit
from streamer.core.tasks import first_of, running
from streamer.errors import InputError, SourceError, StreamerError, StuckError
from streamer.nodes.hops import Hops, now
from streamer.nodes.link import Link
from streamer.nodes.orders import STOP_SIGNALS, Orders, read_orders
from streamer.nodes.outbox import Outbox
from streamer.nodes.wire import Codec
from streamer.ops.systemd import Notifier
from streamer.types import AudioBlock, Source

CODECS = {"flac": Codec.FLAC, "int16": Codec.INT16}
CHECK_S = 5.0
"""seconds between two signs of life for systemd, unless it asks for more"""
FAREWELL_S = 30.0
"""how long the end of a recording waits for the gateway to take the rest"""
MICROPHONE = Backoff(first_s=0.3, longest_s=1.0, jitter=1 / 3)
OTHER = Backoff(first_s=1.2, longest_s=72.0, jitter=1 / 3)

log = logging.getLogger(__name__)


async def capture(orders: Orders) -> None:
    """Send a source's audio until cancelled, or until a recording is over.

    Raises ConfigError, InputError where a file is none, and StuckError.
    """
    outbox = Outbox(
        orders.sample_rate,
        CODECS[orders.codec],
        gate_dbfs=orders.gate_dbfs,
        keep_s=orders.keep_s,
    )
    link = Link(orders, outbox)
    notifier = Notifier()
    async with (
        running(link.run(), "link") as linking,
        running(_be_alive(notifier, link), "alive") as living,
        running(_listen(orders, outbox, link), "source") as listening,
    ):
        await first_of(linking, living, listening)
        notifier.notify(STOPPING=1)
        for task in (listening, linking, living):
            if task.done():
                task.result()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await outbox.until_empty()


async def _listen(orders: Orders, outbox: Outbox, link: Link) -> None:
    """Open the source and again whenever it is lost; returns when a recording is over."""
    source = _source(orders.source)
    backoff = MICROPHONE if isinstance(source, Microphone) else OTHER
    failures, logged = 0, RateLimit()
    while True:
        began = time.monotonic()
        try:
            await source.open()
            log.info("listening at %d Hz, sending at %d Hz", source.sample_rate, orders.sample_rate)
            hops = Hops(source.sample_rate, orders.sample_rate)
            await _run(source, hops, outbox)
        except (StuckError, InputError):
            raise
        except SourceError as error:
            link.report(str(error))
            if logged.due(str(error)):
                log.warning("%s; tried again for ever", error)
        else:
            for cut in hops.end():
                outbox.put(cut)
            return
        finally:
            await source.close()
        failures = 1 if time.monotonic() - began > backoff.longest_s else failures + 1
        await asyncio.sleep(backoff.pause_s(failures))


async def _run(source: Source, hops: Hops, outbox: Outbox) -> None:
    loop = asyncio.get_running_loop()

    def write(block: AudioBlock) -> None:
        """In the source's thread."""
        captured = now() - max(0.0, time.time() - block.captured_at)
        loop.call_soon_threadsafe(add, block, captured)

    def add(block: AudioBlock, captured: float) -> None:
        for cut in hops.add(block, captured):
            outbox.put(cut)

    await source.run(write)
    await asyncio.sleep(0)  # the last blocks are on their way


async def _be_alive(notifier: Notifier, link: Link) -> None:
    notifier.notify(READY=1)
    pause_s = CHECK_S if notifier.watchdog_s is None else min(CHECK_S, notifier.watchdog_s / 4)
    while True:
        notifier.notify(WATCHDOG=1, STATUS="connected" if link.is_up else "the gateway cannot be reached")
        await asyncio.sleep(pause_s)


def _source(settings: dict[str, Any]) -> Source:
    """The source that a section `source` describes, not opened yet."""
    channel = settings["channel"]
    if "microphone" in settings:
        return Microphone(settings["microphone"], channel=channel)
    if "command" in settings:
        keys = ("command", "sample_rate", "channels", "sample_format")
        return Command(channel=channel, **{key: settings[key] for key in keys})
    from streamer.capture.stream import Stream  # noqa: PLC0415  # FFmpeg is large, and others need none

    return Stream(settings["stream"], channel=channel, loop=settings["loop"])


def main(descriptor: int) -> int:
    """Run until SIGINT or SIGTERM. Returns the exit code."""
    faulthandler.enable()  # systemd's watchdog ends a process that hangs by SIGABRT: say where it hung
    orders = read_orders(descriptor)
    thread = LogThread(os.dup(2), LineFormatter())  # sounddevice turns descriptor 2 off for moments
    logging.basicConfig(level=logging.INFO, handlers=[thread.handler])
    try:
        asyncio.run(_until_stopped(orders))
    except StreamerError as error:
        log.error("%s", error)  # noqa: TRY400  # for people
        return error.exit_code
    finally:
        thread.close()
    return 0


async def _until_stopped(orders: Orders) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # one may have come while this was loaded
    async with running(capture(orders), "capture") as work, running(stopped.wait(), "stop") as stop:
        await first_of(work, stop)
        if work.done():
            work.result()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
