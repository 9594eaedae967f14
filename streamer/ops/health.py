"""Whether every part is alive: one line for people, and the watchdog ping of systemd while it is true."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

from streamer.metrics import Metrics
from streamer.ops.systemd import Notifier

CHECK_S = 5.0
"""seconds between two checks of the parts; fewer where systemd's watchdog asks for it"""
STARTING_S = 0.5
"""seconds between two checks until the daemon is ready"""
EXTEND_S = 30
"""seconds by which each check extends the start timeout of systemd until the daemon is ready"""

log = logging.getLogger(__name__)

Problem = Callable[[], str | None]
"""Gives what is wrong with a part, a clause for people; None where it is alive, or recovers by itself."""


class Health:
    """Checks the parts from the event loop, so that it reports only while the loop runs.

    A part that is waiting, restarting or without a broker is alive. One that does not move any more is not.
    """

    def __init__(self, metrics: Metrics, notifier: Notifier) -> None:
        self._metrics = metrics
        self._notifier = notifier
        self._parts: dict[str, Problem] = {}
        self._began = time.monotonic()
        self._ready: Callable[[], bool] = lambda: False
        self._was_ready = False
        self._problems: tuple[str, ...] = ()
        self.stage = "starting"
        """what the daemon does until it is ready"""
        self.describe_model: Callable[[], str] = lambda: ""
        """gives a phrase for people: what the model runs on, or why it does not"""

    def set_parts(self, parts: Mapping[str, Problem], ready: Callable[[], bool]) -> None:
        """Check these parts from now on. `ready`: a source is listened to, or each is waited for."""
        self._parts, self._ready = dict(parts), ready

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self._began

    def problems(self) -> list[str]:
        """What is wrong with parts that are not alive."""
        return [problem for part in self._parts.values() if (problem := part())]

    def line(self) -> str:
        """One line for people."""
        if not self._is_ready():
            return self.stage
        metrics, clauses = self._metrics, self.problems()
        n_listening = sum(own.phase in ("listening", "silent") for own in metrics.sources.values())
        clauses.append(f"{n_listening} of {len(metrics.sources)} sources listening")
        for source_id, own in metrics.sources.items():
            if own.phase != "listening" or own.problem:
                clauses.append(f"{source_id} {own.phase}" + (f" ({own.problem})" if own.problem else ""))
        clauses.append(self.describe_model())
        if metrics.broker is not None and metrics.broker.problem:
            clauses.append(f"MQTT: {metrics.broker.problem}")
        if metrics.outbox.depth:
            clauses.append(f"{metrics.outbox.depth} events wait for the broker")
        if metrics.outbox.in_memory:
            clauses.append(f"{metrics.outbox.in_memory} events wait in memory: the disk does not take them")
        clauses += metrics.overdue.values()
        clauses += [f"alerts to {name}: {own.problem}" for name, own in metrics.alerts.items() if own.problem]
        latency = metrics.latency_ms()["p50"]
        if latency is not None:
            clauses.append(f"latency {latency:.0f} ms")
        return "; ".join(clause for clause in clauses if clause)

    def report(self) -> dict[str, object]:
        """All of it, ready for JSON."""
        problems = self.problems()
        return {
            "healthy": not problems,
            "ready": self._is_ready(),
            "line": self.line(),
            "problems": problems,
            "uptime_s": round(self.uptime_s),
            "model": self.describe_model(),
            "broker": None if self._metrics.broker is None else asdict(self._metrics.broker),
            **self._metrics.snapshot(),
        }

    async def run(self) -> None:
        """Check until cancelled."""
        watchdog_s = self._notifier.watchdog_s
        check_s = CHECK_S if watchdog_s is None else min(CHECK_S, watchdog_s / 4)
        while True:
            self._check()
            pause_s = check_s if self._was_ready else STARTING_S
            due = time.monotonic() + pause_s
            await asyncio.sleep(pause_s)
            self._metrics.loop_lag_s = max(0.0, time.monotonic() - due)

    def _is_ready(self) -> bool:
        return self._was_ready or self._ready()

    def _check(self) -> None:
        if self._is_ready() and not self._was_ready:
            self._was_ready = True
            self._notifier.notify(READY=1)
        elif not self._was_ready:
            self._notifier.notify(EXTEND_TIMEOUT_USEC=EXTEND_S * 1_000_000)
        problems = tuple(self.problems())
        if not problems:
            self._notifier.notify(WATCHDOG=1)
        elif not self._problems:
            log.error("unhealthy: %s", "; ".join(problems))
        self._problems = problems
        self._notifier.notify(STATUS=self.line())

    def stopping(self) -> None:
        self._notifier.notify(STOPPING=1, STATUS="stopping")
