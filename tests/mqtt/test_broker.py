"""The embedded broker, as programs outside see it."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from streamer.errors import ConfigError
from streamer.mqtt import broker
from streamer.mqtt.broker import embedded_broker
from tests.mosquitto import DEADLINE_S, HOST, free_port


async def test_mosquitto_sub_hears_what_mosquitto_pub_says(caplog: pytest.LogCaptureFixture) -> None:
    """The line that a newcomer types works, and the broker adds nothing to the log."""
    caplog.set_level(logging.INFO)
    async with embedded_broker(free_port()) as port:
        address = ("-h", HOST, "-p", str(port))
        publish = await asyncio.create_subprocess_exec(
            "mosquitto_pub", *address, "-q", "1", "-r", "-t", "a/b", "-m", "hello"
        )
        assert await publish.wait() == 0
        subscribe = await asyncio.create_subprocess_exec(
            "mosquitto_sub", *address, "-t", "#", "-v", "-C", "1", stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(DEADLINE_S):
            output, _ = await subscribe.communicate()
        assert output == b"a/b hello\n"
    assert caplog.records == []


async def test_the_first_free_port() -> None:
    """A port that is taken is passed over, and nobody outside this machine can connect."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with embedded_broker(port) as free:
            assert port < free < port + 100
            with socket.create_connection((HOST, free)) as connection:
                assert connection.getpeername() == (HOST, free)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, free))


async def test_no_port_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which ports were tried and what to set."""
    monkeypatch.setattr(broker, "PORTS", 1)
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"{port}.*mqtt\.port"):
            async with embedded_broker(port):
                pass


async def test_it_stops_while_clients_are_connected() -> None:
    """Neither a subscriber nor a connection that never said a word holds the stop up."""
    async with asyncio.timeout(DEADLINE_S):
        async with embedded_broker(free_port()) as port:
            silent = await asyncio.open_connection(HOST, port)
            subscriber = await asyncio.create_subprocess_exec(
                "mosquitto_sub", "-h", HOST, "-p", str(port), "-t", "#", stderr=asyncio.subprocess.DEVNULL
            )
            await asyncio.sleep(0.2)
        silent[1].close()
        subscriber.kill()
        await subscriber.wait()
