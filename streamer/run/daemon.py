"""The running daemon: builds the graph of sources, worker, pipelines and sinks, and stops it in order.

source ──► ring ──► windows ──► worker ──► pipeline ──► sinks
one task a source, at its own pace     one batch at a time     one queue a sink
"""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from streamer.capture.sources import open_source
from streamer.config.control import Control
from streamer.config.schema import Config, MqttSettings, SourceSettings
from streamer.core.json_file import Kept
from streamer.data.synthesis import write_demo
from streamer.detection.pipeline import Pipeline
from streamer.errors import InputError, StreamerError
from streamer.inference.process.child import About, ChildWorker
from streamer.metrics import Metrics
from streamer.model import hub
from streamer.mqtt.publisher import MqttSink
from streamer.ops.health import Health, Trouble
from streamer.ops.prometheus import metrics_server
from streamer.ops.status import socket_path, status_server
from streamer.ops.systemd import Notifier
from streamer.run.listener import Listener, patience
from streamer.sinks.exchangeable import CurrentSink
from streamer.sinks.logger import LogSink
from streamer.sinks.terminal import TerminalSink
from streamer.store.directory import locked, state_directory
from streamer.store.outbox import Outbox
from streamer.store.queue import EventQueue
from streamer.store.recorder import Recorder
from streamer.types import Report, Sink, Source, SourceState, Stats, Worker

STATS_S = 30.0
"""the pace of the statistics"""
NEEDS_RESTART = ("node", "state_dir", "model", "health")
"""what is built once; the rest of a configuration may change while it is in use"""

log = logging.getLogger(__name__)


async def serve(config: Config, *, terminal: bool, reread: Callable[[], Config] | None = None) -> None:
    """Build what a configuration describes and run it until cancelled, or until every source has ended.

    `terminal` shows a live view instead of log lines. `reread` gives the configuration anew, for SIGHUP.
    """
    metrics, notifier = Metrics(), Notifier()
    health = Health(metrics, notifier)
    async with AsyncExitStack() as stack:
        looking = asyncio.create_task(health.run(), name="health")
        stack.callback(looking.cancel)
        state = state_directory(config.state_dir)
        keeps = config.mqtt.enabled and not config.mqtt.embedded  # a broker of our own ends with us
        directory = stack.enter_context(locked(state)) if keeps else None
        await stack.enter_async_context(status_server(socket_path(state), health.report))
        if config.health.port is not None:
            await stack.enter_async_context(metrics_server(config.health.port, metrics, health))

        is_auto = config.windows.hop_s == "auto"
        worker = ChildWorker(config.model, metrics, n_sources=len(config.sources) if is_auto else None)
        stack.push_async_callback(worker.close)
        health.stage, health.describe_model = "loading the model", worker.describe
        model = await worker.start()
        log.info("%s", model.describe)
        _warn_of_sounds(config)
        config = _with_hop(config, model)

        sinks: list[Sink] = []
        parts: dict[str, Trouble] = {"inference": worker.trouble}
        broker: _Broker | None = None
        control = Control(config, Kept(directory, "control.json"))
        if config.mqtt.enabled:
            address = await _embedded(config.mqtt, stack) if config.mqtt.embedded else {}
            broker = _Broker(config, directory, metrics, address, control)
            sinks.append(broker.sink)
        told = "nobody: mqtt.enabled is false" if broker is None else broker.told
        if terminal:
            sinks.append(TerminalSink(config.node, model.describe, told))
        else:
            log.info("events: %s", told)
            sinks.append(LogSink())
        if broker is not None:
            recorder = Recorder(broker.queue, sinks, metrics)
            sinks, parts["outbox"] = [recorder], recorder.trouble
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamer-")))
        daemon = Daemon(
            config,
            open_source=lambda settings: open_source(settings, demo=lambda: write_demo(folder)),
            worker=worker,
            labels=model.labels,
            window_s=model.window_s,
            sinks=sinks,
            metrics=metrics,
            control=control,
        )
        health.watch({"sources": daemon.trouble, **parts}, daemon.is_under_way)
        if reread is not None:
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGHUP, lambda: _reload(daemon, broker, control, model, reread, notifier)
            )
        try:
            await daemon.run()
        finally:
            health.stopping()


