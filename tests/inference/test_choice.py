"""Which engine computes: what is asked for, or the fastest that agrees, measured once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamer.config.schema import ModelSettings
from streamer.errors import ModelError
from streamer.inference.engines import ENGINES, choice, open_engine
from streamer.inference.engines.choice import FILE, Choice, _fastest, _remembered
from streamer.inference.engines.measure import Measured
from streamer.model.config import MODEL_TYPE
from tests.inference import models

ALL = ENGINES[MODEL_TYPE]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    return tmp_path / "cache" / FILE


def _settings(directory: Path, **settings: object) -> ModelSettings:
    values: dict[str, object] = {"device": "cpu", "threads": 1}
    return ModelSettings(path=str(directory), **{**values, **settings})  # type: ignore[arg-type]  # mixed values


@pytest.mark.slow
def test_measured_once_and_remembered(tmp_path: Path, cache: Path) -> None:
    """The first start measures both and says so; later ones take what was found, until something changes."""
    model = models.directory(tmp_path / "model")

    engine = open_engine(_settings(model))

    (kept,) = json.loads(cache.read_text()).values()
    assert kept["engine"] == engine.kind.partition(",")[0]
    assert "torch, " in engine.describe()
    assert "onnx, float32: " in engine.describe()
    assert "openvino, " in engine.describe()
    assert "ms a window" in engine.describe()
    other = "onnx" if kept["engine"] == "torch" else "torch"
    key = next(iter(json.loads(cache.read_text())))
    cache.write_text(json.dumps({key: {"engine": other, "why": "as written"}}))
    again = open_engine(_settings(model))
    assert again.kind.startswith(other), "nothing was measured again"
    assert again.describe().endswith("; as written")
    model.joinpath("config.json").write_text(model.joinpath("config.json").read_text() + " ")
    assert open_engine(_settings(model)).chosen != "as written", "another model is measured anew"
    assert len(json.loads(cache.read_text())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"engine": "tpu", "why": ""}}'])
def test_a_damaged_memory_is_no_reason_not_to_start(tmp_path: Path, cache: Path, content: str) -> None:
    """Whatever is in the file, an engine is chosen, and what was chosen is remembered."""
    cache.parent.mkdir()
    cache.write_text(content)

    assert _remembered(_settings(models.directory(tmp_path / "model")), ["onnx"]) == Choice("onnx", "")
    assert {"engine": "onnx", "why": ""} in json.loads(cache.read_text()).values()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"engine": "torch"}, "torch"),
        ({"engine": "onnx"}, "onnx"),
        ({"dtype": "int8"}, "onnx"),
        ({"engine": "openvino", "dtype": "bfloat16"}, "openvino"),
        ({"device": "cuda"}, "torch"),
    ],
)
def test_nothing_is_measured_where_only_one_will_do(
    tmp_path: Path, cache: Path, settings: dict[str, object], expected: str
) -> None:
    """An engine that is asked for, or the only one that has the arithmetic, is taken as it is."""
    assert choice.choose(_settings(tmp_path, **settings), ALL) == (expected, "")
    assert not cache.exists()


def test_engines_that_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install; `auto` takes what is there."""
    monkeypatch.setattr(
        choice, "PACKAGES", {"torch": "no_such_package", "onnx": "onnxruntime", "openvino": "no_such_package"}
    )

    assert choice.choose(_settings(tmp_path), ALL) == ("onnx", "")
    for wanted in ({"engine": "torch"}, {"device": "cuda"}, {"dtype": "bfloat16"}):
        with pytest.raises(ModelError, match=r"pip install 'streamer\[torch\]'"):
            choice.choose(_settings(tmp_path, **wanted), ALL)


def _measured(kind: str, ms: float, score: float = 0.5, device: str = "cpu") -> Measured:
    return Measured(device, kind, ms, [[score, 0.1], [0.2, 0.3]])


def test_the_faster_is_taken() -> None:
    """By the time of a window."""
    chosen = _fastest({"torch": _measured("torch, bfloat16", 20.2), "onnx": _measured("onnx, float32", 31.0)})

    why = "the fastest here of torch, bfloat16: 20 ms a window; onnx, float32: 31 ms a window"
    assert chosen == Choice("torch", why)


def test_one_whose_scores_differ_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    """Speed counts only where the scores are those of the reference in float32."""
    found = {"torch": _measured("torch, bfloat16", 20, score=0.56), "onnx": _measured("onnx, float32", 30)}

    assert _fastest(found).engine == "onnx"
    assert "its scores are off by 0.06: it is not used" in caplog.text


def test_one_that_works_needs_no_race() -> None:
    """What is left is taken."""
    assert _fastest({"onnx": _measured("onnx, float32", 30)}) == Choice("onnx", "")


def test_a_cuda_device_needs_no_race() -> None:
    """Where torch has one, it is torch."""
    found = {"torch": _measured("torch, bfloat16", 90, device="cuda"), "onnx": _measured("onnx, float32", 1)}

    assert _fastest(found) == Choice("torch", "torch has cuda")


@pytest.mark.slow
def test_an_engine_that_cannot_load_the_model(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What went wrong while it was measured is in the log, and is the error at the end."""
    model = models.directory(tmp_path / "model")
    model.joinpath("model.safetensors").write_bytes(b"no weights")

    with pytest.raises(ModelError, match=r"model\.safetensors: is truncated or no safetensors file"):
        open_engine(_settings(model))
    for engine in ALL:
        assert f"engine {engine} cannot be used: " in caplog.text
    assert not cache.exists(), "what failed is tried again"
