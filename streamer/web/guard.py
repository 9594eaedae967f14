"""What every request must pass before it is routed: host, origin, body, session, scope. Denies by default.

The checks, in this order, and the attacks that they stop:

1. `Host` is a name that this server goes by: DNS rebinding.
2. Headers that a proxy would set are dropped unless it is Home Assistant's: forged identities.
3. A request that changes something comes from this very page, or from no page at all: cross-site requests.
4. Its body is JSON and not larger than 64 kB.
5. The caller has the scope that the route asks for; a route without one is not routed to.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from streamer.web.sessions import NOBODY, OWNER, Scope, Sessions

COOKIE = "streamer"
BODY_MAX = 64 * 1024
"""bytes of a request"""
LOOPBACK = ("127.0.0.1", "::1", "localhost")
READING = ("GET", "HEAD")
INGRESS = re.compile(r"/api/hassio_ingress/[\w-]{1,128}")
"""the path under which Home Assistant's supervisor shows the page of an add-on"""
PROXY_HEADERS = (b"x-forwarded-", b"x-ingress-path", b"x-remote-user", b"x-real-ip", b"forwarded")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors "
)


class RequestError(Exception):
    """An answer other than the one that was asked for."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ScopedRoute(Route):
    """A route, what a caller must be allowed to do to reach it (None: for everybody), and what it answers."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        needs: Scope | None,
        methods: Sequence[str] = ("GET",),
        answers: str = "",
    ) -> None:
        """`answers` is a schema of `answers.json`, or the type of a file; empty where nothing is answered."""
        super().__init__(path, endpoint, methods=list(methods))
        self.needs = needs
        self.answers = answers


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    scopes: frozenset[Scope]
    session: str | None = None
    """id of the session or token"""
    address: str = ""
    base: str = "/"
    """path of the page as the browser sees it: the cookie's"""


class Guard:
    """An ASGI application around another."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[ScopedRoute],
        sessions: Sessions,
        *,
        hosts: Iterable[str],
        ingress_proxies: Iterable[str] = (),
        needs_password: bool = False,
    ) -> None:
        """`hosts`: names of the server beside loopback; `ingress_proxies`: addresses or networks.

        With `needs_password` nobody gets in while there is none: the file may be lost while others reach it.
        """
        self._app = app
        self._routes = routes
        self._sessions = sessions
        self._hosts = frozenset(host.lower().strip("[]") for host in (*LOOPBACK, *hosts))
        self._trusted = [ipaddress.ip_network(proxy, strict=False) for proxy in ingress_proxies]
        self._needs_password = needs_password

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        address = (scope.get("client") or ("", 0))[0]
        is_trusted = _is_within(address, self._trusted)
        if not is_trusted:
            scope = {**scope, "headers": [h for h in scope["headers"] if not h[0].startswith(PROXY_HEADERS)]}
        headers = Headers(scope=scope)
        ingress = headers.get("x-ingress-path", "")
        is_ingress = is_trusted and INGRESS.fullmatch(ingress) is not None
        send = self._with_headers(send, scope["path"], framed=is_ingress)

        if not is_ingress and _host(headers.get("host", "")) not in self._hosts:
            await _refuse(
                send, HTTPStatus.MISDIRECTED_REQUEST, "this server does not go by that name: see web.hosts"
            )
            return
        if scope["method"] not in READING and (reason := _is_foreign(headers)):
            await _refuse(send, HTTPStatus.FORBIDDEN, reason)
            return
        if int(headers.get("content-length") or 0) > BODY_MAX:
            await _refuse(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "at most 64 kB")
            return
        caller = self._caller(headers, address, ingress if is_ingress else "")
        needs, is_known = self._needs(scope)
        if needs is not None and needs not in caller.scopes:
            status = HTTPStatus.FORBIDDEN if caller.scopes else HTTPStatus.UNAUTHORIZED
            await _refuse(send, status, f"this needs the scope {needs}" if caller.scopes else "sign in first")
            return
        if not is_known and not caller.scopes:
            await _refuse(send, HTTPStatus.UNAUTHORIZED, "sign in first")
            return
        scope = {**scope, "state": {**scope.get("state", {}), "caller": caller}}
        await self._app(scope, _bounded(receive), send)

    def _needs(self, scope: Connection) -> tuple[Scope | None, bool]:
        """What the route asks for, and whether there is a route."""
        for route in self._routes:
            if route.matches(scope)[0] is Match.FULL:
                return route.needs, True
        return None, False

    def _caller(self, headers: Headers, address: str, ingress: str) -> Caller:
        base = f"{ingress}/" if ingress else "/"
        if ingress:  # the supervisor has signed the user in; the add-on is for administrators
            return Caller(OWNER, None, address, base)
        if not self._sessions.has_password:
            return Caller(NOBODY if self._needs_password else OWNER, None, address, base)
        kind, _, secret = headers.get("authorization", "").partition(" ")
        secret = secret if kind.lower() == "bearer" else _cookie(headers.get("cookie", ""))
        session = self._sessions.find(secret) if secret else None
        if session is None:
            return Caller(NOBODY, None, address, base)
        return Caller(session.scopes, session.id, address, base)

    def _with_headers(self, send: Send, path: str, *, framed: bool) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = CSP + ("'self'" if framed else "'none'")
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Permissions-Policy"] = "microphone=(), camera=(), geolocation=()"
                if path.startswith("/api/"):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        return sending


def _bounded(receive: Receive) -> Receive:
    """Counts the bytes of a body, whatever its headers say."""
    received = 0

    async def receiving() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > BODY_MAX:
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "at most 64 kB")
        return message

    return receiving


def _host(header: str) -> str:
    """The name in a Host header, without its port; nothing where it is not well-formed."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?", header)
    return match.group(1).lower().strip("[]") if match else ""


def _is_foreign(headers: Headers) -> str:
    """Why a request that changes something may come from another site; nothing where it does not."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return "a page of another site asked for it"
    if site is None and origin is not None and origin.partition("://")[2] != headers.get("host"):
        return "a page of another site asked for it"
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return "Content-Type must be application/json"
    # A page of another site can send neither this header nor JSON without a preflight, which is refused.
    if headers.get("x-streamer") != "1":
        return "the header X-Streamer: 1 is missing"
    return ""


def _is_within(address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        peer = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(peer in network for network in networks)


def _cookie(header: str) -> str:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


async def _refuse(send: Callable[[Message], Awaitable[None]], status: HTTPStatus, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
