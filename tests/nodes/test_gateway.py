"""Who may connect to the gateway, which of two nodes is heard, and that hostile bytes end one connection."""

from __future__ import annotations

import asyncio
import random
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.typing import Subprotocol

from streamer.config.capture import CaptureSettings
from streamer.config.schema import GatewaySettings
from streamer.core.tasks import running
from streamer.core.tls import trusting
from streamer.errors import ConfigError, SourceError
from streamer.metrics import Metrics
from streamer.nodes import flac, intake
from streamer.nodes import gateway as gateway_module
from streamer.nodes import link as link_module
from streamer.nodes.gateway import Gateway, read_tokens
from streamer.nodes.hops import Cut, now
from streamer.nodes.intake import NodeClock, NodeSource
from streamer.nodes.link import Link
from streamer.nodes.orders import Orders
from streamer.nodes.outbox import Outbox
from streamer.nodes.wire import (
    PATH,
    SUBPROTOCOL,
    Codec,
    Hello,
    Hop,
    Note,
    Welcome,
    pack,
    parse,
    text_of,
)
from streamer.types import AudioBlock

RATE = 16000
TOKEN = "a-token-of-the-tests-0123456789"  # noqa: S105  # opens nothing
DEADLINE_S = 30.0


class Served:
    """A gateway in this process, and the blocks of its source."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway = gateway
        self.port = port
        self.metrics = gateway._metrics
        self.blocks: list[AudioBlock] = []
        self.source: NodeSource = gateway.source("room", "pi")
        self.failure = ""

    async def listen(self) -> None:
        """As a listener does: opened again when it is lost."""
        while True:
            try:
                await self.source.open()
                await self.source.run(self.blocks.append)
            except SourceError as error:
                self.failure = str(error)
            finally:
                await self.source.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110  # the other end's doing has no event
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def node(
        self, epoch: int | None = None, *, name: str = "pi", tls: ssl.SSLContext | None = None, **options: Any
    ) -> AsyncIterator[tuple[ClientConnection, Welcome]]:
        """A node by hand, welcomed."""
        hello = {"epoch": epoch, "sample_rate": RATE, "sent": now(), "wall": time.time(), **options}
        async with self.connection(name, tls=tls) as connection:
            await connection.send(text_of(Hello(**hello)))
            yield connection, parse(Welcome, await connection.recv())

    def connection(
        self,
        name: str = "pi",
        token: str = TOKEN,
        protocol: str = SUBPROTOCOL,
        tls: ssl.SSLContext | None = None,
    ) -> connect:
        return connect(
            f"{'ws' if tls is None else 'wss'}://localhost:{self.port}{PATH}{name}",
            subprotocols=[Subprotocol(protocol)],
            additional_headers={"Authorization": f"Bearer {token}"},
            proxy=None,
            close_timeout=1,
            ssl=tls,
        )


@asynccontextmanager
async def listening(settings: GatewaySettings) -> AsyncIterator[tuple[Gateway, int]]:
    """A gateway at any port that is free, for the node `pi`."""
    gateway = Gateway(settings.model_copy(update={"port": 0}), Metrics(), lambda: {"pi"})
    async with gateway.serving() as port:
        yield gateway, port


def real_node(port: int, **settings: Any) -> tuple[Outbox, Link]:
    """The program's own end of a link, and what it is to send."""
    values = {"node": "pi", "to": f"ws://127.0.0.1:{port}", "source": {"command": ["true"]}, **settings}
    orders = CaptureSettings.model_validate(values)
    node = Orders(**orders.model_dump(mode="json"), is_local=orders.is_local)
    outbox = Outbox(RATE, Codec.FLAC, gate_dbfs=None, keep_s=60)
    return outbox, Link(node, outbox)


@asynccontextmanager
async def served(folder: Path, **options: Any) -> AsyncIterator[Served]:
    tokens = folder / "tokens"
    tokens.write_text(f"pi {TOKEN}\n\n# comment\nother {TOKEN}2\n")
    settings = GatewaySettings(**{"host": "127.0.0.1", "tokens_file": tokens, "port": 1, **options})
    async with listening(settings) as (gateway, port):
        one = Served(gateway, port)
        async with running(one.listen(), "listen"):
            yield one


