"""A tagger of clips is made to say when: it scores a span around every frame."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.types import Window
from tools import spans
from tools.spans import SpanScorer


class Loudness:
    """Scores every label by the loudness of what it is given."""

    def __init__(self, _: object) -> None:
        self.n_samples: set[int] = set()

    def score(self, samples: np.ndarray) -> np.ndarray:
        self.n_samples.add(len(samples))
        return np.full(527, np.abs(samples).max(), np.float32)


def test_frames_follow_the_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the window is loud its frames score high, elsewhere low, and the clip has the highest."""
    monkeypatch.setattr(spans, "Teacher", Loudness)
    samples = np.zeros(160_000, np.float32)
    samples[64_000:80_000] = 0.8
    scorer = SpanScorer("model.onnx")  # type: ignore[arg-type]  # the stand-in reads no file
    (scores,) = scorer.score([Window("room", 0, samples, 16000, 0.0, 10.0)])
    assert scores.frames is not None
    loud = scores.frames[:, 0] > 0.4
    times = (np.arange(len(loud)) + 0.5) * scores.frame_s
    assert loud[(times > 4.2) & (times < 4.8)].all()
    assert not loud[(times < 2.5) | (times > 6.5)].any()
    assert scores.clip.max() == pytest.approx(scores.frames.max())
