"""Measures an engine: with which threads it is fastest, and at which hop it keeps up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from streamer.types import Scores, Window

HOPS_S = (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)

Score = Callable[[Sequence[Window]], list[Scores]]


def noise(index: int, window_s: float, sample_rate: int) -> Window:
    """What a source might send, to warm up with and to measure."""
    n_samples = round(window_s * sample_rate)
    samples = np.random.default_rng(index).uniform(-0.1, 0.1, n_samples).astype(np.float32)
    return Window("noise", index, samples, sample_rate, 0.0, window_s)


def fastest_hop(score: Score, n_sources: int, window_s: float, sample_rate: int) -> float:
    """The shortest hop, seconds, at which so many sources keep the engine under half busy."""
    windows = [noise(i, window_s, sample_rate) for i in range(max(1, n_sources))]
    seconds = []
    for _ in range(3):
        seconds.append(seconds_of(score, windows))
        if seconds[-1] > HOPS_S[-1] / 2:
            break
    needed = sorted(seconds)[len(seconds) // 2]
    return next((hop for hop in HOPS_S if needed < hop / 2), HOPS_S[-1])


def fastest_threads(most: int, with_threads: Callable[[int], Score], window: Window) -> int:
    """The number of threads that is fastest now: they wait for each other, on a busy machine for long.

    Tried are `most`, half of it and so on, for as long as fewer are faster.
    """
    best, best_s, n_threads = most, float("inf"), most
    while n_threads:
        score = with_threads(n_threads)
        score([window])  # the first pass lays things out
        seconds = seconds_of(score, [window])
        if seconds > best_s:
            break
        best, best_s, n_threads = n_threads, seconds, n_threads // 2
    return best


def seconds_of(score: Score, windows: Sequence[Window]) -> float:
    """How long a batch takes."""
    started = time.monotonic()
    score(windows)
    return time.monotonic() - started
