"""A light installation: torch is not there, and all that does not need it works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from streamer.data.synthesis import write_demo
from tests.inference import models

pytestmark = pytest.mark.slow

WITHOUT_TORCH = """
import sys
# As if these were not installed.
sys.modules.update(dict.fromkeys(("torch", "onnx", "openvino", "transformers", "matplotlib")))
from streamer.cli import main
main()
"""


def _streamer(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the Hub has them: no frame head, weights under its names."""
    directory = models.directory(tmp_path_factory.mktemp("models") / "published", frame_head=False)
    weights = load_file(directory / "model.safetensors")
    assert "audio_spectrogram_transformer.encoder.layer.0.attention.attention.query.weight" in weights
    return directory


def test_a_published_checkpoint_is_used(published: Path, tmp_path: Path) -> None:
    """It is verified, described, exported and measured, straight from its safetensors."""
    for command in (
        ["models", "verify", str(published)],
        ["models", "info", str(published)],
        ["models", "export", str(published), "--out", str(tmp_path / "model.onnx")],
        ["bench", "-m", str(published), "--rounds", "1", "--batch", "1", "--threads", "1"],
    ):
        done = _streamer(*command)
        assert done.returncode == 0, done.stderr
    assert "onnx         float32" in done.stdout
    assert (tmp_path / "model.onnx").stat().st_size > 10_000


def test_events_of_a_file(tmp_path: Path) -> None:
    """The whole way from a file to its events, with the shipped model."""
    sound, config = write_demo(tmp_path), tmp_path / "quickstart.yaml"
    made = _streamer("config", "example", "quickstart")
    assert made.returncode == 0, made.stderr
    config.write_text(made.stdout)

    done = _streamer("detect", str(sound), "--config", str(config))

    assert done.returncode == 0, done.stderr
    assert "smoke_alarm" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["models", "convert", "none.pth", "out"],
        ["bench", "--model", "ast-base"],
        ["bench", "--vs", "transformers"],
    ],
)
def test_what_needs_more_says_so(command: list[str]) -> None:
    """One line: what is missing, and how to install it."""
    done = _streamer(*command)

    assert done.returncode == 64
    assert done.stderr.splitlines()[-1].startswith("streamer: ")
    assert "pip install 'streamer[" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
