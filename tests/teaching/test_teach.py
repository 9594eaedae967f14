"""`streamer teach`: a melody that no model knows is taught from four clips and is heard over MQTT."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import yaml

from streamer.config.schema import load_config
from streamer.data.synthesis import DEMO_RATE, coloured_noise, demo_recording, write_wav
from streamer.detection.pipeline import Pipeline
from streamer.detection.steps import scores_in_steps, sensed_in_steps
from streamer.inference.engines import open_engine
from streamer.metrics import Metrics
from streamer.run.fingerprints import fingerprints
from streamer.run.model import heads_of
from streamer.store.log import Log, Recorded
from streamer.store.score_files import About, minutes
from streamer.types import Hop, SoundEvent, Window
from tests.cli.command import streamer
from tests.contract.wire import check
from tests.daemon import configuration, running
from tests.inference import models
from tests.mosquitto import HOST, Mosquitto, Subscribe, Subscriber
from tests.run.test_replay import keep
from tests.teaching.melody import RATE, clips, melody, recording

pytestmark = pytest.mark.slow

AT_S = 9.0
MODEL = {"engine": "onnx", "threads": 1}


def refused(own: Path) -> str:
    """The line with which `streamer run` ends at once, for what its configuration says."""
    command = [sys.executable, "-m", "streamer", "run", "--config", str(own)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (78, 1), result.stderr
    return result.stderr


def config(folder: Path, state: Path, recording: Path, **sections: object) -> Path:
    """Listens to a recording for the chime."""
    sounds: Mapping[str, object] = {"chime": {"taught": "chime"}}
    path = configuration(
        folder,
        {"stream": str(recording)},
        **{"model": MODEL, "state_dir": str(state), "mqtt": {"enabled": False}, **sections},
    )
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"sounds": sounds}))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips, a recording with the melody, the demonstration without it, and a state directory."""
    folder = tmp_path_factory.mktemp("teaching")
    clips(folder)
    write_wav(folder / "evening.wav", recording(20.0, AT_S, seed=77, level=0.15, noise=0.004), RATE)
    write_wav(folder / "unrelated.wav", demo_recording(), DEMO_RATE)
    return folder


@pytest.fixture(scope="module")
def taught(folder: Path) -> str:
    """What `streamer teach` said."""
    own = config(folder, folder / "state", folder / "evening.wav")
    names = [folder / f"melody{i}.wav" for i in range(1, 5)]
    return streamer(folder / "state", "teach", "chime", *names, "--config", own)


def of(subscriber: Subscriber, sound: str) -> list[dict[str, object]]:
    found = [json.loads(message.payload) for message in subscriber.of("/event/")]
    return [event for event in found if event["sound"] == sound]


def seconds(time_on_the_wire: object) -> float:
    return datetime.fromisoformat(str(time_on_the_wire)).timestamp()


def test_it_is_said_what_to_expect(taught: str) -> None:
    """An estimate from clips that were left out, the false alarms, and that four clips are few."""
    assert taught.startswith("chime: taught from 4 clips with ast-tiny")
    assert "heard again    4 of 4 clips" in taught
    assert "windows of other sounds" in taught
    assert "too few        4 clips say little" in taught
    assert "sounds: {chime: {taught: chime}}" in taught


async def test_a_taught_sound_is_heard_over_mqtt(
    tmp_path: Path, folder: Path, taught: str, mosquitto: Mosquitto, subscribe: Subscribe
) -> None:
    """As any sound: events with onset and offset, a state, its label; the onset is within 0.3 s."""
    own = config(
        tmp_path, folder / "state", folder / "evening.wav", mqtt={"host": HOST, "port": mosquitto.port}
    )
    subscriber = await subscribe(mosquitto.port)
    with running(own) as daemon:
        daemon.until_says("taught: chime")
        daemon.until_says("listening")
        assert await asyncio.to_thread(daemon.wait) == 0
    await subscriber.until_heard("streamer/test/status", "offline")

    chime = of(subscriber, "chime")
    began = min(minute.start for _, minute in minutes(folder / "state", "room", 0, time.time()))
    assert [event["phase"] for event in chime if event["phase"] != "update"] == ["start", "end"]
    assert abs(seconds(chime[0]["onset"]) - (began + AT_S)) <= 0.3
    assert list(chime[0]["labels"]) == ["taught: chime"]  # type: ignore[call-overload]  # an object of JSON
    states = [message.payload for message in subscriber.of("sound/chime/state")]
    assert states[-2:] == ["ON", "OFF"]
    for message in subscriber.messages:
        check(message.topic, message.payload)


def test_a_taught_sound_is_found_in_files(tmp_path: Path, folder: Path, taught: str) -> None:
    """Where it is, within 0.3 s; and nowhere in a recording of other sounds."""
    own = config(tmp_path, folder / "state", folder / "evening.wav")

    def found(file: str) -> list[float]:
        table = streamer(folder / "state", "detect", folder / file, "--config", own, "--format", "csv")
        return [
            float(row["onset_s"]) for row in csv.DictReader(io.StringIO(table)) if row["sound"] == "chime"
        ]

    assert found("evening.wav") == [pytest.approx(AT_S, abs=0.3)]
    assert found("unrelated.wav") == []


def test_a_taught_sound_is_explained(tmp_path: Path, folder: Path, taught: str) -> None:
    """The rules that decide on it are those of any sound."""
    own = config(tmp_path, folder / "state", folder / "evening.wav")

    said = streamer(
        folder / "state", "explain", folder / "evening.wav", "--at", 9.8, "--sound", "chime", "--config", own
    )

    assert "taught: chime" in said
    assert "reaches on" in said


