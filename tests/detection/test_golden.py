"""Messages for dense random scores, held to those of version 0.1.0.

Alone `level_dbfs` is newer: it no longer counts a constant offset of the input.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from streamer.config.schema import Config
from streamer.detection.pipeline import Pipeline
from streamer.types import Samples, Scores, SoundEvent, Window

GOLDEN = Path(__file__).parent / "golden.jsonl"
LABELS = ("Dog", "Bark", "Siren", "Rain", "Knock", "Speech", "Music", "Cough")
RATE, WINDOW_S, FRAME_S, SECONDS = 100, 10.0, 0.16, 240
BEGIN = 1_790_000_000.0
CONFIG = Config.model_validate(
    {
        "sources": {"room": {"demo": True}},
        "windows": {"skip_quiet": False},
        "sounds": {
            "animal": {"labels": ["Dog"], "merge_gap_s": 2.0},
            "bark": {"labels": ["Bark"], "unless": ["siren"], "priority": "high"},
            "siren": {"labels": ["Siren"], "confirm": 2, "confirm_of": 3},
            "rain": {"labels": ["Rain"], "min_duration_s": 2.0, "off": 0.45},
            "knock": {"labels": ["Knock", "Cough"], "cooldown_s": 30.0, "merge_gap_s": 0.0},
            "speech": {"labels": ["Speech"], "on": 0.7, "merge_gap_s": 4.0},
            "music": {"labels": ["Music"], "unless": ["speech", "siren"]},
            "loud": {"above_background_db": 20.0},
        },
    }
)


def random_scores(rng: np.random.Generator) -> Samples:
    """(n, 8), a row each 20 ms: every label comes and goes, for a fraction of a second up to 20 s."""
    scores = np.full((SECONDS * 50, len(LABELS)), 0.02, np.float32)
    for label in range(len(LABELS)):
        at = rng.exponential(5.0)
        while at < SECONDS:
            length = rng.choice([rng.uniform(0.05, 0.6), rng.uniform(0.6, 4), rng.uniform(4, 20)])
            scores[int(at * 50) : int((at + length) * 50), label] = rng.uniform(0.2, 1)
            at += length + rng.exponential(8.0)
    return scores


def windows(rng: np.random.Generator) -> Iterator[Window]:
    """Noise of a loudness that changes each second; some windows are missing, and half a minute is."""
    loudness = np.repeat(10 ** rng.uniform(-3, -1, SECONDS), RATE)
    noise = np.concatenate((np.zeros(10 * RATE), loudness * rng.uniform(-1, 1, SECONDS * RATE))).astype(
        np.float32
    )
    for k in range(SECONDS):
        end = k + 1
        if 100 < end < 130 or rng.random() < 0.05:
            continue
        yield Window(
            "room",
            k,
            noise[end * RATE : (end + 10) * RATE],
            RATE,
            BEGIN + end - 10,
            BEGIN + end,
            warm_up=end < 10,
        )


def score(window: Window, truth: Samples, rng: np.random.Generator) -> Scores:
    """The truth, but for noise, which is strong in a window's outer seconds."""
    into = (np.arange(63) + 0.5) * FRAME_S
    at = np.round(50 * (window.start - BEGIN + into)).astype(int)
    inside = (at >= 0) & (at < len(truth))
    frames = np.zeros((63, len(LABELS)), np.float32)
    frames[inside] = truth[at[inside]]
    outer = np.clip(1 - np.minimum(into, WINDOW_S - into), 0, 1)[:, None]
    frames = np.clip(frames + 0.25 * (0.2 + outer) * rng.uniform(-1, 1, frames.shape), 0, 1).astype(
        np.float32
    )
    return Scores("room", window.index, window.start, window.end, frames.max(axis=0), frames, FRAME_S)


def messages() -> list[SoundEvent]:
    rng = np.random.default_rng(12)
    truth = random_scores(rng)
    pipeline = Pipeline("room", CONFIG, LABELS)
    events = []
    for window in windows(rng):
        events += pipeline.decide(pipeline.sense(window), score(window, truth, rng), window.end)
    return events + pipeline.close(BEGIN + SECONDS, BEGIN + SECONDS)


def test_the_messages_are_those_of_version_0_1() -> None:
    """The same messages in the same order; numbers to what arithmetic leaves open on another machine."""
    expected = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    found = [asdict(event) for event in messages()]

    assert [(event["id"], event["phase"]) for event in found] == [
        (event["id"], event["phase"]) for event in expected
    ]
    for event, other in zip(found, expected, strict=True):
        assert event.pop("epoch") is None, "the daemon's"
        assert event.pop("labels") == pytest.approx(other.pop("labels"), abs=1e-5)
        assert event == {key: pytest.approx(value, abs=1e-4) for key, value in other.items()}
