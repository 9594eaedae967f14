"""Where capture nodes connect: who may, which of two is heard, and what ends a connection."""

from __future__ import annotations

import asyncio
import hmac
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from streamer.config.schema import GatewaySettings
from streamer.core.printable import printable
from streamer.core.rate_limit import RateLimit
from streamer.core.threads import in_thread
from streamer.errors import ConfigError
from streamer.metrics import Metrics
from streamer.nodes.decoder import Decoder
from streamer.nodes.intake import LOST_S, Intake, NodeSource
from streamer.nodes.wire import (
    MESSAGE_MAX,
    PATH,
    SUBPROTOCOL,
    UNDER_WAY,
    Ack,
    Hello,
    LinkError,
    Note,
    Welcome,
    parse,
    text_of,
    unpack,
)

TOKEN_MIN = 16
"""characters"""
TOKENS_MAX = 1 << 20
"""bytes of the file"""
HELLO_S = 10.0
"""seconds that each step of a new connection may take"""
DROP_S = 0.25
"""seconds between two looks for hops that nobody hears"""
PING_S = 5.0
"""seconds between two pings, and until a link without an answer is down"""
READ_AHEAD = 2 * UNDER_WAY
"""messages of a connection that wait in memory; with more, pings are not read either, and the link ends"""
BAD, REPLACED, OLDER = 4000, 4001, 4002
"""codes with which a connection is closed"""
REASON_MAX = 120
"""bytes of the reason that go with them, by RFC 6455"""

log = logging.getLogger(__name__)
library_log = logging.getLogger(f"{__name__}.websockets")
library_log.setLevel(
    logging.CRITICAL
)  # every connection that fails is a stack there; what matters is logged here


