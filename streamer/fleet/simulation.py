"""Simulates sources, batches and engines of one cell: latency, skipped windows, what an outage does.

The rules are those of the program. Each source has one window in flight; of the hops that come due meanwhile
the newest is scored next, and the others are skipped (`capture/windows.py`). A batch closes when it is full
or `wait_s` after an engine was free for it (`inference/batches.py`). Windows of an engine that dies are given
to the next. Cells share nothing, so one of them stands for all.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Outage:
    """Engines that die at a moment and are back after a while."""

    at: float
    lasts_s: float
    engines: int


@dataclass(frozen=True, slots=True)
class Cell:
    """What is simulated."""

    sources: int
    hop_s: float
    engines: int
    max_batch: int
    wait_s: float
    batch_s: float
    """seconds that an engine needs for a batch of any size"""
    window_s: float
    """seconds more for each window in it"""
    scored: float = 1.0
    """share of the windows that pass the silence gate, 0..1"""
    in_phase: bool = False
    """the windows of all sources come due at the same moment, not spread over the hop"""
    outage: Outage | None = None


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    due: int = 0
    """windows that were to be scored"""
    scored: int = 0
    skipped: int = 0
    """since a newer window of the source came due first"""
    retried: int = 0
    """windows that were given to a second engine"""
    batches: int = 0
    busy_s: float = 0.0
    """seconds of all engines"""
    latencies: list[float] = field(default_factory=list)
    """seconds from due to scored, in the order of scoring"""

    def latency(self, percent: float) -> float:
        """Seconds; NaN where nothing was scored."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else float("nan")

    @property
    def mean_batch(self) -> float:
        return self.scored / self.batches if self.batches else 0.0


@dataclass(slots=True)
class _Source:
    phase: float
    in_flight: bool = False
    newest: float | None = None
    """when the window came due that is scored next"""


@dataclass(slots=True)
class _Engine:
    is_up: bool = True
    batch: list[tuple[int, float]] | None = None
    """sources and when their windows came due"""
    life: int = 0
    """grows with each death: what an earlier life had begun does not end"""


def simulate(cell: Cell, seconds: float, seed: int = 0) -> Outcome:
    """Windows that come due within so many seconds, until all of them are scored or skipped.

    The same seed gives the same outcome.
    """
    return _Run(cell, seconds, seed).outcome()


class _Run:
    def __init__(self, cell: Cell, seconds: float, seed: int) -> None:
        self._cell = cell
        self._seconds = seconds
        self._random = random.Random(seed)  # noqa: S311  # protects nothing
        self._sources = [
            _Source(0.0 if cell.in_phase else self._random.uniform(0, cell.hop_s))
            for _ in range(cell.sources)
        ]
        self._engines = [_Engine() for _ in range(cell.engines)]
        self._waiting: deque[tuple[int, float]] = deque()
        self._closes_at: float | None = None
        """when the batch closes that is being collected"""
        self._order = itertools.count()
        self._events: list[tuple[float, int, str, int, int]] = []
        self._outcome = Outcome()

    def outcome(self) -> Outcome:
        for i, source in enumerate(self._sources):
            self._at(source.phase, "due", i)
        if (outage := self._cell.outage) is not None:
            for i in range(outage.engines):
                self._at(outage.at, "die", i)
                self._at(outage.at + outage.lasts_s, "back", i)
        while self._events:
            now, _, what, which, life = heapq.heappop(self._events)
            match what:
                case "due":
                    self._due(now, which)
                case "done":
                    self._done(now, self._engines[which], life)
                case "die":
                    self._die(self._engines[which])
                case "back":
                    self._engines[which].is_up = True
            self._start(now)
        return self._outcome

    def _at(self, time: float, what: str, which: int = 0, life: int = 0) -> None:
        heapq.heappush(self._events, (time, next(self._order), what, which, life))

    def _due(self, now: float, which: int) -> None:
        if now + self._cell.hop_s < self._seconds:
            self._at(now + self._cell.hop_s, "due", which)
        if self._cell.scored < 1 and self._random.random() >= self._cell.scored:
            return
        self._outcome.due += 1
        source = self._sources[which]
        if not source.in_flight:
            source.in_flight = True
            self._waiting.append((which, now))
            return
        self._outcome.skipped += source.newest is not None
        source.newest = now

    def _done(self, now: float, engine: _Engine, life: int) -> None:
        if engine.life != life or engine.batch is None:
            return
        batch, engine.batch = engine.batch, None
        for which, due in batch:
            self._outcome.scored += 1
            self._outcome.latencies.append(now - due)
            source = self._sources[which]
            if source.newest is None:
                source.in_flight = False
            else:
                self._waiting.append((which, source.newest))
                source.newest = None

    def _die(self, engine: _Engine) -> None:
        engine.is_up = False
        engine.life += 1
        if engine.batch is not None:
            self._outcome.retried += len(engine.batch)
            self._waiting.extendleft(reversed(engine.batch))
            engine.batch = None

    def _start(self, now: float) -> None:
        """Give batches that are closed to engines that are free."""
        for i, engine in enumerate(self._engines):
            if not self._waiting:
                self._closes_at = None
                return
            if not engine.is_up or engine.batch is not None:
                continue
            if len(self._waiting) < self._cell.max_batch and self._cell.wait_s:
                if self._closes_at is None:
                    self._closes_at = now + self._cell.wait_s
                    self._at(self._closes_at, "close")
                if now < self._closes_at:
                    return
            self._closes_at = None
            n = min(len(self._waiting), self._cell.max_batch)
            engine.batch = [self._waiting.popleft() for _ in range(n)]
            took_s = self._cell.batch_s + n * self._cell.window_s
            self._outcome.batches += 1
            self._outcome.busy_s += took_s
            self._at(now + took_s, "done", i, engine.life)
