"""Whatever a file holds, it is heard or refused in one line: never a crash, a hang or another exception."""

from __future__ import annotations

import gzip
import json
import os
import queue
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.capture.stream import Decoder
from streamer.errors import InputError
from tests.capture.test_stream import directory, film_without_sound, no_file, tone, write_audio

PROJECT = Path(__file__).parents[2]
DEADLINE_S = 60.0

Make = Callable[[Path], Path]
"""makes a file in a folder"""

PCM, ADPCM, FLOAT, MU_LAW, MP3, EXTENSIBLE = 1, 2, 3, 7, 0x55, 0xFFFE
LARGEST = 0xFFFFFFFF
"""of a field of 32 bits"""


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """A piece of a RIFF file, whose size may be a lie."""
    return name + struct.pack("<I", len(content) if size is None else size) + content


def wav(
    rate: int = 16000,
    channels: int = 1,
    bits: int = 16,
    *,
    tag: int = PCM,
    content: bytes = random.Random(1).randbytes(32000),
    block: int | None = None,
    byte_rate: int = 32000,
    fmt_size: int | None = None,
    data_size: int | None = None,
    riff_size: int | None = None,
    before: bytes = b"",
    data_first: bool = False,
) -> bytes:
    """A WAV file, with whatever is wrong about it."""
    block = min(channels * bits // 8, 0xFFFF) if block is None else block
    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, byte_rate, block, bits), fmt_size)
    data = chunk(b"data", content, data_size)
    return chunk(b"RIFF", b"WAVE" + before + (data + fmt if data_first else fmt + data), riff_size)


def floats(width: str, *values: float) -> bytes:
    """A second of a tone, with such values in it."""
    samples = tone(16000, 1.0).astype(width)
    samples[100 : 100 + len(values)] = np.array(values, width)
    return samples.tobytes()


def holding(content: bytes | str, name: str = "a.wav") -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder / name

    return make


def playlist(*lines: str) -> Make:
    return holding("\n".join(("#EXTM3U", "#EXT-X-TARGETDURATION:1", *lines, "")), "a.m3u8")


def image(folder: Path) -> Path:
    with av.open(str(folder / "a.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width = stream.height = 64
        stream.pix_fmt = "rgb24"
        container.mux([*stream.encode(av.VideoFrame(64, 64, "rgb24")), *stream.encode(None)])
    return folder / "a.png"


def program(folder: Path) -> Path:
    return Path(shutil.copy(sys.executable, folder / "a.wav"))


def two_in_one(layouts: tuple[str, str], rates: tuple[int, int]) -> Make:
    """A stream that goes on with another rate or other channels."""

    def make(folder: Path) -> Path:
        content = b""
        for layout, rate in zip(layouts, rates, strict=True):
            planes = np.tile(tone(rate, 1.0), (av.AudioLayout(layout).nb_channels, 1))
            content += write_audio(folder / "part.aac", "aac", rate, planes, layout).read_bytes()
        return holding(content, "a.aac")(folder)

    return make


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "a.wav")
    return folder / "a.wav"


def unix_socket(folder: Path) -> Path:
    here = os.open(folder, os.O_RDONLY)  # the path of a socket has 107 characters at most
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"/proc/self/fd/{here}/a.wav")
    finally:
        os.close(here)
    return folder / "a.wav"


def link(target: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / "a.wav").symlink_to(target)
        return folder / "a.wav"

    return make


HEADERS = {
    **{f"cut after {n} bytes": wav()[:n] for n in (1, 4, 12, 20, 36, 43, 44, 45, 999)},
    **{
        f"{rate} Hz": wav(rate)
        for rate in (0, 1, 10, 999, 8000, 96000, 384000, 1_000_000, 2**31 - 1, LARGEST)
    },
    **{f"{n} channels": wav(channels=n) for n in (0, 1, 6, 8, 64, 65, 255, 65535)},
    **{f"{n} bits": wav(bits=n) for n in (0, 1, 7, 8, 12, 16, 24, 32, 64, 65535)},
    "no samples": wav(content=b""),
    "a RIFF of no size": wav(riff_size=0),
    "a RIFF without an end": wav(riff_size=LARGEST),
    "data of no size": wav(data_size=0),
    "data without an end": wav(data_size=LARGEST),
    "data beyond the end": wav(data_size=10**9),
    "data of an odd size": wav(data_size=777),
    "data before the format": wav(data_first=True),
    "a format of no size": wav(fmt_size=0),
    "a format of 1 MB": wav(fmt_size=2**20),
    "a format without an end": wav(fmt_size=LARGEST),
    "frames of no bytes": wav(block=0),
    "frames too short": wav(channels=6, block=1),
    "frames of 64 kB": wav(block=65535),
    "no bytes a second": wav(byte_rate=0),
    "4 GB a second": wav(byte_rate=LARGEST),
    "no format": chunk(b"RIFF", b"WAVE" + chunk(b"data", bytes(1000))),
    "an unknown codec": wav(tag=0xABCD),
    "an extension that is missing": wav(tag=EXTENSIBLE),
    "ADPCM that is none": wav(tag=ADPCM, bits=4),
    "MP3 that is none": wav(tag=MP3),
    "µ-law": wav(tag=MU_LAW, bits=8),
    "junk without an end": wav(before=chunk(b"JUNK", b"", LARGEST)),
    "metadata in Latin-1": wav(before=chunk(b"LIST", b"INFO" + chunk(b"IART", b"Andr\xe9\0"))),
    "NaN, infinity, 1e38": wav(
        bits=32, tag=FLOAT, content=floats("f4", np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-45)
    ),
    "NaN alone": wav(bits=32, tag=FLOAT, content=np.full(16000, np.nan, np.float32).tobytes()),
    "doubles beyond float": wav(bits=64, tag=FLOAT, content=floats("f8", 1e300, -1e300, np.nan)),
    "floats of 24 bits": wav(bits=24, tag=FLOAT),
}
"""WAV files, whose header everything believes"""

