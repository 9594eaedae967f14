"""What one shard needs for many capture nodes: the whole daemon, with an engine that needs a known time.

    python -m tools.shard --nodes 500 --seconds 300

It is `streamer run` with the sounds of `configs/home.yaml` and its children; only the engine is another.
The nodes are connections of this process, each of which sends a hop a second, at a moment of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import yaml
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

import streamer.run.assemble
from streamer.config.schema import ModelSettings, example, load_config
from streamer.inference.process.child import ChildWorker
from streamer.inference.worker import Worker
from streamer.metrics import Metrics
from streamer.model.labels import AUDIOSET
from streamer.nodes.flac import encode
from streamer.nodes.hops import now
from streamer.nodes.wire import PATH, SUBPROTOCOL, UNDER_WAY, Ack, Codec, Hello, Hop, pack, parse, text_of
from streamer.ops.status import ask
from streamer.types import Scores, Window

RATE = 16_000
BATCH_S = 0.04
"""what the engine needs for a batch of any size"""
N_FRAMES = 64
N_NOISES = 8
"""different seconds of noise of a node"""
SETTLE_S = 32.0
"""for all nodes to connect, and for the gate and the search for alarms to know a quiet room"""
READY_S = 120.0
KEEP_S = 60.0
"""what a node keeps, `capture.keep_s`"""


class Timed:
    """An engine with the labels and frames of ast-tiny that hears nothing, in a known time."""

    labels: Sequence[str] = AUDIOSET
    window_s = 10.0
    kind = "timed"

    def __init__(self, settings: ModelSettings) -> None:
        self.device = settings.device

    def describe(self) -> str:
        return f"an engine that needs {1000 * BATCH_S:g} ms a batch"

    def fastest_hop(self, n_sources: int) -> float:
        return 0.1 * n_sources

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        time.sleep(BATCH_S)
        clip = np.full(len(AUDIOSET), 0.01, np.float32)
        frames = np.full((N_FRAMES, len(AUDIOSET)), 0.01, np.float32)
        return [
            Scores(w.source_id, w.index, w.start, w.end, clip, frames, w.samples.size / RATE / N_FRAMES)
            for w in windows
        ]


def configure(folder: Path, n: int, port: int) -> Path:
    """The sounds of `configs/home.yaml`, heard at `n` nodes."""
    home = load_config(example("home")).model_dump(mode="json", exclude_unset=True)
    config = {
        "node": "shard",
        "state_dir": str(folder),
        "sources": {f"room{i}": {"node": f"node{i}"} for i in range(n)},
        "sounds": home["sounds"],
        "windows": {"hop_s": 1.0, "ring_s": 20.0, "skip_quiet": False},
        "model": {"device": "cpu", "max_batch": 64},
        "gateway": {"port": port, "max_nodes": n},
        "mqtt": {"enabled": False},
        "store": {"scores": False},
    }
    path = folder / "shard.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


async def node(i: int, n: int, port: int, codec: Codec, seen: Seen) -> None:
    """One node, for ever: a second of noise at -60 dBFS, a hop a second, no more under way than may be.

    A hop that waits is kept for a minute, as `Outbox` does.
    """
    rng = np.random.default_rng(i)
    noises = rng.normal(0, 30, (N_NOISES, RATE)).astype("<i2")
    payloads = [encode(noise, RATE) if codec is Codec.FLAC else noise.tobytes() for noise in noises]
    uri = f"ws://127.0.0.1:{port}{PATH}node{i}"
    async with connect(uri, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, proxy=None) as link:
        await link.send(text_of(Hello(None, RATE, now(), time.time())))
        await link.recv()
        progress = Progress()
        reading = asyncio.create_task(_read(link, progress))
        due = now() + i / n
        for sequence in range(sys.maxsize):
            due += 1.0
            if (pause_s := due - now()) > 0:
                await asyncio.sleep(pause_s)
                seen.late.append(now() - due)
            while sequence - progress.taken >= UNDER_WAY and not reading.done():
                progress.changed.clear()
                await progress.changed.wait()
            if reading.done():
                break
            if now() - due > KEEP_S:
                seen.n_dropped += 1
                continue
            seen.held_s = max(seen.held_s, now() - due)
            payload = payloads[rng.integers(N_NOISES)]  # in no order: a source that repeats itself is a fault
            await link.send(pack(Hop(sequence, codec, RATE, due - 1.0, -60.0, sequence == 0, payload), now()))
        raise EOFError(reading.result())


@dataclass(slots=True)
class Seen:
    """By the nodes, together."""

    late: list[float] = field(default_factory=list)
    """seconds by which hops were due before their node ran"""
    held_s: float = 0.0
    """the longest that a hop waited for the gateway"""
    n_dropped: int = 0
    """hops for which a node had no room any more"""


@dataclass(slots=True)
class Progress:
    """What the gateway has acknowledged of a node."""

    taken: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


async def _read(link: ClientConnection, progress: Progress) -> str:
    """Until the link is lost: why."""
    try:
        while True:
            progress.taken = parse(Ack, await link.recv()).next
            progress.changed.set()
    except ConnectionClosed as error:
        return str(error)
    finally:
        progress.changed.set()


def processor_s(process: psutil.Process) -> dict[str, float]:
    """Processor time so far, by what a process is: the daemon, its decoder, its model."""
    times: dict[str, float] = {}
    for one in [process, *process.children(recursive=True)]:
        command = " ".join(one.cmdline())
        name = "decoder" if "decoding" in command else "engine" if "inference" in command else "daemon"
        used = one.cpu_times()
        times[name] = times.get(name, 0.0) + used.user + used.system
    return times


async def measure(n: int, seconds: float, codec: Codec, folder: Path, port: int) -> None:
    """Raises TimeoutError where the daemon does not get ready."""
    command = [sys.executable, "-m", "tools.shard", "--daemon", str(configure(folder, n, port))]
    socket = folder / "status.sock"
    daemon = await asyncio.to_thread(
        subprocess.Popen, command, stderr=(folder / "log").open("w"), stdout=subprocess.DEVNULL
    )
    seen = Seen()
    nodes: list[asyncio.Task[None]] = []
    try:
        async with asyncio.timeout(READY_S):
            while "gateway:" not in (folder / "log").read_text():
                if daemon.poll() is not None:
                    raise SystemExit((folder / "log").read_text())
                await asyncio.sleep(0.2)
        for i in range(n):
            nodes.append(asyncio.create_task(node(i, n, port, codec, seen)))
            await asyncio.sleep(0.01)
        await asyncio.sleep(SETTLE_S)
        process = psutil.Process(daemon.pid)
        before, used, began = await asyncio.to_thread(ask, [socket]), processor_s(process), time.monotonic()
        seen.late.clear()
        seen.held_s = seen.n_dropped = 0
        await asyncio.sleep(seconds)
        after, then, took_s = (
            await asyncio.to_thread(ask, [socket]),
            processor_s(process),
            time.monotonic() - began,
        )
        rss = process.memory_info().rss
        failed = [str(one.exception()) for one in nodes if one.done()]
    finally:
        for one in nodes:
            one.cancel()
        await asyncio.gather(*nodes, return_exceptions=True)
        daemon.terminate()
        await asyncio.to_thread(daemon.wait, 30)
    report(n, took_s, codec, before, after, {k: then[k] - used.get(k, 0.0) for k in then}, rss, seen, failed)


def report(
    n: int,
    took_s: float,
    codec: Codec,
    before: dict[str, Any],
    after: dict[str, Any],
    used: dict[str, float],
    rss: int,
    seen: Seen,
    failed: list[str],
) -> None:
    """Print what was measured, in the terms of `streamer status`."""

    def passed(key: str) -> float:
        return sum(
            float(one[key]) - float(before["sources"][name][key]) for name, one in after["sources"].items()
        )

    windows, skipped = passed("windows"), passed("windows_skipped")
    print(f"{n} nodes, {codec.name.lower()}, {took_s:.0f} s, load {os.getloadavg()[0]:.0f}")
    gaps_s, n_lost = passed("gap_s"), len(failed)
    print(f"windows scored {windows:.0f}, skipped {skipped:.0f}, gaps {gaps_s:.1f} s, links lost {n_lost}")
    print(f"hops held back by the gateway for up to {seen.held_s:.1f} s, lost {seen.n_dropped}")
    batches = after["inference"]["batches"] - before["inference"]["batches"]
    print(f"windows a batch {windows / max(batches, 1):.1f}")
    for name, seconds in sorted(used.items()):
        ms = 1000 * seconds / max(windows, 1)
        print(f"{name:8} {ms:.2f} ms CPU a window, {seconds / took_s:.2f} of a core")
    print(f"memory of the daemon {rss / 1e6:.0f} MB")
    late_ms = 1000 * float(np.quantile(seen.late, 0.99))
    print(f"hops sent late by {late_ms:.0f} ms (p99): beyond 500 nothing is measured")
    for reason in failed[:1]:
        print(f"a link was lost: {reason}")


def timed_worker(settings: ModelSettings, metrics: Metrics, **others: Any) -> Worker:
    """As `open_worker` without a fleet, with the engine that takes a known time."""
    own = {name: others[name] for name in ("n_sources", "heads")}
    return ChildWorker(settings, metrics, engine="tools.shard:Timed", **own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--codec", choices=["flac", "int16"], default="flac")
    parser.add_argument("--port", type=int, default=8799)
    parser.add_argument("--daemon", metavar="CONFIG", help="be the daemon")
    given = parser.parse_args()
    if given.daemon is not None:
        streamer.run.assemble.open_worker = timed_worker  # type: ignore[attr-defined]  # as the tests do
        sys.argv = ["streamer", "run", "--config", given.daemon]
        from streamer.cli import main as run  # noqa: PLC0415  # the daemon alone

        run()
        return
    with tempfile.TemporaryDirectory(prefix="streamer-shard-") as folder:
        codec = Codec.FLAC if given.codec == "flac" else Codec.INT16
        asyncio.run(measure(given.nodes, given.seconds, codec, Path(folder), given.port))


if __name__ == "__main__":
    main()
