"""Files, RTSP and HTTP streams, decoded to mono at their own rate."""

from __future__ import annotations

import errno
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import av
import numpy as np
from av.audio.frame import AudioFrame

from streamer.capture.channels import Channel, Mixer
from streamer.capture.playlist import is_hls, leads_to
from streamer.capture.web import HEAD, Pieces, ask, check_may_lead, is_web
from streamer.core.addresses import may_lead
from streamer.core.clock import Clock
from streamer.core.printable import address_for_people, printable, without_secrets
from streamer.core.threads import in_thread
from streamer.errors import InputError, SourceError, StreamerError
from streamer.types import AudioBlock, Samples

BLOCK_S = 0.1
TIMEOUT_S = 10.0
"""how long an address may take to answer, and how long a stream may be silent"""
JUMP_S = 0.05
"""time stamps that leap by more mean lost packets; by less, the rounding of containers"""
LEAP_S = 86400.0
"""time stamps that leap by more are damaged themselves"""
CAUGHT_UP_S = 0.06
"""seconds without a block that end the first burst of a live stream; a block is longer"""
BURST_S = 20.0
"""seconds of sound that a live stream may give at once after it was opened"""
RATES = range(1000, 768_001)
"""Hertz that a sound may have: a damaged header may claim one sample a second, or four billion"""
_FILES = {
    # A playlist leads elsewhere, for ever where it leads to itself, and a file is only itself.
    "format_whitelist": ",".join(
        sorted(av.formats_available - {"concat", "dash", "hls", "rtp", "sap", "sdp"})
    )
}


# What a server answers decides on the format: none that opens other ports, or leads to files or elsewhere.
_WEB = {**_FILES, "protocol_whitelist": "http,https,httpproxy,tcp,tls", "max_redirects": "0"}
_HLS = {
    "format_whitelist": ",".join(sorted(av.formats_available - {"concat", "dash", "rtp", "sap", "sdp"})),
    "http_persistent": "0",  # or FFmpeg would ask for pieces by itself
}
_RTSP = {"allowed_media_types": "audio"}
_LIVE = {"indexmem": "4096"}
"""bytes of an index for seeking, which FFmpeg lets grow to a MiB over hours: nobody seeks in a stream"""
STEPS = 6
"""redirects and a playlist from one address on, at most"""


class ElsewhereError(SourceError):
    """What a web address gives is no audio as it stands; it may lead to some."""


