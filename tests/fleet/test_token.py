"""The token of a cluster, with which anyone may run programs on all of its machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamer.errors import ConfigError
from streamer.inference.ray.cluster import read_token


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text("0123456789abcdef\n")
    return path


def test_it_is_one_word(file: Path) -> None:
    """Its line end is not a part of it."""
    assert read_token(file) == "0123456789abcdef"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_others_must_not_read_it(file: Path, mode: int) -> None:
    """As Ray itself writes it; the error says what to do."""
    file.chmod(mode)
    with pytest.raises(ConfigError, match=f"0{mode:o}.*chmod 600"):
        read_token(file)


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"", "one word"), (b" \n", "one word"), (b"two words", "one word"), (b"\xff\xfe", "ASCII")],
)
def test_what_is_no_token(file: Path, content: bytes, fault: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=fault):
        read_token(file)


def test_where_none_is(tmp_path: Path) -> None:
    """The system's reason is passed on."""
    with pytest.raises(ConfigError, match="No such file"):
        read_token(tmp_path / "none")
    with pytest.raises(ConfigError, match="directory"):
        read_token(tmp_path)


WITHOUT_RAY = """
import sys
sys.modules.update(dict.fromkeys(("ray", "grpc")))  # as if not installed
from streamer.cli import main
main()
"""


def test_an_installation_without_ray(file: Path) -> None:
    """One line: what is missing, and how to install it."""
    config = file.with_name("fleet.yaml")
    config.write_text(
        f"sources: {{room: {{demo: true}}}}\nsounds: {{dog: {{labels: [Dog]}}}}\n"
        f"fleet: {{address: 'localhost:6379', token_file: {file}}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, "fleet", "check", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert done.stderr == "streamer: fleet: Ray is not installed: pip install 'streamer[ray]'\n"
