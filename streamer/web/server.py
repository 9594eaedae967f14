"""The page's server: uvicorn in the daemon's event loop, and never a reason to stop listening."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamer.config.schema import WebSettings
from streamer.core.backoff import Backoff
from streamer.core.rate_limit import RateLimit
from streamer.core.tasks import running
from streamer.errors import ConfigError
from streamer.web.api import Api, RefusedError
from streamer.web.guard import LOOPBACK, Guard
from streamer.web.sessions import Sessions

PORTS = 20
"""how many ports are tried from the configured one on, where `make run` asks for it"""
RESTART = Backoff(first_s=1.0, longest_s=60.0)
STOP_S = 1.0
"""seconds for open requests at the end"""

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Signals are the daemon's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Serves the page until cancelled; where that fails it is tried again, and the daemon goes on."""

    def __init__(self, settings: WebSettings, api: Api, sessions: Sessions) -> None:
        self._settings = settings
        self._failure = ""
        self.address = ""
        app = Starlette(routes=api.routes, exception_handlers={RefusedError: _refused, Exception: _failed})
        self._app = Guard(
            app,
            api.routes,
            sessions,
            hosts=(settings.host, *settings.hosts),
            trusted_proxies=settings.trusted_proxies,
        )

    def problem(self) -> str:
        """Why there is no page now, a clause for people; empty where there is one."""
        return self._failure

    async def run(self) -> None:
        failures, logged = 0, RateLimit()
        while True:
            began = time.monotonic()
            try:
                with socket.socket(_family(self._settings.host), socket.SOCK_STREAM) as listening:
                    self._bind(listening)
                    self._failure = ""
                    log.info("page: %s", self.address)
                    await self._serve(listening)
            except Exception as error:  # a page that fails is no reason to stop listening
                failures = 1 if time.monotonic() - began > RESTART.longest_s else failures + 1
                self._failure = f"the page cannot be served: {error}"
                if logged.due():
                    stack = None if isinstance(error, OSError) else error
                    log.error("%s; tried again", self._failure, exc_info=stack)  # noqa: TRY400  # a taken port needs none
            await asyncio.sleep(RESTART.pause_s(failures))

    def _bind(self, listening: socket.socket) -> None:
        """On the configured port; the next free one where several may be tried. Raises OSError."""
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host, first = self._settings.host, self._settings.port
        for port in range(first, first + (PORTS if self._settings.next_free_port else 1)):
            try:
                listening.bind((host, port))
                break
            except OSError as error:
                failure = error
        else:
            raise failure
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{port}/"

    async def _serve(self, listening: socket.socket) -> None:
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=int(STOP_S),
            timeout_keep_alive=15,
            limit_concurrency=200,
            h11_max_incomplete_event_size=16384,
            http="h11",
            ws="none",
        )
        server = _Server(config)
        async with running(server.serve([listening]), "page") as serving:
            try:
                await asyncio.shield(serving)
            finally:
                server.should_exit = True
                with suppress(TimeoutError, asyncio.CancelledError):
                    async with asyncio.timeout(STOP_S + 0.5):
                        await asyncio.shield(serving)


def check_access(settings: WebSettings, sessions: Sessions) -> None:
    """Raises ConfigError where everybody on the network would own the daemon."""
    if settings.host not in LOOPBACK and not sessions.has_password:
        raise ConfigError(
            f"web.host is {settings.host}, and there is no password: set one with `streamer web password`"
        )


def home_zone() -> tuple[ZoneInfo, str]:
    """The time zone of this machine and its name: days begin at the home's midnight, not the browser's."""
    names = [os.environ.get("TZ", "").lstrip(":")]
    with suppress(OSError):
        names.append(Path("/etc/timezone").read_text(encoding="utf-8").strip())
    with suppress(OSError, ValueError):
        names.append(str(Path("/etc/localtime").resolve()).split("zoneinfo/", 1)[1])
    for name in names:
        with suppress(ZoneInfoNotFoundError, ValueError, OSError, IndexError):
            if name:
                return ZoneInfo(name), name
    return ZoneInfo("UTC"), "UTC"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, getattr(error, "status", 500))


def _failed(_: Request, error: Exception) -> Response:
    log.error("page: a fault in the program", exc_info=error)
    return JSONResponse({"error": "a fault in the program; its log says more"}, 500)
