"""Makes the source that a piece of configuration describes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from streamer.capture.channels import Channel
from streamer.capture.command import Command
from streamer.capture.microphone import Microphone, list_devices
from streamer.capture.satellite import Satellite
from streamer.config.sources import (
    CommandSettings,
    DemoSettings,
    MicrophoneSettings,
    NodeSettings,
    SourceSettings,
    StreamSettings,
    WyomingSettings,
)
from streamer.errors import ConfigError, SourceError
from streamer.types import Source

log = logging.getLogger(__name__)


def open_source(
    settings: SourceSettings,
    demo: Callable[[], Path],
    node: Callable[[NodeSettings], Source] = lambda _: _no_gateway(),
) -> Source:
    """The source that `settings` describe, not opened yet.

    `demo` makes the recording that the demo plays, `node` the source that a capture node is.

    Where a microphone has the demo as its fallback and this machine has no microphone at all, it is the demo,
    which is logged. Listing the microphones blocks for some ten milliseconds.
    """
    match settings:
        case MicrophoneSettings():
            if settings.fallback == "demo" and _no_microphone():
                return _stream(demo(), channel=settings.channel, loop=True)
            return Microphone(settings.microphone, channel=settings.channel)
        case StreamSettings() | DemoSettings():
            address = settings.stream if isinstance(settings, StreamSettings) else demo()
            return _stream(address, channel=settings.channel, pace=settings.pace, loop=settings.loop)
        case CommandSettings():
            return Command(
                settings.command,
                sample_rate=settings.sample_rate,
                channels=settings.channels,
                sample_format=settings.sample_format,
                channel=settings.channel,
            )
        case WyomingSettings():
            return Satellite(settings.wyoming, channel=settings.channel)
        case NodeSettings():
            return node(settings)


def _stream(
    address: str | Path,
    *,
    channel: Channel,
    pace: Literal["realtime", "fast"] = "realtime",
    loop: bool = False,
) -> Source:
    from streamer.capture.stream import Stream  # noqa: PLC0415  # FFmpeg is large, and microphones need none

    return Stream(address, channel=channel, pace=pace, loop=loop)


def _no_gateway() -> Source:
    raise ConfigError("a node is heard by `streamer run` alone, which has the gateway")


def _no_microphone() -> bool:
    try:
        reason = "" if list_devices() else "this machine has no microphone"
    except SourceError as error:
        reason = str(error)
    if reason:
        log.warning("%s: the demo is played instead", reason)
    return bool(reason)
