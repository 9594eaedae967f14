"""Every file and stream is heard as it is, and what cannot be heard is told in one line."""

from __future__ import annotations

import asyncio
import http.server
import threading
import time
import wave
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from streamer.capture.ring import Ring
from streamer.capture.stream import Decoder, Stream
from streamer.errors import InputError, SourceError
from streamer.types import AudioBlock, Samples
from tests.capture.rtsp import Packet, serve_rtsp
from tests.mosquitto import until

DEADLINE_S = 60
START = 1_700_000_000.25


def tone(rate: int, seconds: float, hertz: float = 440.0) -> Samples:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def write_audio(path: Path, codec: str, rate: int, planes: npt.NDArray[np.float32], layout: str) -> Path:
    """(channels, n) in any codec that PyAV has, in the container that the name says."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(planes.T.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def read(path: Path | str, channel: int | str = "mix") -> tuple[Samples, int]:
    with Decoder(path, channel) as decoder:  # type: ignore[arg-type]  # parametrize knows no literals
        return np.concatenate([block.samples for block in decoder.blocks()]), decoder.sample_rate


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 96000])
@pytest.mark.parametrize(
    ("codec", "error"),
    [("pcm_s16le", 1e-4), ("pcm_s24le", 1e-6), ("pcm_f32le", 0), ("pcm_f64le", 0), ("pcm_u8", 1e-2)],
)
def test_wav_at_every_rate(tmp_path: Path, rate: int, codec: str, error: float) -> None:
    """A WAV file comes sample by sample at its own rate, whatever its format."""
    wanted = tone(rate, 1.23)
    samples, sample_rate = read(write_audio(tmp_path / "a.wav", codec, rate, wanted[None], "mono"))
    assert sample_rate == rate
    assert samples.dtype == np.float32
    assert np.allclose(wanted, samples, rtol=0, atol=error)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.flac", "flac"), ("a.ogg", "libopus"), ("a.mp3", "libmp3lame"), ("a.m4a", "aac")]
)
def test_compressed(tmp_path: Path, name: str, codec: str) -> None:
    """What is compressed comes with its length and its sound."""
    wanted = tone(48000, 2.0)
    path = write_audio(tmp_path / name, codec, 48000, wanted[None], "mono")
    samples, rate = read(path)
    with Decoder(path) as decoder:
        assert decoder.duration_s == pytest.approx(2.0, abs=0.1)
        assert not decoder.is_live
    assert rate == 48000
    assert len(samples) == pytest.approx(len(wanted), abs=2500)  # a codec's frame or two
    middle = samples[20000:60000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * rate / len(middle) == pytest.approx(440, abs=2)
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("channel", ["mix", 1, 4, 6])
def test_six_channels(tmp_path: Path, channel: int | str) -> None:
    """The mix is the plain mean of all channels; a channel is counted from 1."""
    planes = np.stack([tone(48000, 0.5, 100.0 * number) for number in range(1, 7)])
    path = write_audio(tmp_path / "a.wav", "pcm_f32le", 48000, planes, "5.1")
    wanted = planes.mean(axis=0) if channel == "mix" else planes[int(channel) - 1]
    assert np.allclose(wanted, read(path, channel)[0], rtol=0, atol=1e-6)


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    """A channel beyond the last is an error that says how many there are."""
    path = write_audio(tmp_path / "a.wav", "pcm_s16le", 8000, tone(8000, 1)[None], "mono")
    with pytest.raises(InputError, match="no channel 2: it has 1"):
        Decoder(path, 2)


def test_nan_and_infinity_reach_the_ring_alone(tmp_path: Path) -> None:
    """A float file with NaN, infinity and huge values is read; the ring cleans and counts."""
    wanted = tone(16000, 1.0)
    wanted[[100, 200, 300, 400]] = [np.nan, np.inf, -np.inf, 1e30]
    path = write_audio(tmp_path / "a.wav", "pcm_f32le", 16000, wanted[None], "mono")
    ring = Ring(16000, 5)
    with Decoder(path) as decoder:
        for block in decoder.blocks(START):
            ring.write(block)
    assert ring.metrics.bad_samples == 4
    assert np.abs(ring.read(0, 16000).samples).max() <= 1
    wanted[[100, 200, 300, 400]] = [0, 1, -1, 1]
    assert np.array_equal(wanted, ring.read(0, 16000).samples)


def test_blocks_and_their_times(tmp_path: Path) -> None:
    """Blocks have 100 ms, the last one the rest; the time of sample n is start + n / rate, exactly."""
    path = write_audio(tmp_path / "a.wav", "pcm_s16le", 48000, tone(48000, 2.05)[None], "mono")
    with Decoder(path) as decoder:
        assert decoder.duration_s == pytest.approx(2.05, abs=1e-3)
        blocks = list(decoder.blocks(START))
    assert [len(block.samples) for block in blocks] == [4800] * 20 + [2400]
    assert [START + 4800 * index / 48000 for index in range(21)] == [block.captured_at for block in blocks]
    assert not any(block.discontinuity for block in blocks)


def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """A recording that was cut off in the middle is heard up to there."""
    for name, codec in (
        ("a.wav", "pcm_s16le"),
        ("a.mp3", "libmp3lame"),
        ("a.ogg", "libopus"),
        ("a.flac", "flac"),
    ):
        path = write_audio(tmp_path / name, codec, 48000, tone(48000, 4.0)[None], "mono")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert 1.0 < len(read(path)[0]) / 48000 < 3.5, name


def test_a_damaged_part_is_a_hole(tmp_path: Path) -> None:
    """Where packets of a file are destroyed, what follows keeps its time, and the loss is marked."""
    path = write_audio(tmp_path / "a.ogg", "libopus", 48000, tone(48000, 6.0)[None], "mono")
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    path.write_bytes(content)
    with Decoder(path) as decoder:
        blocks = list(decoder.blocks())
    assert sum(block.discontinuity for block in blocks) >= 1
    assert blocks[-1].captured_at + len(blocks[-1].samples) / 48000 == pytest.approx(6.0, abs=0.2)
    assert sum(len(block.samples) for block in blocks) < 5.5 * 48000


def test_a_name_with_a_colon(tmp_path: Path) -> None:
    """A file's name is never taken for a protocol."""
    path = write_audio(tmp_path / "http:a.wav", "pcm_s16le", 8000, tone(8000, 1)[None], "mono")
    assert len(read(path)[0]) == 8000


