"""The main job: what a microphone or a file lets be heard arrives at an MQTT subscriber."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from streamer.data.synthesis import DEMO_RATE, demo_recording, temporal_three, write_wav
from tests.contract.wire import check
from tests.daemon import configuration, running
from tests.mosquitto import HOST, Mosquitto, Subscribe, Subscriber
from tests.pulse import FakeMicrophone

pytestmark = pytest.mark.slow

ALARM_AT_S, ALARM_S = 3.0, 8.0


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen seconds: a smoke alarm from 3 to 11 s in a quiet room."""
    rng = np.random.default_rng(3)
    samples = demo_recording()[12 * DEMO_RATE : 16 * DEMO_RATE]  # nothing sounds here
    samples = np.tile(samples, 4)
    alarm = temporal_three(rng, DEMO_RATE, ALARM_S).samples
    at = int(ALARM_AT_S * DEMO_RATE)
    samples[at : at + len(alarm)] += 0.25 * alarm
    path = tmp_path_factory.mktemp("recording") / "alarm.wav"
    write_wav(path, samples, DEMO_RATE)
    return path


def events(subscriber: Subscriber) -> list[dict[str, object]]:
    return [json.loads(message.payload) for message in subscriber.of("/event/")]


def phases(subscriber: Subscriber, sound: str = "smoke_alarm") -> list[str]:
    return [str(event["phase"]) for event in events(subscriber) if event["sound"] == sound]


def ended(subscriber: Subscriber) -> bool:
    return "end" in phases(subscriber)


