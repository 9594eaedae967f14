"""The engine of ONNX Runtime: what is its own; what it shares with any engine is in `test_engines.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamer.config.schema import ModelSettings
from streamer.errors import InferenceError
from streamer.inference.engines import graph
from streamer.inference.engines.onnx import OnnxEngine
from tests.inference import models
from tests.inference.models import window


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.directory(tmp_path_factory.mktemp("models") / "small")


def _engine(directory: Path, **settings: object) -> OnnxEngine:
    values: dict[str, object] = {"path": str(directory), "threads": 1}
    return OnnxEngine(ModelSettings(**{**values, **settings}))  # type: ignore[arg-type]  # mixed values


def test_what_it_says_of_itself(directory: Path) -> None:
    """Labels, window and frames come from the model's files; one line tells people the rest."""
    engine = _engine(directory)

    assert engine.labels == tuple(f"sound {i}" for i in range(7))
    assert (engine.window_s, engine.frame_s, engine.sample_rate) == (1.0, 0.16, 16000)
    assert (engine.kind, str(engine.device)) == ("onnx, float32", "cpu")
    for word in ("small", "7 labels", "1 s", "0.16 s", "ONNX Runtime", "CPU", "float32", "1 thread"):
        assert word in engine.describe()
    assert "1 threads" not in engine.describe()


def test_eight_bits_are_near(tmp_path: Path) -> None:
    """Layers in eight bits change no score by more than 0.03, and alone or in company they are the same."""
    wide = models.directory(
        tmp_path / "wide",
        hidden_size=192,
        num_attention_heads=3,
        num_hidden_layers=6,
        intermediate_size=768,
    )
    windows = [window(i) for i in range(4)]

    engine = _engine(wide, dtype="int8")
    exact, fast = _engine(wide).score(windows), engine.score(windows)

    assert engine.kind == "onnx, int8"
    for a, b, alone in zip(exact, fast, windows, strict=True):
        assert a.clip.std() > 0.01, "a test of scores that are all alike would prove nothing"
        assert np.abs(a.clip - b.clip).max() > 0, "it computes in eight bits"
        np.testing.assert_allclose(a.clip, b.clip, atol=3e-2)
        np.testing.assert_allclose(a.frames, b.frames, atol=3e-2)  # type: ignore[arg-type]  # it has a head
        np.testing.assert_array_equal(b.clip, engine.score([alone])[0].clip)


def test_bfloat16_becomes_float32_and_is_said(directory: Path) -> None:
    """A dtype that the runtime does not have is no error: what is taken instead is said."""
    engine = _engine(directory, dtype="bfloat16")

    assert engine.dtype == "float32"
    assert "no bfloat16 on a CPU" in engine.describe()


def test_threads_are_chosen_by_measurement(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none are asked for, some number between one and that of the CPUs is taken."""
    monkeypatch.setattr(graph.os, "sched_getaffinity", lambda _: range(4))

    assert _engine(directory, threads=0).threads in (1, 2, 4)


def test_an_error_of_the_runtime_is_one_line(directory: Path) -> None:
    """What the runtime cannot do with a batch is an error of inference, not a stack."""
    engine = _engine(directory)
    engine._fbank.config = engine._fbank.config.__class__(max_length=64)

    with pytest.raises(InferenceError, match=r"^ONNX Runtime: [^\n]+$"):
        engine.score([window()])


def test_torch_is_not_needed(directory: Path) -> None:
    """The engine neither loads torch nor asks for it."""
    program = (
        "import sys\n"
        "from streamer.config.schema import ModelSettings\n"
        "from streamer.inference.engines import open_engine\n"
        "engine = open_engine(ModelSettings(path=sys.argv[1], engine='onnx'))\n"
        "print(engine.kind, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(directory)], capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("onnx, float32 False\n", "")
