"""Wrong input gets one clear line and the exit code that `streamer.errors` documents."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from streamer.cli import main
from streamer.data.synthesis import write_wav
from streamer.teaching import record
from tests.cli.command import Outcome
from tests.teaching.test_record import taught

pytestmark = pytest.mark.slow


Streamer = Callable[..., Outcome]


@pytest.fixture
def streamer(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Streamer:
    """The command, in this process."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["streamer", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
            raise SystemExit(0)
        code = stop.value.code
        return Outcome(code if isinstance(code, int) else int(code is not None), *capfd.readouterr())

    return run


def config(folder: Path, text: str) -> Path:
    path = folder / "streamer.yaml"
    path.write_text(text, encoding="utf-8")
    return path


SOUNDS = "sounds: {siren: {labels: [Siren]}}\n"
QUIET = "mqtt: {enabled: false}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run"], 64, "--config"),
        (["run", "--config", "nowhere.yaml"], 78, "nowhere.yaml"),
        (["dance"], 64, "dance"),
        (["tag", "nowhere.wav"], 66, "nowhere.wav: no such file"),
        (["tag", "README.md"], 66, "README.md"),
        (["tag", "configs"], 66, "directory"),
        (["tag", "README.md", "--model", "nowhere"], 78, "nowhere"),
        (["detect", "nowhere.wav", "--config", "configs/quickstart.yaml"], 66, "nowhere.wav"),
        (["detect", "README.md", "--format", "poem"], 64, "poem"),
        (
            ["listen", "--microphone", "a", "--stream", "b", "--config", "configs/quickstart.yaml"],
            64,
            "not both",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_command_line(streamer: Streamer, arguments: list[str], code: int, words: str) -> None:
    """What is wrong is named, on standard error, and nothing looks like a crash."""
    outcome = streamer(*arguments)
    assert outcome.code == code
    assert words in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sources: {room: {demo: true}}\nsonds: {}\n" + SOUNDS, "streamer.yaml:2: sonds: "),
        ("sources: {room: {microphone: 5}}\n" + SOUNDS, "streamer.yaml:1: sources.room.microphone"),
        ("sources: [\n" + SOUNDS, "streamer.yaml:"),
        ("sources: {room: {demo: true, stream: a.wav}}\n" + SOUNDS, "exactly one of"),
        ("sources: {room: {demo: true}}\nsounds: {x: {labels: [Dgo]}}\n" + QUIET, "Dog"),
        ("sources: {room: {demo: true}}\nmodel: {device: cuda}\n" + SOUNDS + QUIET, "CUDA"),
        ("sources: {room: {demo: true}}\nmodel: {path: nowhere}\n" + SOUNDS + QUIET, "nowhere"),
    ],
)
def test_a_configuration(streamer: Streamer, tmp_path: Path, text: str, words: str) -> None:
    """Exit code 78, which systemd does not restart; the line names file, line, key or label."""
    outcome = streamer("run", "--config", config(tmp_path, text))
    assert outcome.code == 78
    assert words in outcome.err
    assert "Traceback" not in outcome.err


ROOM = "sources:\n  room: {demo: true}\n"
GOOD = ROOM + SOUNDS + QUIET

CORRUPT: dict[str, tuple[bytes, int]] = {
    name: (text.encode(), line)
    for name, (text, line) in {
        "a list": ("- sources\n- sounds\n", 1),
        "a word": ("sources", 1),
        "a web page": ("<!DOCTYPE html>\n<html>404</html>\n", 1),
        "a section in brackets": ("[sources]\nroom = demo\n", 2),
        "an open bracket": (GOOD + "node: [\n", 6),
        "an open quote": (GOOD + "node: 'a\n", 6),
        "a tab": (GOOD + "health:\n\tport: 9107\n", 6),
        "a dent": (ROOM + " sounds: {}\n", 3),
        "two files in one": (GOOD + "---\n" + GOOD, 5),
        "a merge that was left": (GOOD + "<<<<<<< HEAD\nnode: a\n", 6),
        "a bomb": (GOOD + "a: &a [x, x]\nb: &b [*a, *a]\n", 5),
        "a call": (GOOD + "node: !!python/object/apply:os.getcwd []\n", 5),
        "a key that is a list": (GOOD + "? [a]\n: b\n", 5),
        "a NUL": (GOOD + "node: a\0b\n", 5),
        "a key twice": (GOOD + "sources: {}\n", 5),
        "a key misspelled": (GOOD + "detecton: {}\n", 5),
        "a section that is a list": (GOOD + "detection: [0.5]\n", 5),
        "a section of nothing": (GOOD + "detection:\n", 5),
        "no number": (GOOD + "detection: {on: .nan}\n", 5),
        "an endless number": (GOOD + "detection: {merge_gap_s: .inf}\n", 5),
        "a number beyond float": (GOOD + "detection: {on: 1e400}\n", 5),
        "a negative time": (GOOD + "detection: {merge_gap_s: -1}\n", 5),
        "a number in words": (GOOD + "windows: {hop_s: one}\n", 5),
        "a date": (GOOD + "node: 2026-11-22\n", 5),
        "a name with a wildcard": (GOOD + "node: 'a/#'\n", 5),
        "a port too high": (GOOD + "health: {port: 70000}\n", 5),
        "a source of two kinds": ("sources: {room: {demo: true, stream: a}}\n" + SOUNDS, 1),
        "a source of no kind": ("sources: {room: {}}\n" + SOUNDS, 1),
        "a sound of no labels": (ROOM + "sounds: {siren: {labels: []}}\n", 3),
        "half of it": (GOOD[: len(ROOM) + 12], 3),
    }.items()
} | {
    "Latin-1": (GOOD.encode() + b"node: caf\xe9\n", 5),
    "UTF-16": (GOOD.encode("utf-16"), 1),
    "noise": (b"\x00\xff\x10\x80" * 100, 1),
}


