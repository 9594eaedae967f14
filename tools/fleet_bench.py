"""What a Ray cluster costs and survives, on this machine, with an engine that needs a known time.

    python -m tools.fleet_bench [overhead throughput scaling replica raylet head daemon]

Each case starts what it needs; the load average is printed with it, since wall-clock figures depend on it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]

from streamer.config.schema import FleetSettings, ModelSettings
from streamer.errors import InferenceError
from streamer.inference.process.child import ChildWorker
from streamer.inference.process.fleet import FleetWorker
from streamer.inference.worker import Worker
from streamer.metrics import Metrics
from streamer.types import Scores, Window
from tools.cluster import Cluster, cluster
from tools.daemon import Daemon

RATE = 16_000
WINDOW_S = 10.0
ENGINE = "tools.fleet_bench:Timed"
BATCH = 16
N_LABELS = 90
N_FRAMES = 64
IDLE_S = 5.0
"""in which the processor time of the idle cluster is measured"""
LIMIT_S = 180.0
NOISE = np.random.default_rng(0).uniform(-0.1, 0.1, round(RATE * WINDOW_S)).astype(np.float32)


class Timed:
    """An engine whose `path` is the milliseconds that it needs for a batch of any size."""

    labels: Sequence[str] = tuple(f"label {i}" for i in range(N_LABELS))
    window_s = WINDOW_S
    sample_rate = RATE
    kind = "timed"

    def __init__(self, settings: ModelSettings) -> None:
        self.device = "cpu"
        self._batch_s = float(settings.path) / 1000

    def describe(self) -> str:
        return f"{1000 * self._batch_s:g} ms a batch"

    def fastest_hop(self, _n_sources: int) -> float:
        return 1.0

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        time.sleep(self._batch_s)
        return [
            Scores(
                *(window.source_id, window.index, window.start, window.end),
                clip=np.full(N_LABELS, window.samples[0], np.float32),
                frames=np.zeros((N_FRAMES, N_LABELS), np.float32),
                frame_s=WINDOW_S / N_FRAMES,
            )
            for window in windows
        ]


@dataclass
class Tally:
    """What came back of the windows that were given."""

    scored: int = 0
    failed: int = 0
    wrong: int = 0
    """scores of another window"""
    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        asked = self.scored + self.failed
        return f"asked {asked}, scored {self.scored}, failed {self.failed}, of another window {self.wrong}"

    def quantile_ms(self, share: float) -> float:
        return 1000 * float(np.quantile(self.seconds, share))


async def ask(worker: Worker, tally: Tally, index: int) -> None:
    mark = (index % 64) / 64
    window = Window("bench", index, NOISE.copy(), RATE, float(index), index + WINDOW_S)
    window.samples[0] = mark
    began = time.monotonic()
    try:
        scores = await worker.score(window)
    except InferenceError:
        tally.failed += 1
    else:
        tally.scored += 1
        tally.wrong += scores.index != index or abs(float(scores.clip[0]) - mark) > 1e-3
    tally.seconds.append(time.monotonic() - began)


async def closed_loop(worker: Worker, n_windows: int, n_in_flight: int) -> tuple[Tally, float]:
    """So many windows, so many at a time; and the seconds that they took."""
    tally, indices = Tally(), iter(range(n_windows))

    async def source() -> None:
        for index in indices:
            await ask(worker, tally, index)

    began = time.monotonic()
    await asyncio.gather(*(source() for _ in range(n_in_flight)))
    return tally, time.monotonic() - began


async def fleet(ray: Cluster, batch_ms: float, **fields: object) -> FleetWorker:
    return await started(ray.settings(**{"batch": BATCH, **fields}), batch_ms)


async def started(settings: FleetSettings, batch_ms: float) -> FleetWorker:
    """Warmed up."""
    worker = FleetWorker(settings, ModelSettings(path=f"{batch_ms:g}"), Metrics(), engine=ENGINE)
    await worker.start()
    await closed_loop(worker, 4 * BATCH, BATCH)
    return worker


def cpu_s(ray: Cluster) -> float:
    """Processor time of this process, its children and the cluster so far."""
    own = psutil.Process()
    total = 0.0
    for process in {own, *own.children(recursive=True), *ray.processes()}:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


async def overhead(ray: Cluster) -> None:
    """One window in flight, an engine of 3 ms: the way there and back, beside a child process here."""
    worker = await fleet(ray, 3, batch=1)
    local = ChildWorker(ModelSettings(path="3"), Metrics(), engine=ENGINE)
    await local.start()
    there, _ = await closed_loop(worker, 300, 1)
    here, _ = await closed_loop(local, 300, 1)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        print(f"  {name}: {there.quantile_ms(share):.1f} ms, child here {here.quantile_ms(share):.1f} ms")
    await worker.close()
    await local.close()


async def throughput(ray: Cluster) -> None:
    """1 600 windows of 10 s, 16 a call, an engine that needs no time: CPU of all processes, less the idle."""
    worker = await fleet(ray, 0)
    before = cpu_s(ray)
    await asyncio.sleep(IDLE_S)
    idle = (cpu_s(ray) - before) / IDLE_S
    before = cpu_s(ray)
    tally, seconds = await closed_loop(worker, 1600, 3 * BATCH)
    used = cpu_s(ray) - before - idle * seconds
    print(
        f"  {tally}: {1600 / seconds:.0f} windows/s, {1000 * used / 1600:.2f} ms CPU a window,"
        f" idle {idle:.2f} of a core"
    )
    await worker.close()


async def scaling(ray: Cluster) -> None:
    """Windows a second by one replica and by two; 100 ms a batch of 16, so 160 a second each at most."""
    rates = []
    for n, batch_ms in ((1, 100.0), (2, 100.001)):  # two models, or the second would find the first's replica
        worker = await fleet(ray, batch_ms, replicas={"min": n, "max": n}, flights=4)
        _, seconds = await closed_loop(worker, 800 * n, 4 * BATCH)
        rates.append(800 * n / seconds)
        await worker.close()
    print(f"  {rates[0]:.0f} and {rates[1]:.0f} windows/s: {rates[1] / rates[0] / 2:.2f} of linear")


async def replica(ray: Cluster) -> None:
    """200 windows/s for 20 s by two replicas, one of which is killed at 6 s."""
    worker = await fleet(ray, 20, replicas={"min": 2, "max": 2}, flights=4)
    n_before, tally = len(ray.replicas()), Tally()

    async def killed() -> float:
        await asyncio.sleep(6)
        victim = ray.replicas()[-1]
        victim.kill()

        def is_whole() -> bool:
            found = ray.replicas()  # for a moment the dead one is among them
            return len(found) == n_before and victim.pid not in {one.pid for one in found}

        return await until(is_whole)

    killing = asyncio.create_task(killed())
    began, asked = time.monotonic(), []
    for index in range(4000):
        await asyncio.sleep(max(0.0, began + index / 200 - time.monotonic()))
        asked.append(asyncio.create_task(ask(worker, tally, index)))
    await asyncio.gather(*asked)
    back_s = await killing
    print(f"  {tally}, silent {4000 - len(tally.seconds)}; longest {max(tally.seconds):.2f} s")
    print(
        f"  p50 {tally.quantile_ms(0.5):.0f} ms, p99 {tally.quantile_ms(0.99):.0f} ms;"
        f" two replicas again after {back_s:.1f} s"
    )
    await worker.close()


async def until(condition: Callable[[], bool]) -> float:
    """The seconds until it holds."""
    began = time.monotonic()
    async with asyncio.timeout(LIMIT_S):
        while True:
            if condition():
                return time.monotonic() - began
            await asyncio.sleep(0.1)


async def death(ray: Cluster, kill: Callable[[], None]) -> None:
    """A part of Ray is killed under one window each 0.5 s; the cluster starts again 10 s later."""
    worker = await fleet(ray, 20, deadline_s=2)
    tally, began = Tally(), time.monotonic()
    kill()
    restarted: asyncio.Task[None] | None = None
    failed_at, back_s = float("nan"), float("nan")
    while time.monotonic() - began < LIMIT_S:
        failed = tally.failed
        await ask(worker, tally, len(tally.seconds))
        now_s = time.monotonic() - began
        if tally.failed > failed and np.isnan(failed_at):
            failed_at = now_s
        if restarted is None and now_s > 10:
            ray.kill()
            restarted = asyncio.create_task(asyncio.to_thread(ray.start))
        if restarted is not None and restarted.done() and tally.failed == failed and tally.failed:
            back_s = now_s
            break
        await asyncio.sleep(0.5)
    print(f"  {tally}; first failure {failed_at:.1f} s and scores again {back_s:.1f} s after the kill")
    print(f"  drivers that ended: {worker._metrics.worker_restarts}")
    await worker.close()


async def raylet(ray: Cluster) -> None:
    """SIGKILL of the raylet."""
    await death(ray, ray.raylet().kill)


async def head(ray: Cluster) -> None:
    """SIGKILL of the head's GCS."""
    await death(ray, ray.head().kill)


