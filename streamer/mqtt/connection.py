"""One connection to an MQTT broker: credentials, TLS, and the broker's answer to each message."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from streamer.config.schema import MqttSettings, TlsSettings
from streamer.core.files import SMALL, read_small
from streamer.core.threads import in_thread
from streamer.core.tls import trusting
from streamer.errors import ConfigError
from streamer.mqtt.aiomqtt_internals import ObservedClient
from streamer.mqtt.messages import Message

PASSWORD_VARIABLE = "STREAMER_MQTT_PASSWORD"  # noqa: S105  the variable's name
CREDENTIAL = "mqtt-password"
"""its name in the directory that systemd gives: LoadCredential=mqtt-password:/path"""
INCOMING_BYTES = 65536
"""Maximum Packet Size that we announce (MQTT 5); the broker drops larger ones"""
INCOMING_MESSAGES = 100
"""length of the receive queue; when it is full, new messages are dropped"""
TOPICS = 8
"""that one SUBSCRIBE asks for: AWS IoT takes no more"""
TCP_TIMEOUT_S = 2.0
"""seconds for TCP and TLS to be set up; they block a thread that the end of the process waits for"""
ANSWER_TIMEOUT_S = 10.0
"""seconds without an answer after which a connection counts as lost"""
LEAVE_TIMEOUT_S = 0.5

# Reason codes of MQTT 5, to which paho translates those of 3.1.1.
# https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Toc3901079
UNSUPPORTED_VERSION = 132
BAD_CREDENTIALS = (134, 135)
TAKEN_OVER = 142

MQTT_5 = "MQTT 5"

T = TypeVar("T")

# What the library logs is logged here once, with the broker's name.
_library_log = logging.getLogger(f"{__name__}.library")
_library_log.setLevel(logging.CRITICAL)


class MessageRefusedError(Exception):
    """The broker has answered that it does not take a message."""


class ConnectionLostError(Exception):
    """The connection is gone, or in doubt: the broker may or may not have the last message."""

    taken_over = False
    by_broker = False
    """it was closed, rather than given up for want of an answer"""


class NoBrokerError(Exception):
    """There is no connection, or no more. Its text is for people, its cause is the library's error."""

    @property
    def credentials(self) -> bool:
        """Whether the broker refuses our credentials."""
        return isinstance(self.__cause__, MqttConnectError) and self.__cause__.rc in BAD_CREDENTIALS

    @property
    def lost(self) -> bool:
        """Whether there was a connection."""
        return isinstance(self.__cause__, ConnectionLostError)

    @property
    def taken_over(self) -> bool:
        """Whether another client connected with our client identifier."""
        return isinstance(self.__cause__, ConnectionLostError) and self.__cause__.taken_over


class Incoming(NamedTuple):
    """A message from the broker."""

    topic: str
    payload: bytes
    retained: bool