class Decoder:
    """One file or address, opened: sample rate, duration and blocks. Synchronous; for one thread.

    Raises InputError where a file, SourceError where an address cannot be opened or read on.
    """

    def __init__(self, address: str | Path, channel: Channel = "mix", pieces: Pieces | None = None) -> None:
        """`pieces`: what opens those of HLS, where the address gives that."""
        self._address = str(address)
        self._pieces_of_hls = pieces
        self._channel = channel
        self.is_file = "://" not in self._address
        self.name = printable(self._address) if self.is_file else address_for_people(self._address)
        try:
            self._container = self._open()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._explained(error) from error
        try:
            frames = self._decoded()
            first = self._checked(next(frames, None))
        except BaseException:
            self.close()
            raise
        self._frames = itertools.chain([first], frames)
        self.sample_rate: int = first.sample_rate  # some containers do not know it before the first frame
        duration = self._container.duration
        self.duration_s: float | None = duration / av.time_base if duration else None
        """None where it is not known, as with all that is live"""
        self.is_live = self._address.startswith("rtsp") or not (self.is_file or duration)

    def blocks(self, start: float = 0.0) -> Iterator[AudioBlock]:
        """Blocks of 100 ms, the last one shorter; once. Sample n was captured at `start + n / sample_rate`.

        Samples that are missing according to the time stamps count; the block after them is a discontinuity.
        """
        n_block = round(BLOCK_S * self.sample_rate)
        pending: Samples = np.zeros(0, np.float32)
        position, lost = 0, False
        for samples, n_missing in self._pieces():
            if n_missing:
                if pending.size:
                    yield AudioBlock(pending, start + position / self.sample_rate, lost)
                position += pending.size + n_missing
                pending, lost = pending[:0], True
            pending = np.concatenate([pending, samples])
            while pending.size >= n_block:
                yield AudioBlock(pending[:n_block], start + position / self.sample_rate, lost)
                position += n_block
                pending, lost = pending[n_block:], False
        if pending.size:
            yield AudioBlock(pending, start + position / self.sample_rate, lost)

    def filled(self) -> Iterator[Samples]:
        """As `blocks`, the samples alone, (n,) each; what is missing is zeros."""
        position = 0
        for block in self.blocks():
            missing = round(block.captured_at * self.sample_rate) - position
            while missing > 0:
                zeros = np.zeros(min(missing, self.sample_rate), np.float32)
                yield zeros
                missing -= len(zeros)
                position += len(zeros)
            yield block.samples
            position += len(block.samples)

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> av.container.InputContainer:
        # Old recordings have their metadata in Latin-1.
        if self.is_file:
            path = Path(self._address)
            if path.is_file() and not path.stat().st_size:
                raise self._failure("the file is empty")
            if path.is_fifo() and path.resolve().is_fifo():  # to open it waits; /dev/stdin resolves to none
                raise self._failure("this is a pipe; listen to it with `command: [cat, …]`")
            # `file:`, since a name may hold a colon.
            return av.open(f"file:{path}", options=_FILES, metadata_errors="replace")
        if self._pieces_of_hls is not None:
            return self._connected(_HLS, format="hls", io_open=self._pieces_of_hls.open)
        if not self._address.startswith("rtsp"):
            return self._connected(_WEB if is_web(self._address) else _FILES)
        # Over TCP, since UDP loses packets; the sound alone, since a picture costs far more.
        try:
            return self._connected({**_RTSP, "rtsp_transport": "tcp"})
        except av.FFmpegError as error:
            if error.errno != errno.EPROTONOSUPPORT:
                raise
        return self._connected({**_RTSP, "rtsp_transport": "udp"})

    def _connected(self, options: dict[str, str], **more: Any) -> av.container.InputContainer:
        opened: av.container.InputContainer = av.open(
            self._address, options={**_LIVE, **options}, timeout=TIMEOUT_S, metadata_errors="replace", **more
        )
        return opened

    def _checked(self, frame: AudioFrame | None) -> AudioFrame:
        if frame is None:
            raise self._failure("there is no sound in it, not a single sample")
        if self._channel != "mix" and self._channel > frame.layout.nb_channels:
            raise self._failure(f"no channel {self._channel}: it has {frame.layout.nb_channels}")
        if frame.sample_rate not in RATES:
            raise self._failure(f"no sound has {frame.sample_rate} samples a second; it is damaged")
        return frame

    def _decoded(self) -> Iterator[AudioFrame]:
        if not self._container.streams.audio:
            raise self._elsewhere(self._playlist_or("there is no audio track in it"))
        try:
            for packet in self._container.demux(self._container.streams.audio[0]):
                try:
                    yield from packet.decode()
                except av.InvalidDataError:
                    continue  # a damaged packet: what it held is missing, which the time stamps show
        except av.FFmpegError as error:
            raise self._explained(error) from error

    def _pieces(self) -> Iterator[tuple[Samples, int]]:
        """The samples of each frame, with the number of those that are missing before them."""
        shape, resampler = None, None
        mixer = Mixer(self.name, self._channel)
        # A track that begins later than the film does: times are those that a player shows.
        start = self._container.start_time
        expected: float | None = None if self.is_live or start is None else start / av.time_base
        n_missing = 0
        for frame in self._frames:
            if shape != (frame.format.name, frame.layout.name, frame.sample_rate) or resampler is None:
                shape = (frame.format.name, frame.layout.name, frame.sample_rate)
                self._checked(frame)
                # The layout stays: FFmpeg's own mix to mono weighs channels, and lets float32 exceed 1.
                # Packed: to read eight planes or more crashes PyAV 18.1, and the process.
                resampler = av.AudioResampler("flt", frame.layout, self.sample_rate)
            at = frame.time if frame.time is not None else expected
            missing_s = at - expected if at is not None and expected is not None else 0.0
            if JUMP_S < missing_s < LEAP_S:
                n_missing += round(missing_s * self.sample_rate)
            if at is not None:
                expected = at + frame.samples / frame.sample_rate
            try:
                pieces = resampler.resample(frame)
            except av.FFmpegError as error:
                raise self._explained(error) from error
            for piece in pieces:
                packed = np.asarray(piece.to_ndarray(), np.float32)  # (1, n * channels)
                yield mixer.mono(packed.reshape(-1, frame.layout.nb_channels).T), n_missing
                n_missing = 0

    def _failure(self, what: str) -> StreamerError:
        return (InputError if self.is_file else SourceError)(f"{self.name}: {what}")

    def _elsewhere(self, what: str) -> StreamerError:
        leads = is_web(self._address) and self._pieces_of_hls is None
        return ElsewhereError(f"{self.name}: {what}") if leads else self._failure(what)

    def _playlist_or(self, what: str) -> str:
        """What is wrong with a file; that of an address is asked for only where it may be followed."""
        first = leads_to(self._address, _head(Path(self._address))) if self.is_file else None
        return what if first is None else _playlist(first)

    def _explained(self, error: Exception) -> StreamerError:
        match error:
            case FileNotFoundError():
                what = "no such file"
            case IsADirectoryError():
                what = "this is a directory; name a file"
            case PermissionError():
                what = "no permission to read it"
            case av.InvalidDataError() | av.EOFError():
                return self._elsewhere(self._playlist_or("this is not audio, or it is damaged"))
            case av.ArgumentError() if self.is_file:
                what = self._playlist_or(
                    "it is damaged, or a playlist, which is not followed; name what it leads to"
                )
            case av.ArgumentError() if "@" in self._address:
                return self._elsewhere(
                    "cannot be opened; write # / ? [ in a name or password as %23 %2F %3F %5B"
                )
            case av.ArgumentError():
                return self._elsewhere("this is not audio, or it leads elsewhere, which is not followed")
            case av.FFmpegError() if error.errno == errno.EIO:
                return self._elsewhere(self._playlist_or("cannot be read"))
            case av.ExitError():
                what = f"nothing came for {TIMEOUT_S:g} s"
            case av.FFmpegError() | OSError():
                what = f"cannot be opened or read: {error.strerror}"
            case _:
                what = f"cannot be opened or read: {without_secrets(str(error))}"
        return self._failure(what)


