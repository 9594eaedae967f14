"""The same engine on CUDA: parity, batches and memory. Needs a device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from streamer.config.schema import ModelSettings
from streamer.errors import ModelError
from streamer.inference.engines.torch import TorchEngine
from tests.inference import models
from tests.inference.models import window

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.directory(tmp_path_factory.mktemp("models") / "small")


def _engine(directory: Path, device: str, dtype: str, max_batch: int = 6) -> TorchEngine:
    return TorchEngine(
        ModelSettings(path=str(directory), device=device, dtype=dtype, threads=1, max_batch=max_batch)  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("n_windows", [1, 2, 3, 5, 6, 13])
def test_scores_are_those_of_the_cpu(directory: Path, dtype: str, tolerance: float, n_windows: int) -> None:
    """Batches of every size, padded to a graph's, mixed in rate and length, score as on the CPU."""
    windows = [
        window(i, seconds=1.0 if i % 2 else 0.7, sample_rate=(16000, 48000, 44100)[i % 3])
        for i in range(n_windows)
    ]

    expected = _engine(directory, "cpu", "float32").score(windows)
    engine = _engine(directory, "cuda", dtype)
    scores = engine.score(windows)
    again = engine.score(windows)

    for ours, repeated, cpu in zip(scores, again, expected, strict=True):
        np.testing.assert_allclose(ours.clip, cpu.clip, atol=tolerance)
        np.testing.assert_allclose(ours.frames, cpu.frames, atol=tolerance)  # type: ignore[arg-type]  # it has a head
        np.testing.assert_array_equal(ours.clip, repeated.clip)


def test_scores_stay_when_the_next_batch_runs(directory: Path) -> None:
    """What was returned is not overwritten by a later batch."""
    engine = _engine(directory, "cuda", "bfloat16")
    first = engine.score([window(1)])[0]
    kept = first.clip.copy()

    engine.score([window(2)])

    np.testing.assert_array_equal(first.clip, kept)


def test_a_device_that_is_not_there(directory: Path) -> None:
    """A number beyond the last device is an error that says how many there are."""
    with pytest.raises(ModelError, match=f"{torch.cuda.device_count()} CUDA devices"):
        _engine(directory, "cuda:99", "bfloat16")
