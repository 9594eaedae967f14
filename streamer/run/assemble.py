"""Builds the graph of sources, worker, pipelines and sinks that a configuration describes, and runs it.

source ──► ring ──► windows ──► worker ──► pipeline ──► sinks
one task a source, at its own pace     one batch at a time     one queue a sink
"""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.alerts.sink import AlertSink, consumer_name
from streamer.alerts.targets import Target, read_targets
from streamer.capture.sources import open_source
from streamer.capture.tapes import Tapes
from streamer.config.control import Control
from streamer.config.schema import Config, MqttSettings
from streamer.config.sources import NodeSettings, SourceSettings
from streamer.core.epoch import Epoch
from streamer.core.json_file import JsonFile
from streamer.core.tasks import in_background
from streamer.core.zone import home_zone
from streamer.data.synthesis import write_demo
from streamer.errors import ConfigError, StreamerError
from streamer.inference.process import open_worker
from streamer.inference.worker import About
from streamer.language import Names
from streamer.metrics import BROKER, Metrics
from streamer.mqtt.publisher import no_links
from streamer.ops.health import Health, Problem
from streamer.ops.prometheus import Exposition
from streamer.ops.status import socket_path, status_server
from streamer.ops.systemd import Notifier
from streamer.run.broker_link import BrokerLink
from streamer.run.daemon import Daemon
from streamer.run.fingerprints import fingerprints
from streamer.run.model import heads_of, warn_of_unsupported_sounds, with_measured_hop
from streamer.run.page import Page, metrics_server, open_page, page_parts
from streamer.run.reload import Reloader
from streamer.sinks.logger import LogSink
from streamer.sinks.terminal import TerminalSink
from streamer.store.clips import Clips
from streamer.store.directory import locked, state_directory
from streamer.store.history import Model
from streamer.store.listened import Listened
from streamer.store.log import Keep, Log
from streamer.store.query import Filter, reading
from streamer.store.recurrence import RecurrenceWatch
from streamer.store.score_files import About as AboutScores
from streamer.store.score_log import KeepScores, ScoreLog
from streamer.store.writer import Writer
from streamer.types import Hop, Sink, SoundEvent, Source
from streamer.web.guard import ScopedRoute
from streamer.web.metrics import metrics_routes
from streamer.web.shared import Shared

if TYPE_CHECKING:
    from streamer.nodes.gateway import Gateway

log = logging.getLogger(__name__)


