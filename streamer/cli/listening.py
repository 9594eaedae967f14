"""streamer run, listen, check, devices: the commands that open sources."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from streamer.archive.output import Shard
from streamer.config.schema import AlertSettings, Config, MqttSettings, example, load_config
from streamer.config.sources import NodeSettings, SourceSettings
from streamer.core.logs import LineFormatter, LogThread, terminal_in_threads
from streamer.core.open_files import allow_open_files
from streamer.core.shortage import say_shortage_once
from streamer.data.synthesis import write_demo
from streamer.errors import ConfigError, SourceError, StreamerError, UsageError, for_people
from streamer.fleet.shards import part_of
from streamer.metrics import Metrics
from streamer.store.directory import state_directory
from streamer.types import AudioBlock, Window

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", help="The configuration, for example configs/home.yaml.", metavar="FILE"),
]
PlainOption = Annotated[bool, typer.Option("--plain", help="Log lines, even on a terminal.")]

QUICKSTART = example("quickstart")
STOP_SIGNALS = signal.SIGINT, signal.SIGTERM
CHECK_S = 1.5
"""how long `check` listens to a source"""
STOP_S = 10.0
"""seconds after a signal at which the process is ended by force; in order it takes less than two"""


def run(
    config: ConfigOption,
    plain: PlainOption = False,
    shard: Annotated[
        str | None,
        typer.Option(help="The part of its sources that this process takes, as in 0/3.", metavar="I/N"),
    ] = None,
) -> None:
    """Listen to the sources of a configuration and publish what is heard. Ctrl-C stops it.

    Example: streamer run --config configs/quickstart.yaml
    """

    def load() -> Config:
        whole = load_config(config)
        return whole if part is None else part_of(whole, part.index, part.of)

    with _stopped_at_once():
        part = None if shard is None else Shard.parse(shard)
        _run(load(), plain=plain, reread=load)


def listen(
    config: ConfigOption = QUICKSTART,
    microphone: Annotated[
        str | None, typer.Option(help="A part of a microphone's name, or `default`.")
    ] = None,
    stream: Annotated[str | None, typer.Option(help="A file, or an rtsp:// or http:// address.")] = None,
    plain: PlainOption = False,
) -> None:
    """Show what is heard, and publish nothing.

    Example: streamer listen --microphone USB
    """
    if microphone is not None and stream is not None:
        raise UsageError("name a microphone or a stream, not both")
    with _stopped_at_once():
        settings = load_config(config).model_dump()
        settings["mqtt"] = MqttSettings(enabled=False).model_dump()
        if microphone is not None:
            settings["sources"] = {"microphone": {"microphone": microphone}}
        elif stream is not None:
            settings["sources"] = {"stream": {"stream": stream}}
        _run(Config.model_validate(settings), plain=plain)


def devices() -> None:
    """List the microphones of this machine.

    Example: streamer devices
    """
    from streamer.capture.microphone import list_devices  # noqa: PLC0415  # loads PortAudio

    found = list_devices()
    if not found:
        typer.echo("no microphone on this machine")
    for device in found:
        mark = "  (default)" if device.is_default else ""
        typer.echo(f"{device.name}   {device.channels} channels, {device.sample_rate} Hz{mark}")


def check(config: ConfigOption) -> None:
    """Try everything that a configuration names: a line each, exit code of the first failure.

    Example: streamer check --config configs/home.yaml
    """
    failures: list[StreamerError] = []

    def report(what: str, outcome: str | StreamerError) -> None:
        if isinstance(outcome, StreamerError):
            failures.append(outcome)
        typer.echo(f"{'FAIL' if isinstance(outcome, StreamerError) else 'ok  '}  {what:14}  {outcome}")

    try:
        settings = load_config(config)
    except ConfigError as error:
        for line in str(error).splitlines():
            typer.echo(f"FAIL  configuration   {line}")
        raise typer.Exit(error.exit_code) from error
    report("configuration", f"{config}: {len(settings.sources)} sources, {len(settings.sounds)} sounds")
    report("model", _outcome(lambda: _model_line(settings)))
    report("devices", _outcome(_devices_line))
    for source_id, source in settings.sources.items():
        report(f"source {source_id}", _outcome(lambda source=source: asyncio.run(_try_source(source))))  # type: ignore[misc]  # bound now
    if settings.mqtt.enabled and not settings.mqtt.embedded:
        from streamer.mqtt.publisher import probe  # noqa: PLC0415  # only where there is a broker to ask

        report("broker", _outcome(lambda: asyncio.run(probe(settings.mqtt))))
    elif settings.mqtt.enabled:
        report("broker", "embedded, started by `streamer run`")
    if settings.gateway is not None:
        report("gateway", _outcome(lambda: _gateway_line(settings)))
    if settings.web.enabled:
        report("page", _outcome(lambda: _page_line(settings)))
    if settings.alerts is not None:
        report("alerts", _outcome(lambda: _alerts_line(settings.alerts)))
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _alerts_line(settings: AlertSettings | None) -> str:
    """Where alerts would go; nothing is sent."""
    from streamer.alerts.targets import read_targets  # noqa: PLC0415  # an extra

    targets = read_targets(None if settings is None else settings.urls_file)
    return f"to {', '.join(target.name for target in targets)}"


def _page_line(settings: Config) -> str:
    """Whether the page may be served where the configuration says."""
    from streamer.run.page import open_sessions  # noqa: PLC0415  # only where there is a page

    sessions = open_sessions(settings.web, state_directory(settings.state_dir))
    access = "with a password" if sessions.has_password else "without a password, for this machine alone"
    return f"http://{settings.web.host}:{settings.web.port}/, {access}"


def register(app: typer.Typer) -> None:
    for command in (run, check, devices, listen):
        app.command()(command)


def _run(config: Config, *, plain: bool, reread: Callable[[], Config] | None = None) -> None:
    from streamer.run.assemble import serve  # noqa: PLC0415  # loads everything

    allow_open_files(len(config.sources))
    terminal = sys.stdout.isatty() and not plain
    faulthandler.enable()  # systemd's watchdog ends a daemon that hangs by SIGABRT: say where it hung
    with ExitStack() as stack:
        thread: LogThread | None = None
        if terminal:
            stack.enter_context(terminal_in_threads())
            handler: logging.Handler = logging.StreamHandler()
        else:
            # Not by descriptor 2: sounddevice turns that off for a moment whenever it looks for devices.
            thread = LogThread(os.dup(2), LineFormatter())
            stack.callback(thread.close)
            handler = thread.handler
        handler.setFormatter(LineFormatter())
        logging.basicConfig(level=logging.INFO, handlers=[handler])
        metrics = Metrics() if thread is None else Metrics(log_lines_lost=lambda: thread.dropped)
        daemon = serve(config, metrics, terminal=terminal, reread=None if terminal else reread)
        force = threading.Timer(STOP_S, _end_by_force)
        force.daemon = True
        stack.callback(force.cancel)
        asyncio.run(_until_stopped(daemon, force))


def _end_by_force() -> None:
    # Standard error may be what hangs.
    anyway = threading.Timer(1.0, os._exit, (StreamerError.exit_code,))
    anyway.daemon = True
    anyway.start()
    print(f"streamer: it did not stop within {STOP_S:g} s: ended by force", file=sys.stderr)
    faulthandler.dump_traceback(all_threads=True)
    os._exit(StreamerError.exit_code)


@contextmanager
def _stopped_at_once() -> Iterator[None]:
    """In the block, until an event loop answers SIGINT and SIGTERM: nothing is open yet, they just end it."""
    before = {number: signal.signal(number, lambda *_: os._exit(0)) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _until_stopped(daemon: Coroutine[Any, Any, None], force: threading.Timer) -> None:
    """Run it; SIGINT and SIGTERM end it in order, and that is no error. A second signal changes nothing.

    `force` is started at the first signal.
    """
    task = asyncio.create_task(daemon, name="daemon")
    stopped = asyncio.Event()

    def stop() -> None:
        if not stopped.is_set():
            stopped.set()
            task.cancel()
            force.start()

    loop = asyncio.get_running_loop()
    say_shortage_once(loop)
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped.is_set():
            raise


def _outcome(attempt: Callable[[], str]) -> str | StreamerError:
    try:
        return attempt()
    except Exception as error:
        known = for_people(error)
        if known is None:
            raise
        return known


def _model_line(config: Config) -> str:
    from streamer.detection.pipeline import Pipeline  # noqa: PLC0415
    from streamer.model import hub  # noqa: PLC0415
    from streamer.run.model import open_model  # noqa: PLC0415  # loads an engine

    engine = open_model(config)
    Pipeline("check", config, engine.labels)  # refuses sounds whose labels the model does not have
    unsure_of = hub.unsure_of(config.model.path, {name: s.labels for name, s in config.sounds.items()})
    return f"{engine.describe()}; {unsure_of}" if unsure_of else engine.describe()


def _devices_line() -> str:
    from streamer.capture.microphone import list_devices  # noqa: PLC0415  # loads PortAudio

    return ", ".join(device.name for device in list_devices()) or "no microphone on this machine"


def _gateway_line(config: Config) -> str:
    from streamer.metrics import Metrics  # noqa: PLC0415
    from streamer.nodes.gateway import Gateway  # noqa: PLC0415  # only where there is one

    if config.gateway is None:
        raise ConfigError("there is no gateway")
    Gateway(config.gateway, Metrics(), lambda: config.nodes)  # reads certificates and tokens
    return f"{config.gateway.host}:{config.gateway.port}, for {len(config.nodes)} nodes"


async def _try_source(settings: SourceSettings) -> str:
    """Open a source, listen for a moment, and say what came."""
    if isinstance(settings, NodeSettings):
        return f"node {settings.node}: it connects by itself; `streamer status` says whether it has"
    from streamer.capture.sources import open_source  # noqa: PLC0415
    from streamer.signal.faults import find_fault  # noqa: PLC0415
    from streamer.signal.level import level_dbfs  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="streamer-") as folder:
        source = open_source(settings, demo=lambda: write_demo(Path(folder)))
        blocks: list[AudioBlock] = []
        try:
            await source.open()
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await source.run(blocks.append)
        finally:
            await source.close()
    if not blocks:
        raise SourceError(f"opened, but nothing came within {CHECK_S:g} s")
    samples = np.nan_to_num(np.concatenate([block.samples for block in blocks]), posinf=1.0, neginf=-1.0)
    line = f"{source.sample_rate} Hz, {level_dbfs(samples):.0f} dBFS"
    heard = Window("check", 0, samples, source.sample_rate, 0.0, len(samples) / source.sample_rate)
    fault = find_fault(heard, len(samples))
    if fault is None:
        return line
    if fault.kind == "silence":
        raise SourceError(f"{line}: digital silence: is it muted or unplugged?")
    raise SourceError(f"{line}: {fault.text}")
