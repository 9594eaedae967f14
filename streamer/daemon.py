"""The running daemon: builds the graph of sources, worker, pipelines and sinks, and stops it in order.

source ──► ring ──► windows ──► worker ──► pipeline ──► sinks
one task a source, at its own pace     one batch at a time     one queue a sink
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from streamer.capture.ring import Ring
from streamer.capture.sources import open_source
from streamer.capture.windows import Windows
from streamer.config import Config
from streamer.errors import InputError, SourceError, StreamerError
from streamer.metrics import Metrics
from streamer.pipeline import Pipeline
from streamer.publish.log import LogSink
from streamer.publish.mqtt import MqttSink
from streamer.publish.terminal import TerminalSink
from streamer.synthesis import write_demo
from streamer.types import Report, Sink, Source, SourcePhase, SourceState, Stats, Worker

STATS_S = 30.0
"""the pace of the statistics"""
BACKOFF_S = (1.0, 60.0)
"""the first and the longest pause before a source is opened again"""

log = logging.getLogger(__name__)


async def serve(config: Config, *, terminal: bool) -> None:
    """Build what a configuration describes and run it until cancelled, or until every source has ended.

    `terminal` shows a live view instead of log lines.
    """
    # torch takes seconds to import: not before it is needed, and not on the event loop.
    from streamer.inference.engine import Engine  # noqa: PLC0415
    from streamer.inference.worker import LocalWorker  # noqa: PLC0415

    metrics = Metrics()
    async with AsyncExitStack() as stack:
        engine = await asyncio.to_thread(Engine, config.model)
        log.info("%s", engine.describe())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamer-")))
        sources = {
            source_id: open_source(settings, demo=lambda: write_demo(folder))
            for source_id, settings in config.sources.items()
        }
        sinks: list[Sink] = []
        mqtt, told = config.mqtt, "nobody: mqtt.enabled is false"
        if mqtt.enabled:
            if mqtt.embedded:
                from streamer.publish.broker import HOST, embedded_broker  # noqa: PLC0415  # amqtt is slow to load

                port = await stack.enter_async_context(embedded_broker(mqtt.port or 1883))
                mqtt = mqtt.model_copy(update={"host": HOST, "port": port})
            sinks.append(MqttSink(mqtt, config.node, sources, config.sounds, metrics))
            topic = f"{mqtt.prefix}/{config.node}/+/event/#"
            told = f"mosquitto_sub -h {mqtt.host} -p {mqtt.port or 1883} -v -t '{topic}'"
        if terminal:
            sinks.append(TerminalSink(config.node, engine.describe(), told))
        else:
            log.info("events: %s", told)
            sinks.append(LogSink())
        worker = LocalWorker(engine, config.model, metrics)
        stack.push_async_callback(worker.close)
        daemon = Daemon(
            config,
            sources=sources,
            worker=worker,
            labels=engine.labels,
            window_s=engine.window_s,
            sinks=sinks,
            metrics=metrics,
        )
        await daemon.run()


class Daemon:
    """Listens to every source until it is stopped, or until every source has come to its end."""

    def __init__(
        self,
        config: Config,
        *,
        sources: dict[str, Source],
        worker: Worker,
        labels: Sequence[str],
        window_s: float,
        sinks: Sequence[Sink],
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._sources = sources
        self._worker = worker
        self._labels = labels
        self._window_s = window_s
        self._sinks = sinks
        self._metrics = metrics

    async def run(self) -> None:
        """Listen. Cancelled, it ends the sources, then their events, then the sinks, within two seconds.

        Raises InputError when the other sources are over, if a file was none, and InferenceError at once.
        """
        async with asyncio.TaskGroup() as telling:
            tellers = [
                telling.create_task(sink.run(), name=f"sink[{type(sink).__name__}]") for sink in self._sinks
            ]
            try:
                async with asyncio.TaskGroup() as listening:
                    stats = listening.create_task(self._tell_stats(), name="stats")
                    listeners = [
                        listening.create_task(
                            self._keep_listening(source_id, source), name=f"source[{source_id}]"
                        )
                        for source_id, source in self._sources.items()
                    ]
                    failures = [error for error in await asyncio.gather(*listeners) if error is not None]
                    stats.cancel()
            finally:
                for teller in tellers:
                    teller.cancel()
        if failures:
            raise failures[0]

    def _tell(self, report: Report) -> None:
        for sink in self._sinks:
            sink.put(report)

    async def _tell_stats(self) -> None:
        started = time.monotonic()
        while True:
            await asyncio.sleep(STATS_S)
            uptime_s = round(time.monotonic() - started)
            self._tell(Stats(time.time(), {"uptime_s": uptime_s, **self._metrics.snapshot()}))

    async def _keep_listening(self, source_id: str, source: Source) -> InputError | None:
        """Listen to a source; where it is lost, open it again, for ever. Returns when a file has ended."""
        failures = 0
        while True:
            opened_at = time.monotonic()
            try:
                await self._listen(source_id, source)
            except InputError as error:
                self._state(source_id, "failed", str(error))
                return error
            except SourceError as error:
                # A source that was heard for a while is new trouble, not more of the old.
                failures = 1 if time.monotonic() - opened_at > BACKOFF_S[1] else failures + 1
                self._state(source_id, "waiting", str(error))
            else:
                self._state(source_id, "ended", "the recording is over")
                return None
            pause_s = min(BACKOFF_S[1], BACKOFF_S[0] * 2 ** (failures - 1))
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311  # spreads the load, hides nothing

    async def _listen(self, source_id: str, source: Source) -> None:
        """One stretch of listening, from open to end. Its events end with it."""
        metrics = self._metrics.source(source_id)
        try:
            await source.open()
            ring = Ring(source.sample_rate, self._config.windows.ring_s, metrics)
            pipeline = Pipeline(source_id, self._config, self._labels)
            windows = Windows(ring, source_id, hop_s=self._config.hop_s, window_s=self._window_s)
            self._state(source_id, "listening", f"{source.sample_rate} Hz")
            capture = asyncio.create_task(self._capture(source, ring), name=f"capture[{source_id}]")
            try:
                async for window in windows:
                    scores = await self._worker.score(window)
                    now = time.time()
                    for event in pipeline.update(window, scores, now):
                        if event.phase == "start":
                            metrics.events += 1
                            self._metrics.latencies_s.append(now - event.heard_at)
                        self._tell(event)
                    self._tell(pipeline.hearing(window, scores))
                await capture
            finally:
                capture.cancel()
                with suppress(asyncio.CancelledError, StreamerError):
                    await capture
                for event in pipeline.close(time.time(), time.time()):
                    self._tell(event)
        finally:
            await source.close()

    async def _capture(self, source: Source, ring: Ring) -> None:
        try:
            await source.run(ring.write)
        finally:
            ring.finish()

    def _state(self, source_id: str, phase: SourcePhase, reason: str) -> None:
        self._tell(SourceState(source_id, phase, time.time(), reason))