async def serve(
    config: Config, metrics: Metrics, *, terminal: bool, reread: Callable[[], Config] | None = None
) -> None:
    """Build what a configuration describes and run it until cancelled, or until every source has ended.

    `terminal` shows a live view instead of log lines. `reread` gives the configuration anew, for SIGHUP.
    """
    notifier = Notifier()
    health = Health(metrics, notifier)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(in_background(health.run(), "health"))
        state = state_directory(config.state_dir)
        directory = stack.enter_context(locked(state))
        await stack.enter_async_context(status_server(socket_path(state), health.report))
        metrics_page = metrics_routes(Exposition(metrics, health), health)
        await _serve_metrics(config.health.port, metrics_page, stack)

        is_auto = config.windows.hop_s == "auto"
        worker = open_worker(
            config.model,
            metrics,
            n_sources=len(config.sources) if is_auto else None,
            heads=heads_of(config),
            fleet=config.fleet,
            wanted=config.labels,
        )
        stack.push_async_callback(worker.close)
        health.stage, health.describe_model = "loading the model", worker.describe
        model = await worker.start()
        log.info("%s", model.describe)
        warn_of_unsupported_sounds(config)
        config = with_measured_hop(config, model)

        marks = await asyncio.to_thread(fingerprints, config)

        epoch = Epoch(JsonFile(directory, "epoch.json"))
        control = Control(config, JsonFile(directory, "control.json"))
        targets = [] if config.alerts is None else read_targets(config.alerts.urls_file)
        writer = Writer(
            Log(
                directory,
                metrics,
                consumers=_consumers(config, targets),
                model=Model(config.model.path, model.labels, model.describe, marks),
                keep=Keep(config.store.events_days, config.store.events_max),
            ),
            metrics,
            rule=lambda event: _rule(control, event),
        )
        tapes, demos = Tapes(), set[str]()
        shared = _shared(config, directory, lambda: daemon.config, tapes)
        broker = await _broker_link(config, directory, writer, metrics, control, shared, epoch, stack)
        page: Page | None = None
        if config.web.enabled:
            shown = page_parts(
                config, lambda: daemon.config, directory, control, health.report, tapes, demos, shared
            )
            page = open_page(config.web, shown, metrics_page)
            writer.sinks.append(page.feed)
        writer.sinks += _alerts(
            config, targets, writer, lambda: daemon.config.names, tapes, metrics, directory
        )
        writer.sinks += [
            _display(config, terminal, model.describe, broker, page),
            RecurrenceWatch(
                directory, lambda: daemon.config.expected, control.listens_for, writer.put, metrics
            ),
        ]
        gateway = await _gateway(config, metrics, stack, lambda: daemon.config.nodes)
        daemon = Daemon(
            config,
            open_source=_opener(gateway, stack, demos),
            worker=worker,
            labels=model.labels,
            window_s=model.window_s,
            sinks=[writer],
            metrics=metrics,
            control=control,
            tapes=tapes,
            epoch=epoch,
            watch=_watchers(config, directory, tapes, model, marks, writer, metrics, stack),
        )
        if page is not None:
            await stack.enter_async_context(in_background(page.run(), "page"))
        parts: dict[str, Problem] = {"inference": worker.problem, "event log": writer.problem}
        health.set_parts({"sources": daemon.problem, **parts}, daemon.is_ready)
        if reread is not None:
            reloader = Reloader(daemon, broker, control, model, reread, notifier)
            await stack.enter_async_context(in_background(reloader.run(), "reload"))
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.request)
        try:
            await daemon.run()
        finally:
            health.stopping()


async def _serve_metrics(port: int | None, routes: Sequence[ScopedRoute], stack: AsyncExitStack) -> None:
    """Until the end of `stack`, where there is a port."""
    if port is not None:
        server = metrics_server(port, routes)
        await stack.enter_async_context(in_background(server.run(), "metrics"))


async def _broker_link(
    config: Config,
    directory: Path | None,
    writer: Writer,
    metrics: Metrics,
    control: Control,
    shared: Shared | None,
    epoch: Epoch,
    stack: AsyncExitStack,
) -> BrokerLink | None:
    """The MQTT sink, which is added to those of the writer; None where nothing is published."""
    if not config.mqtt.enabled:
        return None
    address = await _embedded(config.mqtt, stack) if config.mqtt.embedded else {}
    links = no_links if shared is None else shared.links
    events = writer.consumer(BROKER)
    broker = BrokerLink(config, directory, events, metrics, address, control, links, epoch=epoch)
    broker.count_earlier(await asyncio.to_thread(_began_today, directory))
    writer.sinks.append(broker.sink)
    return broker


def _shared(
    config: Config, directory: Path | None, in_use: Callable[[], Config], tapes: Tapes
) -> Shared | None:
    """What phones are shown by a signed address; None without an address for phones, or a history."""
    if directory is None or config.web.public_url is None:
        return None
    return Shared(directory, config.web.public_url, in_use, tapes)


def _display(
    config: Config, terminal: bool, model: str, broker: BrokerLink | None, page: Page | None
) -> Sink:
    """Shows people the events: the live view of a terminal, or lines of the log."""
    where = "nowhere: mqtt.enabled is false" if broker is None else broker.subscription
    if terminal:
        return TerminalSink(config.node, model, where, page="" if page is None else page.server.address)
    log.info("events: %s", where)
    return LogSink()


def _consumers(config: Config, targets: Sequence[Target]) -> list[str]:
    """Who reads the event log, each with its own cursor."""
    broker = [BROKER] if config.mqtt.enabled else []
    return broker + [consumer_name(target.name) for target in targets]