def hop(sequence: int, value: int = 1000, age_s: float = 1.0, **changes: Any) -> bytes:
    """A second of plain samples that began `age_s` ago."""
    fields = {
        "sequence": sequence,
        "codec": Codec.INT16,
        "n_samples": RATE,
        "captured": now() - age_s,
        "level_dbfs": -30.0,
        "discontinuity": False,
        "payload": np.full(RATE, value, "<i2").tobytes(),
        **changes,
    }
    return pack(Hop(**fields), now())


async def refused(attempt: Any) -> tuple[int, str]:
    """Status and reason of a connection that must not come to be."""
    with pytest.raises(InvalidStatus) as caught:
        async with attempt:
            pass
    return caught.value.response.status_code, (caught.value.response.body or b"").decode()


async def closed(connection: ClientConnection) -> tuple[int, str]:
    """Code and reason with which the gateway ends a connection."""
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await connection.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def test_audio_arrives_as_it_was_sent(tmp_path: Path) -> None:
    """Plain or FLAC, each hop is a block at the time it was captured, and is acknowledged."""
    samples = np.random.default_rng(0).integers(-9000, 9000, RATE).astype("<i2")
    async with served(tmp_path) as there, there.node() as (connection, welcome):
        assert welcome.next == 0
        began = time.time() - 1
        await connection.send(hop(0, payload=samples.tobytes()))
        await connection.send(hop(1, age_s=0.0, codec=Codec.FLAC, payload=flac.encode(samples, RATE)))
        assert [await connection.recv(), await connection.recv()] == ['{"next": 1}', '{"next": 2}']
        await there.until(lambda: len(there.blocks) == 2)
        for block, begin in zip(there.blocks, (began, began + 1), strict=True):
            assert np.array_equal(block.samples, samples.astype(np.float32) / 32768)
            assert block.captured_at == pytest.approx(begin, abs=0.5)
        assert [block.discontinuity for block in there.blocks] == [True, False]


@pytest.mark.parametrize(
    ("who", "status", "reason"),
    [
        ({"token": "wrong-token-0123456789"}, 401, "the name or the token is wrong"),
        ({"token": ""}, 401, "the name or the token is wrong"),
        ({"token": f"{TOKEN}2"}, 401, "the name or the token is wrong"),
        ({"name": "nobody"}, 401, "the name or the token is wrong"),
        ({"name": "other", "token": f"{TOKEN}2"}, 404, "no source of this machine is the node other"),
        (
            {"protocol": "streamer-audio.99"},
            426,
            "another version of the program: here it is streamer-audio.1",
        ),
        ({"name": "../pi"}, 401, "the name or the token is wrong"),
    ],
)
async def test_who_may_not_connect_is_told_why(
    tmp_path: Path, who: dict[str, str], status: int, reason: str
) -> None:
    """Token, name and version are judged before a byte of audio can be sent."""
    async with served(tmp_path) as there:
        found = await refused(there.connection(**who))
        assert found[0] == status
        assert found[1].startswith(reason)
        async with there.node() as (_, welcome):
            assert welcome.next == 0


async def test_a_token_can_be_revoked_while_it_runs(tmp_path: Path) -> None:
    """The file is read whenever a node connects; one that cannot be read lets nobody in."""
    async with served(tmp_path) as there:
        (tmp_path / "tokens").write_text("pi another-token-0123456789\n")
        assert (await refused(there.connection()))[0] == 401
        (tmp_path / "tokens").unlink()
        assert (await refused(there.connection()))[0] == 503


async def test_no_more_than_max_nodes(tmp_path: Path) -> None:
    """Connections have a bound."""
    async with served(tmp_path, max_nodes=1) as there, there.node():
        status, reason = await refused(there.connection())
        assert (status, reason) == (503, "no more than 1 connections at a time\n")


async def test_it_goes_on_after_a_cut(tmp_path: Path) -> None:
    """The node is told which hop is next; one that came twice is heard once, one that is lost is a gap."""
    async with served(tmp_path) as there:
        async with there.node() as (connection, welcome):
            await connection.send(hop(0))
            await connection.send(hop(1))
            await there.until(lambda: len(there.blocks) == 2)
        async with there.node(welcome.epoch) as (connection, again):
            assert (again.epoch, again.next) == (welcome.epoch, 2)
            for sequence in (1, 2, 4):
                await connection.send(hop(sequence, value=sequence))
            await there.until(lambda: len(there.blocks) == 4)
        assert [block.samples[0] * 32768 for block in there.blocks[2:]] == [2, 4]
        assert [block.discontinuity for block in there.blocks] == [True, False, False, True]