class Connection(ObservedClient):
    """A connection that reports refusals, and a loss while an answer is due."""

    version: str
    receive_maximum = 65535
    """messages with QoS 1 that the broker takes before it has answered the first (MQTT 5)"""
    packet_maximum: int | None = None
    """bytes of the largest packet that the broker takes (MQTT 5); None where it names no limit"""
    qos_maximum = 1
    """0 where the broker answers no message (MQTT 5)"""
    retains = True
    """whether the broker keeps the latest message of a topic (MQTT 5)"""
    n_acknowledged = 0
    """messages that the broker has answered"""
    _answer: ReasonCode | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._posted: dict[int, tuple[str, asyncio.Future[None]]] = {}
        """by packet identifier: topic and answer"""

    async def open(self) -> None:
        """Connect. Raises MqttError."""
        self.paho.connect_timeout = TCP_TIMEOUT_S
        await self._resolve()
        try:
            await self.__aenter__()
        except BaseException:
            await self.drop()
            raise

    async def _resolve(self) -> None:
        """Ask for the broker's address first, in a thread that nobody waits for at the end of the process.

        paho asks again, in one of the event loop's threads, which a name server that hangs would hold.
        """
        host, port = self._hostname, self._port
        try:
            await in_thread(lambda: socket.getaddrinfo(host, port), "resolve broker", ANSWER_TIMEOUT_S)
        except TimeoutError:
            raise aiomqtt.MqttError("the name server does not answer") from None
        except OSError as error:
            raise aiomqtt.MqttError(str(error)) from None

    def post(self, message: Message) -> asyncio.Future[None]:
        """Hand over a message with QoS 1 beside others: the future is done when the broker has it.

        They arrive in the order of the calls. Wait with `answered`. Raises ConnectionLostError, and
        MessageRefusedError for a message that is larger than the broker takes.
        """
        message = self._as_taken(message)
        properties = self._properties_of(message)
        self._check_size(message, properties)
        sent = self.paho.publish(message.topic, message.payload, message.qos, message.retain, properties)
        if sent.rc != 0:
            raise self._lost(aiomqtt.MqttCodeError(sent.rc, "cannot publish"))
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if message.qos:
            self._posted[sent.mid] = (message.topic, answer)
        else:
            answer.set_result(None)
        return answer

    async def answered(self, answer: asyncio.Future[None]) -> None:
        """Wait for the answer to what was posted. Raises MessageRefusedError, or ConnectionLostError."""
        if not answer.done():
            await asyncio.wait(
                (answer, self.disconnected),
                timeout=ANSWER_TIMEOUT_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        if answer.done():
            return answer.result()
        gone = self.disconnected.exception() if self.disconnected.done() else None
        raise self._lost(gone or aiomqtt.MqttError("Operation timed out"))

    async def send(self, message: Message) -> None:
        """Hand over one message at a time; with QoS 1 the broker has it when this returns.

        Raises MessageRefusedError, or ConnectionLostError.
        """
        self._answer = None
        message = self._as_taken(message)
        properties = self._properties_of(message)
        self._check_size(message, properties)
        try:
            await self.while_connected(
                self.publish(message.topic, message.payload, message.qos, message.retain, properties)
            )
        except ConnectionLostError:
            if self._answer is None:
                raise
        if self._answer is not None and self._answer.is_failure:
            raise _refusal(message.topic, self._answer)

    @property
    def described(self) -> str:
        """The version of MQTT, and what the broker does not do."""
        lacks = []
        if not self.qos_maximum:
            lacks.append("it answers no message, so that those of an outage may be lost")
        if not self.retains:
            lacks.append("it retains no message, so that states are unknown until they change")
        return "; ".join((self.version, *lacks))

    def _as_taken(self, message: Message) -> Message:
        """A broker ends the connection at a message as it has ruled out: with QoS 1, or to be retained."""
        qos, retain = min(message.qos, self.qos_maximum), message.retain and self.retains
        return message._replace(qos=qos, retain=retain)

    def _check_size(self, message: Message, properties: Properties | None) -> None:
        """A broker ends the connection at a packet that is larger than the limit which it has named."""
        if self.packet_maximum is None:
            return
        identifier = 2 if message.qos else 0
        n_properties = 0 if self.version != MQTT_5 else 1
        if properties is not None:
            n_properties = len(properties.pack())  # type: ignore[no-untyped-call]  # paho's
        topic, payload = message.topic.encode(), message.payload.encode()
        rest = 2 + len(topic) + identifier + n_properties + len(payload)
        size = 1 + max(1, math.ceil(rest.bit_length() / 7)) + rest
        if size > self.packet_maximum:
            raise MessageRefusedError(
                f"{message.topic}: {size} bytes are more than the {self.packet_maximum} that the broker takes"
                ": raise its max_packet_size"
            )

    def _properties_of(self, message: Message) -> Properties | None:
        if self.version != MQTT_5 or (message.expiry_s is None and message.message_id is None):
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's
        if message.expiry_s is not None:
            properties.MessageExpiryInterval = message.expiry_s
        if message.message_id is not None:
            properties.UserProperty = [("message_id", message.message_id)]
        return properties

    async def retained(self, topics: Sequence[str]) -> list[Incoming]:
        """Subscribe, and give what the broker retains there; `incoming` gives what comes after that.

        Raises MessageRefusedError, or ConnectionLostError.
        """
        found: list[Incoming] = []
        for i in range(0, len(topics), TOPICS):
            await self._subscribe(topics[i : i + TOPICS])
            # It answers in order: what it retains came before this answer.
            await self.while_connected(self.unsubscribe(f"{topics[i]}/-"))
            found += [_incoming(await anext(self.messages)) for _ in range(len(self.messages))]
        return found

    async def incoming(self, topics: Sequence[str]) -> AsyncIterator[Incoming]:
        """Subscribe, and yield messages until the connection is lost. Raises MessageRefusedError."""
        try:
            for topic in topics:
                await self._subscribe([topic])
            async for message in self.messages:
                yield _incoming(message)
        except (ConnectionLostError, aiomqtt.MqttError):
            return

    async def _subscribe(self, topics: Sequence[str]) -> None:
        """To all of them in one packet. Raises MessageRefusedError, or ConnectionLostError."""
        # Not our own messages; and a message that was published as retained is marked as such.
        options = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True)
        subscribing = (
            self.subscribe([(topic, options) for topic in topics])
            if self.version == MQTT_5
            else self.subscribe([(topic, 1) for topic in topics])
        )
        codes: Sequence[ReasonCode | int] = await self.while_connected(subscribing)
        for topic, code in zip(topics, codes, strict=True):
            if _is_failure(code):
                raise MessageRefusedError(
                    f"the broker does not let us subscribe to {topic}: mend its access rules"
                )

    async def while_connected(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine, but no longer than the connection lasts. Raises ConnectionLostError."""
        task = asyncio.create_task(coroutine, name="mqtt operation")
        try:
            await asyncio.wait((task, self.disconnected), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self._lost(self.disconnected.exception())
            return task.result()
        except aiomqtt.MqttError as error:
            raise self._lost(error) from error
        finally:
            task.cancel()

    def _lost(self, error: BaseException | None) -> ConnectionLostError:
        lost = ConnectionLostError(str(error))
        gone = self.disconnected.exception() if self.disconnected.done() else None
        lost.by_broker = self.disconnected.done()
        lost.taken_over = isinstance(gone, aiomqtt.MqttCodeError) and gone.rc == TAKEN_OVER
        return lost

    async def leave(self) -> None:
        """Send DISCONNECT, unless the connection is gone already: the broker discards the will."""
        self.timeout = LEAVE_TIMEOUT_S
        with suppress(aiomqtt.MqttError):
            await self.__aexit__(None, None, None)
        await self.drop()

    async def drop(self) -> None:
        """Close without DISCONNECT: the broker publishes the will."""
        self.connecting.cancel()
        if isinstance(sock := self.paho.socket(), socket.socket):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            # aiomqtt cleans up when it reads the end of the stream, in the next turn of the event loop.
            await asyncio.wait((self.disconnected,), timeout=0.1)
        if self.disconnected.done() and not self.disconnected.cancelled():
            self.disconnected.exception()  # retrieved, or asyncio logs that it never was

    def acknowledged(self, mid: int, reason_code: ReasonCode) -> bool:
        self.n_acknowledged += 1
        if (posted := self._posted.pop(mid, None)) is not None:
            topic, answer = posted
            if not answer.done():
                if reason_code.is_failure:
                    answer.set_exception(_refusal(topic, reason_code))
                else:
                    answer.set_result(None)
            return True
        if self.is_pending(mid):
            self._answer = reason_code
        return False

    def connected(self, properties: Properties | None) -> None:
        self.receive_maximum = getattr(properties, "ReceiveMaximum", self.receive_maximum)
        self.packet_maximum = getattr(properties, "MaximumPacketSize", None)
        self.qos_maximum = min(1, getattr(properties, "MaximumQoS", 1))
        self.retains = bool(getattr(properties, "RetainAvailable", 1))


class Broker:
    """Where the broker is and how to get in. Raises ConfigError for files that cannot be read."""

    def __init__(self, settings: MqttSettings, *, identifier: str, will_topic: str | None) -> None:
        """Where `will_topic` is given, the broker retains `offline` there when the connection breaks."""
        port = settings.port if settings.port is not None else 1883 if settings.tls is None else 8883
        self.address = f"{settings.host}:{port}"
        self._host = settings.host
        self._port = port
        self._username = settings.username
        self._password = _password(settings)
        self._tls = None if settings.tls is None else _tls_context(settings.tls)
        self._keepalive_s = settings.keepalive_s
        self.identifier = identifier
        self._will_topic = will_topic
        self._will_qos, self._will_retained = 1, True
        self._version: aiomqtt.ProtocolVersion | None = None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """A connection of MQTT 5, or of 3.1.1 where the broker says that it does not speak 5.

        Raises NoBrokerError, also for a ConnectionLostError in the block; then the broker publishes the will.
        """
        try:
            if self._version is None:
                self._version = await self._newest_version()
            connection = await self._open(self._version, self.identifier, self._will())
        except aiomqtt.MqttError as error:
            # It may be another broker that comes back.
            self._version = None
            raise NoBrokerError(self._why_not(error)) from error
        try:
            yield connection
        except ConnectionLostError as error:
            await connection.drop()
            raise NoBrokerError(self._why_lost(error)) from error
        finally:
            await connection.leave()

    async def _newest_version(self) -> aiomqtt.ProtocolVersion:
        """Only a broker that refuses MQTT 5 gets 3.1.1: one that is away may speak 5 when it is back.

        Tried without a will and limits: amqtt cannot read those of MQTT 5, and does not answer at all.
        """
        try:
            connection = await self._open(aiomqtt.ProtocolVersion.V5, passing_identifier(), None)
        except MqttConnectError as error:
            if error.rc != UNSUPPORTED_VERSION:
                raise
            self._will_qos, self._will_retained = 1, True
            return aiomqtt.ProtocolVersion.V311
        self._will_qos, self._will_retained = connection.qos_maximum, connection.retains
        await connection.leave()
        return aiomqtt.ProtocolVersion.V5

    def _will(self) -> aiomqtt.Will | None:
        """What the broker publishes when the connection breaks; it refuses one that it cannot keep."""
        if self._will_topic is None:
            return None
        return aiomqtt.Will(self._will_topic, "offline", qos=self._will_qos, retain=self._will_retained)

    async def _open(
        self, version: aiomqtt.ProtocolVersion, identifier: str, will: aiomqtt.Will | None
    ) -> Connection:
        connection = Connection(
            self._host,
            self._port,
            username=self._username,
            password=self._password,
            identifier=identifier,
            protocol=version,
            clean_session=None if version is aiomqtt.ProtocolVersion.V5 else True,
            will=will,
            keepalive=self._keepalive_s,
            timeout=ANSWER_TIMEOUT_S,
            max_queued_incoming_messages=INCOMING_MESSAGES,
            properties=_limits() if version is aiomqtt.ProtocolVersion.V5 and will is not None else None,
            tls_context=self._tls,
            logger=_library_log,
        )
        connection.version = MQTT_5 if version is aiomqtt.ProtocolVersion.V5 else "MQTT 3.1.1"
        try:
            await connection.open()
        except ValueError as error:
            raise ConfigError(f"mqtt.host: {self._host!r} is no host name ({error})") from None
        return connection

    def _why_lost(self, error: ConnectionLostError) -> str:
        if error.taken_over:
            return f"another client has connected to {self.address} as {self.identifier!r} and thrown us out"
        return f"lost the connection to {self.address} ({error})"

    def _why_not(self, error: aiomqtt.MqttError) -> str:
        if not isinstance(error, MqttConnectError):
            return f"cannot connect to {self.address} ({error})"
        if error.rc not in BAD_CREDENTIALS:
            return f"{self.address} refuses the connection ({error.rc})"
        if self._username is None:
            return f"{self.address} refuses clients without a name ({error.rc}): set mqtt.username"
        return f"{self.address} refuses user {self._username!r} ({error.rc}): check the password"


def _incoming(message: aiomqtt.Message) -> Incoming:
    payload = message.payload if isinstance(message.payload, bytes) else b""
    return Incoming(str(message.topic), payload, bool(message.retain))


def _refusal(topic: str, answer: ReasonCode) -> MessageRefusedError:
    return MessageRefusedError(f"the broker refuses {topic} ({answer}): mend its access rules")


def _is_failure(code: ReasonCode | int) -> bool:
    return code.is_failure if isinstance(code, ReasonCode) else code >= 128


def passing_identifier() -> str:
    """A client identifier for one short connection: the daemon's own would disconnect the daemon."""
    return f"streamer-{secrets.token_hex(6)}"


def _limits() -> Properties:
    """Limits that we announce to the broker."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
    properties.MaximumPacketSize = INCOMING_BYTES
    return properties


def _is_text(text: str) -> bool:
    """Not, where the environment held bytes that are no UTF-8."""
    return not re.search(r"[\ud800-\udfff]", text)


def _password(settings: MqttSettings) -> str | None:
    """From systemd's credentials, a file or the environment; never from arguments, which all can see."""
    name, file = "mqtt.password_file", settings.password_file
    if credentials := os.environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(credentials) / CREDENTIAL
        if credential.exists():
            name, file = "the credential", credential
    if settings.username is None:
        if file is not None:
            raise ConfigError(f"{name} is set, but mqtt.username is not: set both")
        return None
    if file is None:
        password = os.environ.get(PASSWORD_VARIABLE)
        if password is not None and len(os.fsencode(password)) > SMALL:
            raise ConfigError(f"${PASSWORD_VARIABLE}: longer than the {SMALL} bytes that MQTT takes")
        if password is not None and not _is_text(password):
            raise ConfigError(f"${PASSWORD_VARIABLE}: not text in UTF-8")
        return password
    try:
        lines = read_small(file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: cannot read {file} ({error})") from None
    if not lines or not lines[0]:
        raise ConfigError(f"{name}: the first line of {file} is empty; write the password there")
    return lines[0]


def _tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """It checks the broker's certificate and host name, always."""
    files = {name: getattr(settings, name) for name in ("ca_file", "cert_file", "key_file")}
    for name, file in files.items():
        if file is not None and not file.is_file():
            raise ConfigError(f"mqtt.tls.{name}: there is no file {file}")
    if settings.key_file is not None and settings.cert_file is None:
        raise ConfigError("mqtt.tls.key_file is set, but mqtt.tls.cert_file is not: set both")
    try:
        context = trusting(settings.ca_file)
        if settings.cert_file is not None:
            # With an empty password an encrypted key fails; with none OpenSSL asks on the terminal.
            context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    except OSError as error:
        raise ConfigError(f"mqtt.tls: the certificates or the key cannot be read ({error})") from None
    return context
