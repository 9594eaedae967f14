"""Taught sounds are further labels: behind the model's own, which stay as they are, in any engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamer.config.schema import ModelSettings
from streamer.inference.engines import open_engine
from streamer.inference.heads import Head
from streamer.inference.process import open_worker
from streamer.metrics import Metrics
from tests.inference import models
from tests.inference.models import window

SIZE = 64


def head(name: str, bias: float) -> Head:
    return Head(name, [0.0] * SIZE, [0.0] * SIZE, bias)


def settings(directory: Path, engine: str) -> ModelSettings:
    return ModelSettings(path=str(directory), engine=engine, device="cpu", dtype="float32", threads=1)  # type: ignore[arg-type]  # one of its names


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("frame_head", [True, False])
def test_heads_are_further_labels(engine: str, frame_head: bool, tmp_path: Path) -> None:
    """In the order in which they are given; in frames where the model has frames."""
    own = settings(models.directory(tmp_path / "model", frame_head=frame_head), engine)
    plain, taught = open_engine(own), open_engine(own, heads=[head("high", 3.0), head("low", -3.0)])

    (before,), (after,) = plain.score([window()]), taught.score([window()])

    assert taught.labels == (*plain.labels, "taught: high", "taught: low")
    np.testing.assert_allclose(after.clip[:-2], before.clip, atol=1e-6)
    np.testing.assert_allclose(after.clip[-2:], [0.953, 0.047], atol=1e-3)
    assert (after.frames is None) == (before.frames is None) == (not frame_head)
    if after.frames is not None and before.frames is not None:
        np.testing.assert_allclose(after.frames[:, :-2], before.frames, atol=1e-6)
        np.testing.assert_allclose(after.frames[:, -2:], [[0.953, 0.047]] * 7, atol=1e-3)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_head_scores_directions(engine: str, tmp_path: Path) -> None:
    """The score is the head's linear function of the embedding's direction from the centre."""
    own = settings(models.directory(tmp_path / "model"), engine)
    (plain,) = open_engine(own, embeds=True).score([window()])
    assert plain.embeddings is not None
    rng = np.random.default_rng(0)
    centre, weights = rng.normal(0, 1, (2, SIZE))
    (scores,) = open_engine(own, heads=[Head("x", centre.tolist(), weights.tolist(), 0.2)]).score([window()])

    apart = plain.embeddings - centre
    logits = apart @ weights / np.linalg.norm(apart, axis=1) + 0.2
    assert scores.frames is not None
    np.testing.assert_allclose(scores.frames[:, -1], 1 / (1 + np.exp(-logits)), atol=1e-3)
    best = np.sort(logits)[-3:].mean()
    assert scores.clip[-1] == pytest.approx(1 / (1 + np.exp(-best)), abs=1e-3)


@pytest.mark.slow
async def test_the_child_has_the_heads(tmp_path: Path) -> None:
    """They travel with the order to load the model, and come back as labels and scores."""
    own = settings(models.directory(tmp_path / "model"), "onnx")
    worker = open_worker(own, Metrics(), heads=[head("chime", 3.0)])
    try:
        about = await worker.start()
        scores = await worker.score(window())
    finally:
        await worker.close()

    assert about.labels[-1] == "taught: chime"
    assert about.describe.endswith("taught: chime")
    assert len(scores.clip) == len(about.labels)
    assert scores.clip[-1] == pytest.approx(0.953, abs=1e-3)
