"""The embedded MQTT broker: in this process, on loopback, to try the program without installing one."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from amqtt.broker import Broker

from streamer.errors import ConfigError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PORTS = 100
"""how many ports are tried"""
MAX_CONNECTIONS = 100
STOP_S = 0.5


@asynccontextmanager
async def embedded_broker(port: int = 1883) -> AsyncIterator[int]:
    """A broker on the first free port from `port` on; gives that port. It speaks MQTT 3.1.1.

    Raises ConfigError when none of the next hundred ports is free.
    """
    # Its own lines are about packets and sessions; what matters is logged by its clients.
    for noisy in ("amqtt", "transitions"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    free = _first_free(port)
    broker = Broker(
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