def test_what_was_taught_is_listed_shown_and_tested(folder: Path, taught: str) -> None:
    """By name, with its clips; and on recordings, with the score and the time."""
    state, own = folder / "state", folder / "streamer.yaml"

    assert streamer(state, "teach", "list").startswith("chime ")
    assert "melody1.wav, melody2.wav" in streamer(state, "teach", "show", "chime")
    assert json.loads(streamer(state, "teach", "show", "chime", "--json"))["heard"] == 4
    files = folder / "evening.wav", folder / "unrelated.wav"
    heard, unheard = streamer(state, "teach", "test", "chime", *files, "--config", own).splitlines()
    assert ": heard, " in heard
    assert float(heard.split(" at ")[1].removesuffix(" s")) == pytest.approx(AT_S + 0.8, abs=1.0)
    assert ": not heard, " in unheard


def test_a_name_that_exists_is_not_overwritten(folder: Path, taught: str) -> None:
    """Unless that is asked for."""
    names = [folder / f"melody{i}.wav" for i in range(1, 5)]

    assert "exists: add --replace" in streamer(folder / "state", "teach", "chime", *names, fails=64)


def test_a_model_that_it_was_not_taught_with(tmp_path: Path, folder: Path, taught: str) -> None:
    """The daemon does not start with another model; the line says how to go on."""
    other = models.directory(tmp_path / "other")
    own = config(tmp_path, folder / "state", folder / "evening.wav", model={**MODEL, "path": str(other)})

    said = refused(own)

    assert "chime: was taught with another model (ast-tiny)" in said


def test_a_sound_that_was_not_taught(tmp_path: Path, folder: Path) -> None:
    """The line names the key of the configuration and the command."""
    own = config(tmp_path, tmp_path / "empty", folder / "evening.wav")

    said = refused(own)

    assert "sounds.chime.taught: chime: was not taught" in said
    assert "streamer teach chime CLIP" in said


def test_two_sounds_that_are_alike(tmp_path: Path, folder: Path, taught: str) -> None:
    """A second name for the same melody: it is said that they sound alike, and what to do."""
    own = folder / "streamer.yaml"
    names = []
    for i in range(3):
        names.append(tmp_path / f"again{i}.wav")
        write_wav(names[-1], recording(3.0, 0.4 + 0.2 * i, seed=40 + i), RATE)

    said = streamer(folder / "state", "teach", "gong", *names, "--config", own)

    assert "sounds alike   chime" in said
    assert "--not" in said
    streamer(folder / "state", "teach", "remove", "gong")
    assert "gong" not in streamer(folder / "state", "teach", "list")


RINGING = (659.3, 784.0, 1046.5, 784.0, 880.0, 988.0, 1046.0)
"""seven notes of another appliance, which the head of the melody takes for it"""


async def lived(state: Path, own: Path, melodies: Mapping[float, tuple[float, ...]]) -> list[SoundEvent]:
    """What a daemon keeps of a minute in which melodies begin at some seconds, an hour ago; its events."""
    begin, seconds_ = time.time() - 3600, 60
    samples = 0.004 * coloured_noise(np.random.default_rng(3), RATE, float(seconds_), 1.0)
    for number, (at, notes) in enumerate(melodies.items()):
        sound = (0.12 + 0.02 * number) * melody(notes)
        samples[int(at * RATE) : int(at * RATE) + len(sound)] += sound
    padded = np.concatenate((np.zeros(10 * RATE), samples)).astype(np.float32)
    settings = load_config(own)
    engine = open_engine(settings.model, heads=heads_of(settings))
    labels = tuple(engine.labels)
    pipeline = Pipeline("room", settings, labels)
    hops, events = list[Hop](), list[SoundEvent]()
    for number in range(seconds_):
        part, end = padded[(number + 1) * RATE : (number + 11) * RATE], begin + number + 1
        window = Window("room", number, part, RATE, end - 10, end, warm_up=number < 9)
        sensed = sensed_in_steps(pipeline.sense(window))
        scores = scores_in_steps(engine.score([window])[0]) if sensed.is_wanted else None
        events += pipeline.decide(sensed, scores, end)
        hops.append(Hop("room", sensed, scores, pipeline.origin, 1.0, number == 0))
    events += pipeline.close(begin + seconds_, begin + seconds_)
    await keep(state, hops, About(settings.model.path, labels, engine.window_s, fingerprints(settings)))
    event_log = Log(state, Metrics())
    event_log.append([Recorded(event) for event in events])
    event_log.close()
    return [event for event in events if event.sound == "chime" and event.phase == "end"]


async def test_one_that_is_marked_wrong_is_gone_on_replay(tmp_path: Path, folder: Path, taught: str) -> None:
    """What was taken for the melody is marked, a veto is learned from it, and it is no event any more."""
    state = tmp_path / "state"
    shutil.copytree(folder / "state" / "taught", state / "taught")
    own = config(tmp_path, state, folder / "evening.wav")
    notes = (659.3, 784.0, 1046.5, 784.0)
    events = await lived(state, own, {8.0: notes, 20.0: notes, 32.0: notes, 44.0: RINGING})
    assert len(events) == 4
    streamer(state, "events", "review", events[3].id, "wrong", "--config", own)

    said = streamer(state, "teach", "veto", "chime", "--config", own, "--apply")

    assert said.startswith("chime: learned from 4 events: 1 marked wrong, 0 marked right, 3 not reviewed\n")
    assert "4 events: 1 gone (1 marked wrong, 0 marked right, 0 not reviewed), 3 the same, 0 new" in said
    found = json.loads(streamer(state, "replay", "--last", "1d", "--sound", "chime", "-c", own, "--json"))
    assert [event["id"] for event in found["gone"]] == [events[3].id]
    assert (found["same"], found["new"]) == (3, [])
