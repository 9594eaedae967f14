"""Capture nodes and a daemon as users run them: processes, over a link that is cut."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from streamer.config.capture import load_capture
from streamer.store.query import Filter, reading
from tests.cli.command import outcome
from tests.daemon import running
from tests.faults.program import BESIDE, QUICK, Watched, watched, write
from tests.nodes.processes import TOKEN, cable, free_port, gateway, node, sound, until
from tests.pulse import FakeMicrophone

pytestmark = pytest.mark.slow

PING_S = 1.5
CUT_S = 5.0
"""longer than it takes both ends to notice, so that the node connects anew"""
BLIP_S = 1.0
"""shorter: the link stays up, and what was on the way comes late"""
MEMORY_MAX = 70 << 20
"""bytes that a node may have in memory"""


def events(folder: Path) -> list[tuple[str, float, float | None]]:
    """Sound, onset and offset of all events of a daemon."""
    with reading(folder / "state") as reader:
        return [(event.sound, event.onset, event.offset) for event in reader.events(Filter())]


def heard(daemon: Watched) -> int:
    return int(daemon.source("room")["blocks"])


def test_a_cable_that_is_pulled_loses_no_window(tmp_path: Path) -> None:
    """Each second is scored once; a sound that goes on through two cuts is one event, as long as it was."""
    port = free_port()
    pings = {"STREAMER_TEST_PING": str(PING_S)}
    with gateway(tmp_path, port, pings) as daemon, cable(port) as link:
        with node(tmp_path, f"ws://127.0.0.1:{link.port}", sound(6, 22), ping_s=PING_S) as pi:
            pi.until_says("connected")
            daemon.until(lambda: daemon.source("room")["events"] == 1, "the sound did not begin")
            with link.held():
                time.sleep(BLIP_S)
            with link.pulled():
                time.sleep(CUT_S)
            n_kept = heard(daemon) + round(CUT_S)
            daemon.says("room: smoke_alarm ended", 0)
            daemon.until(lambda: heard(daemon) > n_kept, "what was kept did not come")
            room = daemon.source("room")
        assert (room["windows_skipped"], room["gap_s"], room["overflows"], room["reopens"]) == (0, 0, 0, 0)
        assert room["windows"] == room["blocks"]  # a hop each
        assert daemon.daemon.stop() == 0
    ((name, onset, offset),) = events(tmp_path)
    assert name == "smoke_alarm"
    assert offset is not None
    assert offset - onset == pytest.approx(16, abs=1.5)


def test_a_daemon_that_starts_again_is_connected_again(tmp_path: Path) -> None:
    """The node waits for it, and goes on; the event ends with the daemon, and begins anew."""
    port = free_port()
    with node(tmp_path, f"ws://127.0.0.1:{port}", sound(0, 3600)) as pi:
        with gateway(tmp_path, port) as daemon:
            daemon.says("room: smoke_alarm began", 0)
            assert daemon.daemon.stop() == 0
        pi.until_says("is down")
        with gateway(tmp_path, port) as daemon:
            daemon.says("room: smoke_alarm began", 0)
            assert daemon.daemon.stop() == 0
    assert len(events(tmp_path)) == 2


def test_the_newer_of_two_processes_is_heard(tmp_path: Path) -> None:
    """The older one logs why, and stays."""
    port = free_port()
    with gateway(tmp_path, port) as daemon:
        to = f"ws://127.0.0.1:{port}"
        with node(tmp_path, to, sound(0, 0)) as older:
            older.until_says("connected")
            daemon.until(lambda: heard(daemon) > 0, "nothing heard")
            with node(tmp_path, to, sound(0, 0)) as newer:
                newer.until_says("connected")
                older.until_says("another process with this name connected, from 127.0.0.1")
                older.until_says("another process with this name was started later; tried again for ever")
                n = heard(daemon)
                daemon.until(lambda: heard(daemon) > n + 2, "the newer one is not heard")
                assert not any("is down" in line for line in newer.lines)
                assert older.process.poll() is None


def test_a_wrong_token_is_said_and_tried_again(tmp_path: Path) -> None:
    """Not a byte of audio gets through; the token may be mended at either end."""
    port = free_port()
    (tmp_path / "token-pi").write_text("the-wrong-token-0123456789\n")
    with gateway(tmp_path, port) as daemon, node(tmp_path, f"ws://127.0.0.1:{port}", sound(0, 0)) as pi:
        pi.until_says("it refuses this node: the name or the token is wrong; tried again for ever")
        daemon.says("gateway: refused 127.0.0.1: the name or the token is wrong", 0)
        assert heard(daemon) == 0
        (tmp_path / "tokens").write_text("pi the-wrong-token-0123456789\n")
        pi.until_says("connected")
        daemon.until(lambda: heard(daemon) > 0, "nothing heard")


def test_a_source_that_ends_is_said_at_the_daemon(tmp_path: Path) -> None:
    """Why there is no audio is known where people look."""
    port = free_port()
    short = {
        "command": [sys.executable, "-c", "import sys; sys.stdout.buffer.write(bytes(range(100)) * 640)"]
    }
    with gateway(tmp_path, port) as daemon, node(tmp_path, f"ws://127.0.0.1:{port}", short) as pi:
        pi.until_says("it ended with exit code 0")
        daemon.says("it ended with exit code 0", 0)
        assert any("room: " in line and "(node pi: " in line for line in daemon.daemon.lines)


def test_a_gate_at_the_node_sends_levels(tmp_path: Path) -> None:
    """What is quiet costs 36 bytes a second, is no fault of the input, and loud sounds are heard."""
    port = free_port()
    settings = {"gate_dbfs": -40.0, "codec": "int16"}
    with gateway(tmp_path, port) as daemon:
        with node(tmp_path, f"ws://127.0.0.1:{port}", sound(8, 12), **settings):
            daemon.until(lambda: heard(daemon) >= 4, "no sign of life")
            quiet = daemon.source("room")
            assert (quiet["phase"], quiet["problem"]) == ("listening", "")
            assert quiet["level_dbfs"] == pytest.approx(-59.5, abs=1)  # integers from -60 to 60
            daemon.says("room: smoke_alarm ended", 0)
        assert daemon.source("room")["windows_skipped"] == 0


def test_a_node_has_nothing_that_it_does_not_need(
    fake_microphone: FakeMicrophone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a microphone: no model, no FFmpeg and no command line in the process, and little memory."""
    for name, value in fake_microphone.environment.items():
        monkeypatch.setenv(name, value)
    port = free_port()
    source = {"microphone": "fakemic"}
    with gateway(tmp_path, port) as daemon, node(tmp_path, f"ws://127.0.0.1:{port}", source) as pi:
        pi.until_says("listening at")
        daemon.until(lambda: heard(daemon) >= 5, "nothing heard")
        process = psutil.Process(pi.process.pid)
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        for library in ("torch", "onnxruntime", "/av/", "/av.libs/", "/ray/"):
            assert library not in maps
        print(process.memory_info(), process.cpu_times())
        assert process.memory_info().rss < MEMORY_MAX


