"""A microphone is heard through PortAudio as it is, and its loss is noticed."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamer.errors import SourceError
from tests.pulse import FakeMicrophone

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
DEADLINE_S = 30


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of 1 kHz at half of full scale, and a second of silence for the last block to arrive in."""
    path = tmp_path_factory.mktemp("tone") / "tone.wav"
    sine = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2 * 48000) / 48000)
    sound = np.concatenate([sine, np.zeros(48000)])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes((32767 * sound).astype("<i2").tobytes())
    return path


class Listener:
    """A process that listens to a microphone."""

    def __init__(self, process: subprocess.Popen[str], out: Path) -> None:
        self.process = process
        self._out = out
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def line(self) -> str:
        return self._lines.get(timeout=DEADLINE_S).rstrip("\n")

    def stop(self) -> dict[str, np.ndarray]:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        assert self.process.wait(DEADLINE_S) == 0
        with np.load(self._out) as heard:
            return dict(heard)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)


@contextlib.contextmanager
def listening(microphone: FakeMicrophone, name: str, out: Path, channel: str = "mix") -> Iterator[Listener]:
    # Sound is real time: beside other work the process gets the CPU first, where `nice` may do that.
    command = ["nice", "-n", "-15", sys.executable, "-m", "tests.capture.listen", name, channel, str(out)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=microphone.environment, cwd=PROJECT, text=True, stdin=pipe, stdout=pipe
    ) as process:
        try:
            yield Listener(process, out)
        finally:
            process.kill()


@pytest.mark.parametrize(("name", "channel"), [("FakeMic", "mix"), ("default", "2")])
def test_hears_what_is_played(
    fake_microphone: FakeMicrophone, tone: Path, tmp_path: Path, name: str, channel: str
) -> None:
    """A tone arrives with its pitch, its amplitude, its length and its time, in blocks of 100 ms."""
    with listening(fake_microphone, name, tmp_path / "heard.npz", channel) as listener:
        assert listener.line() == "listening"
        began = time.time()
        fake_microphone.play(tone)
        ended = time.time()
        heard = listener.stop()

    rate, samples = int(heard["rate"]), heard["samples"]
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    first, last = int(loud[0]), int(loud[-1])
    middle = samples[first + rate // 2 : last - rate // 2]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    onset = heard["captured_at"][first // heard["lengths"][0]] + first % heard["lengths"][0] / rate

    assert set(heard["lengths"]) == {rate // 10}
    assert heard["discontinuity"].tolist() == [True] + [False] * (len(heard["lengths"]) - 1)
    assert np.argmax(spectrum) * rate / len(middle) == pytest.approx(1000, abs=2)
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, abs=0.02)
    assert (last - first) / rate == pytest.approx(2.0, abs=0.05)
    assert began - 0.3 < onset < ended - 2.5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fake", ["fits 2 devices", "fakemic", "fakedoor"]),
        ("nowhere", ["no such device", "there are:", "fakemic", "fakedoor", "default"]),
    ],
)
def test_a_name_must_fit_one_device(
    fake_microphone: FakeMicrophone, tmp_path: Path, name: str, words: list[str]
) -> None:
    """A name that fits two devices or none is an error that lists them."""
    with listening(fake_microphone, name, tmp_path / "heard.npz") as listener:
        line = listener.line()
    assert line.startswith(f"error: microphone {name}: ")
    assert all(word in line for word in words), line


def test_a_channel_that_is_not_there(fake_microphone: FakeMicrophone, tmp_path: Path) -> None:
    """A channel beyond the last is an error that says how many there are."""
    with listening(fake_microphone, "fakemic", tmp_path / "heard.npz", channel="33") as listener:
        assert listener.line() == "error: microphone fakemic: no channel 33: it has 32"