def no_file(folder: Path) -> Path:
    return folder / "nowhere.wav"


def directory(folder: Path) -> Path:
    return folder


def empty(folder: Path) -> Path:
    (folder / "a.wav").touch()
    return folder / "a.wav"


def text(folder: Path) -> Path:
    (folder / "a.wav").write_text("Dear diary,\n" * 1000)
    return folder / "a.wav"


def zeros(folder: Path) -> Path:
    (folder / "a.wav").write_bytes(bytes(100_000))
    return folder / "a.wav"


def header_alone(folder: Path) -> Path:
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
    return folder / "a.wav"


def film_without_sound(folder: Path) -> Path:
    with av.open(str(folder / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    return folder / "a.mp4"


def half_an_mp4(folder: Path) -> Path:
    path = write_audio(folder / "a.m4a", "aac", 48000, tone(48000, 2.0)[None], "mono")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (no_file, "no such file"),
        (directory, "this is a directory; name a file"),
        (empty, "the file is empty"),
        (text, "this is not audio, or it is damaged"),
        (zeros, "this is not audio, or it is damaged"),
        (header_alone, "there is no sound in it, not a single sample"),
        (film_without_sound, "there is no audio track in it"),
        (half_an_mp4, "this is not audio, or it is damaged"),
    ],
)
async def test_what_cannot_be_heard(tmp_path: Path, make: object, words: str) -> None:
    """A file that cannot be heard is one line that begins with its name and says why."""
    path = make(tmp_path)  # type: ignore[operator]  # one of the functions above
    source = Stream(path)
    with pytest.raises(InputError) as failure:
        await source.open()
    await source.close()
    assert str(failure.value) == f"{path}: {words}"


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
async def test_an_address_that_does_not_answer(scheme: str) -> None:
    """An address that cannot be reached is worth another try; what may be secret in it is not shown."""
    source = Stream(f"{scheme}://user:secret@127.0.0.1:1/sound")
    with pytest.raises(SourceError) as failure:
        await source.open()
    assert str(failure.value) == f"{scheme}://127.0.0.1:1: cannot be opened or read: Connection refused"


