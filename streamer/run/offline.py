"""Files through the stages of the daemon, as fast as they can be read: same audio, same events."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np

from streamer.capture.ring import Ring
from streamer.capture.stream import Decoder
from streamer.capture.windows import Windows, cut_pieces
from streamer.config.schema import Config
from streamer.core.read_ahead import read_ahead
from streamer.detection.decider import Inspection
from streamer.detection.explain import Explanation, explanation
from streamer.detection.pipeline import Pipeline
from streamer.detection.steps import scores_in_steps, sensed_in_steps
from streamer.errors import InputError
from streamer.inference.worker import Scorer
from streamer.types import Samples, Scores, Sensed, SoundEvent, Window

BATCH = 8
"""windows scored at once: more gain nothing on a CPU"""
SKIPPED = 64
"""so many batches of windows are collected at most where few of them need be scored"""


Observe: TypeAlias = Callable[[Pipeline, Window, Scores | None], None]


def observe_nothing(_: Pipeline, __: Window, ___: Scores | None) -> None:
    """Observes nothing."""


def explain(path: Path, config: Config, scorer: Scorer, *, sound: str, at: float) -> Explanation:
    """Run a file to a moment, and on until nothing new can be known of it. Raises as `detect`."""
    inspections: list[Inspection] = []
    scored: list[Window] = []

    def inspect(pipeline: Pipeline, window: Window, scores: Scores | None) -> None:
        if window.end - config.hop_s < at <= window.end and scores is not None:
            scored.append(window)
        if (inspection := pipeline.inspect(sound, at)) is not None:
            inspections.append(inspection)

    events: list[SoundEvent] = []
    for event in detect(path, config, scorer, source_id=path.stem, observe=inspect):
        events.append(event)
        if event.heard_at > at + 4 * scorer.window_s:
            break
    return explanation(config, events, inspections, sound=sound, at=at, is_scored=bool(scored))


@dataclass(frozen=True, slots=True)
class Recording:
    """A file to run through the stages."""

    path: Path
    source_id: str
    start: float = 0.0
    """when it began"""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """How far a file has come: one window, or its end."""

    recording: Recording
    pipeline: Pipeline
    read_s: float
    """seconds that were read of it"""
    duration_s: float | None
    """its length, if that is known"""
    sensed: Sensed | None = None
    """None at the end"""
    window: Window | None = None
    """None at the end, and without samples where it need not be scored and nobody observes"""
    error: InputError | None = None
    """why it ended early"""

    @property
    def is_wanted(self) -> bool:
        """Its window has to be scored."""
        return self.sensed is not None and self.sensed.is_wanted


def detect(
    path: Path,
    config: Config,
    scorer: Scorer,
    *,
    source_id: str,
    start: float = 0.0,
    progress: Callable[[float, float | None], None] | None = None,
    observe: Observe = observe_nothing,
    batch: int = BATCH,
) -> Iterator[SoundEvent]:
    """Events of a file that began at `start`, each at the time at which a live daemon would have emitted it.

    `progress` is called with the seconds read so far and the length if that is known, `observe` after each
    window with the pipeline and the scores, None where the window was not scored.
    Raises ConfigError, InferenceError, and InputError: at a damage in the middle after all events before it.
    """
    recordings = [Recording(path, source_id, start)]
    for step, events in detect_all(recordings, config, scorer, batch=batch, observe=observe):
        if progress is not None:
            progress(step.read_s, step.duration_s)
        yield from events
        if step.error is not None:
            raise step.error


def detect_all(
    recordings: Iterable[Recording],
    config: Config,
    scorer: Scorer,
    *,
    batch: int = BATCH,
    is_padded: bool = False,
    observe: Observe = observe_nothing,
) -> Generator[tuple[Step, list[SoundEvent]]]:
    """The events of each window of files, file after file; the last step of each file says how it ended.

    Files are read ahead in a thread while the engine works, and batches are made over files. With `is_padded`
    every call of the scorer has `batch` windows: engines add up in another order where a batch has another
    size, so else the last bits of a score would depend on the files beside it.
    Raises ConfigError, InferenceError.
    """
    keeps_all = observe is not observe_nothing
    steps = _read(recordings, config, scorer, keeps_all=keeps_all)
    most = batch if keeps_all else SKIPPED * batch
    for together in _batches(read_ahead(steps, 2 * batch, "read files"), batch, most):
        wanted = [step.window for step in together if step.window is not None and step.is_wanted]
        padding = [wanted[-1]] * (batch - len(wanted)) if is_padded and wanted else []
        scored = iter(scorer.score([*wanted, *padding]) if wanted else ())
        for step in together:
            pipeline, end = step.pipeline, step.recording.start + step.read_s
            if step.window is None or step.sensed is None:
                yield step, pipeline.close(end, end)
                continue
            scores = scores_in_steps(next(scored)) if step.is_wanted else None
            events = pipeline.decide(step.sensed, scores, step.window.end)
            observe(pipeline, step.window, scores)
            yield step, events


def _read(
    recordings: Iterable[Recording], config: Config, scorer: Scorer, *, keeps_all: bool
) -> Iterator[Step]:
    """The windows of files, sensed; those that need not be scored lose their samples unless all are kept."""
    has_frames = _has_frames(scorer)
    for recording in recordings:
        pipeline = Pipeline(recording.source_id, config, scorer.labels)
        if not has_frames:
            pipeline.expect_clip_scores(scorer.window_s)
        read_s, duration_s = 0.0, None
        error: InputError | None = None
        try:
            with Decoder(recording.path) as decoder:
                duration_s = decoder.duration_s
                ring = Ring(decoder.sample_rate, config.windows.ring_s)
                windows = Windows(
                    ring, recording.source_id, hop_s=config.hop_s, window_s=scorer.window_s, every_hop=True
                )
                for block in decoder.blocks(recording.start):
                    ring.write(block)
                    end = block.captured_at + len(block.samples) / decoder.sample_rate
                    read_s = end - recording.start
                    while (window := windows.due()) is not None:
                        sensed = sensed_in_steps(pipeline.sense(window))
                        if not (sensed.is_wanted or keeps_all):
                            window = replace(window, samples=window.samples[:0].copy())
                        yield Step(recording, pipeline, read_s, duration_s, sensed, window)
        except InputError as why:
            error = InputError(f"{why}; it was read up to {read_s:.1f} s") if read_s else why
        yield Step(recording, pipeline, read_s, duration_s, error=error)


def _has_frames(scorer: Scorer) -> bool:
    """Whether the model says when; asked before the files are read, as the silence gate depends on it."""
    n_samples = round(scorer.window_s * 16000)
    silence = Window("silence", 0, np.zeros(n_samples, np.float32), 16000, 0.0, scorer.window_s)
    return scorer.score([silence])[0].frames is not None


def _batches(steps: Iterator[Step], batch: int, most: int) -> Iterator[list[Step]]:
    """Steps with `batch` windows to be scored, and at most so many in all; the last has the rest."""
    together: list[Step] = []
    n_wanted = 0
    for step in steps:
        together.append(step)
        n_wanted += step.is_wanted
        if n_wanted == batch or len(together) == most:
            yield together
            together, n_wanted = [], 0
    if together:
        yield together


def highest(path: Path, scorer: Scorer, column: int) -> tuple[float, float]:
    """The highest score of one label in a file, and when that is, in seconds from the file's start.

    However long it is, a batch of windows is in memory. Raises InputError, InferenceError.
    """
    best = (0.0, 0.0)
    with Decoder(path) as decoder:
        pieces = map(_bounded, decoder.filled())
        windows = cut_pieces(pieces, decoder.sample_rate, scorer.window_s, path.name)
        while batch := list(islice(windows, BATCH)):
            for scores in scorer.score(batch):
                at = scores.start
                if scores.frames is not None:
                    at += (int(scores.frames[:, column].argmax()) + 0.5) * scores.frame_s
                best = max(best, (float(scores.clip[column]), at))
        if decoder.duration_s is not None:  # a short file is padded with silence in front
            best = best[0], best[1] - max(0.0, scorer.window_s - decoder.duration_s)
    return best[0], max(0.0, best[1])


def tag(path: Path, scorer: Scorer) -> Mapping[str, float]:
    """Clip-level scores of a whole file, strongest first: for each label the highest over all windows.

    However long it is, a batch of windows is in memory. Raises InputError, InferenceError.
    """
    with Decoder(path) as decoder:
        pieces = map(_bounded, decoder.filled())
        windows = cut_pieces(pieces, decoder.sample_rate, scorer.window_s, path.name)
        highest = np.full(len(scorer.labels), -np.inf)
        while batch := list(islice(windows, BATCH)):
            highest = np.max([highest, *(scores.clip for scores in scorer.score(batch))], axis=0)
    return {scorer.labels[i]: float(highest[i]) for i in np.argsort(-highest, kind="stable")}


def _bounded(samples: Samples) -> Samples:
    """What is no number is silence, and nothing is beyond full scale."""
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0), -1, 1)
