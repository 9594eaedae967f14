"""Faults at random times, from a seed, and what a subscriber with a persistent session heard meanwhile.

python -m tests.chaos --faults 1000 --rate 100
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.mosquitto import HOST, Cable, Mosquitto

DISK = "8m"
DRAIN_S = 120.0
PAUSES_S = (0.2, 2.0)
"""how long a fault lasts"""
MOST_IN_MEMORY = 0.02
"""of the events said: those that the disk had refused when the daemon was killed"""
LEAST_SAID = 0.2
"""of the events that the rate promises: a run in which little was said proves little"""


@dataclass
class Heard:
    """What arrived; copies that the broker itself sends to its subscriber again do not count."""

    order: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """by source: first copies of (id, phase)"""
    copies: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        event = json.loads(message.payload)
        key = (event["source"], event["id"], event["phase"])
        with self.lock:
            if message.dup and self.copies[key]:
                return
            self.copies[key] += 1
            if self.copies[key] == 1:
                self.order.setdefault(key[0], []).append(key[1:])


class Chaos:
    """A broker, a cable, a daemon on a small disk, and what is done to them."""

    def __init__(self, folder: Path, seed: int, rate: float) -> None:
        self._random = random.Random(seed)
        self._rate = rate
        self._mosquitto = Mosquitto(folder, persistent=True)
        self._cable = Cable(self._mosquitto.port)
        self._disk = folder / "disk"
        self._state = self._disk / "state"
        self._life = 0
        self._daemon: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]
        self._ready = asyncio.Event()
        self._killing, self._broker, self._filling = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        self.said: dict[tuple[str, str, str], bool] = {}
        """and whether it was on disk"""
        self.heard = Heard()
        self.faults: Counter[str] = Counter()
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "daemon killed": self._kill,
            "TCP reset": self._reset,
            "black hole": self._hole,
            "broker restarted": self._restart,
            "broker frozen": self._freeze,
            "disk full": self._fill,
        }

    async def run(self, n_faults: int, pause_s: float) -> bool:
        """Returns whether all that was said in the end was heard."""
        self._disk.mkdir()
        await _command("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(self._disk))
        self._mosquitto.start()
        await self._cable.mend()
        subscriber = self._subscribe()
        try:
            await self._start()
            async with asyncio.TaskGroup() as faults:
                for _ in range(n_faults):
                    await asyncio.sleep(self._random.uniform(0, 2 * pause_s))
                    kind = self._random.choice(list(self._kinds))
                    faults.create_task(self._do(kind))
            await self._ready.wait()
            self._daemon.send_signal(signal.SIGUSR1)
            drained = await self._drain()
            self._daemon.terminate()
            stopped = await self._daemon.wait() == 0
            await self._reading
            return drained and stopped
        finally:
            with suppress(ProcessLookupError):
                self._daemon.kill()
            subscriber.loop_stop()
            await self._cable.cut()
            self._mosquitto.stop()
            await _command("umount", "-l", str(self._disk))

    def _subscribe(self) -> paho.Client:
        ready = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="subscriber", clean_session=False)
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda client, *_: client.subscribe("streamer/+/+/event/#", qos=1)
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = self.heard.take
        client.connect(HOST, self._mosquitto.port)
        client.loop_start()
        assert ready.wait(30)
        return client

    async def _start(self) -> None:
        self._life += 1
        self._daemon = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.chaos.daemon", str(self._cable.port), str(self._state), str(self._life)),
            str(self._rate),
            stdout=asyncio.subprocess.PIPE,
            stderr=None if os.environ.get("VERBOSE") else asyncio.subprocess.DEVNULL,
        )
        self._ready.clear()
        self._reading = asyncio.create_task(self._read(self._daemon))

    async def _read(self, daemon: asyncio.subprocess.Process) -> None:
        assert daemon.stdout is not None
        async for line in daemon.stdout:
            if line == b"ready\n":
                self._ready.set()
                continue
            source, event_id, phase, where = line.decode().split()
            self.said[source, event_id, phase] = where == "disk"

    async def _do(self, kind: str) -> None:
        await self._kinds[kind]()
        self.faults[kind] += 1

    async def _last(self) -> None:
        await asyncio.sleep(self._random.uniform(*PAUSES_S))

    async def _kill(self) -> None:
        async with self._killing:
            await self._ready.wait()  # a daemon that says nothing yet has nothing to lose
            assert self._daemon.returncode is None, "the daemon has ended by itself"
            self._daemon.kill()
            await self._daemon.wait()
            await self._reading
            await self._start()

    async def _reset(self) -> None:
        self._cable.reset()

    async def _hole(self) -> None:
        self._cable.swallow()
        await self._last()
        self._cable.let_through()

    async def _restart(self) -> None:
        async with self._broker:
            await asyncio.to_thread(self._mosquitto.stop)
            await asyncio.sleep(self._random.uniform(0, 0.5))
            await asyncio.to_thread(self._mosquitto.start)

    async def _freeze(self) -> None:
        async with self._broker:
            self._mosquitto.freeze()
            await self._last()
            self._mosquitto.thaw()

    async def _fill(self) -> None:
        async with self._filling:
            filling = self._disk / "filling"
            with suppress(OSError), filling.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            await self._last()
            filling.unlink()

    async def _drain(self) -> bool:
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            with self.heard.lock:
                if all(self.heard.copies[one] for one in self.said):
                    return True
        return not self.lost()

    def lost(self) -> list[tuple[str, str, str]]:
        """What was said when it was on disk, and never heard."""
        return [one for one, on_disk in self.said.items() if on_disk and not self.heard.copies[one]]

    def disordered(self) -> int:
        """First copies that came after a later one of their source. A start goes before its end."""
        n = 0
        for keys in self.heard.order.values():
            ranks = [(event_id, phase == "end") for event_id, phase in keys]
            n += sum(after < before for before, after in pairwise(ranks))
        return n


async def _command(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(*arguments)
    assert await process.wait() == 0, arguments


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second")
    parser.add_argument("--pause", type=float, default=1.0, help="mean seconds between faults")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if os.geteuid() != 0 and (unshare := shutil.which("unshare")):
        # To fill a file system one must be able to mount it: as root, or in a namespace of one's own.
        again = [unshare, "-rm", sys.executable, "-m", "tests.chaos", *sys.argv[1:]]
        os.execv(unshare, again)  # noqa: S606  no shell is wanted
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        chaos = Chaos(Path(folder), arguments.seed, arguments.rate)
        in_order_to_the_end = asyncio.run(chaos.run(arguments.faults, arguments.pause))
    seconds = time.monotonic() - began
    faults = chaos.faults.total()
    heard = sum(1 for copies in chaos.heard.copies.values() if copies)
    lost, disordered = len(chaos.lost()), chaos.disordered()
    in_memory = sum(not on_disk and not chaos.heard.copies[one] for one, on_disk in chaos.said.items())
    duplicates = chaos.heard.copies.total() - heard
    rows = [
        *((kind, n) for kind, n in sorted(chaos.faults.items())),
        ("faults", faults),
        ("events said", len(chaos.said)),
        ("events heard", heard),
        ("lost", lost),
        ("out of order", disordered),
        ("duplicates", duplicates),
        ("died in memory", in_memory),
        ("seconds", round(seconds)),
    ]
    for name, n in rows:
        print(f"{name:<18}{n:>10}")
    print("died in memory: said while the disk was full, as the log then warns, before a kill")
    failures = [
        what
        for what, failed in (
            ("the daemon did not drain, or did not stop in order", not in_order_to_the_end),
            ("events were lost that the log had acknowledged", lost > 0),
            ("events came out of order", disordered > 0),
            ("more than one duplicate a fault", duplicates > faults),
            (f"more than {MOST_IN_MEMORY:.0%} died in memory", in_memory > MOST_IN_MEMORY * len(chaos.said)),
            (
                f"less was said than {LEAST_SAID:.0%} of {arguments.rate:g} events a second",
                len(chaos.said) < LEAST_SAID * arguments.rate * seconds,
            ),
        )
        if failed
    ]
    print(f"FAILED: {'; '.join(failures)}" if failures else "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
