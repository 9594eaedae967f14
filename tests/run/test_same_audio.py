"""The same audio gives the same events: live, from a file at its own pace, from a file at full speed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.capture.ring import Ring
from streamer.capture.stream import Stream, read_file
from streamer.capture.windows import Windows
from streamer.config.schema import Config
from streamer.data import synthesis
from streamer.detection.pipeline import Pipeline
from streamer.detection.steps import scores_in_steps, sensed_in_steps
from streamer.metrics import Metrics
from streamer.run.listener import Listener
from streamer.run.offline import detect
from streamer.types import AudioBlock, Report, Samples, Scores, SoundEvent, Window

pytestmark = pytest.mark.slow

RATE = 8000
BEGIN = 1_790_000_000.0
FRAME_S = 0.2


class ByEar:
    """A small scorer that really looks at the samples: high tones are `Siren`, low ones `Bark`."""

    labels: tuple[str, ...] = ("Bark", "Siren")
    window_s = 10.0

    def score(self, windows: list[Window]) -> list[Scores]:
        return [self._score(window) for window in windows]

    def _score(self, window: Window) -> Scores:
        frames = window.samples.reshape(-1, round(FRAME_S * window.sample_rate))
        power = np.square(np.abs(np.fft.rfft(frames, axis=1)))
        split = power.shape[1] // 4
        levels = np.stack((power[:, :split].sum(axis=1), power[:, split:].sum(axis=1)), axis=1)
        scores = (levels / (levels + 2000)).astype(np.float32)
        clip = scores.max(axis=0)
        return Scores(window.source_id, window.index, window.start, window.end, clip, scores, FRAME_S)


class InProcess:
    """A `Worker` of it."""

    async def score(self, window: Window) -> Scores:
        return ByEar().score([window])[0]


def config(hop_s: float = 1.0) -> Config:
    return Config.model_validate(
        {
            "sources": {"room": {"demo": True}},
            "windows": {"hop_s": hop_s},
            "sounds": {
                "bark": {"labels": ["Bark"]},
                "siren": {"labels": ["Siren"], "verify": "mark"},
                "loud": {"above_background_db": 20},
            },
        }
    )


def recording(seconds: float) -> Samples:
    """A room with a tone here and there, a smoke alarm, and a noise that is loud and has no name."""
    rng = np.random.default_rng(5)
    t = np.arange(round(seconds * RATE)) / RATE
    samples = 0.002 * synthesis.coloured_noise(rng, RATE, seconds, 1.0)
    for onset, length, hertz in ((3.3, 1.2, 300), (8.0, 0.7, 3000), (31.0, 3.0, 400), (50.5, 0.4, 2500)):
        samples += 0.3 * np.sin(2 * np.pi * hertz * t) * ((t >= onset) & (t < onset + length))
    samples += 0.03 * rng.normal(size=len(t)) * ((t >= 6.0) & (t < 6.8))
    alarm = synthesis.temporal_three(rng, RATE, 9.0).samples
    if len(samples) >= 47 * RATE:
        samples[38 * RATE : 47 * RATE] += 0.2 * alarm
    return samples.astype(np.float32)


def as_file(folder: Path, seconds: float) -> Path:
    path = folder / "room.wav"
    synthesis.write_wav(path, recording(seconds), RATE)
    return path


def told(events: list[SoundEvent]) -> list[tuple[object, ...]]:
    """All that listeners are told, but for when it was said: live that is a little later."""
    return [(e.id, e.sound, e.phase, e.onset, e.offset, e.peak, e.heard_at, e.verified) for e in events]


@pytest.mark.parametrize("hop_s", [0.5, 1.0])
async def test_a_file_at_its_own_pace_and_at_full_speed(tmp_path: Path, hop_s: float) -> None:
    """Ids, times and scores are equal to the last digit."""
    path = as_file(tmp_path, 11.5)
    reports: list[Report] = []
    listener = Listener(
        "room",
        Stream(path, started_at=BEGIN),
        config(hop_s),
        worker=InProcess(),
        labels=ByEar.labels,
        window_s=ByEar.window_s,
        emit=reports.append,
        metrics=Metrics(),
    )
    async with asyncio.timeout(90):
        await listener.run()

    live = [report for report in reports if isinstance(report, SoundEvent)]
    assert {event.sound for event in live} == {"bark", "siren", "loud"}
    assert told(live) == told(list(detect(path, config(hop_s), ByEar(), source_id="room", start=BEGIN)))


def live(samples: Samples, sizes: Iterator[int], hop_s: float) -> list[SoundEvent]:
    """Blocks as they come, and after each the windows that are due."""
    scorer, pipeline = ByEar(), Pipeline("room", config(hop_s), ByEar.labels)
    ring = Ring(RATE)
    windows = Windows(ring, "room", hop_s=hop_s)
    events: list[SoundEvent] = []
    at = 0
    while at < len(samples):
        block = samples[at : at + next(sizes)]
        ring.write(AudioBlock(block, BEGIN + at / RATE))
        at += len(block)
        while (window := windows.due()) is not None:
            sensed = sensed_in_steps(pipeline.sense(window))
            scores = scores_in_steps(scorer.score([window])[0]) if sensed.is_wanted else None
            events += pipeline.decide(sensed, scores, window.end)
    return events + pipeline.close(BEGIN + at / RATE, BEGIN + at / RATE)


@settings(max_examples=3, deadline=None)
@given(
    sizes=st.lists(st.integers(1, RATE // 2), min_size=1, max_size=20).filter(
        lambda s: sum(s) > 400 * len(s)
    ),
    hop_s=st.sampled_from([0.5, 1.0]),
)
def test_any_cut_into_blocks(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], hop_s: float
) -> None:
    """However a stream is cut, and though quiet windows are passed over, its events are those of the file."""
    path = as_file(tmp_path_factory.mktemp("cut"), 60)
    whole = list(detect(path, config(hop_s), ByEar(), source_id="room", start=BEGIN))
    assert {event.sound for event in whole if event.verified} == {"siren"}

    heard = live(read_file(path)[0], cycle(sizes), hop_s)

    assert told(heard) == told(whole)