OTHERS: dict[str, Make] = {
    "nothing there": no_file,
    "an empty file": holding(b""),
    "zero bytes": holding(bytes(100_000)),
    "0xff": holding(b"\xff" * 100_000),
    "noise": holding(random.Random(3).randbytes(100_000)),
    "a text": holding("Dear diary,\n" * 1000),
    "a script": holding("#!/bin/sh\nexit 1\n"),
    "JSON": holding(json.dumps({"samples": [0, 1]})),
    "subtitles": holding("1\n00:00:00,000 --> 00:00:01,000\nhello\n", "a.srt"),
    "an image": image,
    "a film without sound": film_without_sound,
    "a program": program,
    "gzip": holding(gzip.compress(wav())),
    "a directory": directory,
    "a pipe that nobody writes to": fifo,
    "a socket": unix_socket,
    "a dangling link": link("nowhere"),
    "a link to itself": link("a.wav"),
    "a name with a line end": holding(b"no audio", "a\nb.wav"),
    "a name that is no text": holding(b"no audio", os.fsdecode(b"\xff.wav")),
    "a name with a command to the terminal": holding(b"no audio", "\x1b[2J.wav"),
    "a name with a pattern": holding(wav(), "%d.wav"),
    "a playlist of itself": playlist("#EXTINF:1,", "a.m3u8", "#EXT-X-ENDLIST"),
    "a live playlist of itself": playlist("#EXTINF:1,", "a.m3u8"),
    "a live playlist of nothing": playlist("#EXTINF:1,", "nowhere.ts"),
    "a choice of itself": playlist("#EXT-X-STREAM-INF:BANDWIDTH=1", "a.m3u8"),
    "a playlist that leads to an address": playlist("#EXTINF:1,", "http://127.0.0.1:9/a.ts"),
    "a list of itself": holding("ffconcat version 1.0\nfile a.ffconcat\n", "a.ffconcat"),
    "a call": holding("v=0\no=- 0 0 IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n", "a.sdp"),
    "another rate in the middle": two_in_one(("mono", "mono"), (48000, 8000)),
    "other channels in the middle": two_in_one(("5.1", "mono"), (48000, 48000)),
    "eight channels, compressed": two_in_one(("7.1", "7.1"), (48000, 48000)),
}

CODECS = {
    "flac": "flac",
    "ogg": "libopus",
    "mp3": "libmp3lame",
    "m4a": "aac",
    "mkv": "aac",
    "aiff": "pcm_s16be",
}


