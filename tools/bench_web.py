"""What the page costs the daemon (processor, memory, loop), with viewers and without; its paints and answers.

`make bench-web`, on a quiet machine: a daemon that plays its own recording, with the page and without.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
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
from playwright.sync_api import ViewportSize, sync_playwright

from streamer.metrics import Metrics
from streamer.store.log import Log, Recorded
from streamer.types import SoundEvent

PORT, HEALTH_PORT = 8951, 8952
SLOWER = 4
"""times that the browser's processor is slowed down: a phone"""
PHONE: ViewportSize = {"width": 360, "height": 740}
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
        "health": {"port": HEALTH_PORT},
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


def lag(seconds: float) -> tuple[float, float]:
    """Median and 99th percentile of milliseconds in which the event loop answers the smallest request."""
    times, ends = [], time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.perf_counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{HEALTH_PORT}/healthz", timeout=30) as answer:
            answer.read()
        times.append(1000 * (time.perf_counter() - began))
        time.sleep(0.05)
    return statistics.median(times), statistics.quantiles(times, n=100)[-1]


def paints(n: int = 7) -> dict[str, list[float]]:
    """Milliseconds from an address to a page, in a slowed-down browser that has nothing of it yet."""
    found: dict[str, list[float]] = {"first paint": [], "levels and spectrogram": []}
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(n):
            page = browser.new_context(viewport=PHONE, bypass_csp=True).new_page()
            page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
            page.goto(BASE, wait_until="commit")
            page.wait_for_function("document.querySelector('canvas.spectrum')?.width > 300")
            found["levels and spectrogram"].append(page.evaluate("performance.now()"))
            paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
            found["first paint"].append(page.evaluate(paint))
            page.context.close()
        browser.close()
    return found


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
    print(f"{'':<34}{'% of a core':>12}{'PSS, MB':>10}{'/healthz, ms':>14}{'p99':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for page in (False, True):
            with daemon(folder, page=page) as process, ExitStack() as stack:
                time.sleep(25)  # the model is loaded, the ring begins to fill
                show("page on, nobody looks" if page else "without the page", process, seconds)
                if not page:
                    continue
                until_served()
                stop = threading.Event()
                stack.callback(stop.set)
                for _ in range(viewers):
                    threading.Thread(target=view, args=(stop, "room"), daemon=True).start()
                time.sleep(2)
                show(f"{viewers} viewers of a spectrogram", process, seconds)
                stop.set()
                print(f"\n{f'Chromium, {SLOWER} times slower':<34}{'median, ms':>12}{'worst, ms':>10}")
                for what, times in paints().items():
                    print(f"{what:<34}{statistics.median(times):>12.0f}{max(times):>10.0f}")
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


def show(row: str, process: psutil.Process, seconds: float) -> None:
    """One row: first what it uses, then, apart from that, how late its loop is."""
    share, memory = usage(process, seconds)
    median, worst = lag(seconds)
    print(f"{row:<34}{share:>12.2f}{memory:>10.1f}{median:>14.1f}{worst:>8.1f}")


def _days_ago(days: int) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(time.time() - 86400 * days))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--viewers", type=int, default=5)
    chosen = parser.parse_args()
    main(chosen.seconds, chosen.events, chosen.viewers)