async def played(source: Stream) -> list[AudioBlock]:
    blocks: list[AudioBlock] = []
    async with asyncio.timeout(DEADLINE_S):
        await source.open()
        try:
            await source.run(blocks.append)
        finally:
            await source.close()
            await source.close()
    return blocks


async def test_fast_is_fast_and_the_same(tmp_path: Path) -> None:
    """A file that is played gives the audio and the times that reading it gives."""
    path = write_audio(tmp_path / "a.wav", "pcm_s16le", 16000, tone(16000, 120)[None], "mono")
    blocks = await played(Stream(path, pace="fast", started_at=START))
    with Decoder(path) as decoder:
        wanted = list(decoder.blocks(START))
    assert [block.captured_at for block in wanted] == [block.captured_at for block in blocks]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(wanted, blocks, strict=True))
    assert [True] + [False] * (len(blocks) - 1) == [block.discontinuity for block in blocks]


async def test_realtime_is_not_early(tmp_path: Path) -> None:
    """At real time, a block is delivered when its last sample would have been captured, never before."""
    path = write_audio(tmp_path / "a.wav", "pcm_s16le", 16000, tone(16000, 1.0)[None], "mono")
    arrivals: list[float] = []
    blocks: list[AudioBlock] = []

    def write(block: AudioBlock) -> None:
        arrivals.append(time.monotonic())
        blocks.append(block)

    source = Stream(path)
    await source.open()
    began, began_at = time.monotonic(), time.time()
    async with asyncio.timeout(DEADLINE_S):
        await source.run(write)
    assert len(blocks) == 10
    assert all(arrival - began >= 0.1 * (index + 1) - 1e-3 for index, arrival in enumerate(arrivals))
    assert blocks[0].captured_at == pytest.approx(began_at, abs=5)


async def test_loop(tmp_path: Path) -> None:
    """A looped file goes on without a seam in its times, until it is cancelled, which is prompt."""
    path = write_audio(tmp_path / "a.wav", "pcm_s16le", 16000, tone(16000, 0.25)[None], "mono")
    ring = Ring(16000, 60)
    enough = threading.Event()

    def write(block: AudioBlock) -> None:
        ring.write(block)
        if ring.end >= 16000:
            enough.set()

    source = Stream(path, pace="fast", loop=True, started_at=START)
    await source.open()
    running = asyncio.create_task(source.run(write))
    assert await asyncio.to_thread(enough.wait, DEADLINE_S)
    running.cancel()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait([running])
    await source.close()
    excerpt = ring.read(0, 16000)
    once = read(path)[0]
    assert np.array_equal(np.tile(once, 4), excerpt.samples)
    assert (excerpt.start, excerpt.end, excerpt.has_gap) == (START, START + 1, False)


async def test_cancelling_is_prompt(tmp_path: Path) -> None:
    """Cancelling a file that plays at real time does not wait for the next block."""
    path = write_audio(tmp_path / "a.wav", "pcm_s16le", 16000, tone(16000, 60)[None], "mono")
    first = asyncio.Event()
    loop = asyncio.get_running_loop()

    def write(_: AudioBlock) -> None:
        loop.call_soon_threadsafe(first.set)

    source = Stream(path)
    await source.open()
    running = asyncio.create_task(source.run(write))
    async with asyncio.timeout(DEADLINE_S):
        await first.wait()
        running.cancel()
        await asyncio.wait([running])
    await source.close()
    assert running.cancelled()