def test_a_dead_server_is_noticed(own_fake_microphone: FakeMicrophone, tmp_path: Path) -> None:
    """When the sound server dies, `run` fails at once, and `close` gives everything back."""
    with listening(own_fake_microphone, "fakemic", tmp_path / "heard.npz") as listener:
        assert listener.line() == "listening"
        own_fake_microphone.kill()
        assert listener.line() == "error: microphone fakemic: the device is gone"
        listener.stop()


def test_a_hung_server_is_noticed(own_fake_microphone: FakeMicrophone, tmp_path: Path) -> None:
    """A hung sound server makes `run` fail, then `close`, and keeps the process from ending in neither."""
    with listening(own_fake_microphone, "fakemic", tmp_path / "heard.npz") as listener:
        assert listener.line() == "listening"
        os.kill(own_fake_microphone.server.pid, signal.SIGSTOP)
        try:
            lines = [listener.line(), listener.line()]
            listener.stop()
        finally:
            os.kill(own_fake_microphone.server.pid, signal.SIGCONT)
    assert lines == [
        "error: microphone fakemic: no block for 3 s; the device or its server hangs",
        "error: microphone fakemic: the driver did not close it within 1.5 s; restart the program",
    ]


def test_a_frozen_process_is_no_stall(fake_microphone: FakeMicrophone, tmp_path: Path) -> None:
    """A process that was frozen itself for longer than a stall goes on, and loses nothing."""
    with listening(fake_microphone, "fakemic", tmp_path / "heard.npz") as listener:
        assert listener.line() == "listening"
        os.kill(listener.process.pid, signal.SIGSTOP)
        time.sleep(1.5)  # the freeze itself, longer than a stall
        os.kill(listener.process.pid, signal.SIGCONT)
        time.sleep(1.5)  # as long as it would take to see a stall
        heard = listener.stop()
    heard_s = len(heard["samples"]) / int(heard["rate"])
    assert heard_s > 2.5
    assert heard_s == pytest.approx(heard["captured_at"][-1] - heard["captured_at"][0], abs=0.5)
    assert heard["discontinuity"].sum() == 1


def test_a_device_that_comes_later_is_found(own_fake_microphone: FakeMicrophone) -> None:
    """The list of devices is read anew at each attempt to open one, and a device can be opened again."""
    code = """if True:
        import asyncio, pathlib
        from streamer.capture.microphone import Microphone
        from streamer.errors import SourceError

        async def attempts():
            late = Microphone("latemic")
            try:
                await late.open()
            except SourceError as error:
                print(error)
            with (pathlib.Path.home() / ".asoundrc").open("a") as settings:
                settings.write("pcm.latemic { type pulse device fakemic.monitor hint { show on } }")
            for _ in range(3):
                await late.open()
                print(late.sample_rate)
                await late.close()
                await late.close()

        asyncio.run(attempts())
    """
    lines = _output(code, own_fake_microphone).splitlines()
    assert lines[0].startswith("microphone latemic: no such device")
    assert lines[1:] == ["44100"] * 3


def test_devices_are_listed(fake_microphone: FakeMicrophone) -> None:
    """The list of inputs has name, channels, rate, and one default."""
    code = (
        "from streamer.capture.microphone import list_devices\n"
        "for d in list_devices(): print(d.name, d.channels, d.sample_rate, d.is_default)"
    )
    lines = _output(code, fake_microphone).splitlines()
    assert "fakemic 32 44100 False" in lines
    assert "default 32 44100 True" in lines


def test_without_portaudio(tmp_path: Path) -> None:
    """A machine without PortAudio gets the line that installs it."""
    # The import system itself says what a missing library makes sounddevice say.
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    code = "from streamer.capture.microphone import list_devices\nlist_devices()"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{PROJECT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert SourceError.__name__ in result.stderr
    assert "apt install libportaudio2" in result.stderr


def _output(code: str, microphone: FakeMicrophone) -> str:
    """What a program that uses the microphone prints. Nothing goes to standard error."""
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=microphone.environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout
