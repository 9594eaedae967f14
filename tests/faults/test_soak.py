"""Months, in short: $SOAK_SOURCES sources for $SOAK_MINUTES, while memory, descriptors and threads stay.

$SOAK_MODEL names a model of the user's in place of the quick engine.
"""

from __future__ import annotations

import os
import time
import urllib.request
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from streamer.data.synthesis import write_demo
from tests.capture.radio import radio
from tests.faults.program import QUICK, watched, write
from tests.mosquitto import HOST, Mosquitto, free_port

pytestmark = pytest.mark.slow

MINUTES = float(os.environ.get("SOAK_MINUTES", "0.6"))
N_SOURCES = int(os.environ.get("SOAK_SOURCES", "20"))
"""at real time each: twenty hours of audio an hour"""
MODEL = os.environ.get("SOAK_MODEL", "")
WARM_UP = 1 / 3
PAUSE_S = max(1.0, MINUTES / 6)
"""between two measurements: they are not what is measured"""
ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
}
"""as in systemd/streamer.service"""
COLUMNS = ("passed_s", "resident", "malloc", "child", "descriptors", "threads")


def measure(process: psutil.Process, metrics: str) -> tuple[float, float, float, int, int]:
    """MB of the daemon, of it in use (mallinfo2), and of its child; descriptors and threads of both."""
    (child,) = process.children()
    # Before the request: its own connection is closed by the daemon a moment after the answer.
    descriptors = process.num_fds() + child.num_fds()
    with urllib.request.urlopen(metrics, timeout=30) as answer:  # noqa: S310  our own address
        lines = answer.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return (
        float(values["streamer_resident_bytes"]) / 1e6,
        float(values["streamer_malloc_in_use_bytes"]) / 1e6,
        child.memory_info().rss / 1e6,
        descriptors,
        process.num_threads() + child.num_threads(),
    )


def slope(rows: npt.NDArray[np.float64], name: str) -> str:
    """MB an hour with its standard error, over the second half: until then, what has a bound still fills."""
    late = rows[rows[:, 0] > rows[-1, 0] / 2]
    line, covariance = np.polyfit(late[:, 0], late[:, COLUMNS.index(name)], 1, cov=True)
    return f"{3600 * line[0]:+.2f} ± {3600 * np.sqrt(covariance[0, 0]):.2f} MB/h"


def test_nothing_grows(tmp_path: Path, mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]) -> None:
    """After the warm-up, memory has no slope worth a name, descriptors and threads are as many as before."""
    health = free_port()
    sections = {"model": {"path": MODEL}} if MODEL else {}
    with radio(write_demo(tmp_path)) as address:
        config = write(
            tmp_path,
            {f"room{i}": {"stream": address} for i in range(N_SOURCES)},
            mqtt={"host": HOST, "port": mosquitto.port},
            detection={"on": 0.2},
            windows={"ring_s": 15.0},
            health={"port": health},
            **sections,
        )
        with watched(config, ENVIRONMENT, tmp_path, program="streamer" if MODEL else QUICK) as program:
            program.says(f"room{N_SOURCES - 1}: listening", 0)
            process = psutil.Process(program.daemon.process.pid)
            began = time.monotonic()
            seen: list[tuple[float, ...]] = []
            while (passed_s := time.monotonic() - began) < 60 * MINUTES:
                seen.append((passed_s, *measure(process, f"http://{HOST}:{health}/metrics")))
                time.sleep(PAUSE_S)
            report = program.status()
            assert program.daemon.stop() == 0
    rows = np.array(seen)
    warm = rows[rows[:, 0] > WARM_UP * rows[-1, 0]]
    first, last = (dict(zip(COLUMNS, np.median(part, axis=0), strict=True)) for part in (warm[:5], warm[-5:]))
    grown = {name: last[name] - first[name] for name in COLUMNS}
    events = sum(own["events"] for own in report["sources"].values())
    with capsys.disabled():
        print(
            f"\nsoak: {MINUTES:g} min, {N_SOURCES} sources, {report['inference']['windows']} windows, "
            f"{events} events; {last['resident'] + last['child']:.0f} MB; since the warm-up resident "
            f"{grown['resident']:+.2f} MB, in use {grown['malloc']:+.2f} MB, child {grown['child']:+.2f} MB; "
            f"in the second half resident {slope(rows, 'resident')}, in use {slope(rows, 'malloc')}, "
            f"child {slope(rows, 'child')}; descriptors {first['descriptors']:.0f}->"
            f"{last['descriptors']:.0f}, threads {first['threads']:.0f}->{last['threads']:.0f}"
        )
    assert events > 0
    assert all(own["reopens"] == 0 for own in report["sources"].values())
    assert grown["descriptors"] <= 0
    assert grown["threads"] <= 0
    assert grown["resident"] + grown["child"] < max(3.0, MINUTES / 60)  # an allocator's arenas come in steps
    assert grown["malloc"] < max(3.0, MINUTES / 60)