class Gateway:
    """Serves nodes. `wanted` gives the names of those that are sources now."""

    def __init__(
        self, settings: GatewaySettings, metrics: Metrics, wanted: Callable[[], Collection[str]]
    ) -> None:
        """Raises ConfigError where a certificate or the tokens cannot be used."""
        self._settings = settings
        self._metrics = metrics
        self._wanted = wanted
        self._tls = _tls_context(settings)
        self._tokens()
        self._intakes: dict[str, Intake] = {}
        self._links: dict[str, ServerConnection] = {}
        self._seen: dict[str, float] = {}
        """by node: when its link ended, monotonic"""
        self._decoder = Decoder()
        self._server: Server | None = None
        self._logged = RateLimit()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve in the block; yields the port. Raises ConfigError where it cannot listen there."""
        host, port = self._settings.host, self._settings.port
        try:
            self._server = await serve(
                self._handle,
                host,
                port,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                process_request=self._refusal,
                compression=None,
                server_header=None,
                open_timeout=HELLO_S,
                ping_interval=PING_S,
                ping_timeout=PING_S,
                close_timeout=1.0,
                max_size=MESSAGE_MAX,
                max_queue=READ_AHEAD,
                logger=library_log,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HELLO_S,
            )
        except OSError as error:
            raise ConfigError(f"gateway: cannot listen at {host}:{port}: {error.strerror}") from None
        port = next(iter(self._server.sockets)).getsockname()[1]
        dropping = asyncio.create_task(self._drop_unheard(), name="unheard hops")
        log.info("gateway: %s:%d%s", host, port, "" if self._tls is not None else ", without TLS")
        try:
            yield port
        finally:
            dropping.cancel()
            for intake in self._intakes.values():
                intake.end()
            self._server.close()
            await self._server.wait_closed()
            await self._decoder.close()

    def source(self, source_id: str, node: str) -> NodeSource:
        """The source that a node is."""
        intake = self._intakes.setdefault(node, Intake(node))  # it may be connected already
        intake.metrics = self._metrics.source(source_id)
        return NodeSource(intake, self._decoder)

    async def _refusal(self, connection: ServerConnection, request: Request) -> Response | None:
        """Before the upgrade: why not. None where the node may connect."""
        try:
            status, reason = await self._judge(connection, request)
        except ConfigError as error:
            log.error("%s", error)  # noqa: TRY400  # the reason is in the line
            status, reason = HTTPStatus.SERVICE_UNAVAILABLE, "the gateway cannot read its tokens"
        if status is HTTPStatus.OK:
            return None
        if self._logged.due(reason):
            log.warning("gateway: refused %s: %s", _peer(connection), reason)
        return connection.respond(status, f"{reason}\n")

    async def _judge(self, connection: ServerConnection, request: Request) -> tuple[HTTPStatus, str]:
        if self._server is not None and len(self._server.connections) >= self._settings.max_nodes:
            return (
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"no more than {self._settings.max_nodes} connections at a time",
            )
        name = request.path.removeprefix(PATH)
        if not await self._is_genuine(connection, request, name):
            return HTTPStatus.UNAUTHORIZED, "the name or the token is wrong"
        if name not in self._wanted():
            return HTTPStatus.NOT_FOUND, f"no source of this machine is the node {printable(name)}"
        offered = ", ".join(request.headers.get_all("Sec-WebSocket-Protocol"))
        if SUBPROTOCOL not in (one.strip() for one in offered.split(",")):
            return (
                HTTPStatus.UPGRADE_REQUIRED,
                f"another version of the program: here it is {SUBPROTOCOL}, there {printable(offered[:80])}",
            )
        return HTTPStatus.OK, ""

    async def _is_genuine(self, connection: ServerConnection, request: Request, name: str) -> bool:
        if self._settings.clients_ca_file is not None and self._settings.tokens_file is None:
            return name in _names(connection)
        if self._settings.tokens_file is None:
            return True
        tokens = await in_thread(self._tokens, "tokens", HELLO_S)
        given = ", ".join(request.headers.get_all("Authorization"))
        # Compared also where there is no such name: how long it takes says nothing.
        expected = tokens.get(name, "")
        return hmac.compare_digest(given.encode(), f"Bearer {expected}".encode()) and bool(expected)

    async def _handle(self, connection: ServerConnection) -> None:
        """One connection, from its hello to its end."""
        name = (connection.request.path if connection.request is not None else "").removeprefix(PATH)
        try:
            await self._serve_node(connection, name)
        except LinkError as error:
            if self._logged.due(f"bad {name}"):
                log.warning("gateway: node %s, %s: %s", name, _peer(connection), error)
            await connection.close(BAD, _reason(str(error)))
        except ConnectionClosed:
            pass
        except Exception:
            if self._logged.due("fault"):
                log.exception("gateway: a fault in the program; the connection of node %s is closed", name)
            await connection.close(1011, "a fault in the program")

    async def _serve_node(self, connection: ServerConnection, name: str) -> None:
        intake = self._intakes.setdefault(name, Intake(name))  # its source may be about to be opened
        try:
            async with asyncio.timeout(HELLO_S):
                hello = parse(Hello, await connection.recv())
        except TimeoutError:
            raise LinkError(f"no hello within {HELLO_S:g} s") from None
        newest = max(_now_ms(), intake.epoch + 1)
        epoch = newest if hello.epoch is None else min(hello.epoch, newest)
        older = self._links.get(name)
        was_here = older is not None or time.monotonic() - self._seen.get(name, -LOST_S) < LOST_S
        if epoch < intake.epoch and was_here:
            return await connection.close(OLDER, "another process with this name was started later")
        same = epoch == intake.epoch
        self._links[name] = connection
        intake.connect(hello, epoch)
        try:
            if older is not None:
                reason = (
                    "this node has connected anew" if same else "another process with this name connected"
                )
                await older.close(REPLACED, _reason(f"{reason}, from {_peer(connection)}"))
            await connection.send(text_of(Welcome(epoch=epoch, next=intake.next)))
            log.info("node %s: connected, %s, %d Hz", name, _peer(connection), hello.sample_rate)
            await self._receive(connection, intake, epoch)
        finally:
            if self._links.get(name) is connection:
                del self._links[name]
                self._seen[name] = time.monotonic()
                intake.is_connected = False
                log.warning("node %s: the link is down", name)

    async def _receive(self, connection: ServerConnection, intake: Intake, epoch: int) -> None:
        """Until the connection ends, or another one takes its place. Raises LinkError."""
        peer = _Peer(connection)
        try:
            async for message in connection:
                if self._links.get(intake.name) is not connection:
                    return
                if isinstance(message, str):
                    intake.report(printable(parse(Note, message).problem))
                else:
                    hop, sent = unpack(message, intake.sample_rate)
                    await intake.put(hop, epoch, sent, peer)
        except asyncio.CancelledError:
            if peer.refused is None:
                raise
            raise peer.refused from None
        finally:
            peer.task = None

    async def _drop_unheard(self) -> None:
        """For sources that are switched off, for ever."""
        while True:
            await asyncio.sleep(DROP_S)
            for intake in list(self._intakes.values()):
                await intake.drop_unheard()

    def _tokens(self) -> dict[str, str]:
        """By node. Raises ConfigError."""
        path = self._settings.tokens_file
        return {} if path is None else read_tokens(path)


class _Peer:
    """One connection, for the hops that came over it; made in its own task."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self.task = asyncio.current_task()
        """which reads from it; None when it does not any more"""
        self.refused: LinkError | None = None

    async def acknowledge(self, following: int) -> None:
        with suppress(ConnectionClosed):  # then the node asks again what is next
            await self._connection.send(text_of(Ack(next=following)))

    def refuse(self, error: LinkError) -> None:
        if self.task is not None and self.refused is None:
            self.refused = error
            self.task.cancel()


def read_tokens(path: Path) -> dict[str, str]:
    """The tokens of a file: a line for each node, its name and its token. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            text = file.read(TOKENS_MAX).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"gateway.tokens_file: cannot read {path} ({error})") from None
    tokens = {}
    for number, line in enumerate(text.splitlines(), 1):
        match line.split():
            case []:
                continue
            case [first, *_] if first.startswith("#"):
                continue
            case [name, token] if len(token) >= TOKEN_MIN:
                tokens[name] = token
            case _:
                raise ConfigError(
                    f"{path}:{number}: should be a node's name and a token of {TOKEN_MIN} characters or more"
                )
    return tokens


def _tls_context(settings: GatewaySettings) -> ssl.SSLContext | None:
    """Raises ConfigError."""
    if settings.cert_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"gateway: cannot use {settings.cert_file} with its key ({error})") from None
    if settings.clients_ca_file is not None:
        try:
            context.load_verify_locations(settings.clients_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"gateway: cannot use {settings.clients_ca_file} ({error})") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _names(connection: ServerConnection) -> set[str]:
    """The DNS names of the certificate of the other end, which TLS has verified."""
    certificate = connection.transport.get_extra_info("peercert") or {}
    return {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}


def _peer(connection: ServerConnection) -> str:
    address = connection.remote_address
    return str(address[0]) if address else "an address unknown"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _reason(text: str) -> str:
    return text.encode()[:REASON_MAX].decode(errors="ignore")
