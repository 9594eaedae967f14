"""The node's end of the link: it connects for ever, and goes on from the last hop that was taken."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from streamer.core.backoff import Backoff
from streamer.core.files import read_small
from streamer.core.printable import address_for_people, printable
from streamer.core.rate_limit import RateLimit
from streamer.core.tasks import first_of, running
from streamer.core.tls import trusting
from streamer.errors import ConfigError
from streamer.nodes.hops import now
from streamer.nodes.orders import Orders
from streamer.nodes.outbox import Outbox
from streamer.nodes.wire import (
    NOTE_MAX,
    PATH,
    SUBPROTOCOL,
    UNDER_WAY,
    Ack,
    Hello,
    LinkError,
    Note,
    Welcome,
    pack,
    parse,
    text_of,
)

CREDENTIAL = "node-token"
STEP_S = 10.0
"""seconds that each step of a new connection may take"""
PING_S = 5.0
"""seconds between two pings, and until a link without an answer is down"""
ANSWER_MAX = 4096
"""bytes of a message of the gateway"""
REPLACED = range(4001, 4003)
"""codes with which the gateway says that another node has this name"""
RETRY = Backoff(first_s=0.5, longest_s=20.0, jitter=0.5)
"""a minute is kept: no pause may come near it"""

log = logging.getLogger(__name__)
library_log = logging.getLogger(f"{__name__}.websockets")
library_log.setLevel(logging.CRITICAL)  # every connection that fails is a stack there


class Link:
    """Sends the hops of an outbox to the gateway until cancelled."""

    def __init__(self, orders: Orders, outbox: Outbox) -> None:
        """Raises ConfigError where the token or a certificate cannot be used."""
        self._orders = orders
        self._outbox = outbox
        self._tls = None if orders.to.startswith("ws:") else _tls_context(orders)
        self._headers = {"Authorization": f"Bearer {token}"} if (token := _token(orders)) else {}
        self._where = address_for_people(orders.to)
        self._epoch: int | None = None
        self._problem = ""
        self._problem_changed = asyncio.Event()
        self._logged = RateLimit()
        self.is_up = False

    def report(self, problem: str) -> None:
        """Let the gateway know why no audio comes; the next hop takes it back."""
        self._problem = problem[:NOTE_MAX]
        self._problem_changed.set()

    async def run(self) -> None:
        """Connect, and again whenever the link is down."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self._connected()
            except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed, LinkError) as error:
                reason = _reason(error)
            if self.is_up:
                log.warning("the link to %s is down: %s", self._where, reason)
                self._logged.forget(reason)
            elif self._logged.due(reason):
                log.warning("%s: %s; tried again for ever", self._where, reason)
            was_up, self.is_up = self.is_up, False
            failures = 1 if was_up and time.monotonic() - began > RETRY.longest_s else failures + 1
            await asyncio.sleep(RETRY.pause_s(failures))

    async def _connected(self) -> None:
        """One connection, until it ends, which raises."""
        async with connect(
            self._orders.to.rstrip("/") + PATH + self._orders.node,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            additional_headers=self._headers,
            ssl=self._tls,
            compression=None,
            user_agent_header=None,
            proxy=None,
            open_timeout=STEP_S,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            close_timeout=1.0,
            max_size=ANSWER_MAX,
            logger=library_log,
        ) as connection:
            hello = Hello(
                epoch=self._epoch, sample_rate=self._orders.sample_rate, sent=now(), wall=time.time()
            )
            await connection.send(text_of(hello))
            async with asyncio.timeout(STEP_S):
                welcome = parse(Welcome, await connection.recv())
            self._epoch = welcome.epoch
            self._outbox.taken(welcome.next)
            log.info("connected to %s", self._where)
            self.is_up = True
            self._taken = welcome.next
            async with (
                running(self._send(connection), "send") as sending,
                running(self._send_reports(connection), "reports") as reporting,
                running(self._receive(connection), "receive") as receiving,
            ):
                await first_of(sending, reporting, receiving)
                for task in (receiving, sending, reporting):
                    if task.done():
                        task.result()

    async def _send(self, connection: ClientConnection) -> None:
        sequence = self._taken
        while True:
            while sequence - self._taken >= UNDER_WAY:
                await self._outbox.changed()
            hop = await self._outbox.at(sequence)
            await connection.send(pack(hop, now()))
            sequence = hop.sequence + 1

    async def _receive(self, connection: ClientConnection) -> None:
        while True:
            self._taken = parse(Ack, await connection.recv()).next
            self._outbox.taken(self._taken)

    async def _send_reports(self, connection: ClientConnection) -> None:
        while True:
            if self._problem:
                await connection.send(text_of(Note(problem=self._problem)))
            self._problem_changed.clear()
            await self._problem_changed.wait()


def _reason(error: Exception) -> str:  # noqa: PLR0911  # one line a kind of error
    """Why there is no link, a clause for people."""
    match error:
        case InvalidStatus():
            body = error.response.body or b""
            answer = printable(body.decode(errors="replace").strip()[:200])
            return f"it refuses this node: {answer or error.response.status_code}"
        case ConnectionClosed() if error.rcvd is not None:
            return printable(error.rcvd.reason) or f"it was closed with code {error.rcvd.code}"
        case ConnectionClosed():
            return "no answer any more"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not valid: {error.verify_message}"
        case TimeoutError():
            return "no answer"
        case OSError():
            return error.strerror or str(error)
        case _:
            return printable(str(error))


def _token(orders: Orders) -> str:
    """From systemd's credential or a file; empty where there is neither. Raises ConfigError."""
    name = "token_file"
    file = None if orders.token_file is None else Path(orders.token_file)
    credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "")) / CREDENTIAL
    if "CREDENTIALS_DIRECTORY" in os.environ and credential.exists():
        name, file = "the credential", credential
    if file is None:
        if orders.cert_file is None and not orders.is_local:
            raise ConfigError("token_file: the gateway has to know this node: set token_file, or cert_file")
        return ""
    try:
        lines = read_small(file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: cannot read {file} ({error})") from None
    if not lines or not lines[0].strip() or not lines[0].isascii():
        raise ConfigError(f"{name}: the first line of {file} is no token")
    return lines[0].strip()


def _tls_context(orders: Orders) -> ssl.SSLContext:
    """It checks the gateway's certificate and host name, always. Raises ConfigError."""
    try:
        context = trusting(orders.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"ca_file: cannot use {orders.ca_file} ({error})") from None
    if orders.cert_file is not None:
        try:
            context.load_cert_chain(orders.cert_file, orders.key_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cert_file: cannot use {orders.cert_file} with its key ({error})") from None
    return context
