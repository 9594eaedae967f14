"""Input that nobody thought of: any bytes lead to a result, or to one error for people.

Each input is made from a number. The suite tries the same few hundred always; `make fuzz` tries
$FUZZ_EXAMPLES a target, from a number of the day or $FUZZ_SEED on. What fails says its number.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from streamer.config.control import Command
from streamer.config.schema import Config, load_config
from streamer.errors import ConfigError, ModelError
from streamer.model import weights
from streamer.mqtt.commands import CommandError, Commands
from streamer.mqtt.topics import Topics
from tests.capture.test_hostile_files import Ears
from tests.capture.test_stream import tone, write_audio
from tests.fuzz import inputs
from tests.inference import models

LONG = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""inputs a target; 0: as many as the suite has time for"""
SEED = int(os.environ.get("FUZZ_SEED", int(time.time()) // 86400 * 10**9 if LONG else 0))
EXAMPLES = Path(__file__).parents[2] / "configs"


def fuzz(n: int, is_right: Callable[[random.Random], bool]) -> None:
    """Try so many inputs, $FUZZ_EXAMPLES in `make fuzz`; in the suite some are right and some are not."""
    began = time.monotonic()
    n_right = 0
    for number in range(SEED, SEED + (LONG or n)):
        try:
            n_right += is_right(random.Random(number))
        except BaseException as error:
            error.add_note(f"again: FUZZ_SEED={number} FUZZ_EXAMPLES=1")
            raise
    if LONG:
        print(f"\n{LONG} inputs from {SEED} on, {n_right} right, {time.monotonic() - began:.0f} s")
    else:
        assert 0 < n_right < n


SECTIONS = re.compile(rb"^(?=[a-z_]+:)", re.MULTILINE)
CONFIGURATIONS = [SECTIONS.split(path.read_bytes()) for path in sorted(EXAMPLES.glob("*.yaml"))]
WORDS = (
    *Config.model_fields,
    "on",
    "off",
    "labels",
    "stream",
    "command",
    "microphone",
    "demo",
    "name",
    "room",
)


def test_a_configuration(tmp_path: Path) -> None:
    """It is right, or ConfigError says in lines for people what is wrong, and where."""
    path = tmp_path / "fuzzed.yaml"

    def is_right(rng: random.Random) -> bool:
        path.write_bytes(inputs.configuration(rng, CONFIGURATIONS, WORDS))
        try:
            config = load_config(path)
        except ConfigError as error:
            lines = str(error).split("\n")
            assert all(line.startswith(str(path)) for line in lines), error
            assert all(line.isprintable() for line in lines), error
            return False
        assert all(config.sound(name).off <= config.sound(name).on for name in config.sounds)
        return True

    fuzz(1000, is_right)


def test_commands() -> None:
    """A message is a command with values in their bounds, or CommandError says in one line why not."""

    def is_right(rng: random.Random) -> bool:
        commands = Commands(Topics("streamer", "pi"), ["room"], ["bark"], ["bark"])
        now = 0.0
        n_taken = 0
        for _ in range(rng.randint(1, 20)):
            now += rng.random()
            topic, payload, retained = inputs.message(rng, commands.topics)
            try:
                command: Command = commands.parse(topic, payload, retained=retained, now=now)
            except CommandError as error:
                assert str(error).isprintable()
                assert len(str(error)) < 300
            else:
                n_taken += 1
                assert topic in commands.topics
                assert not retained
                assert command.source == "room"
                assert 0 < getattr(command, "on", 0.5) < 1
        return n_taken > 0

    fuzz(4000, is_right)


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
    """A third of a second in each container that PyAV can write."""
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


def test_recordings(recordings: dict[str, bytes], ears: Ears, tmp_path: Path) -> None:
    """It is heard, with no sample that is no number, or InputError says in one line why not."""

    def is_right(rng: random.Random) -> bool:
        kind = rng.choice(sorted(recordings))
        path = tmp_path / f"fuzzed.{kind}"
        path.write_bytes(inputs.damaged(rng, recordings[kind]))
        what, told = ears.hear(path)
        if isinstance(what, int):
            assert isinstance(told, float)
            assert np.isfinite(told)
            return True
        assert what == "InputError"
        assert str(told).isprintable()
        return False

    fuzz(400, is_right)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small model."""
    folder = models.directory(tmp_path_factory.mktemp("model") / "m", num_hidden_layers=1, hidden_size=32)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def changed(rng: random.Random, name: str, content: bytes) -> bytes:
    """A file of a model with a value that is another, or damaged where it describes what follows."""
    if not name.endswith(".json"):
        return inputs.damaged(rng, content[:4000]) + content[4000:]
    if rng.random() < 0.5:
        return inputs.damaged(rng, content)
    values = json.loads(content)
    values[rng.choice(sorted(values))] = inputs.value(rng, WORDS)
    return json.dumps(values).encode()


def test_a_model_directory(model: dict[str, bytes], tmp_path: Path) -> None:
    """It is loaded, with finite weights, or ModelError says in one line which file is wrong, and why."""
    for name, content in model.items():
        (tmp_path / name).write_bytes(content)

    def is_right(rng: random.Random) -> bool:
        name = rng.choice(sorted(model))
        (tmp_path / name).write_bytes(changed(rng, name, model[name]))
        try:
            loaded = weights.load(tmp_path)
        except ModelError as error:
            assert str(tmp_path) in str(error)
            assert str(error).isprintable()
            return False
        else:
            assert loaded.config.id2label
            return True
        finally:
            (tmp_path / name).write_bytes(model[name])

    fuzz(400, is_right)
