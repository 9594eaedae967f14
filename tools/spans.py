"""Scores from a clip-level model that is shown short spans: when, from a model that cannot say when."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamer.data.teacher import RATE, Teacher
from streamer.model.features import resample
from streamer.model.labels import AUDIOSET
from streamer.types import Samples, Scores, Window

_KEEP = 2000
"""scored spans that are remembered"""


class SpanScorer:
    """A `Scorer` that shows the training's teacher `span_s` around every frame of a window.

    It judges what becomes of scores apart from the model that the program comes with.
    """

    labels = AUDIOSET
    window_s = 10.0

    def __init__(self, teacher: Path, span_s: float = 1.5, frame_s: float = 0.5) -> None:
        self._teacher = Teacher(teacher)
        self._span_s, self._frame_s = span_s, frame_s
        self._known: OrderedDict[tuple[str, int], Samples] = OrderedDict()

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        return [self._score(window) for window in windows]

    def _score(self, window: Window) -> Scores:
        n_frames = round(self.window_s / self._frame_s)
        samples = resample(window.samples[None], window.sample_rate, RATE)[0]
        span = round(self._span_s * RATE)
        frames = []
        for k in range(n_frames):
            first = round((k + 0.5) * self._frame_s * RATE) - span // 2
            inside = min(max(first, 0), len(samples) - span)
            # A span that ends where its window ends is another than that around its frame.
            key = window.source_id, round((window.start + inside / RATE) * 1000)
            if key not in self._known:
                self._known[key] = self._teacher.score(samples[inside : inside + span])
                if len(self._known) > _KEEP:
                    self._known.popitem(last=False)
            frames.append(self._known[key])
        scores = np.array(frames, np.float32)
        clip = scores.max(axis=0)
        return Scores(window.source_id, window.index, window.start, window.end, clip, scores, self._frame_s)