def flipped(content: bytes, share: float) -> bytes:
    """With bits flipped everywhere, the header included."""
    changed, rng = bytearray(content), random.Random(len(content))
    for _ in range(max(1, round(share * len(changed)))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    **{
        f"{share:.1%} of": partial(lambda share, content: content[: round(share * len(content))], share)
        for share in (0.001, 0.02, 0.1, 0.5, 0.9, 0.999)
    },
    **{
        f"{share:.2%} flipped in": partial(flipped, share=share)  # a share of the bytes
        for share in (0.0001, 0.001, 0.01, 0.1)
    },
    "the second half of": lambda content: content[len(content) // 2 :],
    "a hole in": lambda content: (
        content[: len(content) // 3] + bytes(len(content) // 3) + content[2 * len(content) // 3 :]
    ),
    "no header of": lambda content: bytes(64) + content[64:],
    "text before": lambda content: b"hello\n" * 10 + content,
    "twice": lambda content: content + content,
}


class Ears:
    """`tests.capture.hear`, a process that may be lost to a file."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.capture.hear"],
            cwd=PROJECT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # FFmpeg has much to say
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def hear(self, path: Path) -> list[int | float | str]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(str(path)) + "\n")
        self._process.stdin.flush()
        line = self._lines.get(timeout=DEADLINE_S)
        assert line, f"the process ended with exit code {self._process.wait(DEADLINE_S)}"
        answer: list[int | float | str] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")


@pytest.fixture(scope="module")
def new_ears() -> Iterator[Callable[[bool], Ears]]:
    """The ears that all files have in common, or others where those were lost."""
    ears: list[Ears] = []

    def give(lost: bool) -> Ears:
        if lost or not ears:
            ears.append(Ears())
        return ears[-1]

    yield give
    for one in ears:
        one.close()


def is_heard(path: Path, new_ears: Callable[[bool], Ears]) -> bool:
    """Whether there was sound. All but sound and a line about the file is a failure."""
    try:
        count, what = new_ears(False).hear(path)
    except (AssertionError, OSError, queue.Empty):
        new_ears(True)  # for the next file
        raise
    if isinstance(count, int):
        assert count > 0
        assert float(what) <= 1  # as NaN is not
        return True
    name = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(path))
    assert count == InputError.__name__, what
    assert str(what).startswith(f"{name}: ")
    assert str(what).isprintable()
    return False


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS.keys())
def test_a_header_that_lies(tmp_path: Path, new_ears: Callable[[bool], Ears], content: bytes) -> None:
    """A WAV file is heard as far as it makes sense, or refused."""
    is_heard(holding(content)(tmp_path), new_ears)


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS.keys())
def test_what_is_no_recording(tmp_path: Path, new_ears: Callable[[bool], Ears], make: Make) -> None:
    """Whatever lies where a recording should be is refused, or is one after all."""
    is_heard(make(tmp_path), new_ears)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_recording(
    tmp_path: Path, new_ears: Callable[[bool], Ears], damage: Callable[[bytes], bytes], name: str
) -> None:
    """A recording that was cut off or changed is heard as far as it can be, or refused."""
    planes = np.tile(tone(48000, 2.0), (2, 1))
    path = write_audio(tmp_path / f"a.{name}", CODECS[name], 48000, planes, "stereo")
    path.write_bytes(damage(path.read_bytes()))
    is_heard(path, new_ears)


@pytest.mark.parametrize(
    "content",
    [
        *(wav(rate) for rate in (8000, 96000, 384000)),
        *(wav(channels=n) for n in (1, 6, 8, 64)),
        *(wav(bits=n) for n in (8, 16, 24, 32)),
        HEADERS["metadata in Latin-1"],
        HEADERS["data without an end"],
        HEADERS["NaN, infinity, 1e38"],
    ],
)
def test_what_is_unusual_is_no_fault(
    tmp_path: Path, new_ears: Callable[[bool], Ears], content: bytes
) -> None:
    """A recording is heard whatever its rate, channels and width, and one whose writer was killed."""
    assert is_heard(holding(content)(tmp_path), new_ears)


def test_a_file_without_permission(tmp_path: Path) -> None:
    """A file that may not be read is named, whoever tests it."""
    path = holding(wav())(tmp_path)
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # what root may not read there is not
    try:
        with pytest.raises(InputError) as failure:
            Decoder(path)
    finally:
        os.seteuid(user)
    assert str(failure.value) == f"{path}: no permission to read it"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (fifo, "this is a pipe; listen to it with `command: [cat, …]`"),
        (playlist("a.ts"), "it is damaged, or a playlist, which is not followed; name what it leads to"),
        (
            holding(b"[playlist]\nFile1=http://radio.example/a?key=Hush\n"),
            "this is a playlist: name an address that stands in it, such as the one at http://radio.example",
        ),
        (holding(wav(1)), "no sound has 1 samples a second; it is damaged"),
    ],
    ids=["pipe", "playlist", "pls", "rate"],
)
def test_what_is_refused_says_what_to_do(tmp_path: Path, make: Make, words: str) -> None:
    """What would hang, or fill the memory, is refused with its reason."""
    path = make(tmp_path)
    with pytest.raises(InputError) as failure:
        Decoder(path)
    assert str(failure.value) == f"{path}: {words}"


def test_time_stamps_that_leap_for_years(tmp_path: Path) -> None:
    """A time stamp from another century is damage, not a hole that long: the times stay near the truth."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for number in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, 1600 * number + (number >= 5) * 16000 * 10**9
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with Decoder(path) as decoder:
        blocks = list(decoder.blocks())
    assert sum(len(block.samples) for block in blocks) == 16000
    assert blocks[-1].captured_at < 2
