"""A microphone without sound hardware: ALSA over PulseAudio, which records what is played to a null sink.

Whoever is to hear it is started as a process of its own, with `FakeMicrophone.environment`: ALSA reads its
settings when a process starts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

DEADLINE_S = 30.0

DEVICE = "module-null-sink sink_name=fakemic rate=48000 channels=1 format=float32le norewinds=1"
"""A real device gives samples as soon as it is there; a null sink that may rewind, two seconds later."""
ALSA_SETTINGS = """
pcm.!default { type pulse }
ctl.!default { type pulse }
pcm.fakemic { type pulse device fakemic.monitor hint { show on description "Fake microphone" } }
pcm.fakedoor { type pulse device fakemic.monitor hint { show on description "Fake door" } }
"""


@dataclass(slots=True)
class FakeMicrophone:
    """A sound server with the inputs `fakemic`, `fakedoor` and the system's default; all hear the same."""

    environment: dict[str, str]
    """of a process that is to hear it"""
    server: subprocess.Popen[bytes]
    _start: Callable[[], subprocess.Popen[bytes]]

    def play(self, recording: Path) -> None:
        """Let the microphone hear a WAV file; returns when it is over."""
        subprocess.run(["paplay", "-d", "fakemic", recording], env=self.environment, check=True, timeout=120)

    def kill(self) -> None:
        """Let the sound server die at once, as when a device is pulled out."""
        self.server.kill()
        self.server.wait()

    def restart(self) -> None:
        """Start it again after a kill; returns when it is ready."""
        self.server = self._start()

    def hang(self) -> None:
        self.server.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.server.send_signal(signal.SIGCONT)

    def unplug(self) -> None:
        """Take the device out; the server stays."""
        self._control("unload-module", "module-null-sink")

    def plug(self) -> None:
        """Put it in again."""
        self._control("load-module", *DEVICE.split())

    def _control(self, *command: str) -> None:
        subprocess.run(["pactl", *command], env=self.environment, check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def started() -> Iterator[FakeMicrophone]:
    """A sound server of one's own, in a folder of its own, while the context lasts."""
    with tempfile.TemporaryDirectory(prefix="pulse-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)  # not pytest's: the path of a socket has 107 characters at most
        (folder / "home").mkdir()
        (folder / "run" / "pulse").mkdir(parents=True)
        (folder / "run").chmod(0o700)
        (folder / "home" / ".asoundrc").write_text(ALSA_SETTINGS)
        environment = {
            **os.environ,
            "HOME": f"{folder}/home",
            "XDG_RUNTIME_DIR": f"{folder}/run",
            "PULSE_RUNTIME_PATH": f"{folder}/run/pulse",
            "PULSE_SERVER": f"unix:{folder}/socket",
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
        }
        log = stack.enter_context((folder / "log").open("wb"))

        def start(*command: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        def serve() -> subprocess.Popen[bytes]:
            (folder / "socket").unlink(missing_ok=True)  # of one that was killed
            server = start(
                *("pulseaudio", "-n", "--system=false", "--daemonize=no", "--disallow-exit=yes"),
                *("--use-pid-file=no", "--exit-idle-time=-1", "--realtime=no", "--high-priority=no"),
                "--log-target=stderr",
                "-L",
                DEVICE,
                "-L",
                f"module-native-protocol-unix auth-anonymous=1 socket={folder}/socket",
            )
            _wait_for_sink("fakemic", environment, server)
            # Silence keeps the sink awake: without it, the first capture after an open comes seconds late.
            silence = ("--format=s16le", "--rate=48000", "--channels=1", "--latency-msec=50", "/dev/zero")
            start("pacat", "--playback", "-d", "fakemic", *silence)
            _wait_for_sink("RUNNING", environment, server)
            return server

        yield FakeMicrophone(environment, serve(), serve)


def _wait_for_sink(words: str, environment: dict[str, str], server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    listing = ["pactl", "list", "short", "sinks"]
    while time.monotonic() < deadline and server.poll() is None:
        sinks = subprocess.run(listing, env=environment, capture_output=True, text=True, check=False)
        if words in sinks.stdout:
            return
        time.sleep(0.05)
    raise AssertionError(f"PulseAudio does not show {words}")


@pytest.fixture(scope="session")
def fake_microphone() -> Iterator[FakeMicrophone]:
    """For tests that only listen."""
    with started() as microphone:
        yield microphone


@pytest.fixture
def own_fake_microphone() -> Iterator[FakeMicrophone]:
    """For a test that does harm to it."""
    with started() as microphone:
        yield microphone