def _alerts(
    config: Config,
    targets: Sequence[Target],
    writer: Writer,
    names: Callable[[], Names],
    tapes: Tapes,
    metrics: Metrics,
    directory: Path | None,
) -> list[AlertSink]:
    """One sink, each target of which is a consumer of the event log, by its name; none without settings."""
    settings = config.alerts
    if settings is None:
        return []
    if settings.page_url is None:
        settings = settings.model_copy(update={"page_url": config.web.public_url})
    log.info("alerts: to %s", ", ".join(target.name for target in targets))
    consumers = [(target, writer.consumer(consumer_name(target.name))) for target in targets]
    return [AlertSink(settings, consumers, names, tapes, home_zone()[0], metrics, directory=directory)]


def _watchers(
    config: Config,
    directory: Path | None,
    tapes: Tapes,
    model: About,
    marks: Mapping[str, str],
    writer: Writer,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> Callable[[Hop], None]:
    """Who gets each hop: the score log and the clips, where they are switched on. Adds their sinks, too."""
    writer.sinks.append(Listened(writer))
    store, watchers = config.store, list[Callable[[Hop], None]]()
    min_free = store.min_free_mb << 20
    if directory is not None and store.scores:
        about = AboutScores(config.model.path, model.labels, model.window_s, marks)
        keep = KeepScores(store.scores_days, store.scores_max_mb << 20, min_free)
        score_log = ScoreLog(directory, about, metrics, keep)
        stack.push_async_callback(score_log.close)
        watchers.append(score_log.put)
    if directory is not None and config.clips.enabled:
        clips = Clips(directory, config.clips, tapes, model.labels, writer, metrics, min_free=min_free)
        writer.sinks.append(clips)
        watchers.append(clips.watch)

    def watch(hop: Hop) -> None:
        for watcher in watchers:
            watcher(hop)

    return watch


async def _gateway(
    config: Config, metrics: Metrics, stack: AsyncExitStack, wanted: Callable[[], Sequence[str]]
) -> Gateway | None:
    """Serve capture nodes until the end of `stack`, where the configuration says so."""
    if config.gateway is None:
        return None
    from streamer.nodes.gateway import Gateway  # noqa: PLC0415  # only where there is one

    gateway = Gateway(config.gateway, metrics, wanted)
    await stack.enter_async_context(gateway.serving())
    return gateway


def _opener(
    gateway: Gateway | None, stack: AsyncExitStack, demos: set[str]
) -> Callable[[str, SourceSettings], Source]:
    """Gives the source of an id and its settings, not opened yet; `demos` gets the ids that play the demo."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamer-")))

    def opener(source_id: str, settings: SourceSettings) -> Source:
        def node(settings: NodeSettings) -> Source:
            if gateway is None:
                raise ConfigError(f"sources.{source_id}: there is no gateway; restart the program")
            return gateway.source(source_id, settings.node)

        def demo() -> Path:
            demos.add(source_id)
            return write_demo(folder)

        demos.discard(source_id)
        return open_source(settings, demo, node)

    return opener


def _rule(control: Control, event: SoundEvent) -> str:
    """What is in force for an event that begins, as JSON; nothing of a sound that has just been removed."""
    config = control.in_force(event.source_id)
    return config.sound(event.sound).model_dump_json() if event.sound in config.sounds else ""


def _began_today(directory: Path | None) -> list[tuple[str, str, float]]:
    """Source, sound and onset of the events of the history that began since midnight, local time."""
    if directory is None:
        return []
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        with reading(directory) as reader:
            events = reader.events(Filter(since=midnight.timestamp()))
            return [(event.source, event.sound, event.onset) for event in events]
    except StreamerError:  # none yet, or damaged, which the event log itself says
        return []


async def _embedded(mqtt: MqttSettings, stack: AsyncExitStack) -> dict[str, object]:
    """Start the embedded broker; its address, as settings of `mqtt`."""
    from streamer.mqtt.broker import HOST, embedded_broker  # noqa: PLC0415  # amqtt is slow to load

    port = await stack.enter_async_context(embedded_broker(mqtt.port or 1883))
    log.info(
        "embedded broker: %s:%d, to try things on this machine alone, MQTT 3.1.1; for a home use Mosquitto",
        HOST,
        port,
    )
    return {"host": HOST, "port": port}
