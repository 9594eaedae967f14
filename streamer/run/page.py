"""Puts the page together: its feed among the sinks, its API over history and control, its server."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from streamer.capture.tapes import Tapes
from streamer.config.control import Control
from streamer.config.schema import Config, WebSettings
from streamer.core.json_file import JsonFile
from streamer.core.tasks import in_background
from streamer.core.zone import home_zone
from streamer.errors import ConfigError
from streamer.metrics import Metrics
from streamer.model import hub
from streamer.mqtt.messages import event_message
from streamer.ops.health import Health
from streamer.ops.prometheus import Exposition
from streamer.ops.systemd import Notifier
from streamer.web.api import Api
from streamer.web.commands import Commands
from streamer.web.feed import Feed
from streamer.web.guard import LOOPBACK, ScopedRoute
from streamer.web.metrics import metrics_routes
from streamer.web.parts import Parts
from streamer.web.server import WebServer, application
from streamer.web.sessions import PasswordFile, Sessions, password_path
from streamer.web.shared import Shared
from streamer.web.trials import Trials


def open_sessions(web: WebSettings, directory: Path | None) -> Sessions:
    """Who may do what. Raises ConfigError where everybody on the network could do everything."""
    state = directory or Path(os.devnull)  # below which there is no file
    sessions = Sessions(
        JsonFile(directory, "web-sessions.json"),
        PasswordFile(password_path(web.password_file, "web-password", state)),
        PasswordFile(password_path(web.guest_password_file, "web-guest-password", state)),
    )
    if web.host not in LOOPBACK and not sessions.has_password:
        raise ConfigError(
            f"web.host is {web.host}, and there is no password: set one with `streamer web password`"
        )
    return sessions


@dataclass(frozen=True, slots=True)
class Page:
    """Has its port, and is served while `run` runs."""

    server: WebServer
    feed: Feed
    """a sink"""
    routes: Sequence[ScopedRoute]
    trials: Trials

    async def run(self) -> None:
        """At the end the streams end first, so that the server need not wait for them."""
        async with in_background(self.server.run(), "page"):
            try:
                await self.feed.run()
            finally:
                await self.trials.close()


def metrics_server(port: int, routes: Sequence[ScopedRoute]) -> WebServer:
    """For this machine alone, without sign-in."""
    nobody = Sessions(JsonFile(None, ""), PasswordFile(None), PasswordFile(None))
    return WebServer("metrics", application(routes, nobody), "127.0.0.1", port)


def page_parts(
    config: Config,
    in_use: Callable[[], Config],
    directory: Path | None,
    control: Control,
    report: Callable[[], Mapping[str, object]],
    tapes: Tapes,
    demos: Set[str] = frozenset(),
    shared: Shared | None = None,
) -> Parts:
    """What the page of a configuration shows and changes; `in_use` gives that configuration after reloads.

    `demos` has the sources that play the demo, and may change; `shared` is for whoever has a signed address.

    Raises ConfigError where everybody on the network could do everything.
    """
    zone, zone_name = home_zone()
    return Parts(
        config=in_use,
        control=control,
        directory=directory,
        report=report,
        feed=Feed(tapes, lambda event: event_message(event, config.node, names=in_use().names)),
        tapes=tapes,
        demos=demos,
        commands=Commands(),
        sessions=open_sessions(config.web, directory),
        zone=zone,
        zone_name=zone_name,
        heard=lambda sound: hub.verdict(config.model.path, in_use().sounds[sound].labels),
        shared=shared,
    )


def open_page(web: WebSettings, parts: Parts, more: Sequence[ScopedRoute] = ()) -> Page:
    """`more` are routes that are served, too."""
    api = Api(parts)
    parts.control.subscribe(lambda _: parts.feed.changed("control", api.settings.control_fields()))
    routes = [*api.routes, *more]
    app = application(
        routes,
        parts.sessions,
        hosts=(web.host, *web.hosts),
        ingress_proxies=web.ingress_proxies,
        needs_password=web.host not in LOOPBACK,
    )
    server = WebServer("page", app, web.host, web.port, next_free_port=web.next_free_port)
    server.bind()
    return Page(server, parts.feed, routes, api.trials)


def every_route() -> list[ScopedRoute]:
    """What the page's server answers, as it has them; nothing is opened."""
    config, health = (
        Config.model_validate(
            {"sources": {"any": {"demo": True}}, "sounds": {"loud_noise": {"above_background_db": 25.0}}}
        ),
        Health(Metrics(), Notifier()),
    )
    control, tapes = Control(config, JsonFile(None, "")), Tapes()
    shared = Shared(Path(os.devnull), "", lambda: config, Tapes())
    api = Api(page_parts(config, lambda: config, None, control, dict, tapes, shared=shared))
    return [*api.routes, *metrics_routes(Exposition(Metrics(), health), health)]
