"""Months, in short: twenty sources for $SOAK_MINUTES, while memory, descriptors and threads stay."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from streamer.synthesis import write_demo
from tests.faults.program import watched, write
from tests.mosquitto import HOST, Mosquitto

MINUTES = float(os.environ.get("SOAK_MINUTES", "0.6"))
N_SOURCES = 20
"""at real time each: twenty hours of audio an hour"""
WARM_UP = 1 / 3
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""as in systemd/streamer.service"""


def measure(process: psutil.Process) -> tuple[float, int, int, float]:
    """MB, descriptors and threads of the daemon and its child, and the MB of the child alone."""
    (child,) = process.children()
    sizes = [member.memory_info().rss / 1e6 for member in (process, child)]
    n_descriptors, n_threads = (
        process.num_fds() + child.num_fds(),
        process.num_threads() + child.num_threads(),
    )
    return sum(sizes), n_descriptors, n_threads, sizes[1]


def test_nothing_grows(tmp_path: Path, mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]) -> None:
    """After the warm-up, memory has no slope worth a name, descriptors and threads are as many as before."""
    recording = write_demo(tmp_path)
    sources = {f"room{i}": {"stream": str(recording), "loop": True} for i in range(N_SOURCES)}
    broker = {"host": HOST, "port": mosquitto.port}
    config = write(tmp_path, sources, mqtt=broker, detection={"on": 0.2}, windows={"ring_s": 15.0})
    with watched(config, ENVIRONMENT, tmp_path) as program:
        program.says("room19: listening", 0)
        process = psutil.Process(program.daemon.process.pid)
        began = time.monotonic()
        rows: list[tuple[float, float, int, int, float]] = []
        while (passed_s := time.monotonic() - began) < 60 * MINUTES:
            rows.append((passed_s, *measure(process)))
            time.sleep(1)
        report = program.status()
        assert program.daemon.stop() == 0
    warm = np.array([row for row in rows if row[0] > WARM_UP * rows[-1][0]])
    slope = 3600 * np.polyfit(warm[:, 0], warm[:, 1], 1)[0]
    slope_of_child = 3600 * np.polyfit(warm[:, 0], warm[:, 4], 1)[0]
    grown = warm[-5:, 1].mean() - warm[:5, 1].mean()
    events = sum(own["events"] for own in report["sources"].values())
    with capsys.disabled():
        print(
            f"\nsoak: {MINUTES:g} min, {N_SOURCES} sources, {report['inference']['windows']} windows, "
            f"{events} events; {warm[-1, 1]:.0f} MB, {grown:+.2f} MB since the warm-up ({slope:+.2f} MB/h, "
            f"of which the child {slope_of_child:+.2f}); "
            f"descriptors {warm[0, 2]:.0f}->{warm[-1, 2]:.0f}, threads {warm[0, 3]:.0f}->{warm[-1, 3]:.0f}"
        )
    assert events > 0
    assert np.median(warm[-5:, 2]) <= np.median(warm[:5, 2])
    assert np.median(warm[-5:, 3]) <= np.median(warm[:5, 3])
    assert grown < max(3.0, MINUTES / 60)  # an allocator's arenas come in steps