@pytest.mark.parametrize(("content", "line"), CORRUPT.values(), ids=CORRUPT.keys())
def test_a_corrupt_configuration(streamer: Streamer, tmp_path: Path, content: bytes, line: int) -> None:
    """Whatever the file holds: exit code 78, and lines that each name the file; the first names the line."""
    path = tmp_path / "streamer.yaml"
    path.write_bytes(content)
    outcome = streamer("run", "--config", path)
    said = outcome.err.removeprefix("streamer: ").splitlines()
    assert outcome.code == 78
    assert said[0].startswith(f"{path}:{line}: ")
    assert all(each.startswith(f"{path}:") for each in said)


@pytest.mark.parametrize("content", [b"", b"no audio at all\n" * 50], ids=["empty", "text"])
def test_a_source_that_is_no_audio(streamer: Streamer, tmp_path: Path, content: bytes) -> None:
    """A daemon whose only source can never be heard says which and why, and exits with 66."""
    (tmp_path / "noise.wav").write_bytes(content)
    text = f"sources: {{room: {{stream: {tmp_path / 'noise.wav'}}}}}\n" + SOUNDS + QUIET
    outcome = streamer("run", "--config", config(tmp_path, text))
    assert outcome.code == 66
    assert "noise.wav" in outcome.err


def test_one_bad_file_does_not_hide_the_others(streamer: Streamer, tmp_path: Path) -> None:
    """Good files are tagged, bad ones are named, and the exit code says that there were some."""
    good = tmp_path / "good.wav"
    write_wav(good, np.zeros(16000, np.float32), 16000)
    outcome = streamer("tag", tmp_path / "missing.wav", good)
    assert outcome.code == 66
    assert "missing.wav" in outcome.err
    assert "good.wav" in outcome.out


def test_a_damaged_taught_sound_hides_no_other(streamer: Streamer, tmp_path: Path) -> None:
    """Those that can be read are listed; of each other one, a line says what to do."""
    record.write(tmp_path / "state", taught("gong"))
    (tmp_path / "state" / record.FOLDER / "bell.npz").write_bytes(b"not whole")
    outcome = streamer("teach", "list")
    assert outcome.code == 78
    assert outcome.out.startswith("gong ")
    assert "streamer teach remove bell" in outcome.err
    outcome = streamer("teach", "show", "gong")
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros(160000), "digital silence"),
        (np.full(160000, 0.3), "stuck at"),
        (np.clip(5 * np.sin(np.arange(160000) / 5), -0.9, 0.9), "clipping"),
    ],
    ids=["silent", "stuck", "clipping"],
)
def test_check_fails_where_nothing_will_be_heard(
    streamer: Streamer, tmp_path: Path, samples: npt.NDArray[np.float64], words: str
) -> None:
    """A dead, stuck or clipping input is not ok."""
    write_wav(tmp_path / "input.wav", samples.astype(np.float32), 16000)
    text = f"sources: {{room: {{stream: {tmp_path}/input.wav}}}}\n" + SOUNDS + QUIET
    outcome = streamer("check", "--config", config(tmp_path, text))
    assert outcome.code == 75
    (line,) = [line for line in outcome.out.splitlines() if "source room" in line]
    assert line.startswith("FAIL")
    assert words in line


def test_check_says_what_works_and_what_does_not(streamer: Streamer, tmp_path: Path) -> None:
    """A line each; a broker that is down does not hide the rest, and decides the exit code."""
    text = "sources: {room: {demo: true}}\nmqtt: {host: 127.0.0.1, port: 1}\n" + SOUNDS
    outcome = streamer("check", "--config", config(tmp_path, text))
    assert outcome.code != 0
    lines = {line.split()[1]: line for line in outcome.out.splitlines()}
    assert lines["configuration"].startswith("ok")
    assert lines["model"].startswith("ok")
    assert lines["source"].startswith("ok")
    assert lines["broker"].startswith("FAIL")
    assert "127.0.0.1:1" in lines["broker"]
