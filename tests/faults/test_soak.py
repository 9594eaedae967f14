"""Months, in short: twenty sources for $SOAK_MINUTES, while memory, descriptors and threads stay."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from streamer.data.synthesis import write_demo
from tests.faults.program import watched, write
from tests.mosquitto import HOST, Mosquitto

pytestmark = pytest.mark.slow

MINUTES = float(os.environ.get("SOAK_MINUTES", "0.6"))
N_SOURCES = 20
"""at real time each: twenty hours of audio an hour"""
WARM_UP = 1 / 3
ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
}
"""as in systemd/streamer.service"""


def measure(process: psutil.Process) -> tuple[float, float, int, int]:
    """MB of the daemon and of its child, descriptors and threads of both."""
    (child,) = process.children()
    daemon_mb, child_mb = (member.memory_info().rss / 1e6 for member in (process, child))
    n_descriptors = process.num_fds() + child.num_fds()
    n_threads = process.num_threads() + child.num_threads()
    return daemon_mb, child_mb, n_descriptors, n_threads


def slope(rows: npt.NDArray[np.float64], column: int) -> float:
    """MB an hour, fitted over the second half: until then, what has a bound still fills."""
    late = rows[rows[:, 0] > rows[-1, 0] / 2]
    return float(3600 * np.polyfit(late[:, 0], late[:, column], 1)[0])


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
        seen: list[tuple[float, float, float, int, int]] = []
        while (passed_s := time.monotonic() - began) < 60 * MINUTES:
            seen.append((passed_s, *measure(process)))
            time.sleep(1)
        report = program.status()
        assert program.daemon.stop() == 0
    rows = np.array(seen)
    warm = rows[rows[:, 0] > WARM_UP * rows[-1, 0]]
    first, last = (np.median(part, axis=0) for part in (warm[:5], warm[-5:]))
    grown = last[1] + last[2] - first[1] - first[2]
    events = sum(own["events"] for own in report["sources"].values())
    with capsys.disabled():
        print(
            f"\nsoak: {MINUTES:g} min, {N_SOURCES} sources, {report['inference']['windows']} windows, "
            f"{events} events; {last[1] + last[2]:.0f} MB, {grown:+.2f} MB since the warm-up; "
            f"in the second half {slope(rows, 1):+.2f} MB/h, its child {slope(rows, 2):+.2f} MB/h; "
            f"descriptors {first[3]:.0f}->{last[3]:.0f}, threads {first[4]:.0f}->{last[4]:.0f}"
        )
    assert events > 0
    assert last[3] <= first[3]
    assert last[4] <= first[4]
    assert grown < max(3.0, MINUTES / 60)  # an allocator's arenas come in steps
