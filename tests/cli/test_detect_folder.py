"""`streamer detect FOLDER` as a process: killed, shared, watched."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from streamer.cli import main
from streamer.data.synthesis import write_wav
from tests.archive.test_job import report, tree
from tests.inference.models import directory

pytestmark = pytest.mark.slow

RATE = 16000
N_FILES = 30
RULES = """
sources: {room: {demo: true}}
sounds: {any: {labels: [sound 0, sound 3], on: 0.3}}
windows: {skip_quiet: false}
model: {engine: onnx, max_batch: 4, threads: 1, device: cpu, dtype: float32}
"""


class Archive(NamedTuple):
    recordings: Path
    options: list[str]
    whole: Path
    """the results of one undisturbed job"""
    printed: subprocess.CompletedProcess[str]
    """what that job printed"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "streamer", "detect", *map(str, arguments)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Thirty recordings of 12 s, one that is damaged, and what one job makes of them."""
    folder = tmp_path_factory.mktemp("archive")
    recordings = folder / "recordings"
    recordings.mkdir()
    rng = np.random.default_rng(3)
    t = np.arange(RATE * 12) / RATE
    for i in range(N_FILES):
        samples = 0.1 * rng.standard_normal(len(t)) + 0.5 * np.sin(2 * np.pi * 90 * i * t) * (t % 5 < 2)
        write_wav(recordings / f"{i}.wav", samples.astype(np.float32), RATE)
    (recordings / "broken.wav").write_bytes(b"RIFF")
    (folder / "rules.yaml").write_text(RULES)
    options = ["--config", str(folder / "rules.yaml"), "--model", str(directory(folder / "model"))]
    printed = subprocess.run(
        command(recordings, "--out", folder / "whole", *options),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Archive(recordings, options, folder / "whole", printed)


def test_a_job_without_a_terminal(archive: Archive) -> None:
    """The damaged file is a line and the exit code; nothing but a summary is printed."""
    assert archive.printed.returncode == 66
    assert archive.printed.stdout == ""
    (line,) = archive.printed.stderr.splitlines()
    assert f"{N_FILES} done, 1 failed; now {N_FILES + 1} files, 0.10 h of sound" in line
    assert len(tree(archive.whole)) == N_FILES
    assert any(b'"phase":"end"' in content for content in tree(archive.whole).values())


def test_killed_and_resumed(archive: Archive, tmp_path: Path) -> None:
    """After SIGKILL what is there is whole; --resume makes the rest and nothing twice: the same bytes."""
    out = tmp_path / "killed"
    kills = 0
    written: dict[Path, int] = {}
    while True:
        before = len(written)
        arguments = command(archive.recordings, "--out", out, "--resume", *archive.options)
        with subprocess.Popen(arguments) as process:
            while process.poll() is None and len(written) < before + 10:
                time.sleep(0.02)
                written |= {path: path.stat().st_mtime_ns for path in out.glob("events/*.wav.jsonl")}
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        for path, at in written.items():
            assert path.stat().st_mtime_ns == at  # not written again
        if process.returncode == 66:
            break
        assert tree(out).items() <= tree(archive.whole).items()
    assert kills >= 1
    assert tree(out) == tree(archive.whole)
    assert report(out) == report(archive.whole)


def test_shards_on_a_terminal(archive: Archive, tmp_path: Path) -> None:
    """Two processes that start together share the work; a terminal shows hours a second and time left."""
    screen, terminal = pty.openpty()
    processes = [
        subprocess.Popen(
            command(archive.recordings, "--out", tmp_path, "--shard", f"{i}/2", *archive.options),
            stderr=terminal if i == 0 else subprocess.DEVNULL,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        )
        for i in range(2)
    ]
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(screen, 4096)
        except OSError:  # the process has closed the terminal
            break
    assert sorted(process.wait(300) for process in processes) == [0, 66]
    assert b"h/s" in shown
    assert b"0:00:" in shown
    assert tree(tmp_path) == tree(archive.whole)
    assert report(tmp_path) == report(archive.whole)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["."], "--out"),
        ([".", "README.md", "--out", "x"], "alone"),
        ([".", "--out", "."], "other than"),
        ([".", "--out", "README.md"], "name a folder"),
        ([".", "--out", "x", "--shard", "5/5"], "I/N"),
        ([".", "--out", "x", "--plot", "x.png"], "--plot"),
        (["README.md", "--resume"], "folder"),
    ],
)
def test_a_command_line_that_is_off(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says what to write, exit code 64, and nothing is created."""
    arguments = ["streamer", "detect", *arguments, "--config", "configs/quickstart.yaml"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 64
    assert words in capsys.readouterr().err
    assert not Path("x").exists()
