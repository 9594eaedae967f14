"""Hands alerts to one target, one at a time; says in the counters and the log whether it takes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from streamer.alerts.targets import Alert, FailedError, Target
from streamer.core.rate_limit import RateLimit
from streamer.core.threads import in_thread
from streamer.metrics import Metrics

DEADLINE_S = 60.0
"""seconds that a target may take; its own bounds are shorter"""

log = logging.getLogger(__name__)


class Sender:
    """One target, for all that alerts there."""

    def __init__(self, target: Target, name: str, metrics: Metrics) -> None:
        """`name` is that of its threads."""
        self.target = target.name
        self.counts = metrics.alerts_to(target.name)
        self._target = target
        self._name = name
        self._logged = RateLimit()
        self._turn = asyncio.Lock()

    async def send(self, make: Callable[[], Alert]) -> bool:
        """Whether the target took the alert. `make` may block: it runs in a thread."""
        async with self._turn:
            try:
                await in_thread(lambda: self._target.send(make()), self._name, DEADLINE_S)
            except (FailedError, TimeoutError) as error:
                reason = str(error) or f"it did not answer within {DEADLINE_S:g} s"
            except Exception as error:  # a fault in a library for one target is no reason to stop all sinks
                reason = f"a fault in the program ({type(error).__name__})"
            else:
                if self.counts.problem:
                    log.info("alerts to %s: it takes them again", self.target)
                    self._logged.forget()
                self.counts.problem = ""
                self.counts.sent += 1
                return True
            self.counts.problem = reason
            if self._logged.due():
                log.warning("alerts to %s: %s; tried again", self.target, reason)
            return False
