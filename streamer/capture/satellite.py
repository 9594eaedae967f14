"""A Wyoming satellite or microphone, over TCP. The only importer of wyoming."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from wyoming.event import Event, async_read_event, async_write_event

from streamer.capture.channels import Channel, Mixer
from streamer.capture.pcm import Format, frames
from streamer.core.clock import Clock
from streamer.core.printable import printable
from streamer.errors import SourceError
from streamer.types import AudioBlock, Samples

PORT = 10700
"""where a satellite is unless it was started otherwise"""
CONNECT_S = 10.0
STALL_S = 10.0
"""a satellite that sends no audio for this long has failed, though it is connected"""
CLOSE_S = 1.0
MESSAGE_MAX = 1 << 20
"""bytes of audio in one event; satellites send some 2 kB"""
LINE_MAX = 1 << 16
CATCH_UP = 8.0
"""times real time at which audio is taken that has waited, so that a flood leaves time for other sources"""
FORMATS: dict[object, Format] = {2: "s16le", 4: "s32le"}
"""by bytes a sample"""
CLOSED = "it closed the connection; does it serve another, as Home Assistant?"
NOT_WYOMING = "what it sends is not Wyoming"
MALFORMED = (KeyError, TypeError, AttributeError, RecursionError)
"""what the library raises for JSON that is no event"""


class _Reader(asyncio.StreamReader):
    """Refuses what would need much memory: the length of a part is what the other end says."""

    async def readexactly(self, n: int) -> bytes:
        """Raises ValueError, which the library takes for the end of the stream."""
        if not isinstance(n, int) or n > MESSAGE_MAX:
            raise ValueError("longer than any event")
        return await super().readexactly(n)


@dataclass(frozen=True, slots=True, eq=False)
class _Chunk:
    """The audio of one event."""

    samples: Samples
    sample_rate: int
    discontinuity: bool


class Satellite:
    """A source that connects to a satellite as Home Assistant does, and takes all that its microphone hears.

    Source: the protocol's description, github.com/OHF-Voice/wyoming.
    """

    def __init__(self, address: str, *, channel: Channel = "mix") -> None:
        """`address` is `HOST`, `HOST:PORT` or `tcp://HOST:PORT`."""
        parts = urlsplit(f"//{address.removeprefix('tcp://')}")
        self._host, self._port = parts.hostname or "", parts.port or PORT
        self._name = f"satellite {parts.netloc}"
        self._channel = channel
        self._sample_rate = 0
        self._mixer = Mixer(self._name, channel)
        self._reader: _Reader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._first: _Chunk | None = None
        """came while the source was opened, which is how its sample rate is known"""

    @property
    def sample_rate(self) -> int:
        return self._sample_rate

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._reader = _Reader(limit=LINE_MAX)
        protocol = asyncio.StreamReaderProtocol(self._reader)
        try:
            async with asyncio.timeout(CONNECT_S):
                transport, _ = await loop.create_connection(lambda: protocol, self._host, self._port)
        except TimeoutError:
            raise SourceError(f"{self._name}: no answer within {CONNECT_S:g} s") from None
        except OSError as error:
            raise SourceError(f"{self._name}: {_reason(error)}") from error
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, loop)
        self._mixer = Mixer(self._name, self._channel)
        self._first = await self._chunk(Event("run-satellite"))
        self._sample_rate = self._first.sample_rate

    async def run(self, write: Callable[[AudioBlock], None]) -> None:
        clock = Clock()
        chunk, self._first = self._first, None
        discontinuity = True
        while True:
            chunk = chunk or await self._chunk()
            if chunk.sample_rate != self._sample_rate:
                raise SourceError(f"{self._name}: it has another sample rate now")
            length_s = len(chunk.samples) / self._sample_rate
            write(
                AudioBlock(chunk.samples, clock.now() - length_s, discontinuity or chunk.discontinuity),
            )
            await asyncio.sleep(length_s / CATCH_UP)
            chunk, discontinuity = None, False

    async def close(self) -> None:
        writer, self._writer = self._writer, None
        self._first = None
        if writer is None:
            return
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await writer.wait_closed()
        writer.transport.abort()

    async def _chunk(self, first: Event | None = None) -> _Chunk:
        """The next event with audio; `first` is sent before. Raises SourceError."""
        if self._reader is None or self._writer is None:
            raise RuntimeError("open comes before run")
        discontinuity = False
        try:
            async with asyncio.timeout(STALL_S):
                if first is not None:
                    await async_write_event(first, self._writer)
                while True:
                    event = await async_read_event(self._reader)
                    match event:
                        case None:
                            raise SourceError(f"{self._name}: {self._end()}")
                        case Event("ping"):
                            await async_write_event(
                                Event("pong", {"text": event.data.get("text")}), self._writer
                            )
                        case Event("audio-stop"):
                            discontinuity = True
                        case Event("audio-chunk") if event.payload:
                            return self._decode(event, event.payload, discontinuity=discontinuity)
        except TimeoutError:
            raise SourceError(
                f"{self._name}: no audio for {STALL_S:g} s; does it wait for a wake word or for speech, "
                "or serve another, as Home Assistant?"
            ) from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise SourceError(f"{self._name}: {CLOSED}") from None
        except MALFORMED:
            raise SourceError(f"{self._name}: {NOT_WYOMING}") from None
        except OSError as error:
            raise SourceError(f"{self._name}: {_reason(error)}") from error

    def _end(self) -> str:
        if self._reader is not None and self._reader.at_eof():
            return CLOSED
        return NOT_WYOMING

    def _decode(self, event: Event, audio: bytes, *, discontinuity: bool) -> _Chunk:
        rate, width, channels = (event.data.get(key) for key in ("rate", "width", "channels"))
        if not isinstance(rate, int) or not 4000 <= rate <= 384_000:
            raise SourceError(f"{self._name}: a sample rate of {printable(str(rate))[:40]} Hz")
        if width not in FORMATS:
            raise SourceError(
                f"{self._name}: samples of {printable(str(width))[:40]} bytes; 2 and 4 are known"
            )
        if not isinstance(channels, int) or not 1 <= channels <= 64:
            raise SourceError(f"{self._name}: {printable(str(channels))[:40]} channels")
        if self._channel != "mix" and self._channel > channels:
            raise SourceError(f"{self._name}: no channel {self._channel}: it has {channels}")
        interleaved = frames(audio, FORMATS[width], channels)
        return _Chunk(self._mixer.mono(interleaved.T), rate, discontinuity)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno is None:
        return error.strerror or str(error)
    return os.strerror(error.errno)