def test_a_node_imports_neither_model_nor_decoder(tmp_path: Path) -> None:
    """What the module of the node loads, in `sys.modules`."""
    code = "import sys, streamer.run.capture; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"streamer.nodes.link", "soundfile", "websockets"} <= loaded
    assert loaded.isdisjoint(
        {"torch", "onnx", "onnxruntime", "av", "amqtt", "aiomqtt", "sqlite3", "typer", "rich", "pydantic"}
    )
    assert not [name for name in loaded if name.startswith(("streamer.model", "streamer.inference"))]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"to": "ws://192.168.1.2:8765"}, "audio and token would cross the network in the clear; use wss://"),
        ({"to": "wss://gpu.example:8765"}, "the gateway has to know this node: set token_file, or cert_file"),
        ({"token_file": "/none"}, "token_file: cannot read /none"),
        (
            {"ca_file": "/none", "to": "wss://localhost:1", "token_file": "/dev/null"},
            "ca_file: cannot use /none",
        ),
        ({"token_file": "/dev/null"}, "the first line of /dev/null is no token"),
        ({"source": {"demo": True}}, "a node's source has exactly one of: microphone, stream, command"),
        ({"source": {"microphone": "x", "area": "Hall"}}, "area: this belongs to the source at the server"),
        ({"gate": -60}, "unknown key, did you mean gate_dbfs?"),
    ],
)
def test_a_wrong_configuration_is_said(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    """One line for people, and exit code 78: systemd does not start it again."""
    config = {"node": "pi", "to": "ws://localhost:1", "source": {"command": ["true"]}, **changes}
    path = tmp_path / "node.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "streamer", "capture", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"gateway": {"host": "0.0.0.0"}}, "is not loopback: audio would cross the network"),  # noqa: S104
        ({}, "nodes connect to the gateway: add a section `gateway`"),
        ({"gateway": {"tokens_file": "/none"}}, "gateway.tokens_file: cannot read /none"),
    ],
)
def test_an_open_gateway_is_refused(tmp_path: Path, sections: dict[str, object], reason: str) -> None:
    """Beyond loopback without TLS or tokens the daemon does not start: exit code 78."""
    config = write(tmp_path, {"room": {"node": "pi"}}, **sections)
    with running(config, program=QUICK) as daemon:
        daemon.until_says(reason)
        assert daemon.wait() == 78


