"""Puts the page together: its feed among the sinks, its API over history and control, its server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from streamer.capture.tapes import Tapes
from streamer.config.control import Control
from streamer.config.schema import Config
from streamer.core.json_file import JsonFile
from streamer.model import hub
from streamer.mqtt.messages import event_message
from streamer.types import Sink
from streamer.web.api import Api, Parts
from streamer.web.feed import Feed
from streamer.web.server import WebServer, check_access, home_zone
from streamer.web.sessions import PasswordFile, Sessions, password_path


def open_page(
    config: Config,
    in_use: Callable[[], Config],
    directory: Path | None,
    control: Control,
    report: Callable[[], Mapping[str, object]],
    tapes: Tapes,
    sinks: list[Sink],
) -> WebServer:
    """The server of the page, not running yet; its feed is added to `sinks`.

    `in_use` gives the configuration after reloads. Raises ConfigError where everybody could reach it.
    """
    web = config.web
    state = directory or Path("/nonexistent")
    sessions = Sessions(
        JsonFile(directory, "web-sessions.json"),
        PasswordFile(password_path(web.password_file, "web-password", state)),
        PasswordFile(password_path(web.guest_password_file, "web-guest-password", state)),
    )
    check_access(web, sessions)
    feed = Feed(tapes, lambda event: event_message(event, config.node))
    sinks.append(feed)
    zone, zone_name = home_zone()
    parts = Parts(
        config=in_use,
        control=control,
        directory=directory,
        report=report,
        feed=feed,
        sessions=sessions,
        zone=zone,
        zone_name=zone_name,
        supported=lambda sound: _supported(in_use(), sound),
    )
    api = Api(parts)
    control.subscribe(lambda _: feed.changed("control", api.control_fields()))
    return WebServer(web, api, sessions)


def _supported(config: Config, sound: str) -> bool | None:
    """Whether the model was measured to hear any label of a sound."""
    labels = config.sounds[sound].labels
    return not hub.lacking(config.model.path, {sound: labels}) if labels else None
