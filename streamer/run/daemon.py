"""The daemon: one task a source and one a sink, started, changed and stopped in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from streamer.capture.tapes import Tapes
from streamer.config.control import Control
from streamer.config.schema import Config
from streamer.config.sources import SourceSettings
from streamer.core.epoch import Epoch
from streamer.core.tasks import first_of, running
from streamer.errors import InputError
from streamer.inference.worker import Worker
from streamer.metrics import Metrics
from streamer.run.listener import Listener, source_limits
from streamer.run.sensing import Sensing
from streamer.types import Hop, Report, Sink, SoundEvent, Source, SourcePhase, SourceState, Stats

STATS_S = 30.0
"""seconds between two statistics"""

UNNAMED: dict[str, object] = {"name": None, "area": None}
"""of a source: what people call it is no reason to open it anew"""


class Daemon:
    """Listens to every source until it is stopped, or until every source has come to its end."""

    def __init__(
        self,
        config: Config,
        *,
        open_source: Callable[[str, SourceSettings], Source],
        worker: Worker,
        labels: Sequence[str],
        window_s: float,
        sinks: Sequence[Sink],
        metrics: Metrics,
        control: Control,
        tapes: Tapes,
        epoch: Epoch,
        watch: Callable[[Hop], None] = lambda _: None,
    ) -> None:
        """`watch` gets each hop of each source after it was decided on, and never blocks."""
        self.config = config
        self._watch = watch
        self._epoch = epoch
        self._tapes = tapes
        self._control = control
        self._open_source = open_source
        self._worker = worker
        self._labels = labels
        self._window_s = window_s
        self._sinks = sinks
        self._metrics = metrics
        self._sensing = Sensing()
        self._listeners: dict[str, Listener] = {}
        self._tasks: dict[str, asyncio.Task[InputError | None]] = {}
        self._built: dict[str, tuple[object, ...]] = {}
        """by source: the settings that its listener cannot change any more"""
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Listen. Cancelled, it ends the sources, then their events, then the sinks, within two seconds.

        Raises InputError when the other sources are over, if a file was none, and StuckError at once.
        """
        failures: list[InputError] = []
        self._control.subscribe(lambda _: self._changed.set())
        async with asyncio.TaskGroup() as sinks:
            deliveries = [
                sinks.create_task(sink.run(), name=f"sink[{type(sink).__name__}]") for sink in self._sinks
            ]
            try:
                async with asyncio.TaskGroup() as listening:
                    stats = listening.create_task(self._emit_stats(), name="stats")
                    await self._follow_config(listening)
                    while self._tasks:
                        async with running(self._changed.wait(), "configuration changed") as changed:
                            await first_of(*self._tasks.values(), changed)
                        failures += self._over()
                        if self._changed.is_set():
                            await self._follow_config(listening)
                    stats.cancel()
            finally:
                for delivery in deliveries:
                    delivery.cancel()
        if failures:
            raise failures[0]

    def change(self, config: Config) -> None:
        """Follow another configuration from now on: sources come and go, the others go on without a gap."""
        self.config = config
        self._changed.set()

    def problem(self) -> str | None:
        """Which sources do not move any more."""
        problems = [found for listener in self._listeners.values() if (found := listener.problem())]
        return "; ".join(problems) or None

    def is_ready(self) -> bool:
        """A source is listened to, or it is known of each that it is waited for."""
        listeners = self._listeners.values()
        return any(listener.is_listening for listener in listeners) or all(
            listener.has_state for listener in listeners
        )

    def _over(self) -> list[InputError]:
        """Forget the sources that have ended; the errors of those that were no recording."""
        failures = []
        for source_id, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[source_id], self._listeners[source_id]
                error = None if task.cancelled() or task.exception() is not None else task.result()
                if error is not None:
                    failures.append(error)
        return failures

    async def _follow_config(self, group: asyncio.TaskGroup) -> None:
        self._changed.clear()
        configured = {
            source_id: (settings.model_copy(update=UNNAMED), self.config.windows)
            for source_id, settings in self.config.sources.items()
        }
        stale = [source_id for source_id, built in self._built.items() if configured.get(source_id) != built]
        ending = [self._tasks.pop(source_id) for source_id in stale if source_id in self._tasks]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        for source_id in stale:
            del self._built[source_id]
            self._listeners.pop(source_id, None)
            if source_id not in configured:
                self._emit(SourceState(source_id, SourcePhase.ENDED, time.time(), "no longer configured"))
                self._metrics.sources.pop(source_id, None)
        for listener in self._listeners.values():
            listener.change(self._control.in_force(listener.id))
        for source_id, settings in self.config.sources.items():
            if source_id not in self._built:
                self._built[source_id] = configured[source_id]
                self._listen(source_id, settings, group)

    def _listen(self, source_id: str, settings: SourceSettings, group: asyncio.TaskGroup) -> None:
        self._listeners[source_id] = listener = Listener(
            source_id,
            self._open_source(source_id, settings),
            self._control.in_force(source_id),
            worker=self._worker,
            labels=self._labels,
            window_s=self._window_s,
            emit=self._emit,
            metrics=self._metrics,
            limits=source_limits(settings),
            enabled=lambda: self._control.listens(source_id),
            muted=lambda: self._control.muted_s(source_id) > 0,
            tapes=self._tapes,
            watch=self._watch,
            sensing=self._sensing,
        )
        self._tasks[source_id] = group.create_task(listener.run(), name=f"source[{source_id}]")

    def _emit(self, report: Report) -> None:
        if isinstance(report, SoundEvent):
            report = replace(report, epoch=self._epoch.number)
        for sink in self._sinks:
            sink.put(report)

    async def _emit_stats(self) -> None:
        started = time.monotonic()
        while True:
            await asyncio.sleep(STATS_S)
            uptime_s = round(time.monotonic() - started)
            self._emit(Stats(time.time(), {"uptime_s": uptime_s, **self._metrics.snapshot()}))