def _head(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def _playlist(first: str) -> str:
    example = f", such as the one at {address_for_people(first)}" if first else ""
    return f"this is a playlist: name an address that stands in it{example}"


def read_file(path: Path, onset_s: float = 0.0, offset_s: float | None = None) -> tuple[Samples, int]:
    """Samples of a file from onset to offset, mono, (n,), and its rate in Hertz. Raises InputError."""
    with Decoder(path) as decoder:
        rate = decoder.sample_rate
        first = round(onset_s * rate)
        last = None if offset_s is None else round(offset_s * rate)
        parts, n_samples = [np.zeros(0, np.float32)], 0
        for piece in decoder.filled():
            parts.append(piece)
            n_samples += len(piece)
            if last is not None and n_samples >= last:
                break
        return np.concatenate(parts)[first:last], rate


class Stream:
    """A source that plays a file or listens to an address.

    A file is played at the pace at which it was recorded or as fast as it can be read, from `started_at`
    (now), and its times are exact. A live stream comes at its own pace; its times are those of its arrival.
    """

    def __init__(
        self,
        address: str | Path,
        *,
        channel: Channel = "mix",
        pace: Literal["realtime", "fast"] = "realtime",
        loop: bool = False,
        started_at: float | None = None,
    ) -> None:
        self._address = address
        self._channel = channel
        self._pace = pace
        self._loop = loop
        self._started_at = started_at
        self._sample_rate = 0
        self._decoder: Decoder | None = None
        self._stopped = threading.Event()

    @property
    def sample_rate(self) -> int:
        return self._sample_rate

    async def open(self) -> None:
        try:
            self._decoder = await in_thread(self._opened, "open stream", deadline_s=2 * TIMEOUT_S)
        except TimeoutError as error:
            raise SourceError(f"{address_for_people(str(self._address))}: no answer") from error
        self._sample_rate = self._decoder.sample_rate
        self._stopped = threading.Event()

    async def run(self, write: Callable[[AudioBlock], None]) -> None:
        if self._decoder is None:
            raise RuntimeError("open comes before run")
        decoder, self._decoder = self._decoder, None  # from here on it belongs to the thread
        stopped = self._stopped
        try:
            await in_thread(lambda: self._play(decoder, write, stopped), f"play {decoder.name}")
        finally:
            stopped.set()

    async def close(self) -> None:
        self._stopped.set()
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _opened(self) -> Decoder:
        """Follows on the web what the address gives: redirects, HLS, and one playlist.

        What is on the internet leads nowhere into the home, nor to this machine.
        """
        wanted = str(self._address)
        try:
            return Decoder(wanted, self._channel)
        except ElsewhereError as error:
            failed: SourceError = error
        at, has_playlist, leads = wanted, False, ""
        for _ in range(STEPS):
            answer = ask(at)
            if is_hls(answer.head):
                return Decoder(at, self._channel, Pieces(wanted))
            if answer.redirect:
                check_may_lead(wanted, answer.redirect)
                leads = (
                    leads or f"{address_for_people(at)}: it leads to {address_for_people(answer.redirect)}"
                )
                at = answer.redirect
            else:
                first = leads_to(at, answer.head)
                if first is None:
                    break
                failed = SourceError(f"{address_for_people(at)}: {_playlist(first)}")
                if has_playlist or not (is_web(first) and may_lead(wanted, first)):
                    break
                leads, at, has_playlist = str(failed), first, True
            try:
                return Decoder(at, self._channel)
            except SourceError as error:
                failed = error
                if not isinstance(error, ElsewhereError):
                    break
        raise SourceError(f"{leads}; that fails, too: {failed}") if leads else failed

    def _play(self, decoder: Decoder, write: Callable[[AudioBlock], None], stopped: threading.Event) -> None:
        clock = Clock()
        began = time.monotonic()
        captured_until = self._started_at if self._started_at is not None else clock.now()
        played_s = 0.0
        burst = _Burst(write)
        try:
            while True:
                for block in decoder.blocks(captured_until):
                    block_s = len(block.samples) / self._sample_rate
                    captured_until = block.captured_at + block_s
                    captured_at, discontinuity = block.captured_at, block.discontinuity or not played_s
                    played_s += block_s
                    if decoder.is_live:
                        captured_at = clock.now() - block_s
                        if stopped.is_set():
                            return
                        burst.put(
                            replace(block, captured_at=captured_at, discontinuity=discontinuity), block_s
                        )
                        continue
                    if self._pace == "realtime":
                        stopped.wait(began + played_s - time.monotonic())
                    if stopped.is_set():
                        return
                    write(replace(block, captured_at=captured_at, discontinuity=discontinuity))
                if decoder.is_live:
                    raise SourceError(f"{decoder.name}: the stream ended")
                if not self._loop:
                    return
                decoder.close()
                decoder = self._opened()
        finally:
            burst.end(write=not stopped.is_set())
            decoder.close()


class _Burst:
    """What a live stream gives at once after it was opened: sound from before, dated from its end.

    A server sends what it has kept, and FFmpeg what it has read to know the format. Once no block has come
    for CAUGHT_UP_S, the stream has caught up, and from then on each block is as old as it is long.
    """

    def __init__(self, write: Callable[[AudioBlock], None]) -> None:
        self._write = write
        self._kept: list[tuple[AudioBlock, float]] = []
        """blocks and their lengths in seconds"""
        self._is_over = False
        self._put_at = math.inf
        self._lock = threading.Lock()

    def put(self, block: AudioBlock, block_s: float) -> None:
        """Take a block whose time is that of its arrival."""
        with self._lock:
            if not self._is_over:
                if not self._kept:
                    threading.Thread(target=self._watch, name="first burst", daemon=True).start()
                self._put_at = time.monotonic()
                self._kept.append((block, block_s))
                if len(self._kept) * block_s > BURST_S:
                    self._date()
                return
        self._write(block)

    def end(self, *, write: bool) -> None:
        """No more blocks come; write what is kept, or not."""
        with self._lock:
            if not write:
                self._kept.clear()
            self._date()

    def _watch(self) -> None:
        while not self._is_over:
            time.sleep(CAUGHT_UP_S / 4)
            with self._lock:
                if time.monotonic() - self._put_at > CAUGHT_UP_S:
                    self._date()

    def _date(self) -> None:
        """The last block has just arrived; those before it ended where the next one began."""
        kept, self._kept, self._is_over = self._kept, [], True
        at = math.fsum(-block_s for _, block_s in kept)
        end = kept[-1][0].captured_at + kept[-1][1] if kept else 0.0
        for block, block_s in kept:
            self._write(replace(block, captured_at=end + at))
            at += block_s
