"""The embedded broker, as programs outside see it."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys

import pytest

from streamer.config.schema import MqttSettings
from streamer.errors import ConfigError
from streamer.mqtt import broker
from streamer.mqtt.broker import embedded_broker
from streamer.mqtt.publisher import probe
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


def test_many_that_never_say_a_word() -> None:
    """They let others in, hold up no stop, and leave no trace in the log."""
    code = """if True:
        import asyncio, time
        from streamer.config.schema import MqttSettings
        from streamer.mqtt.broker import HOST, embedded_broker
        from streamer.mqtt.publisher import probe
        from tests.mosquitto import free_port

        async def main():
            async with embedded_broker(free_port()) as port:
                silent = [await asyncio.open_connection(HOST, port) for _ in range(150)]
                print(await probe(MqttSettings(host=HOST, port=port)))
                began = time.monotonic()
            print(time.monotonic() - began)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    version, stop_s = done.stdout.splitlines()
    assert version.startswith("MQTT 3.1.1")
    assert float(stop_s) < 2
    assert done.stderr == ""


async def test_a_client_of_mqtt_5_gets_an_answer() -> None:
    """It is told that its version is not supported, by which it can go on with 3.1.1, at once."""
    async with embedded_broker(free_port()) as port:
        async with asyncio.timeout(DEADLINE_S):
            client = await asyncio.create_subprocess_exec(
                *("mosquitto_pub", "-V", "5", "-h", HOST, "-p", str(port), "-t", "a", "-m", "b"),
                stderr=asyncio.subprocess.PIPE,
            )
            _, errors = await client.communicate()
        assert client.returncode != 0
        assert b"protocol version" in errors.lower()
        assert "3.1.1" in await probe(MqttSettings(host=HOST, port=port))


@pytest.mark.parametrize("first", [b"", b"\x10", b"GET / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\xff\xff\xff"])
async def test_what_is_no_client_is_let_go(first: bytes) -> None:
    """Whatever comes first, the next client is served."""
    async with embedded_broker(free_port()) as port:
        _, writer = await asyncio.open_connection(HOST, port)
        writer.write(first)
        writer.close()
        assert "3.1.1" in await probe(MqttSettings(host=HOST, port=port))
