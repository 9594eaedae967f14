"""Input that nobody thought of: any bytes lead to a result, or to one error for people.

`make fuzz` tries $FUZZ_EXAMPLES inputs a target; the suite a few hundred, always the same.
"""

from __future__ import annotations

import json
import os
import string
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streamer.config.control import Command
from streamer.config.schema import Config, load_config
from streamer.errors import ConfigError, ModelError
from streamer.model import weights
from streamer.mqtt.commands import CommandError, Commands
from streamer.mqtt.topics import Topics
from tests.capture.test_hostile_files import Ears
from tests.capture.test_stream import tone, write_audio
from tests.inference import models

LONG = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""inputs a target; 0: as many as the suite has time for"""
EXAMPLES = Path(__file__).parents[2] / "configs"


def fuzzed(n: int) -> settings:
    """So many inputs in the suite, $FUZZ_EXAMPLES in `make fuzz`; no limit of time for a single one."""
    phases = [phase for phase in Phase if phase is not Phase.explain]
    return settings(
        max_examples=LONG or n,
        deadline=None,
        derandomize=not LONG,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with pieces changed, cut out, doubled, or swapped for others."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 64))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + length] = draw(st.binary(max_size=64))
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3 if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case _:
                data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f" + b"\xff" * 3]))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


CONFIGURATIONS = [path.read_bytes() for path in sorted(EXAMPLES.glob("*.yaml"))]
WORDS = st.sampled_from(
    [*Config.model_fields, "on", "off", "labels", "stream", "command", "microphone", "demo", "name", "room"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=20,
)
TEXTS = (
    st.sampled_from(CONFIGURATIONS).flatmap(damaged)
    | st.binary(max_size=400)
    | st.dictionaries(WORDS, VALUES, max_size=8).map(lambda values: json.dumps(values).encode())
)


@fuzzed(300)
@given(content=TEXTS)
def test_a_configuration(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """It is right, or ConfigError says in lines for people what is wrong, and where."""
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_bytes(content)
    try:
        config = load_config(path)
    except ConfigError as error:
        assert all(line.startswith(str(path)) for line in str(error).split("\n")), error
        assert all(line.isprintable() for line in str(error).split("\n")), error
    else:
        assert all(config.sound(name).off <= config.sound(name).on for name in config.sounds)


PARTS = ("listen", "threshold/bark", "profile", "mute", "sound/bark/listen")
LEVELS = st.sampled_from(["streamer", "pi", "room", "bark", *PARTS, "set", "state", "#", "+", ""])
TOPICS = st.text(max_size=40) | st.lists(LEVELS, max_size=8).map("/".join)
PAYLOADS = st.binary(max_size=60) | st.text(string.printable, max_size=20).map(str.encode)
COMMANDING = st.sampled_from(
    [b"ON", b"OFF", b"0.5", b".5", b"1", b"NaN", b"1e400", b"0.0000001", b"quiet", b"x" * 5000]
)


@fuzzed(1000)
@given(
    messages=st.lists(
        st.tuples(TOPICS | st.integers(0, 20), PAYLOADS | COMMANDING, st.booleans()), max_size=20
    ),
    pause_s=st.floats(0, 1),
)
def test_commands(messages: list[tuple[str | int, bytes, bool]], pause_s: float) -> None:
    """A message is a command with values in their bounds, or CommandError says in one line why not."""
    commands = Commands(Topics("streamer", "pi"), ["room"], ["bark"], ["bark"])
    now = 0.0
    for topic, payload, retained in messages:
        now += pause_s
        name = commands.topics[topic % len(commands.topics)] if isinstance(topic, int) else topic
        try:
            command: Command = commands.parse(name, payload, retained=retained, now=now)
        except CommandError as error:
            assert str(error).isprintable()
            assert len(str(error)) < 300
        else:
            assert name in commands.topics
            assert not retained
            assert command.source == "room"
            assert 0 < getattr(command, "on", 0.5) < 1


RECORDINGS = {
    "wav": ("pcm_s16le", 16000),
    "flac": ("flac", 16000),
    "ogg": ("libopus", 48000),
    "mp3": ("libmp3lame", 16000),
    "mp4": ("aac", 16000),
    "mkv": ("aac", 16000),
    "aiff": ("pcm_s16be", 16000),
    "adts": ("aac", 16000),
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A tenth of a second in each container that PyAV can write."""
    folder = tmp_path_factory.mktemp("recordings")
    found = {}
    for kind, (codec, rate) in RECORDINGS.items():
        path = folder / f"a.{'aac' if kind == 'adts' else kind}"
        with suppress(Exception):  # an encoder that this PyAV has not
            found[kind] = write_audio(path, codec, rate, tone(rate, 0.3)[None], "mono").read_bytes()
    assert len(found) >= 6
    return found


@pytest.fixture(scope="module")
def ears() -> Iterator[Ears]:
    """A process that may be lost to a file."""
    listening = Ears()
    yield listening
    listening.close()


@fuzzed(200)
@given(data=st.data())
def test_recordings(
    recordings: dict[str, bytes], ears: Ears, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """It is heard, with no sample that is no number, or InputError says in one line why not."""
    kind = data.draw(st.sampled_from(sorted(recordings)))
    path = tmp_path_factory.getbasetemp() / f"fuzzed.{kind}"
    path.write_bytes(data.draw(damaged(recordings[kind])))
    what, text = ears.hear(path)
    if isinstance(what, int):
        assert isinstance(text, float)
        assert np.isfinite(text)
    else:
        assert what == "InputError"
        assert str(text).isprintable()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small model."""
    folder = models.directory(tmp_path_factory.mktemp("model") / "m", num_hidden_layers=1, hidden_size=32)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@fuzzed(200)
@given(data=st.data())
def test_a_model_directory(
    model: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """It is loaded, with finite weights, or ModelError says in one line which file is wrong, and why."""
    folder = tmp_path_factory.getbasetemp() / "fuzzed-model"
    folder.mkdir(exist_ok=True)
    which = data.draw(st.sampled_from(sorted(model)))
    for name, content in model.items():
        (folder / name).write_bytes(content)
    if which.endswith(".json") and data.draw(st.booleans()):
        values = json.loads(model[which])
        key = data.draw(st.sampled_from(sorted(values)))
        values[key] = data.draw(VALUES)
        changed = json.dumps(values).encode()
    elif which.endswith(".json"):
        changed = data.draw(damaged(model[which]))
    else:  # what describes the weights is at the beginning
        changed = data.draw(damaged(model[which][:4000])) + model[which][4000:]
    (folder / which).write_bytes(changed)
    try:
        loaded = weights.load(folder)
    except ModelError as error:
        assert str(folder) in str(error)
        assert "\n" not in str(error)
    else:
        assert loaded.config.id2label
