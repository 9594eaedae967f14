"""Fixtures: a real Mosquitto of one's own, a subscriber that keeps what it hears, a cable that can be cut."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import aiomqtt
import pytest
from paho.mqtt.subscribeoptions import SubscribeOptions

HOST = "127.0.0.1"
DEADLINE_S = 90.0
"""generous: after an outage the daemon may pause for 60 s, and a test that passes does not wait"""
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def until(condition: Callable[[], bool]) -> None:
    """For what only a log or a counter tells."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  nobody sets an event
            await asyncio.sleep(0.01)


class Mosquitto:
    """A broker in a folder of its own. It retains and queues in memory, so a restart forgets all."""

    def __init__(
        self,
        folder: Path,
        *,
        users: Mapping[str, str] | None = None,
        acl: str | None = None,
        certificates: tuple[Path, Path, Path] | None = None,
        require_certificate: bool = False,
        persistent: bool = False,
        receive_maximum: int | None = None,
        packet_maximum: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """`users` with their passwords; `acl` as in its acl_file; `certificates`: CA, certificate, key.

        A `persistent` one writes its memory down when it is asked to stop, and reads it at the start.
        `receive_maximum` and `packet_maximum` (bytes) are announced to clients.
        `options` are lines of its configuration.
        """
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        lines = [
            f"listener {self.port} {HOST}",
            "user root",  # it would give up being root, and with it the test's folder
            *(
                ["persistence true", f"persistence_location {folder}/"]
                if persistent
                else ["persistence false"]
            ),
            "max_queued_messages 0",
            *([] if receive_maximum is None else [f"max_inflight_messages {receive_maximum}"]),
            *([] if packet_maximum is None else [f"max_packet_size {packet_maximum}"]),
            f"allow_anonymous {'false' if users else 'true'}",
            *options,
        ]
        if users is not None:
            for user, password in users.items():
                self._write_password(user, password)
            lines.append(f"password_file {folder / 'passwords'}")
        if acl is not None:
            (folder / "acl").write_text(acl, encoding="utf-8")
            lines.append(f"acl_file {folder / 'acl'}")
        if certificates is not None:
            ca, certificate, key = certificates
            lines += [f"cafile {ca}", f"certfile {certificate}", f"keyfile {key}"]
            lines.append(f"require_certificate {'true' if require_certificate else 'false'}")
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def start(self) -> None:
        """Returns when it takes connections."""
        program = shutil.which("mosquitto", path=_PATH)
        assert program is not None, "mosquitto is not installed: apt install mosquitto"
        log_file = self._folder / "mosquitto.log"
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-v", "-c", str(self._folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, log_file.read_text(encoding="utf-8", errors="replace")
            with suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
                return
            time.sleep(0.02)
        raise AssertionError("mosquitto does not take connections")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Returns when it is gone. SIGKILL is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(DEADLINE_S)
            self._process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing, until `thaw` or `stop`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def set_password(self, user: str, password: str) -> None:
        """It holds from the user's next connection on."""
        self._write_password(user, password)
        self._signal(signal.SIGHUP)

    def _write_password(self, user: str, password: str) -> None:
        file = self._folder / "passwords"
        command = ["mosquitto_passwd", *([] if file.exists() else ["-c"]), "-b", str(file), user, password]
        subprocess.run(command, check=True, capture_output=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class Received(NamedTuple):
    """What a subscriber heard."""

    topic: str
    payload: str
    qos: int
    retain: bool
    """it was retained, or was published to be"""


@dataclass
class Subscriber:
    """Hears everything from the moment it exists, as MQTT 5 unless told otherwise."""

    messages: list[Received] = field(default_factory=list)
    _heard: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, condition: Callable[[Self], bool], what: str = "") -> None:
        """Wait until the condition holds for what was heard."""
        try:
            async with asyncio.timeout(DEADLINE_S), self._heard:
                await self._heard.wait_for(lambda: condition(self))
        except TimeoutError:
            heard = "\n".join(map(str, self.messages[-50:]))
            raise AssertionError(f"not heard: {what or condition}; heard was:\n{heard}") from None

    async def until_heard(self, topic: str, payload: str) -> None:
        """Wait for this payload to be the latest of its topic."""
        await self.until(lambda heard: heard.latest(topic) == payload, f"{topic} {payload}")

    def of(self, part: str) -> list[Received]:
        """The messages whose topic contains `part`, in order."""
        return [message for message in self.messages if part in message.topic]

    def latest(self, topic: str) -> str | None:
        """The latest payload of a topic."""
        return next((message.payload for message in reversed(self.messages) if message.topic == topic), None)

    async def listen(self, client: aiomqtt.Client) -> None:
        with suppress(aiomqtt.MqttError):  # the broker went: a part of some tests
            async for message in client.messages:
                payload = bytes(message.payload or b"").decode()
                received = Received(str(message.topic), payload, message.qos, bool(message.retain))
                async with self._heard:
                    self.messages.append(received)
                    self._heard.notify_all()


Subscribe = Callable[..., Awaitable[Subscriber]]


@asynccontextmanager
async def subscribed(
    port: int,
    topic: str = "#",
    *,
    username: str | None = None,
    password: str | None = None,
    protocol: aiomqtt.ProtocolVersion = aiomqtt.ProtocolVersion.V5,
) -> AsyncIterator[Subscriber]:
    """A subscriber that is sure to hear what is published from now on."""
    client = aiomqtt.Client(
        HOST, port, protocol=protocol, username=username, password=password, timeout=DEADLINE_S
    )
    await client.__aenter__()
    subscriber = Subscriber()
    if protocol is aiomqtt.ProtocolVersion.V5:
        await client.subscribe(topic, options=SubscribeOptions(qos=1, retainAsPublished=True))
    else:
        await client.subscribe(topic, qos=1)
    listening = asyncio.create_task(subscriber.listen(client))
    try:
        yield subscriber
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        with suppress(aiomqtt.MqttError):
            await client.__aexit__(None, None, None)
        if client._disconnected.done() and not client._disconnected.cancelled():
            client._disconnected.exception()  # a broker that was killed is no news


class Cable:
    """A TCP relay to a port: cut, it breaks what goes through it and takes no new connection."""

    def __init__(self, to_port: int, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self._to_port = to_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._lets_through = asyncio.Event()
        self._lets_through.set()
        self.connections = 0
        """taken so far"""

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._relay, HOST, self.port)

    async def cut(self) -> None:
        """Without a word on either side, as when a plug is pulled or a process is killed."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def reset(self) -> None:
        """Break what goes through it with a TCP RST on both sides, and take new connections at once."""
        for writer in self._writers:
            with suppress(OSError):
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def swallow(self) -> None:
        """Nothing comes through any more, and nobody is told, until `let_through`."""
        self._lets_through.clear()

    def let_through(self) -> None:
        self._lets_through.set()

    async def _relay(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(near)
        try:
            far_reader, far = await asyncio.open_connection(HOST, self._to_port)
        except OSError:
            near.transport.abort()
            return
        self._writers.add(far)
        await asyncio.gather(self._pump(near_reader, far), self._pump(far_reader, near))
        self._writers -= {near, far}

    def _is_let_through(self, data: bytes) -> bool:  # noqa: ARG002  # for subclasses
        """What is not breaks the connection."""
        return True

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while (data := await reader.read(65536)) and self._is_let_through(data):
                await self._lets_through.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort() if reader.exception() else writer.close()


class PoisonedCable(Cable):
    """A cable that breaks, without a word, whenever `poison` goes through it."""

    def __init__(self, to_port: int, poison: bytes) -> None:
        super().__init__(to_port)
        self._poison = poison

    def _is_let_through(self, data: bytes) -> bool:
        return self._poison not in data


@pytest.fixture
def make_mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Mosquitto]]:
    """Makes brokers with the options of `Mosquitto`; started, and stopped at the end."""
    made: list[Mosquitto] = []

    def make(**options: object) -> Mosquitto:
        broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"), **options)  # type: ignore[arg-type]  # passed on
        made.append(broker)
        broker.start()
        return broker

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def mosquitto(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """A broker that lets everybody in."""
    return make_mosquitto()


@pytest.fixture
async def subscribe() -> AsyncIterator[Subscribe]:
    """Makes subscribers, with the arguments of `subscribed`."""
    async with AsyncExitStack() as stack:

        async def make(port: int, topic: str = "#", **options: object) -> Subscriber:
            return await stack.enter_async_context(subscribed(port, topic, **options))  # type: ignore[arg-type]  # passed on

        yield make


@pytest.fixture
async def cable(mosquitto: Mosquitto) -> AsyncIterator[Cable]:
    """A cable to the broker, whole."""
    relay = Cable(mosquitto.port)
    await relay.mend()
    yield relay
    await relay.cut()
