"""Whether every part is alive, in one line for people, and to systemd only while it is true."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from streamer.metrics import Metrics
from streamer.ops.systemd import Notifier

LOOK_S = 5.0
"""how often the parts are looked at, or more often where the watchdog is impatient"""
STARTING_S = 0.5
"""and while it starts"""
EXTEND_S = 30
"""while it starts, the service manager is asked for so much more time at each look"""

log = logging.getLogger(__name__)

Trouble = Callable[[], str | None]
"""What is wrong with a part, in a phrase for people; None where it is alive, or mends itself."""


class Health:
    """Looks at the parts from the event loop, so that it speaks only while the loop turns.

    A part that is waiting, restarting or without a broker is alive. One that does not move any more is not.
    """

    def __init__(self, metrics: Metrics, notifier: Notifier) -> None:
        self._metrics = metrics
        self._notifier = notifier
        self._parts: dict[str, Trouble] = {}
        self._began = time.monotonic()
        self._ready: Callable[[], bool] = lambda: False
        self._said_ready = False
        self._said: tuple[str, ...] = ()
        self.stage = "starting"
        """what it does until it is ready"""
        self.describe_model: Callable[[], str] = lambda: ""
        """one phrase: what the model is on, or why it is not"""

    def watch(self, parts: Mapping[str, Trouble], ready: Callable[[], bool]) -> None:
        """These are the parts from now on; `ready`: something is heard, or known to be waited for."""
        self._parts, self._ready = dict(parts), ready

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self._began

    def troubles(self) -> list[str]:
        return [trouble for part in self._parts.values() if (trouble := part())]

    def line(self) -> str:
        """How it is, for people."""
        if not self._is_ready():
            return self.stage
        metrics, said = self._metrics, self.troubles()
        heard = sum(own.phase in ("listening", "silent") for own in metrics.sources.values())
        said.append(f"{heard} of {len(metrics.sources)} sources heard")
        said += [
            f"{source_id} {own.phase}"
            for source_id, own in metrics.sources.items()
            if own.phase != "listening"
        ]
        said.append(self.describe_model())
        if metrics.outbox.depth:
            said.append(f"{metrics.outbox.depth} events wait for the broker")
        latency = metrics.latency_ms()["p50"]
        if latency is not None:
            said.append(f"latency {latency:.0f} ms")
        return "; ".join(part for part in said if part)

    def report(self) -> dict[str, object]:
        """All of it, ready for JSON."""
        troubles = self.troubles()
        return {
            "healthy": not troubles,
            "ready": self._is_ready(),
            "line": self.line(),
            "troubles": troubles,
            "uptime_s": round(self.uptime_s),
            "model": self.describe_model(),
            **self._metrics.snapshot(),
        }

    async def run(self) -> None:
        """Look until cancelled."""
        watchdog_s = self._notifier.watchdog_s
        pause_s = LOOK_S if watchdog_s is None else min(LOOK_S, watchdog_s / 4)
        while True:
            self._look()
            now_s = pause_s if self._said_ready else STARTING_S
            due = time.monotonic() + now_s
            await asyncio.sleep(now_s)
            self._metrics.loop_lag_s = max(0.0, time.monotonic() - due)

    def _is_ready(self) -> bool:
        return self._said_ready or self._ready()

    def _look(self) -> None:
        if self._is_ready() and not self._said_ready:
            self._said_ready = True
            self._notifier.tell(READY=1)
        elif not self._said_ready:
            self._notifier.tell(EXTEND_TIMEOUT_USEC=EXTEND_S * 1_000_000)
        troubles = tuple(self.troubles())
        if not troubles:
            self._notifier.tell(WATCHDOG=1)
        elif not self._said:
            log.error("not well: %s", "; ".join(troubles))
        self._said = troubles
        self._notifier.tell(STATUS=self.line())

    def stopping(self) -> None:
        self._notifier.tell(STOPPING=1, STATUS="stopping")
