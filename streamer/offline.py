"""Files through the stages of the daemon, as fast as they can be read: same audio, same events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from streamer.capture.ring import Ring
from streamer.capture.stream import Decoder, read_whole
from streamer.capture.windows import Windows
from streamer.config import Config
from streamer.pipeline import Pipeline
from streamer.types import Scores, SoundEvent, Window

BATCH = 8
"""windows scored at once: more gain nothing on a CPU"""


class Scorer(Protocol):
    """What is needed of an engine."""

    labels: tuple[str, ...]
    window_s: float

    def score(self, windows: list[Window]) -> list[Scores]: ...


def detect(
    path: Path,
    config: Config,
    scorer: Scorer,
    *,
    source_id: str,
    start: float = 0.0,
    progress: Callable[[float, float | None], None] | None = None,
) -> Iterator[SoundEvent]:
    """Events of a file that began at `start`, each at the moment at which a live daemon would have said it.

    `progress` is told how many seconds have been read, and of how many if that is known.
    Raises InputError, ConfigError, InferenceError.
    """
    pipeline = Pipeline(source_id, config, scorer.labels)
    with Decoder(path) as decoder:
        ring = Ring(decoder.sample_rate, config.windows.ring_s)
        windows = Windows(ring, source_id, hop_s=config.hop_s, window_s=scorer.window_s, every_hop=True)
        batch: list[Window] = []
        end = start
        for block in decoder.blocks(start):
            ring.write(block)
            while (window := windows.due()) is not None:
                batch.append(window)
            if len(batch) >= BATCH:
                yield from _events(pipeline, scorer, batch)
                batch.clear()
            end = block.captured_at + len(block.samples) / decoder.sample_rate
            if progress is not None:
                progress(end - start, decoder.duration_s)
        yield from _events(pipeline, scorer, batch)
        yield from pipeline.close(end, end)


def _events(pipeline: Pipeline, scorer: Scorer, batch: list[Window]) -> Iterator[SoundEvent]:
    for window, scores in zip(batch, scorer.score(batch), strict=True):
        yield from pipeline.update(window, scores, window.end)


def tag(path: Path, scorer: Scorer) -> Mapping[str, float]:
    """Clip-level scores of a whole file, strongest first: of each label the highest over all windows.

    Windows overlap by half; the last ends with the file. Raises InputError, InferenceError.
    """
    samples, rate = read_whole(path)
    samples = np.clip(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0), -1, 1)
    n = round(scorer.window_s * rate)
    starts = [*range(0, max(1, len(samples) - n), max(1, n // 2)), max(0, len(samples) - n)]
    windows = [
        Window(path.name, i, samples[at : at + n], rate, at / rate, (at + min(n, len(samples))) / rate)
        for i, at in enumerate(dict.fromkeys(starts))
    ]
    highest = np.max([scores.clip for scores in scorer.score(windows)], axis=0)
    return {scorer.labels[i]: float(highest[i]) for i in np.argsort(-highest, kind="stable")}
