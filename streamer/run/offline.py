"""Files through the stages of the daemon, as fast as they can be read: same audio, same events."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from streamer.capture.ring import Ring
from streamer.capture.stream import Decoder, read_whole
from streamer.capture.windows import Windows
from streamer.config.schema import Config
from streamer.detection.pipeline import Moment, Pipeline
from streamer.types import Scores, SoundEvent, Window

BATCH = 8
"""windows scored at once: more gain nothing on a CPU"""


See: TypeAlias = Callable[[Pipeline, Window, Scores | None], None]


def see_nothing(_: Pipeline, __: Window, ___: Scores | None) -> None:
    """Where nobody looks."""


class Scorer(Protocol):
    """What is needed of an engine."""

    labels: tuple[str, ...]
    window_s: float

    def score(self, windows: list[Window]) -> list[Scores]: ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a sound was told at a moment of a file, or was not."""

    first: Moment | None
    """what was known when the moment became old enough to count"""
    last: Moment | None
    """and after all windows that saw it"""
    doubt: str
    """what kept an event from being told, the last time that something did"""
    events: list[SoundEvent]
    """of that sound, about that moment"""
    is_scored: bool
    """whether the window that ended after the moment was worth the model's time"""


def explain(path: Path, config: Config, scorer: Scorer, *, sound: str, at: float) -> Explanation:
    """Run a file to a moment, and on until nothing new can be known of it. Raises as `detect`."""
    moments: list[Moment] = []
    scored: list[Window] = []

    def see(pipeline: Pipeline, window: Window, scores: Scores | None) -> None:
        if window.end - config.hop_s < at <= window.end and scores is not None:
            scored.append(window)
        if (moment := pipeline.look(sound, at)) is not None:
            moments.append(moment)

    events: list[SoundEvent] = []
    for event in detect(path, config, scorer, source_id=path.stem, see=see):
        events.append(event)
        if event.heard_at > at + 4 * scorer.window_s:
            break
    ended = {event.id: event for event in events if event.sound == sound}
    about = {key for key, event in ended.items() if event.onset <= at <= (event.offset or math.inf)}
    return Explanation(
        first=moments[0] if moments else None,
        last=moments[-1] if moments else None,
        doubt=next((moment.doubt for moment in reversed(moments) if moment.doubt), ""),
        events=[event for event in events if event.id in about],
        is_scored=bool(scored),
    )


def detect(
    path: Path,
    config: Config,
    scorer: Scorer,
    *,
    source_id: str,
    start: float = 0.0,
    progress: Callable[[float, float | None], None] | None = None,
    see: See = see_nothing,
) -> Iterator[SoundEvent]:
    """Events of a file that began at `start`, each at the moment at which a live daemon would have said it.

    `progress` is told how many seconds have been read, and of how many if that is known. `see` is shown the
    pipeline after each window, with its scores unless it was passed over.
    Raises InputError, ConfigError, InferenceError.
    """
    pipeline = Pipeline(source_id, config, scorer.labels)
    with Decoder(path) as decoder:
        ring = Ring(decoder.sample_rate, config.windows.ring_s)
        windows = Windows(ring, source_id, hop_s=config.hop_s, window_s=scorer.window_s, every_hop=True)
        batch: list[Window] = []
        wanted: set[int] = set()
        end = start
        for block in decoder.blocks(start):
            ring.write(block)
            while (window := windows.due()) is not None:
                batch.append(window)
                if pipeline.wants(window):
                    wanted.add(window.index)
            if len(batch) >= BATCH:
                yield from _events(pipeline, scorer, batch, wanted, see)
                batch.clear()
                wanted.clear()
            end = block.captured_at + len(block.samples) / decoder.sample_rate
            if progress is not None:
                progress(end - start, decoder.duration_s)
        yield from _events(pipeline, scorer, batch, wanted, see)
        yield from pipeline.close(end, end)


def _events(
    pipeline: Pipeline, scorer: Scorer, batch: list[Window], wanted: set[int], see: See
) -> Iterator[SoundEvent]:
    """Score a batch, but for the windows that nobody wants."""
    scored = iter(scorer.score([window for window in batch if window.index in wanted]) if wanted else ())
    for window in batch:
        scores = next(scored) if window.index in wanted else None
        if scores is None:
            yield from pipeline.skip(window, window.end)
        else:
            yield from pipeline.update(window, scores, window.end)
        see(pipeline, window, scores)


def tag(path: Path, scorer: Scorer) -> Mapping[str, float]:
    """Clip-level scores of a whole file, strongest first: of each label the highest over all windows.

    Windows overlap by half; the last ends with the file. A file that is shorter than a window comes after
    silence, as a source's first windows do. Raises InputError, InferenceError.
    """
    samples, rate = read_whole(path)
    samples = np.clip(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0), -1, 1)
    n = round(scorer.window_s * rate)
    samples = np.pad(samples, (max(0, n - len(samples)), 0))
    starts = [*range(0, len(samples) - n, n // 2), len(samples) - n]
    windows = [
        Window(path.name, i, samples[at : at + n], rate, at / rate, (at + n) / rate)
        for i, at in enumerate(starts)
    ]
    highest = np.max([scores.clip for scores in scorer.score(windows)], axis=0)
    return {scorer.labels[i]: float(highest[i]) for i in np.argsort(-highest, kind="stable")}
