"""make fleet-sim: what the pipeline costs; a simulation beside a small real case, then at larger sizes.

The real case is the program's own worker: a child process, shared memory and batches, with an engine that
needs a known time. Sources hand it a window at each hop, as a listener does. What the way to the child and
back costs is measured first, with one source; the simulation gets it as a part of a batch's time.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamer.config.schema import ModelSettings, load_config
from streamer.data import synthesis
from streamer.detection.pipeline import Pipeline
from streamer.fleet.simulation import Cell, Outage, Outcome, simulate
from streamer.inference.process.child import ChildWorker
from streamer.metrics import Metrics
from streamer.model.labels import AUDIOSET
from streamer.types import Scores, Window

BATCH_S, WINDOW_S = 0.08, 0.01
"""what the engine of the real case needs for a batch, and for each window in it"""
AGREES = 0.2
"""how far the simulation may be from what was measured"""
SECONDS = 20.0
LATENESS_S = 0.05
"""a timer of this machine that is later than that makes what was measured meaningless"""


class Timed:
    """An engine that needs a known time."""

    labels: Sequence[str] = ("Speech",)
    window_s = 1.0

    def __init__(self, settings: ModelSettings) -> None:
        self.device = settings.device

    def describe(self) -> str:
        return "an engine that waits"

    def fastest_hop(self, n_sources: int) -> float:
        return 0.1 * n_sources

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        time.sleep(BATCH_S + WINDOW_S * len(windows))
        clip = np.zeros(1, np.float32)
        return [Scores(w.source_id, w.index, w.start, w.end, clip) for w in windows]


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    cell: Cell


CASES = [
    Case("few sources, small batches", Cell(4, 1.0, 1, 16, 0.02, BATCH_S, WINDOW_S)),
    Case("an engine that is half busy", Cell(24, 1.0, 1, 16, 0.02, BATCH_S, WINDOW_S)),
    Case("all windows at the same moment", Cell(24, 1.0, 1, 16, 0.02, BATCH_S, WINDOW_S, in_phase=True)),
    Case("more than it can do: hops are skipped", Cell(100, 1.0, 1, 16, 0.02, BATCH_S, WINDOW_S)),
]


async def measure(cell: Cell, seconds: float) -> tuple[Outcome, float]:
    """The same cell for real, and by how much timers were late on this machine, in seconds (p99)."""
    settings = ModelSettings(max_batch=cell.max_batch, batch_wait_s=cell.wait_s)
    worker = ChildWorker(settings, Metrics(), engine="tools.fleet_sim:Timed")
    await worker.start()
    outcome = Outcome()
    late: list[float] = []
    samples = np.zeros(16000, np.float32)
    begin = time.monotonic() + 0.5
    phases = np.random.default_rng(0).uniform(0, 0.0 if cell.in_phase else cell.hop_s, cell.sources)

    async def source(name: str, phase: float) -> None:
        hop = 0
        while True:
            due = begin + phase + hop * cell.hop_s
            if due >= begin + seconds:
                return
            if (wait_s := due - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
                late.append(time.monotonic() - due)
            await worker.score(Window(name, hop, samples, 16000, due - 1, due))
            scored = time.monotonic()
            outcome.scored += 1
            outcome.latencies.append(scored - due)
            newest = min(int((scored - begin - phase) / cell.hop_s), int((seconds - phase) / cell.hop_s))
            outcome.skipped += max(0, newest - hop - 1)
            outcome.due += max(1, newest - hop)
            hop = max(hop + 1, newest)

    try:
        await asyncio.gather(*(source(f"s{i}", phase) for i, phase in enumerate(phases.tolist())))
    finally:
        await worker.close()
    return outcome, float(np.percentile(late, 99)) if late else 0.0


def costs() -> None:
    """Print the processor time of the pipeline a window: the figures of `streamer/fleet/figures.py`."""
    config, rng = load_config("configs/home.yaml"), np.random.default_rng(0)
    rate, n, labels = 16000, 60, AUDIOSET
    print("\n| processor time a window with configs/home.yaml, ms | sensing, least and median | deciding |")
    print("|---|---|---|")
    for name, label, loudness in (
        ("quiet", "Speech", 0.0),
        ("a smoke alarm", "Smoke detector, smoke alarm", 0.2),
    ):
        audio = 0.003 * rng.standard_normal((n + 10) * rate)
        audio += loudness * np.resize(synthesis.temporal_three(rng, rate, n + 10.0).samples, len(audio))
        pipeline = Pipeline("room", config, labels)
        spent: list[tuple[float, float]] = []
        for i in range(n):
            samples = audio[i * rate : (i + 10) * rate].astype(np.float32)
            window = Window("room", i, samples, rate, float(i), float(i + 10))
            frames = (0.02 * rng.random((64, len(labels)))).astype(np.float32)
            frames[:, labels.index(label)] += np.float32(4 * loudness)
            scores = Scores("room", i, window.start, window.end, frames.max(axis=0), frames, 0.16)
            began = time.thread_time()
            sensed = pipeline.sense(window)
            between = time.thread_time()
            pipeline.decide(sensed, scores, window.end)
            spent.append((between - began, time.thread_time() - between))
        least, median = 1000 * np.min(spent, axis=0), 1000 * np.median(spent, axis=0)
        print(f"| {name} | {least[0]:.2f}, {median[0]:.2f} | {least[1]:.2f}, {median[1]:.2f} |")


def compare() -> bool:
    """Print a table; False where the simulation is off."""
    alone, _ = asyncio.run(measure(replace(CASES[0].cell, sources=1), SECONDS / 2))
    way_s = max(0.0, alone.latency(50) - CASES[0].cell.wait_s - BATCH_S - WINDOW_S)
    load, cores = os.getloadavg()[0], os.cpu_count()
    print(f"\nload {load:.1f}, {cores} cores; {SECONDS:g} s each; way to the child {1000 * way_s:.0f} ms")
    print("measured / simulated\n")
    print("| case | windows scored | skipped | p50, ms | p99, ms | |")
    print("|---|---|---|---|---|---|")
    agrees = True
    for case in CASES:
        real, late_s = asyncio.run(measure(case.cell, SECONDS))
        model = simulate(replace(case.cell, batch_s=case.cell.batch_s + way_s), SECONDS)
        pairs = [
            (real.scored, model.scored),
            (1000 * real.latency(50), 1000 * model.latency(50)),
        ]
        is_off = any(abs(m - r) > AGREES * r for r, m in pairs)
        verdict = "agrees" if not is_off else "timers late" if late_s > LATENESS_S else "OFF"
        agrees = agrees and verdict != "OFF"
        print(
            f"| {case.name} | {real.scored} / {model.scored} | {real.skipped} / {model.skipped}"
            f" | {pairs[1][0]:.0f} / {pairs[1][1]:.0f}"
            f" | {1000 * real.latency(99):.0f} / {1000 * model.latency(99):.0f} | {verdict} |",
            flush=True,
        )
    return agrees


def project() -> None:
    """Print a table of one cell at each size: AST-base on H200s, 36 ms for 64 windows."""
    print("\n| cell | engines | p50, ms | p99, ms | longest, ms | windows in a batch | skipped |")
    print("|---|---|---|---|---|---|---|")
    base = Cell(10_000, 1.0, 8, 64, 0.02, 0.004, 0.0005)
    lost = Outage(at=5.0, lasts_s=15.0, engines=1)
    dead = Outage(at=5.0, lasts_s=10.0, engines=9)
    cells = [
        ("10 microphones", replace(base, sources=10, engines=1)),
        ("1 000", replace(base, sources=1000, engines=1)),
        ("10 000", base),
        ("10 000, all windows at the same moment", replace(base, in_phase=True)),
        ("10 000, one of nine engines is gone for 15 s", replace(base, engines=9, outage=lost)),
        ("10 000, all engines are gone for 10 s", replace(base, engines=9, outage=dead)),
    ]
    for name, cell in cells:
        outcome = simulate(cell, 30.0)
        print(
            f"| {name} | {cell.engines} | {1000 * outcome.latency(50):.0f} | {1000 * outcome.latency(99):.0f}"
            f" | {1000 * outcome.latency(100):.0f} | {outcome.mean_batch:.1f}"
            f" | {outcome.skipped} of {outcome.due} |",
            flush=True,
        )


if __name__ == "__main__":
    costs()
    is_right = compare()
    project()
    sys.exit(not is_right)
