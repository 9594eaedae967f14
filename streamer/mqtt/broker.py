"""The embedded MQTT broker: in this process, on loopback, for a first look without installing one.

It speaks MQTT 3.1.1 and has no access rules. A home wants Mosquitto, which Home Assistant has as an add-on.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from amqtt.adapters import ReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker

from streamer.errors import ConfigError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PORTS = 100
"""how many ports are tried"""
MAX_CONNECTIONS = 100
STOP_S = 0.5
FIRST_PACKET_S = 5.0
"""seconds in which a client has to say who it is"""
CONNECT = 0x10
MQTT_5 = 5
# CONNACK with the reason "unsupported protocol version" and no properties, in the form of MQTT 5.
# https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Toc3901074
UNSUPPORTED_VERSION = bytes((0x20, 3, 0, 0x84, 0))


class Peeked(ReaderAdapter):  # type: ignore[misc]  # amqtt has no types
    """A reader whose first bytes were read already."""

    def __init__(self, first: bytes, rest: asyncio.StreamReader) -> None:
        self._first = first
        self._rest = rest

    async def read(self, n: int = -1) -> bytes:
        if not self._first:
            return await self._rest.read(n) if n < 0 else await self._rest.readexactly(n)
        taken, self._first = (self._first, b"") if n < 0 else (self._first[:n], self._first[n:])
        return taken if n < 0 or len(taken) == n else taken + await self._rest.readexactly(n - len(taken))

    def feed_eof(self) -> None:
        self._rest.feed_eof()


class Mqtt311Broker(Broker):  # type: ignore[misc]  # amqtt has no types
    """amqtt's broker, which does not know MQTT 5, with an answer for clients that speak it.

    Left alone it reads their CONNECT as one of 3.1.1, and they wait for ever.
    """

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self._writers: set[asyncio.StreamWriter] = set()
        self.idle = asyncio.Event()
        """there is no connection"""
        self.idle.set()

    def hang_up(self) -> None:
        """Break every connection, so that whoever waits for a word of it ends."""
        for writer in self._writers:
            writer.transport.abort()

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        self._writers.add(writer)
        self.idle.clear()
        try:
            await self._serve(reader, writer, listener_name)
        finally:
            self._writers.discard(writer)
            if not self._writers:
                self.idle.set()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        try:
            async with asyncio.timeout(FIRST_PACKET_S):
                first, version = await _first_bytes(reader)
            if version == MQTT_5:
                writer.write(UNSUPPORTED_VERSION)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            version = MQTT_5
        if version == MQTT_5:
            writer.close()
            return
        await self._client_connected(listener_name, Peeked(first, reader), StreamWriterAdapter(writer))


async def _first_bytes(reader: asyncio.StreamReader) -> tuple[bytes, int]:
    """The start of a client's first packet, and the protocol level in it; 0 where it is no CONNECT."""
    first = await reader.readexactly(1)
    if first[0] != CONNECT:
        return first, 0
    for _ in range(4):  # the remaining length, seven bits a byte
        first += await reader.readexactly(1)
        if first[-1] < 0x80:
            break
    first += await reader.readexactly(2)
    name_length = int.from_bytes(first[-2:], "big")
    if name_length > 6:
        return first, 0
    first += await reader.readexactly(name_length + 1)
    return first, first[-1]


@asynccontextmanager
async def embedded_broker(port: int = 1883) -> AsyncIterator[int]:
    """A broker on the first free port from `port` on; gives that port. It speaks MQTT 3.1.1.

    Raises ConfigError when none of the next hundred ports is free.
    """
    # Its own lines are about packets and sessions; what matters is logged by its clients.
    for noisy in ("amqtt", "transitions"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    free = _first_free(port)
    broker = Mqtt311Broker(
        {
            "listeners": {
                "default": {"type": "tcp", "bind": f"{HOST}:{free}", "max_connections": MAX_CONNECTIONS}
            },
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    try:
        yield free
    finally:
        # A client that never said CONNECT would hold it up.
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await broker.shutdown()
        broker.hang_up()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await broker.idle.wait()


def _first_free(port: int) -> int:
    for candidate in range(port, min(port + PORTS, 65536)):
        with socket.socket() as probe, suppress(OSError):
            # As the broker will do it: a port that was used a moment ago is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, candidate))
            return candidate
    raise ConfigError(
        f"no port from {port} to {min(port + PORTS, 65536) - 1} is free for the embedded broker: "
        "set mqtt.port to one that is"
    )