@contextmanager
def http_stream(content: bytes, with_length: bool) -> Iterator[str]:
    """An HTTP server on loopback that gives `content`, as a file or as a stream whose end is not known."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "audio/mpeg")
            if with_length:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/sound"
        finally:
            server.shutdown()
            thread.join()


async def test_a_file_by_http(tmp_path: Path) -> None:
    """A recording at an address is played like a file."""
    path = write_audio(tmp_path / "a.wav", "pcm_s16le", 16000, tone(16000, 3.0)[None], "mono")
    with http_stream(path.read_bytes(), with_length=True) as address:
        blocks = await played(Stream(address, pace="fast", started_at=START))
    assert len(blocks) == 30
    assert blocks[-1].captured_at == pytest.approx(START + 2.9, abs=1e-6)


async def test_a_live_stream_by_http_that_ends(tmp_path: Path) -> None:
    """A live stream that comes at once ended when it came; that it ends is an error: more ought to come."""
    path = write_audio(tmp_path / "a.aac", "aac", 48000, tone(48000, 3.0)[None], "mono")
    blocks: list[AudioBlock] = []
    with http_stream(path.read_bytes(), with_length=False) as address:
        source = Stream(address)
        began_at = time.time()
        await source.open()
        with pytest.raises(SourceError):
            await source.run(blocks.append)
    assert sum(len(block.samples) for block in blocks) == pytest.approx(3 * 48000, abs=3000)
    ended_at = blocks[-1].captured_at + len(blocks[-1].samples) / 48000
    assert began_at < ended_at < time.time()
    assert blocks[0].captured_at == pytest.approx(ended_at - 3, abs=0.1)


async def test_rtsp() -> None:
    """A camera is heard by RTSP over TCP; where its packets leap in time, the block after says so."""
    samples = np.round(32767 * tone(8000, 4.0)).astype(np.int16)
    packets = [
        Packet(timestamp=index, payload=samples[index : index + 160].astype(">i2").tobytes())
        for index in range(0, len(samples), 160)
        if not 16000 <= index < 24000  # the camera's third second is lost
    ]
    blocks: list[AudioBlock] = []
    with serve_rtsp(packets, rate=8000) as address:
        source = Stream(address)
        async with asyncio.timeout(DEADLINE_S):
            await source.open()
            with pytest.raises(SourceError):
                await source.run(blocks.append)
        await source.close()

    assert source.sample_rate == 8000
    assert [block.discontinuity for block in blocks if block.discontinuity] == [True, True]
    heard = np.concatenate([block.samples for block in blocks])
    wanted = np.concatenate([samples[:16000], samples[24000:]]) / np.float32(32768)
    assert np.allclose(wanted, heard, rtol=0, atol=1e-6)


async def test_rtsp_over_udp() -> None:
    """A camera that refuses TCP is heard over UDP."""
    packets = [Packet(timestamp=index, payload=bytes(320)) for index in range(0, 32000, 160)]
    blocks: list[AudioBlock] = []
    with serve_rtsp(packets, rate=8000, udp=True, hang=True) as address:
        source = Stream(address)
        async with asyncio.timeout(DEADLINE_S):
            await source.open()
            running = asyncio.create_task(source.run(blocks.append))
            await until(lambda: len(blocks) >= 10)
            running.cancel()
            await asyncio.wait([running])
        await source.close()
    assert source.sample_rate == 8000


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("late_s", [0.0, 5.0])
def test_sound_that_begins_later_than_the_film(tmp_path: Path, suffix: str, late_s: float) -> None:
    """Its times are those that a player shows."""
    path = tmp_path / f"film.{suffix}"
    with av.open(str(path), "w") as film:
        video = film.add_stream("mpeg4", rate=5)
        video.width = video.height = 16
        sound = film.add_stream("aac", rate=16000, layout="mono")
        for number in range(50):
            picture = av.VideoFrame(16, 16, "yuv420p")
            picture.pts = number
            film.mux(video.encode(picture))
        film.mux(video.encode(None))
        for number in range(60):
            frame = av.AudioFrame.from_ndarray(tone(16000, 0.064)[None].copy(), format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = 16000, Fraction(1, 16000)
            frame.pts = round(late_s * 16000) + number * 1024
            film.mux(sound.encode(frame))
        film.mux(sound.encode(None))
    with Decoder(path) as decoder:
        first = next(decoder.blocks())
    assert first.captured_at == pytest.approx(late_s, abs=0.1)


@contextmanager
def raw_http(kind: str, pieces: Iterable[bytes]) -> Iterator[str]:
    """A server that sends pieces as they come, and then ends the answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            with suppress(OSError):
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("name", "kind", "content", "words"),
    [
        (
            "radio.m3u",
            "audio/x-mpegurl",
            b"http://127.0.0.1/a.mp3\n",
            "such as the one at http://127.0.0.1; that fails, too: http://127.0.0.1: ",
        ),
        (
            "tune?id=3",
            "audio/x-mpegurl",
            b"#EXTM3U\n#EXTINF:-1,\nrtsp://r/b.aac\n",
            "such as the one at rtsp://r$",
        ),
        (
            "a.xspf",
            "text/xml",
            b"<?xml version='1.0'?>\n<playlist xmlns='http://xspf.org/ns/0/'><trackList><track>"
            b"<location>rtsp://r/x?t=Hush</location></track></trackList></playlist>",
            "such as the one at rtsp://r$",
        ),
        (
            "a.asx",
            "video/x-ms-asf",
            b"<asx version='3.0'><entry><ref href='rtsp://r/a'/></entry></asx>",
            "such as the one at rtsp://r$",
        ),
        ("empty.m3u", "audio/x-mpegurl", b"\n", "name an address that stands in it"),
        ("page", "text/html", b"<html><a href='http://r/a.mp3'>radio</a></html>", "cannot be read$"),
        (
            "radio.pls?a=b",
            "audio/x-scpls",
            b"[playlist]\nFile1=http://127.0.0.1/a.mp3\n",
            "this is a playlist",
        ),
        (
            "sound",
            "application/sdp",
            b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            b"m=audio 5004 RTP/AVP 0\r\n",
            "this is not audio",
        ),
    ],
)
async def test_an_address_that_leads_elsewhere(name: str, kind: str, content: bytes, words: str) -> None:
    """A playlist is called one, and a description of other addresses opens none."""
    with raw_http(kind, [content]) as address:
        began = time.monotonic()
        with pytest.raises(SourceError, match=words):
            await Stream(f"{address}/{name}").open()
        assert time.monotonic() - began < 10


