"""What a Wyoming satellite hears is heard, whatever else it sends.

The other end is made of the wyoming package.
"""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wyoming.event import Event, async_write_event
from wyoming.server import AsyncEventHandler

from streamer.capture import satellite
from streamer.capture.satellite import Satellite
from streamer.errors import SourceError
from streamer.types import AudioBlock

DEADLINE_S = 30
RAMP = (np.arange(-4096, 4096) / 4096).astype(np.float32)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[str]:
    """A server whose connections are carried out by `talk`; its address."""
    talks = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*talks, return_exceptions=True)


async def heard(source: Satellite) -> tuple[list[AudioBlock], str]:
    """What a satellite is heard to send until it fails, and why it did."""
    blocks: list[AudioBlock] = []
    async with asyncio.timeout(DEADLINE_S):
        try:
            await source.open()
            await source.run(blocks.append)
        except SourceError as error:
            return blocks, str(error)
        finally:
            await source.close()
    raise AssertionError("it never ends by itself")


def chunk(audio: bytes, rate: int = 16000, width: int = 2, channels: int = 1) -> Event:
    return Event("audio-chunk", {"rate": rate, "width": width, "channels": channels}, audio)


class Microphone(AsyncEventHandler):
    """Of the package's own base class: silent until it is asked to run, then it sends `events`."""

    def __init__(
        self, events: list[Event], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(reader, writer)
        self.events = events
        self.received: list[Event] = []

    async def handle_event(self, event: Event) -> bool:
        self.received.append(event)
        if event.type == "run-satellite":
            for one in self.events:
                await self.write_event(one)
        return event.type == "run-satellite"


@pytest.mark.parametrize(("width", "dtype"), [(2, "<i2"), (4, "<i4")])
async def test_what_it_sends_is_heard(width: int, dtype: str) -> None:
    """Every sample arrives at its value, at the satellite's rate, and where it stopped there is a gap."""
    audio = (RAMP.astype(np.float64) * 2 ** (8 * width - 1)).astype(dtype).tobytes()
    half = len(audio) // 2
    events = [
        Event("run-pipeline", {"start_stage": "wake", "end_stage": "handle"}),
        Event("audio-start", {"rate": 48000, "width": width, "channels": 1}),
        chunk(audio[:half], 48000, width),
        Event("an-event-of-another-version", {"what": [1]}, b"payload"),
        chunk(b"", 48000, width),
        Event("audio-stop", {"timestamp": None}),
        chunk(audio[half:], 48000, width),
        Event("ping", {"text": "there?"}),
    ]
    handlers = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(Microphone(events, reader, writer))
        await handlers[0].run()

    async with serving(talk) as address:
        source = Satellite(f"tcp://{address}")
        blocks, error = await heard(source)

    assert source.sample_rate == 48000
    assert np.array_equal(np.concatenate([block.samples for block in blocks]), RAMP)
    assert [block.discontinuity for block in blocks] == [True, True]
    assert blocks[0].captured_at < blocks[1].captured_at
    assert [(event.type, event.data) for event in handlers[0].received] == [
        ("run-satellite", {}),
        ("pong", {"text": "there?"}),
    ]
    assert error == (
        f"satellite {address}: it closed the connection; does it serve another, as Home Assistant?"
    )


@pytest.mark.parametrize(("channel", "wanted"), [(1, 0.5), (2, -0.25), ("mix", 0.125)])
async def test_channels(channel: int, wanted: float) -> None:
    """One channel is taken out of several, or their mean; one that there is not is said."""
    audio = np.tile(np.array([0.5, -0.25]) * 2**15, 500).astype("<i2").tobytes()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await async_write_event(chunk(audio, channels=2), writer)

    async with serving(talk) as address:
        blocks, _ = await heard(Satellite(address, channel=channel))
        none, error = await heard(Satellite(address, channel=3))
    assert set(np.concatenate([block.samples for block in blocks])) == {np.float32(wanted)}
    assert (none, error) == ([], f"satellite {address}: no channel 3: it has 2")


def _line(**parts: object) -> bytes:
    return json.dumps(parts).encode() + b"\n"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what it sends is not Wyoming"),
        (b"[" * 60_000 + b"\n", "what it sends is not Wyoming"),
        (b"x" * (1 << 20), "what it sends is not Wyoming"),
        (b"[]\n", "what it sends is not Wyoming"),
        (_line(data={}), "what it sends is not Wyoming"),
        (_line(type="audio-chunk", data_length="2"), "what it sends is not Wyoming"),
        (_line(type="audio-chunk", payload_length=2.5) + b"abc", "what it sends is not Wyoming"),
        (_line(type="audio-chunk", payload_length=1 << 40) + bytes(1 << 22), "what it sends is not Wyoming"),
        (_line(type="audio-chunk", data=[], payload_length=2) + b"ab", "what it sends is not Wyoming"),
        (_line(type="audio-chunk", payload_length=2) + b"ab", "a sample rate of None Hz"),
        (
            _line(type="audio-chunk", data={"rate": 10**9, "width": 2, "channels": 1}, payload_length=2)
            + b"ab",
            "a sample rate of 1000000000 Hz",
        ),
        (
            _line(type="audio-chunk", data={"rate": 16000, "width": 3, "channels": 1}, payload_length=3)
            + b"abc",
            "samples of 3 bytes; 2 and 4 are known",
        ),
        (
            _line(type="audio-chunk", data={"rate": 16000, "width": 2, "channels": 0}, payload_length=2)
            + b"ab",
            "0 channels",
        ),
        (_line(type="audio-chunk", payload_length=100) + b"ab", "it closed the connection"),
    ],
)
async def test_what_is_not_wyoming_is_said(sent: bytes, reason: str) -> None:
    """Whatever the other end sends, the source fails with one line, and takes no memory on its word."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()

    tracemalloc.start()
    try:
        async with serving(talk) as address:
            blocks, error = await heard(Satellite(address))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert blocks == []
    assert error.startswith(f"satellite {address}: {reason}")
    assert error.isprintable()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["type", "data", "data_length", "payload_length", "version"]),
        st.sampled_from(["audio-chunk", "ping"])
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["rate", "width", "channels"]), inner)
            ),
            max_leaves=6,
        ),
    ),
    st.binary(max_size=200),
)
def test_any_event_ends_in_one_line(head: dict[str, object], rest: bytes) -> None:
    """No event, however odd, raises anything but SourceError."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_line(**head) + rest)

    async def scene() -> str:
        async with serving(talk) as address:
            return (await heard(Satellite(address)))[1]

    assert asyncio.run(scene()).isprintable()