def test_check_knows_nodes(tmp_path: Path) -> None:
    """`streamer check` reads certificates and tokens, and does not wait for a node."""
    for tokens, code in ((f"pi {TOKEN}", 0), ("pi short", 78)):
        (tmp_path / "tokens").write_text(tokens)
        gateway = {"tokens_file": str(tmp_path / "tokens")}
        config = write(tmp_path, {"room": {"node": "pi"}}, gateway=gateway)
        done = outcome("check", "--config", config)
        assert done.code == code, done.out
        assert "node pi: it connects by itself" in done.out
    assert "should be a node's name and a token" in done.out


def test_the_example_is_valid() -> None:
    """configs/capture/node.yaml is read, and so printed by `streamer config example node`."""
    path = Path("configs/capture/node.yaml")
    assert load_capture(path).node == "yard"
    assert outcome("config", "example", "node").out == path.read_text()


def test_a_reload_cannot_open_a_gateway(tmp_path: Path) -> None:
    """Nodes that come with a reload need a gateway that is there; without one nothing is changed."""
    config = write(tmp_path, {"beside": BESIDE})
    with watched(config, {}, tmp_path / "state") as program:
        program.says("beside: listening", 0)
        write(tmp_path, {"beside": BESIDE, "room": {"node": "pi"}}, gateway={})
        program.daemon.process.send_signal(signal.SIGHUP)
        program.says("reload: sources: pi is a node, and `gateway` is used at the next start", 0)
        assert program.source("beside")["phase"] == "listening"
        assert program.daemon.stop() == 0


def test_the_end_of_a_recording_is_the_end_of_the_node(tmp_path: Path) -> None:
    """All of a file is taken by the gateway before the node ends, in order."""
    import numpy as np  # noqa: PLC0415
    import soundfile  # noqa: PLC0415

    recording = tmp_path / "recording.wav"
    soundfile.write(recording, np.random.default_rng(0).normal(0, 0.01, 4 * 22050), 22050)
    port = free_port()
    with (
        gateway(tmp_path, port) as daemon,
        node(tmp_path, f"ws://127.0.0.1:{port}", {"stream": str(recording)}) as pi,
    ):
        assert pi.wait() == 0
        until(lambda: heard(daemon) == 4, "not all of it")
        assert daemon.source("room")["gap_s"] == 0