async def test_a_playlist_on_the_web_is_followed_one_step(tmp_path: Path) -> None:
    """A station's playlist is heard as what it leads to; one that leads to another playlist is not."""
    path = write_audio(tmp_path / "a.aac", "aac", 48000, tone(48000, 2.0)[None], "mono")
    with raw_http("audio/aac", [path.read_bytes()]) as radio:
        lines = f"#EXTM3U\n#EXTINF:-1,Radio\n{radio}/a.aac\n".encode()
        with raw_http("audio/x-mpegurl", [lines]) as station:
            source = Stream(f"{station}/listen?id=3")
            await source.open()
            await source.close()
            assert source.sample_rate == 48000
            with (
                raw_http("audio/x-scpls", [f"[playlist]\nFile1={station}/a.m3u\n".encode()]) as far,
                pytest.raises(SourceError, match=r"that fails, too: .*: this is a playlist"),
            ):
                await Stream(f"{far}/a.pls").open()


async def test_the_first_burst_is_dated_from_its_end(tmp_path: Path) -> None:
    """What a server sends at once is old: times fit those of the blocks that come at real time."""
    path = write_audio(tmp_path / "a.aac", "aac", 48000, tone(48000, 8.0)[None], "mono")
    content = path.read_bytes()
    at_once, rest = content[: len(content) * 3 // 4], content[len(content) * 3 // 4 :]

    def pieces() -> Iterator[bytes]:
        yield at_once
        n = len(rest) // 20
        for number in range(20):
            time.sleep(0.1)
            yield rest[number * n : (number + 1) * n]

    blocks: list[tuple[float, AudioBlock]] = []
    with raw_http("audio/aac", pieces()) as address:
        source = Stream(address)
        await source.open()
        with pytest.raises(SourceError):
            await source.run(lambda block: blocks.append((time.time(), block)))
    starts = [block.captured_at for _, block in blocks]
    assert starts == sorted(starts)
    assert starts[0] < blocks[0][0] - 3
    put_at, last = blocks[-1]
    assert last.captured_at + 0.1 == pytest.approx(put_at, abs=0.5)
    gaps = np.diff(starts)
    assert gaps[: len(gaps) // 2] == pytest.approx(0.1, abs=0.02)