def run_program(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def broker(mosquitto: Mosquitto) -> dict[str, object]:
    return {"host": HOST, "port": mosquitto.port}


async def test_a_microphone_is_heard_by_a_subscriber(
    tmp_path: Path,
    recording: Path,
    fake_microphone: FakeMicrophone,
    mosquitto: Mosquitto,
    subscribe: Subscribe,
) -> None:
    """What PulseAudio plays comes through PortAudio, model and Mosquitto as one event with start and end."""
    config = configuration(tmp_path, {"microphone": "fakemic"}, mqtt=broker(mosquitto))
    subscriber = await subscribe(mosquitto.port)
    with running(config, fake_microphone.environment) as daemon:
        daemon.until_says("listening")
        await subscriber.until_heard("streamer/test/room/status", "online")
        played_at = time.time()
        await asyncio.to_thread(fake_microphone.play, recording)
        await subscriber.until(ended, "the end of smoke_alarm")
        assert daemon.stop() == 0
    await subscriber.until_heard("streamer/test/status", "offline")
    own = [event for event in events(subscriber) if event["sound"] == "smoke_alarm"]
    assert own[0]["phase"] == "start"
    assert own[-1]["phase"] == "end"
    assert len({event["id"] for event in own}) == 1
    assert phases(subscriber).count("start") == 1
    onset = seconds(own[-1]["onset"]) - played_at
    assert onset == pytest.approx(ALARM_AT_S, abs=1.5)  # the player itself starts late
    assert own[-1]["duration_s"] == pytest.approx(ALARM_S, abs=1.5)
    states = [message.payload for message in subscriber.of("sound/smoke_alarm/state")]
    assert states[-2:] == ["ON", "OFF"]
    for message in subscriber.messages:
        check(message.topic, message.payload)


def seconds(time_on_the_wire: object) -> float:
    return datetime.fromisoformat(str(time_on_the_wire)).timestamp()


async def test_a_file_gives_the_same_events_live_and_offline(
    tmp_path: Path, recording: Path, mosquitto: Mosquitto, subscribe: Subscribe
) -> None:
    """The daemon, at the pace of the recording, says what `detect` says; at the end of the file it ends."""
    config = configuration(tmp_path, {"stream": str(recording)}, mqtt=broker(mosquitto))
    subscriber = await subscribe(mosquitto.port)
    with running(config) as daemon:
        daemon.until_says("listening")
        assert daemon.wait() == 0
    await subscriber.until_heard("streamer/test/status", "offline")
    detect = [sys.executable, "-m", "streamer", "detect", str(recording), "--config", str(config)]
    command = [*detect, "--format", "jsonl", "--relative"]
    printed = (await asyncio.to_thread(run_program, command)).stdout
    offline = [json.loads(line) for line in printed.splitlines()]
    assert [phase for phase in (e["phase"] for e in offline) if phase != "update"] == ["start", "end"]
    live_events = events(subscriber)
    began = seconds(live_events[0]["onset"]) - offline[0]["onset"]
    live = [(e["sound"], e["phase"], round(seconds(e["onset"]) - began, 1), e["peak"]) for e in live_events]
    near = partial(pytest.approx, abs=0.1)
    peak = partial(pytest.approx, abs=0.01)  # bfloat16 rounds otherwise in batches of another size
    assert live == [(e["sound"], e["phase"], near(e["onset"]), peak(e["peak"])) for e in offline]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_ends_what_is_open(
    how: signal.Signals, tmp_path: Path, recording: Path, mosquitto: Mosquitto, subscribe: Subscribe
) -> None:
    """An event under way gets its end, the sensor goes OFF, the node offline, and the exit code is 0."""
    config = configuration(tmp_path, {"stream": str(recording)}, mqtt=broker(mosquitto))
    subscriber = await subscribe(mosquitto.port)
    with running(config) as daemon:
        daemon.until_says("listening")  # a busy machine loads a model slowly
        await subscriber.until(lambda heard: "start" in phases(heard), "the start of smoke_alarm")
        assert daemon.stop(how) == 0
    await subscriber.until_heard("streamer/test/status", "offline")
    assert phases(subscriber)[-1] == "end"
    assert subscriber.latest("streamer/test/room/sound/smoke_alarm/state") == "OFF"
    assert subscriber.latest("streamer/test/room/status") == "offline"


async def test_a_broker_that_restarts_misses_nothing(
    tmp_path: Path, recording: Path, mosquitto: Mosquitto, subscribe: Subscribe
) -> None:
    """Events that happen while the broker is away arrive when it is back, in order, marked as late."""
    config = configuration(tmp_path, {"stream": str(recording), "loop": True}, mqtt=broker(mosquitto))
    with running(config) as daemon:
        daemon.until_says("MQTT")
        mosquitto.stop()
        daemon.until_says("smoke_alarm ended")  # its start is some seconds old by now
        mosquitto.start()
        subscriber = await subscribe(mosquitto.port)
        await subscriber.until(ended, "the end of smoke_alarm")
        assert daemon.stop() == 0
    assert phases(subscriber)[0] == "start"
    assert events(subscriber)[0]["delayed_s"] > 1  # type: ignore[operator]  # a number


async def test_without_a_broker_detection_goes_on(tmp_path: Path, recording: Path) -> None:
    """A broker that is down at the start is said in one line, and sounds are heard all the same."""
    config = configuration(tmp_path, {"stream": str(recording)}, mqtt={"host": HOST, "port": 1})
    with running(config) as daemon:
        assert "127.0.0.1:1" in daemon.until_says("MQTT")
        daemon.until_says("smoke_alarm")
        assert daemon.stop() == 0


async def test_the_quick_start_needs_nothing(tmp_path: Path) -> None:
    """No microphone, no broker: a recording is played, and the line that is printed shows its events."""
    environment = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PULSE_SERVER": "unix:/nowhere"}
    with running(Path("configs/quickstart.yaml"), environment) as daemon:
        assert "demo" in daemon.until_says("no microphone") or daemon.until_says("demo is played")
        line = daemon.until_says("mosquitto_sub")
        match = re.search(r"mosquitto_sub -h (\S+) -p (\d+) -v -t '([^']+)'", line)
        assert match is not None, line
        host, port, topic = match.groups()
        listener = ["mosquitto_sub", "-h", host, "-p", port, "-v", "-t", topic, "-W", "75", "-C", "6"]
        heard = (await asyncio.to_thread(run_program, listener)).stdout
        assert daemon.stop(signal.SIGINT) == 0
    sounds = {json.loads(line.split(" ", 1)[1])["sound"] for line in heard.splitlines()}
    assert "smoke_alarm" in sounds
    assert len(sounds) >= 2
    for line in heard.splitlines():
        topic, payload = line.split(" ", 1)
        check(topic, payload)