class _Broker:
    """The way to the broker: what waits for it, and who tells it, exchanged where the settings change."""

    def __init__(
        self,
        config: Config,
        directory: Path | None,
        metrics: Metrics,
        address: Mapping[str, object],
        control: Control,
    ) -> None:
        """`address` is that of a broker of our own."""
        self._metrics = metrics
        self._control = control
        self._announced = Kept(directory, "announced.json")
        self._address = address
        self.queue = EventQueue(Outbox(directory, config.node, metrics))
        self.sink = CurrentSink(self._sink(config))
        mqtt = self._settings(config)
        topic = f"{mqtt.prefix}/{config.node}/+/event/#"
        self.told = f"mosquitto_sub -h {mqtt.host} -p {mqtt.port or 1883} -v -t '{topic}'"

    def change(self, config: Config, before: Config) -> None:
        """Raises ConfigError, and nothing is changed."""
        if _seen_by_broker(config) != _seen_by_broker(before):
            self.sink.exchange(self._sink(config))

    def _sink(self, config: Config) -> MqttSink:
        settings = self._settings(config)
        return MqttSink(
            settings,
            config.node,
            config.sources,
            config.sounds,
            self.queue,
            self._metrics,
            control=self._control,
            home_assistant=config.home_assistant,
            announced=self._announced,
        )

    def _settings(self, config: Config) -> MqttSettings:
        return config.mqtt.model_copy(update=self._address)


async def _embedded(mqtt: MqttSettings, stack: AsyncExitStack) -> dict[str, object]:
    """Start a broker of our own; says where it is."""
    from streamer.mqtt.broker import HOST, embedded_broker  # noqa: PLC0415  # amqtt is slow to load

    return {"host": HOST, "port": await stack.enter_async_context(embedded_broker(mqtt.port or 1883))}


def _reload(
    daemon: Daemon,
    broker: _Broker | None,
    control: Control,
    model: About,
    reread: Callable[[], Config],
    notifier: Notifier,
) -> None:
    """Change what can be changed. Where anything of it is wrong, say what, and go on as before."""
    notifier.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
    try:
        config = _with_hop(reread(), model)
        Pipeline("reload", config, model.labels)  # refuses sounds whose labels the model does not have
        for section in NEEDS_RESTART:
            if getattr(config, section) != getattr(daemon.config, section):
                log.warning("reload: a change of `%s` takes effect at the next start", section)
                config = config.model_copy(update={section: getattr(daemon.config, section)})
        control.change(config)
        if broker is not None:
            broker.change(config, daemon.config)
        daemon.change(config)
    except StreamerError as error:
        control.change(daemon.config)
        for line in str(error).splitlines():
            log.error("reload: %s", line)  # noqa: TRY400  # the line is all that people need
        log.error("reload: nothing was changed; the configuration from before stays in force")  # noqa: TRY400
    else:
        log.info("reload: the new configuration is in force")
        _warn_of_sounds(config)
    notifier.tell(READY=1)


def _warn_of_sounds(config: Config) -> None:
    """Name the sounds that the model is not known to hear."""
    labels = {name: sound.labels for name, sound in config.sounds.items()}
    if line := hub.lacking(config.model.path, labels):
        log.warning("%s", line)


def _seen_by_broker(config: Config) -> tuple[object, ...]:
    return config.mqtt, config.home_assistant, set(config.sources), set(config.sounds)


def _with_hop(config: Config, model: About) -> Config:
    """`auto` becomes what was measured."""
    if config.windows.hop_s != "auto" or model.hop_s is None:
        return config
    return config.model_copy(update={"windows": config.windows.model_copy(update={"hop_s": model.hop_s})})


