"""Files through the stages of the daemon, as fast as they can be read: same audio, same events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np

from streamer.capture.ring import Ring
from streamer.capture.stream import Decoder
from streamer.capture.windows import Windows, cut_pieces
from streamer.config.schema import Config
from streamer.detection.decider import Inspection
from streamer.detection.explain import Explanation, explanation
from streamer.detection.pipeline import Pipeline
from streamer.detection.steps import scores_in_steps, sensed_in_steps
from streamer.errors import InputError
from streamer.inference.worker import Scorer
from streamer.types import Samples, Scores, Sensed, SoundEvent, Window

BATCH = 8
"""windows scored at once: more gain nothing on a CPU"""


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


def detect(
    path: Path,
    config: Config,
    scorer: Scorer,
    *,
    source_id: str,
    start: float = 0.0,
    progress: Callable[[float, float | None], None] | None = None,
    observe: Observe = observe_nothing,
) -> Iterator[SoundEvent]:
    """Events of a file that began at `start`, each at the time at which a live daemon would have emitted it.

    `progress` is called with the seconds read so far and the length if that is known, `observe` after each
    window with the pipeline and the scores, None where the window was not scored.
    Raises ConfigError, InferenceError, and InputError: at a damage in the middle after all events before it.
    """
    pipeline = Pipeline(source_id, config, scorer.labels)
    with Decoder(path) as decoder:
        ring = Ring(decoder.sample_rate, config.windows.ring_s)
        windows = Windows(ring, source_id, hop_s=config.hop_s, window_s=scorer.window_s, every_hop=True)
        batch: list[tuple[Window, Sensed]] = []
        end = start
        damage: InputError | None = None
        try:
            for block in decoder.blocks(start):
                ring.write(block)
                while (window := windows.due()) is not None:
                    batch.append((window, sensed_in_steps(pipeline.sense(window))))
                if len(batch) >= BATCH:
                    yield from _events(pipeline, scorer, batch, observe)
                    batch.clear()
                end = block.captured_at + len(block.samples) / decoder.sample_rate
                if progress is not None:
                    progress(end - start, decoder.duration_s)
        except InputError as error:
            damage = InputError(f"{error}; it was read up to {end - start:.1f} s")
        yield from _events(pipeline, scorer, batch, observe)
        yield from pipeline.close(end, end)
        if damage is not None:
            raise damage


def _events(
    pipeline: Pipeline, scorer: Scorer, batch: list[tuple[Window, Sensed]], observe: Observe
) -> Iterator[SoundEvent]:
    """Score a batch, without the windows that need not be scored."""
    wanted = [window for window, sensed in batch if sensed.is_wanted]
    scored = iter(scorer.score(wanted) if wanted else ())
    for window, sensed in batch:
        scores = scores_in_steps(next(scored)) if sensed.is_wanted else None
        yield from pipeline.decide(sensed, scores, window.end)
        observe(pipeline, window, scores)


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