async def daemon(ray: Cluster) -> None:
    """`streamer run` with ast-tiny: SIGKILL of the head; the cluster starts again after the first skips."""
    with tempfile.TemporaryDirectory() as folder:
        file, state = Path(folder, "fleet.yaml"), Path(folder, "state")
        config = {
            "state_dir": str(state),
            "sources": {"room": {"demo": True, "loop": True}},
            "sounds": {"alarm": {"labels": ["Smoke detector, smoke alarm"]}},
            "windows": {"hop_s": 0.5, "skip_quiet": False},
            "mqtt": {"enabled": False},
            "web": {"enabled": False},
            "fleet": ray.settings(deadline_s=2).model_dump(mode="json", exclude_none=True),
        }
        await asyncio.to_thread(file.write_text, json.dumps(config))
        with Daemon(file, state) as one:
            before = await one.until(lambda now: now["scored"] > 5)
            began = time.monotonic()
            ray.head().kill()
            down = await one.until(lambda now: now["skipped"] >= before["skipped"] + 3)
            skips_s = time.monotonic() - began
            ray.kill()
            await asyncio.to_thread(ray.start)
            ray_s = time.monotonic() - began
            again = await one.until(lambda now: now["scored"] > down["scored"])
            back_s = time.monotonic() - began
    print(
        f"  pid {before['pid']}, then {again['pid']}; blocks {before['blocks']}, {down['blocks']},"
        f" {again['blocks']}; skipped and counted {again['skipped'] - before['skipped']}"
    )
    print(
        f"  three skips {skips_s:.1f} s, Ray there again {ray_s:.1f} s,"
        f" scores again {back_s:.1f} s after the kill"
    )


CASES: Sequence[Callable[[Cluster], Coroutine[None, None, None]]] = (
    overhead,
    throughput,
    scaling,
    replica,
    raylet,
    head,
    daemon,
)


def _name(case: object) -> str:
    return str(getattr(case, "__name__", ""))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE")
    known = [_name(case) for case in CASES]
    parser.add_argument("--tls", action="store_true", help="with Ray's TLS, certificates on both sides")
    given = parser.parse_args()
    chosen = given.cases or known
    if not set(chosen) <= set(known):
        parser.error(f"cases are {' '.join(known)}")
    with cluster(tls=given.tls) as ray:
        for case in CASES:
            if _name(case) in chosen:
                print(f"{_name(case)}, load {os.getloadavg()[0]:.0f}: {case.__doc__}", flush=True)
                asyncio.run(case(ray))


if __name__ == "__main__":
    main()