async def test_the_newer_of_two_is_heard(tmp_path: Path) -> None:
    """The older one is told why, and does not get in again; one that connects anew takes its own place."""
    async with served(tmp_path) as there, there.node() as (older, first):
        await older.send(hop(0))
        await there.until(lambda: len(there.blocks) == 1)
        await asyncio.sleep(0.01)
        async with there.node() as (newer, second):
            assert await closed(older) == (4001, "another process with this name connected, from 127.0.0.1")
            assert (second.epoch > first.epoch, second.next) == (True, 0)
            async with there.connection() as late:
                hello = Hello(epoch=first.epoch, sample_rate=RATE, sent=now(), wall=time.time())
                await late.send(text_of(hello))
                assert await closed(late) == (4002, "another process with this name was started later")
            await newer.send(hop(0))
            await there.until(lambda: len(there.blocks) == 2)
            assert there.blocks[1].discontinuity
            async with there.node(second.epoch) as (_, third):
                assert (third.epoch, third.next) == (second.epoch, 1)
                assert (await closed(newer))[1] == "this node has connected anew, from 127.0.0.1"


async def test_an_epoch_of_the_future_is_none(tmp_path: Path) -> None:
    """A node that claims to be newer than now does not lock out the others."""
    async with served(tmp_path) as there:
        async with there.node(2**62) as (_, first):
            assert first.epoch <= time.time() * 1000
        await asyncio.sleep(0.01)
        async with there.node() as (_, second):
            assert second.epoch > first.epoch


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (["no json"], "hello"),
        ([b"\x00"], "text is due"),
        (['{"epoch": null, "sample_rate": 3, "sent": 0.0, "wall": 0.0}'], "sample_rate"),
        ([None, b"\x01\x02\x03"], "has no header"),
        ([None, '{"problem": 7}'], "problem"),
        ([None, hop(0, payload=b"x" * 100, codec=Codec.FLAC)], "no FLAC"),
        ([None, hop(0, n_samples=5)], "are not 5 samples"),
    ],
)
async def test_bad_messages_end_their_connection_alone(
    tmp_path: Path, messages: list[str | bytes | None], reason: str
) -> None:
    """The other end is told what was wrong, and the next connection is heard."""
    async with served(tmp_path) as there:
        async with there.connection() as connection:
            for message in messages:
                hello = Hello(epoch=None, sample_rate=RATE, sent=now(), wall=time.time())
                await connection.send(text_of(hello) if message is None else message)
            code, why = await closed(connection)
            assert code == 4000
            assert reason in why
        async with there.node() as (connection, _):
            await connection.send(hop(0))
            await there.until(lambda: len(there.blocks) == 1)


async def test_a_message_that_is_too_large_ends_its_connection(tmp_path: Path) -> None:
    """More than a second at the highest rate is not read into memory."""
    async with served(tmp_path) as there, there.node() as (connection, _):
        await connection.send(bytes(2 << 20))
        assert (await closed(connection))[0] == 1009


async def test_ten_thousand_fuzzed_messages_are_harmless(tmp_path: Path) -> None:
    """Bytes of any kind, headers with any fields: the gateway goes on, and hears the next honest node."""
    rng = random.Random(7)
    n_sent = n_connections = 0
    async with served(tmp_path) as there:
        while n_sent < 10_000:
            n_connections += 1
            async with there.node() as (connection, welcome):
                try:
                    for _ in range(500):  # most are refused, and end the connection
                        n_sent += 1
                        await connection.send(fuzzed(rng, welcome.next))
                except ConnectionClosed:
                    continue
            n_sent += 20  # what was under way
        assert n_connections > 5
        heard = len(there.blocks)
        async with there.node() as (connection, _):
            await connection.send(hop(0, value=77))
            await there.until(lambda: len(there.blocks) > heard)
        assert there.blocks[-1].samples[0] * 32768 == 77


def fuzzed(rng: random.Random, sequence: int) -> bytes | str:
    match rng.randrange(4):
        case 0:
            return rng.randbytes(rng.randrange(200))
        case 1:
            return rng.randbytes(rng.randrange(60)).decode("latin1")
        case 2:
            good = bytearray(hop(sequence, codec=Codec.FLAC, payload=rng.randbytes(90)))
            good[rng.randrange(len(good))] = rng.randrange(256)
            return bytes(good)
        case _:
            good = bytearray(hop(sequence, n_samples=4, payload=rng.randbytes(8)))
            good[rng.randrange(36)] = rng.randrange(256)
            return bytes(good)


async def test_raw_bytes_on_the_port_are_harmless(tmp_path: Path) -> None:
    """What is no HTTP, or never ends, holds nobody up."""
    async with served(tmp_path) as there:
        idle = await asyncio.open_connection("127.0.0.1", there.port)
        for junk in (
            b"\x16\x03\x01\x02\x00",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x00" * 5000,
            b"GET /" + b"a" * 99999,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
            writer.write(junk)
            writer.write_eof()
            async with asyncio.timeout(DEADLINE_S):
                await reader.read()
            writer.close()
        async with there.node() as (connection, _):
            await connection.send(hop(0))
            await there.until(lambda: len(there.blocks) == 1)
        idle[1].close()


async def test_a_wrong_clock_is_said_and_changes_no_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A node whose wall clock is an hour behind: blocks have the time of this one, and the log says it."""
    async with served(tmp_path) as there:
        async with there.node(wall=time.time() - 3600) as (connection, _):
            began = time.time() - 1
            await connection.send(hop(0))
            await there.until(lambda: len(there.blocks) == 1)
        assert there.blocks[0].captured_at == pytest.approx(began, abs=0.5)
        assert there.metrics.sources["room"].clock_skew_s == pytest.approx(-3600, abs=1)
        assert "node pi: its clock is 3600.0 s behind" in caplog.text


def test_the_clock_of_a_node_is_found_through_queues() -> None:
    """The least delay counts; after ten minutes a drift is followed."""
    clock = NodeClock(sent=5.0, arrived=1005.02)
    clock.note(sent=6.0, arrived=1016.0)  # it waited in a queue
    assert clock.here(6.0) == pytest.approx(1006.02)
    for minute in range(40):  # a node whose clock loses 10 ms a minute
        sent = 60.0 * minute * (1 - 1 / 6000)
        clock.note(sent, 1000.0 + 60 * minute + 0.02)
    assert clock.here(sent) == pytest.approx(1000 + 60 * 39 + 0.02, abs=0.25)


async def test_a_node_that_is_too_fast_is_held_back(tmp_path: Path) -> None:
    """Eight times real time is the most that it gets through, and nothing of it counts as owed."""
    async with served(tmp_path) as there, there.node() as (connection, _):
        there.gateway._intakes["pi"]._owed_s = 0.0  # what a node may have kept before the gateway was there
        began = time.monotonic()

        async def flood() -> None:
            sequence = 0
            while True:
                await connection.send(hop(sequence, age_s=5.0))
                sequence += 1

        async with running(flood(), "flood"):
            await asyncio.sleep(2.0)
        passed_s = time.monotonic() - began
        assert 1 < len(there.blocks) <= 8 * passed_s + 2
        assert not any(block.late for block in there.blocks[1:])


async def test_audio_that_is_held_back_ends_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node has few hops under way, so that pings are read also while nothing takes hops; none is lost."""
    for end in (gateway_module, link_module):
        monkeypatch.setattr(end, "PING_S", 0.2)
    async with listening(GatewaySettings(port=1)) as (gateway, port), AsyncExitStack() as stack:
        source, blocks = gateway.source("room", "pi"), list[AudioBlock]()
        outbox, link = real_node(port)
        await stack.enter_async_context(running(link.run(), "link"))
        for value in range(12):
            outbox.put(Cut(np.full(RATE, value, np.int16), now() - 12 + value, discontinuity=not value))
        await source.open()
        (connection,) = gateway._links.values()
        for word in "abcdef":  # more messages than the hops
            link.report(word)
            await asyncio.sleep(0.2)
        await stack.enter_async_context(running(source.run(blocks.append), "run"))
        async with asyncio.timeout(DEADLINE_S):
            await outbox.until_empty()
        assert [round(block.samples[0] * 32768) for block in blocks] == list(range(12))
        assert list(gateway._links.values()) == [connection]


async def test_what_is_late_because_of_the_link_is_owed(tmp_path: Path) -> None:
    """As much as did not come is scored though it is late; hops that waited here may be skipped."""
    short = {"n_samples": RATE // 20, "payload": bytes(RATE // 10)}
    async with served(tmp_path) as there, there.node() as (connection, _):
        await connection.send(hop(0, age_s=0.05, **short))
        await there.until(lambda: len(there.blocks) == 1)
        await asyncio.sleep(0.5)  # ten hops
        for sequence in range(1, 31):
            await connection.send(hop(sequence, age_s=2.0, **short))
        await there.until(lambda: len(there.blocks) == 31)
        late = [block.late for block in there.blocks]
        n_late = sum(late)
        assert late == [False] + [True] * n_late + [False] * (30 - n_late)
        assert 9 <= n_late < 25


async def test_a_node_that_is_too_slow_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Hops whose times are further apart than their samples have gaps between them."""
    async with served(tmp_path) as there, there.node() as (connection, _):
        for sequence in range(3):  # 16 000 samples in three seconds
            await connection.send(hop(sequence, age_s=10.0 - 3 * sequence))
        await there.until(lambda: len(there.blocks) == 3)
        assert [block.discontinuity for block in there.blocks] == [True, True, True]
        assert "2.0 s are missing within its audio: it is slow, or not at 16000 Hz" in caplog.text


async def test_a_level_becomes_noise_as_loud(tmp_path: Path) -> None:
    """A hop below the gate of a node keeps time and loudness; digital silence stays silence."""
    async with served(tmp_path) as there, there.node() as (connection, _):
        for sequence, level in enumerate((-60.0, -120.0)):
            await connection.send(hop(sequence, codec=Codec.LEVEL, payload=b"", level_dbfs=level))
        await there.until(lambda: len(there.blocks) == 2)
        noise, silence = (block.samples for block in there.blocks)
        assert 20 * np.log10(np.sqrt(np.mean(noise**2))) == pytest.approx(-60, abs=0.2)
        assert not silence.any()


async def test_a_node_says_why_it_has_no_audio(tmp_path: Path) -> None:
    """The words of the node are those of the source; the next hop takes them back."""
    async with served(tmp_path) as there, there.node() as (connection, _):
        await connection.send(hop(0))
        await there.until(lambda: len(there.blocks) == 1)
        await connection.send(text_of(Note(problem="microphone USB: the device is gone\x1b[2J")))
        await there.until(lambda: there.failure == "node pi: microphone USB: the device is gone\\x1b[2J")
        await connection.send(hop(1))
        await there.until(lambda: len(there.blocks) == 2)


async def test_hops_of_a_source_that_is_switched_off_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node is not held up, and what it sent meanwhile is not heard later."""
    monkeypatch.setattr(intake, "UNHEARD_S", 0.2)
    async with listening(GatewaySettings(port=1)) as (gateway, port):
        there = Served(gateway, port)
        async with there.node() as (connection, _):
            for sequence in range(8):
                await connection.send(hop(sequence))
            for sequence in range(8):
                assert await connection.recv() == f'{{"next": {sequence + 1}}}'


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"host": "0.0.0.0"}, "set cert_file"),  # noqa: S104  # what is refused
        ({"host": "::"}, "set cert_file"),
        ({"host": "pi.example"}, "set cert_file"),
        ({"host": "192.168.1.2", "cert_file": "c.pem"}, "set tokens_file or clients_ca_file"),
        ({"key_file": "k.pem"}, "key_file needs cert_file"),
        ({"clients_ca_file": "k.pem"}, "clients_ca_file needs cert_file"),
    ],
)
def test_nothing_crosses_a_network_in_the_clear(options: dict[str, str], reason: str) -> None:
    """Beyond loopback there is TLS, and each node is known."""
    with pytest.raises(ValidationError, match=reason):
        GatewaySettings(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("pi short\n", ":1: should be"), (f"pi {TOKEN}\npi\n", ":2: should be"), ("\xff", "cannot read")],
)
def test_tokens_are_checked_at_the_start(tmp_path: Path, text: str, reason: str) -> None:
    """A file that is missing, damaged or has a short token is an error of the configuration."""
    (tmp_path / "tokens").write_bytes(text.encode("latin1"))
    with pytest.raises(ConfigError, match=reason):
        Gateway(GatewaySettings(tokens_file=tmp_path / "tokens"), Metrics(), set)
    with pytest.raises(ConfigError, match="cannot read"):
        read_tokens(tmp_path / "none")


