"""What the system refuses is one line and a documented exit code, never a stack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CONFIG = ["--config", "configs/quickstart.yaml"]


def limited(limit: str, state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a shell that has set a limit."""
    return subprocess.run(
        ["bash", "-c", f'ulimit {limit} && exec "$@"', "-", sys.executable, "-m", "streamer", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "STATE_DIRECTORY": str(state)},
    )


@pytest.mark.parametrize("arguments", [["run", *CONFIG], ["check", *CONFIG], ["detect", "a.wav", *CONFIG]])
def test_too_few_open_files(arguments: list[str], tmp_path: Path) -> None:
    """With too few descriptors a command ends before any part fails in its own way, and says what to do."""
    ended = limited("-n 20", tmp_path, *arguments)
    assert ended.returncode == 71
    assert ended.stderr == (
        "streamer: only 20 files may be open at once, 64 are needed: "
        "`ulimit -n 64`, or LimitNOFILE=64 in the unit\n"
    )


def test_a_soft_limit_is_raised(tmp_path: Path) -> None:
    """Where the hard limit lets it, the program takes what it needs."""
    ended = limited("-Sn 20", tmp_path, "run", "--config", "nowhere.yaml")
    assert ended.returncode == 78, ended.stderr


def test_no_file_may_grow(tmp_path: Path) -> None:
    """What the system refuses in a part of `check` is a line like any other, and its code is documented."""
    ended = limited("-f 0", tmp_path, "check", "--config", str(demo(tmp_path)))
    assert ended.returncode == 71, ended.stderr
    last = ended.stdout.splitlines()[-1]
    assert last.startswith("FAIL  source room")
    assert "No usable temporary directory" in last
    assert ended.stderr == ""


def test_standard_output_is_full() -> None:
    """What cannot be printed is an error with the code of a full disk."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "streamer", "config", "example", "quickstart"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 74
    assert ended.stderr == (
        "streamer: standard output: No space left on device: make room, or name another place\n"
    )


def demo(folder: Path) -> Path:
    path = folder / "demo.yaml"
    path.write_text(
        "sources: {room: {demo: true}}\nsounds: {siren: {labels: [Siren]}}\n"
        "model: {path: ast-tiny, engine: onnx}\nmqtt: {enabled: false}\n"
    )
    return path
