"""What the page costs: processor and memory of the daemon with and without it and its viewers, and answers.

`make bench-web`, on a quiet machine: a daemon that plays its own recording, with the page and without.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it has no types
import yaml

from streamer.metrics import Metrics
from streamer.store.log import Log, Recorded
from streamer.types import SoundEvent

PORT = 8951
START_S = 60.0
SOUNDS = {"siren": {"labels": ["Siren"]}, "doorbell": {"labels": ["Doorbell"]}}
BASE = f"http://127.0.0.1:{PORT}/"


@contextmanager
def daemon(folder: Path, *, page: bool) -> Iterator[psutil.Process]:
    config = {
        "sources": {"room": {"microphone": "nothing of this name", "fallback": "demo"}},
        "sounds": SOUNDS,
        "mqtt": {"enabled": False},
        "state_dir": str(folder / "state"),
        "web": {"enabled": page, "port": PORT},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "streamer", "run", "--config", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def usage(process: psutil.Process, seconds: float) -> tuple[float, float]:
    """Share of a core, in percent, and MB of memory of the daemon itself; the model's process is left out."""
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, elapsed = process.cpu_times(), time.monotonic() - began
    spent = after.user + after.system - before.user - before.system
    return 100 * spent / elapsed, process.memory_full_info().pss / 1e6


def view(stop: threading.Event, spectrum: str) -> None:
    """An open page: reads the live stream."""
    with urllib.request.urlopen(f"{BASE}api/1/live?spectrum={spectrum}", timeout=30) as stream:  # noqa: S310
        while not stop.is_set():
            stream.read1(65536)


def fill(folder: Path, n: int) -> None:
    """So many events of the past."""
    log = Log(folder / "state", Metrics(), consumers=[])
    now = time.time()
    one = SoundEvent("", "room", "siren", "end", 0, 0, 0.9, 0.1, {"Siren": 0.9}, -30, 0, 0)
    for first in range(0, n, 1000):
        events = []
        for k in range(first, min(n, first + 1000)):
            onset = now - 60 * (n - k)
            events.append(
                Recorded(
                    replace(
                        one,
                        id=f"{k:012x}",
                        onset=onset,
                        offset=onset + 2,
                        emitted_at=onset + 3,
                        heard_at=onset + 3,
                    )
                )
            )
        log.append(events)
    log.close()


def answers(path: str, n: int = 100) -> tuple[float, float]:
    """Median and 99th percentile of milliseconds."""
    times = []
    for _ in range(n):
        began = time.perf_counter()
        with urllib.request.urlopen(f"{BASE}{path}", timeout=30) as answer:  # noqa: S310  # http
            answer.read()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times), statistics.quantiles(times, n=100)[-1]


def deep(pages: int) -> str:
    """The path of a page so many pages down."""
    after = ""
    for _ in range(pages):
        with urllib.request.urlopen(f"{BASE}api/1/events?limit=200&after={after}", timeout=30) as answer:  # noqa: S310
            after = json.load(answer)["next"]
    return f"api/1/events?limit=50&after={after}"


def until_served() -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(f"{BASE}healthz", timeout=5).close()  # noqa: S310  # http
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def main(seconds: float, n_events: int, viewers: int) -> None:
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; {seconds:g} s a row")
    print(f"{'':<34}{'% of a core':>12}{'PSS, MB':>10}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for page in (False, True):
            with daemon(folder, page=page) as process, ExitStack() as stack:
                time.sleep(25)  # the model is loaded, the ring begins to fill
                share, memory = usage(process, seconds)
                row = "page on, nobody looks" if page else "without the page"
                print(f"{row:<34}{share:>12.2f}{memory:>10.1f}")
                if not page:
                    continue
                until_served()
                stop = threading.Event()
                stack.callback(stop.set)
                for _ in range(viewers):
                    threading.Thread(target=view, args=(stop, "room"), daemon=True).start()
                time.sleep(2)
                share, memory = usage(process, seconds)
                print(f"{f'{viewers} viewers of a spectrogram':<34}{share:>12.2f}{memory:>10.1f}")
        fill(folder, n_events)
        with daemon(folder, page=True):
            until_served()
            print(f"\n{f'{n_events:,} events':<34}{'median, ms':>12}{'p99, ms':>10}")
            today = time.strftime("%Y-%m-%d")
            for row, path in (
                ("first page of 50", "api/1/events?limit=50"),
                ("a page of 50, 20 000 events down", deep(min(100, n_events // 200 - 1))),
                ("heat map of 30 days", f"api/1/hours?from={_days_ago(29)}&to={today}&by=weekday"),
                ("health", "api/1/health"),
            ):
                median, worst = answers(path)
                print(f"{row:<34}{median:>12.1f}{worst:>10.1f}")


def _days_ago(days: int) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(time.time() - 86400 * days))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--viewers", type=int, default=5)
    chosen = parser.parse_args()
    main(chosen.seconds, chosen.events, chosen.viewers)
