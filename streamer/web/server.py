"""HTTP by uvicorn in the daemon's event loop; one that fails is started again, and the daemon goes on."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from streamer.core.backoff import Backoff
from streamer.core.rate_limit import RateLimit
from streamer.core.tasks import running
from streamer.web.guard import Guard, RequestError, ScopedRoute
from streamer.web.sessions import Sessions

PORTS = 20
"""how many ports are tried from the configured one on, where `make run` asks for it"""
RESTART = Backoff(first_s=1.0, longest_s=60.0)
BACKLOG = 128
STOP_S = 1.0
"""seconds for open requests at the end"""

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Signals are the daemon's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Serves an application until cancelled; where that fails it is tried again, and the daemon goes on."""

    def __init__(
        self, name: str, app: ASGIApp, host: str, port: int, *, next_free_port: bool = False
    ) -> None:
        """`name` is the word for it in the log and the status."""
        self._name = name
        self._app = app
        self._host = host
        self._ports = range(port, port + (PORTS if next_free_port else 1))
        self._listening: socket.socket | None = None
        self._failure = ""
        self._logged = RateLimit()
        self.address = ""
        """at which it is served; empty until it is"""

    def problem(self) -> str:
        """Why it is not served now, a clause for people; empty where it is."""
        return self._failure

    def bind(self) -> None:
        """Take the port, so that the address is known. A port that is in use is logged; `run` tries again."""
        try:
            self._listening = self._bound()
        except OSError as error:
            self._failed(error)

    async def run(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                listening, self._listening = self._listening or self._bound(), None
                with listening:
                    await self._serve(listening)
            except Exception as error:  # a page that fails is no reason to stop listening
                self._failed(error)
            failures = 1 if time.monotonic() - began > RESTART.longest_s else failures + 1
            await asyncio.sleep(RESTART.pause_s(failures))

    def _failed(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self._failure = f"the {self._name} cannot be served at {self._host}:{self._ports[0]}: {reason}"
        if self._logged.due():
            log.error(
                "%s; tried again", self._failure, exc_info=None if isinstance(error, OSError) else error
            )

    def _bound(self) -> socket.socket:
        """A socket at the first of the ports that is free. Raises OSError."""
        for port in self._ports:
            listening = socket.socket(_family(self._host), socket.SOCK_STREAM)
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind((self._host, port))
                listening.listen(BACKLOG)  # two sockets may be bound to a port, but only one listens
            except OSError as error:
                listening.close()
                if port == self._ports[-1] or error.errno != errno.EADDRINUSE:
                    raise
                continue
            break
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self.address = f"http://{shown}:{listening.getsockname()[1]}/"
        self._failure = ""
        log.info("%s: %s", self._name, self.address)
        return listening

    async def _serve(self, listening: socket.socket) -> None:
        config = uvicorn.Config(
            self._app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=int(STOP_S),
            timeout_keep_alive=15,
            limit_concurrency=200,
            backlog=BACKLOG,
            h11_max_incomplete_event_size=16384,
            http="h11",
            ws="none",
        )
        server = _Server(config)
        async with running(server.serve([listening]), self._name) as serving:
            try:
                await asyncio.shield(serving)
            finally:
                server.should_exit = True
                with suppress(TimeoutError, asyncio.CancelledError):
                    async with asyncio.timeout(STOP_S + 0.5):
                        await asyncio.shield(serving)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def application(
    routes: Sequence[ScopedRoute],
    sessions: Sessions,
    *,
    hosts: Iterable[str] = (),
    ingress_proxies: Iterable[str] = (),
    needs_password: bool = False,
) -> ASGIApp:
    """The routes behind the guard; the rest as `Guard` has it."""
    handlers: dict[Any, Any] = {RequestError: _refused, HTTPException: _no_such, Exception: _fault}
    app = Starlette(routes=list(routes), exception_handlers=handlers)
    return Guard(
        app, routes, sessions, hosts=hosts, ingress_proxies=ingress_proxies, needs_password=needs_password
    )


def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, getattr(error, "status", 500))


def _no_such(_: Request, error: HTTPException) -> Response:
    """No such path, or not by this method."""
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _fault(_: Request, error: Exception) -> Response:
    log.error("page: a fault in the program", exc_info=error)
    return JSONResponse({"error": "a fault in the program; its log says more"}, 500)
