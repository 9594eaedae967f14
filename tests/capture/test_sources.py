"""A piece of configuration becomes the source that it means."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.capture.command import Command
from streamer.capture.microphone import Microphone
from streamer.capture.satellite import Satellite
from streamer.capture.sources import open_source
from streamer.capture.stream import Stream
from streamer.config.sources import (
    CommandSettings,
    DemoSettings,
    MicrophoneSettings,
    SourceSettings,
    StreamSettings,
    WyomingSettings,
)
from tests.pulse import FakeMicrophone

PROJECT = Path(__file__).parents[2]

FALLBACK = """if True:
    import logging, pathlib
    from streamer.capture.sources import open_source
    from streamer.config.sources import MicrophoneSettings

    logging.basicConfig(format="%(message)s")
    settings = MicrophoneSettings(microphone="default", fallback="demo")
    print(type(open_source(settings, lambda: pathlib.Path("demo.wav"))).__name__)
"""


def no_demo() -> Path:
    raise AssertionError("the demo is not made unless it is played")


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (MicrophoneSettings(microphone="default"), Microphone),
        (StreamSettings(stream="rtsp://camera/sound"), Stream),
        (CommandSettings(command=["arecord"]), Command),
        (WyomingSettings(wyoming="satellite.local"), Satellite),
    ],
)
def test_each_kind(settings: SourceSettings, kind: type) -> None:
    """Each kind of source has one implementation, and nothing is opened or made to choose it."""
    assert isinstance(open_source(settings, no_demo), kind)


def test_the_demo(tmp_path: Path) -> None:
    """The demo is a stream of the recording that is made for it."""
    made: list[Path] = []

    def demo() -> Path:
        made.append(tmp_path / "demo.wav")
        return made[0]

    assert isinstance(open_source(DemoSettings(demo=True), demo), Stream)
    assert len(made) == 1


def test_a_microphone_is_better_than_its_fallback(fake_microphone: FakeMicrophone) -> None:
    """Where there is a microphone, the fallback is not taken."""
    output = _run(fake_microphone.environment)
    assert (output.stdout, output.stderr) == ("Microphone\n", "")


def test_the_fallback_is_loud(tmp_path: Path) -> None:
    """Where no microphone can be used at all, the demo is played, and the log says so and why."""
    # Without PortAudio no machine has a microphone, whatever is plugged into it.
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    output = _run({**os.environ, "PYTHONPATH": f"{tmp_path}:{PROJECT}"})
    assert output.stdout == "Stream\n"
    assert "apt install libportaudio2" in output.stderr
    assert "the demo is played instead" in output.stderr


def _run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FALLBACK],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