async def test_another_rate_is_said() -> None:
    """A time line has one rate: with another one, the source is opened anew."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await async_write_event(chunk(bytes(200), 16000), writer)
        await async_write_event(chunk(bytes(200), 22050), writer)
        await reader.read()

    async with serving(talk) as address:
        blocks, error = await heard(Satellite(address))
    assert len(blocks) == 1
    assert error == f"satellite {address}: it has another sample rate now"


async def test_one_that_waits_for_a_wake_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A satellite that is there and sends no audio is said to, with what may be why; pings are no audio."""
    monkeypatch.setattr(satellite, "STALL_S", 0.3)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            await async_write_event(Event("ping"), writer)
            await asyncio.sleep(0.05)

    async with serving(talk) as address:
        _, error = await heard(Satellite(address))
    assert error == (
        f"satellite {address}: no audio for 0.3 s; "
        "does it wait for a wake word or for speech, or serve another, as Home Assistant?"
    )


async def test_nobody_there() -> None:
    """An address where nothing listens is refused with the system's reason, and closing is harmless twice."""
    async with serving(lambda _reader, writer: writer.drain()) as address:
        pass
    source = Satellite(address)
    _, error = await heard(source)
    await source.close()
    assert error == f"satellite {address}: Connection refused"


async def test_closing_is_seen_at_the_other_end() -> None:
    """Closed while audio flows, the satellite is free for another."""
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await async_write_event(chunk(bytes(3200)), writer)
        await reader.read()
        ended.set()

    async with serving(talk) as address:
        source = Satellite(address)
        await source.open()
        assert not ended.is_set()
        await source.close()
        async with asyncio.timeout(DEADLINE_S):
            await ended.wait()