class Certificates:
    """A CA, a certificate for localhost, and one for the node `pi`; each with its key."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        self._openssl(
            "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test CA"
        )
        for name in ("localhost", "pi"):
            self._openssl(
                "req", *key, "-keyout", f"{name}.key", "-out", "request.pem", "-subj", f"/CN={name}"
            )
            (folder / "names").write_text(f"subjectAltName=DNS:{name}\n")
            sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
            self._openssl("x509", "-req", "-in", "request.pem", *sign, "-out", f"{name}.pem")

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    def client(self, name: str | None = None) -> ssl.SSLContext:
        context = trusting(self["ca.pem"])
        if name is not None:
            context.load_cert_chain(self[f"{name}.pem"], self[f"{name}.key"])
        return context

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


async def test_tls_with_a_token(tmp_path: Path) -> None:
    """The link is encrypted; a client that does not know the CA, and one without TLS, do not get through."""
    files = Certificates(tmp_path / "tls")
    options = {"cert_file": files["localhost.pem"], "key_file": files["localhost.key"]}
    async with served(tmp_path, **options) as there:
        async with there.node(tls=files.client()) as (connection, _):
            await connection.send(hop(0))
            await there.until(lambda: len(there.blocks) == 1)
        with pytest.raises(ssl.SSLCertVerificationError):
            await there.connection(tls=ssl.create_default_context())
        with pytest.raises((OSError, InvalidMessage)):
            await there.connection()


async def test_a_certificate_instead_of_a_token(tmp_path: Path) -> None:
    """With a CA of clients, a node is who its certificate says."""
    files = Certificates(tmp_path / "tls")
    options = {
        "cert_file": files["localhost.pem"],
        "key_file": files["localhost.key"],
        "clients_ca_file": files["ca.pem"],
        "tokens_file": None,
    }
    async with served(tmp_path, **options) as there:
        async with there.node(tls=files.client("pi")) as (connection, _):
            await connection.send(hop(0))
            await there.until(lambda: len(there.blocks) == 1)
        assert (await refused(there.connection(tls=files.client("localhost"))))[0] == 401
        with pytest.raises((OSError, ConnectionClosed, InvalidMessage)):
            await there.connection(tls=files.client())


@pytest.mark.parametrize("file", ["cert_file", "clients_ca_file"])
def test_a_certificate_that_is_none_is_an_error_at_the_start(tmp_path: Path, file: str) -> None:
    """The configuration is wrong, and says which file."""
    files = Certificates(tmp_path / "tls")
    (tmp_path / "junk.pem").write_text("junk")
    good = {"cert_file": files["localhost.pem"], "key_file": files["localhost.key"]}
    with pytest.raises(ConfigError, match=r"junk\.pem"):
        Gateway(GatewaySettings(**{**good, file: tmp_path / "junk.pem"}), Metrics(), set)


async def test_a_port_that_is_taken_is_an_error_at_the_start(tmp_path: Path) -> None:
    """Nodes would wait for ever."""
    async with served(tmp_path) as there:
        gateway = Gateway(GatewaySettings(port=there.port), Metrics(), set)
        with pytest.raises(ConfigError, match=r"cannot listen at 127\.0\.0\.1"):
            async with gateway.serving():
                pass


async def test_the_link_of_a_node_goes_on(tmp_path: Path) -> None:
    """The node's own end: hops that are put arrive once each, in order, also over a link that breaks."""
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(served(tmp_path))
        (tmp_path / "token").write_text(TOKEN)
        outbox, link = real_node(there.port, token_file=tmp_path / "token")
        await stack.enter_async_context(running(link.run(), "link"))
        began = now() - 12
        for value in range(12):
            outbox.put(Cut(np.full(RATE, value, np.int16), began + value, discontinuity=not value))
            if value == 5:
                await there.until(lambda: len(there.blocks) == 6)
                (connection,) = there.gateway._links.values()
                connection.transport.abort()
        await there.until(lambda: len(there.blocks) == 12)
        await outbox.until_empty()
        assert [round(block.samples[0] * 32768) for block in there.blocks] == list(range(12))
        assert [block.discontinuity for block in there.blocks] == [True, *[False] * 11]