class Daemon:
    """Listens to every source until it is stopped, or until every source has come to its end."""

    def __init__(
        self,
        config: Config,
        *,
        open_source: Callable[[SourceSettings], Source],
        worker: Worker,
        labels: Sequence[str],
        window_s: float,
        sinks: Sequence[Sink],
        metrics: Metrics,
        control: Control,
    ) -> None:
        self.config = config
        self._control = control
        self._open_source = open_source
        self._worker = worker
        self._labels = labels
        self._window_s = window_s
        self._sinks = sinks
        self._metrics = metrics
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
        self._control.watch(lambda _: self._changed.set())
        async with asyncio.TaskGroup() as telling:
            tellers = [
                telling.create_task(sink.run(), name=f"sink[{type(sink).__name__}]") for sink in self._sinks
            ]
            try:
                async with asyncio.TaskGroup() as listening:
                    stats = listening.create_task(self._tell_stats(), name="stats")
                    await self._follow_config(listening)
                    while self._tasks:
                        changed = asyncio.create_task(self._changed.wait())
                        await asyncio.wait(
                            (*self._tasks.values(), changed), return_when=asyncio.FIRST_COMPLETED
                        )
                        changed.cancel()
                        failures += self._over()
                        if self._changed.is_set():
                            await self._follow_config(listening)
                    stats.cancel()
            finally:
                for teller in tellers:
                    teller.cancel()
        if failures:
            raise failures[0]

    def change(self, config: Config) -> None:
        """Follow another configuration from now on: sources come and go, the others go on without a gap."""
        self.config = config
        self._changed.set()

    def trouble(self) -> str | None:
        """Which sources do not move any more."""
        return (
            "; ".join(said for listener in self._listeners.values() if (said := listener.trouble())) or None
        )

    def is_under_way(self) -> bool:
        """Something is heard, or it is known of each source that it is waited for."""
        listeners = self._listeners.values()
        return any(listener.is_heard for listener in listeners) or all(
            listener.has_spoken for listener in listeners
        )

    def _over(self) -> list[InputError]:
        """Forget the sources that have ended; says which of them were none."""
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
        wanted = {
            source_id: (settings, self.config.windows) for source_id, settings in self.config.sources.items()
        }
        stale = [source_id for source_id, built in self._built.items() if wanted.get(source_id) != built]
        ending = [self._tasks.pop(source_id) for source_id in stale if source_id in self._tasks]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        for source_id in stale:
            del self._built[source_id]
            self._listeners.pop(source_id, None)
            if source_id not in wanted:
                self._tell(SourceState(source_id, "ended", time.time(), "no longer configured"))
                self._metrics.sources.pop(source_id, None)
        for listener in self._listeners.values():
            listener.change(self._control.in_force(listener.id))
        for source_id, settings in self.config.sources.items():
            if source_id not in self._built:
                self._built[source_id] = wanted[source_id]
                self._listen(source_id, settings, group)

    def _listen(self, source_id: str, settings: SourceSettings, group: asyncio.TaskGroup) -> None:
        self._listeners[source_id] = listener = Listener(
            source_id,
            self._open_source(settings),
            self._control.in_force(source_id),
            worker=self._worker,
            labels=self._labels,
            window_s=self._window_s,
            tell=self._tell,
            metrics=self._metrics,
            patience=patience(settings),
            wanted=lambda: self._control.listens(source_id),
        )
        self._tasks[source_id] = group.create_task(listener.run(), name=f"source[{source_id}]")

    def _tell(self, report: Report) -> None:
        for sink in self._sinks:
            sink.put(report)

    async def _tell_stats(self) -> None:
        started = time.monotonic()
        while True:
            await asyncio.sleep(STATS_S)
            uptime_s = round(time.monotonic() - started)
            self._tell(Stats(time.time(), {"uptime_s": uptime_s, **self._metrics.snapshot()}))
