"""Windows of known sounds, with the scores that a model would give them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

import numpy as np

from streamer.config.schema import Config
from streamer.detection.pipeline import Pipeline
from streamer.types import Samples, Scores, SoundEvent, Window

LABELS = ("Dog", "Bark", "Siren", "Rain")
FRAME_S = 0.16
WINDOW_S = 10.0
SAMPLE_RATE = 100
BEGIN = 1_790_000_000.0
"""when the source began"""

Truth = Callable[[np.ndarray], Samples]
"""(n,) seconds since the source's start -> (n, 4) scores of LABELS"""


def config(*, hop_s: float = 1.0, sound: dict[str, object] | None = None, **detection: object) -> Config:
    return Config.model_validate(
        {
            "sources": {"room": {"demo": True}},
            "windows": {"hop_s": hop_s},
            "detection": detection,
            "sounds": {
                "dog_bark": {"labels": ["Dog", "Bark"], **(sound or {})},
                "siren": {"labels": ["Siren"]},
            },
        }
    )


def window(index: int, hop_s: float = 1.0, *, begin: float = BEGIN, loudness: Truth | None = None) -> Window:
    """Window `index` of a source: a square wave, of the height 0.1 or what `loudness` says."""
    end = begin + (index + 1) * hop_s
    seconds = end - begin - WINDOW_S + np.arange(int(WINDOW_S * SAMPLE_RATE)) / SAMPLE_RATE
    sign = np.where(np.arange(len(seconds)) // 2 % 2, -1, 1)
    samples = np.where(seconds < 0, 0, sign * (loudness(seconds) if loudness else 0.1)).astype(np.float32)
    warm_up = (index + 1) * hop_s < WINDOW_S
    return Window("room", index, samples, SAMPLE_RATE, end - WINDOW_S, end, warm_up=warm_up)


def frame_scores(heard: Window, truth: Truth, *, begin: float = BEGIN, noise: float = 0.0) -> Scores:
    """What a model with a frame head says: true, but for noise that is strong in a window's outer seconds."""
    into = (np.arange(64) + 0.5) * FRAME_S
    scores = truth(heard.start - begin + into)
    if noise:
        outer = np.clip(1 - np.minimum(into, WINDOW_S - into), 0, 1)[:, None]
        rng = np.random.default_rng(heard.index)
        scores = np.clip(scores + noise * (0.2 + outer) * rng.uniform(-1, 1, scores.shape), 0, 1)
    scores = scores.astype(np.float32)
    return Scores("room", heard.index, heard.start, heard.end, scores.max(axis=0), scores, FRAME_S)


def clip_scores(heard: Window, truth: Truth, *, begin: float = BEGIN) -> Scores:
    """What a clip-level model says: the highest score of anything in the window."""
    inside = np.arange(heard.start, heard.end, 0.01) - begin
    clip = truth(inside[inside >= 0]).max(axis=0).astype(np.float32)
    return Scores("room", heard.index, heard.start, heard.end, clip)


def bark(*spans: tuple[float, float], score: float = 0.8) -> Truth:
    """Barks at these seconds, nothing else."""

    def truth(seconds: np.ndarray) -> Samples:
        scores = np.full((len(seconds), len(LABELS)), 0.01, np.float32)
        for onset, offset in spans:
            scores[(seconds >= onset) & (seconds < offset), 1] = score
        return scores

    return truth


def listen(
    pipeline: Pipeline,
    indexes: Iterable[int],
    score: Callable[[Window], Scores],
    *,
    hop_s: float = 1.0,
    begin: float = BEGIN,
    close: bool = True,
) -> list[SoundEvent]:
    """Run windows through a pipeline as a file would, to the end."""
    events: list[SoundEvent] = []
    end = begin
    for index in indexes:
        heard = window(index, hop_s, begin=begin)
        end = heard.end
        events += pipeline.decide(pipeline.sense(heard), score(heard), emitted_at=end)
    return events + (pipeline.close(end, emitted_at=end) if close else [])


def occurrences(events: list[SoundEvent]) -> list[tuple[SoundEvent, SoundEvent]]:
    """The (start, end) pairs, after checking that every sound's messages follow the life cycle."""
    pairs = []
    by_sound = sorted(events, key=lambda event: event.sound)  # stable: the order within a sound stays
    for _, of_sound in groupby(by_sound, key=lambda event: event.sound):
        start: SoundEvent | None = None
        for event in of_sound:
            if event.phase == "start":
                assert start is None, "started twice"
                start = event
            else:
                assert start is not None, f"{event.phase} without a start"
                assert event.id == start.id
                if event.phase == "end":
                    pairs.append((start, event))
                    start = None
            assert (event.offset is not None) == (event.phase == "end")
            assert event.onset <= event.heard_at <= event.emitted_at
        assert start is None, "never ended"
    assert len({start.id for start, _ in pairs}) == len(pairs)
    return sorted(pairs, key=lambda pair: pair[1].onset)
